//! Bad input: each a clear error that names the place.

use air_data::{DataError, Row, Session, col, lit};
use serde::{Deserialize, Serialize};

use super::{example, iris, session, told};

fn file(dir: &tempfile::TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path.to_string_lossy().into_owned()
}

/// The first error in reading the file, as the user sees it.
fn reading(session: &Session, path: &str) -> String {
    let format = air_data::FileFormat::of_path(path).unwrap();
    match session.read(path, format) {
        Ok(ds) => told(&ds.collect().unwrap_err()),
        Err(error) => told(&error),
    }
}

#[test]
fn nothing_there() {
    let session = session();
    let error = session.read_csv("/no/such/file.csv").unwrap_err();
    assert_eq!(told(&error), "no file at /no/such/file.csv");
    assert!(matches!(session.read_csv("/no/such/*.csv").unwrap_err(), DataError::NotFound { .. }));
    assert!(matches!(session.read_csv("/no/such/dir/").unwrap_err(), DataError::NotFound { .. }));
    let dir = tempfile::tempdir().unwrap();
    file(&dir, "a.txt", "x");
    let error = session.read_csv(dir.path()).unwrap_err();
    assert_eq!(told(&error), format!("no .csv file in directory {}", dir.path().display()));
    assert!(matches!(session.read_csv(Vec::<String>::new()).unwrap_err(), DataError::NotFound { .. }));
}

#[test]
fn a_row_with_too_many_fields_names_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "wide.csv", "a,b\n1,2\n3,4,5\n");
    let error = reading(&session(), &path);
    assert!(error.contains(&path) && error.contains("line 3") && error.contains('3'), "{error}");
}

#[test]
fn a_late_ragged_row_names_file_and_line() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = "a,b\n".to_owned();
    text.extend((0..20_000).map(|i| format!("{i},x\n")));
    let wide = file(&dir, "wide.csv", format!("{text}1,2,3\n"));
    let error = reading(&session(), &wide);
    assert!(error.contains(&wide) && error.contains("line 20002"), "{error}");
    let narrow = file(&dir, "narrow.csv", format!("{text}1\n"));
    let error = reading(&session(), &narrow);
    assert!(error.contains(&narrow) && error.contains("line 20002"), "{error}");
}

#[test]
fn a_value_of_another_type_names_file_line_and_column() {
    let dir = tempfile::tempdir().unwrap();
    let mut text = "a,b\n".to_owned();
    text.extend((0..20_000).map(|i| format!("{i},x\n")));
    let path = file(&dir, "types.csv", format!("{text}seven,x\n"));
    let error = reading(&session(), &path);
    // Arrow counts the line from the first row, not from the header.
    assert!(
        error.contains(&path) && error.contains("'seven' as type 'Int64' for column 0 at line 20001"),
        "{error}"
    );
}

#[test]
fn parquet_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(example("iris.parquet")).unwrap();
    let path = file(&dir, "cut.parquet", &whole[..whole.len() / 2]);
    let error = reading(&session(), &path);
    assert!(error.contains(&path), "{error}");
    let path = file(&dir, "empty.parquet", "");
    let error = reading(&session(), &path);
    assert!(error.contains(&path), "{error}");
}

#[test]
fn parquet_with_garbage_inside() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(example("iris.parquet")).unwrap();
    for byte in &mut bytes[4..400] {
        *byte = 0xff;
    }
    let path = file(&dir, "garbage.parquet", bytes);
    let error = reading(&session(), &path);
    assert!(error.contains(&path), "{error}");
}

#[test]
fn text_that_is_not_utf8() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "latin1.csv", b"a,b\n1,caf\xe9\n");
    let error = reading(&session(), &path);
    assert!(error.contains(&path) && error.to_lowercase().contains("utf-8"), "{error}");
}

#[test]
fn json_that_is_not_json() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "broken.jsonl", "{\"a\": 1}\n\n{\"a\": \n");
    let error = reading(&session(), &path);
    assert!(error.contains(&path) && error.contains("line 3: column 5: EOF"), "{error}");
    let path = file(&dir, "list.jsonl", "{\"a\": 1}\n[1]\n");
    let error = reading(&session(), &path);
    assert!(error.contains(&path) && error.contains("line 2: not an object"), "{error}");
}

#[test]
fn a_late_line_of_json_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let good = (0..20_000).map(|i| format!("{{\"a\": {i}}}")).collect::<Vec<_>>().join("\n") + "\n";
    for (bad, reason) in [("{\"a\" 1}\n", "column 6: expected `:`"), ("{\"a\": \"x\"}", "field 'a'")] {
        let path = file(&dir, "late.jsonl", format!("{good}{bad}\n{good}"));
        let error = reading(&session(), &path);
        assert!(error.contains(&path) && error.contains("line 20001: "), "{error}");
        assert!(error.contains(reason) && !error.contains("at line 1"), "{error}");
    }
}

#[test]
fn two_columns_of_one_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, "twice.csv", "a,b,a\n1,2,3\n");
    assert_eq!(reading(&session(), &path), format!("column 'a' appears more than once in {path}"));
}

#[test]
fn files_that_do_not_agree() {
    let dir = tempfile::tempdir().unwrap();
    file(&dir, "1.csv", "a\n1\n");
    let second = file(&dir, "2.csv", "a\nx\n");
    let error = told(&session().read_csv(dir.path()).unwrap_err());
    assert!(error.contains(&second), "{error}");
}

#[test]
fn a_column_that_does_not_exist_is_met_by_the_nearest() {
    let ds = iris(&session());
    let expected = "no column 'sepal_length'; did you mean 'sepal.length'? the columns are sepal.length, sepal.width, petal.length, \
        petal.width, variety";
    assert_eq!(told(&ds.select(["sepal_length"]).count().unwrap_err()), expected);
    assert_eq!(told(&ds.filter_expr(col("sepal_length").gt(lit(1))).count().unwrap_err()), expected);
    assert_eq!(told(&ds.with_column("x", col("sepal_length")).schema().unwrap_err()), expected);
    let known =
        "no column 'colour'; the columns are sepal.length, sepal.width, petal.length, petal.width, variety";
    assert_eq!(told(&ds.drop_columns(["colour"]).count().unwrap_err()), known);
}

#[derive(Debug, Serialize, Deserialize)]
struct Numbers {
    variety: f64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Missing {
    colour: String,
}

#[test]
fn rows_that_are_not_what_a_closure_takes() {
    let ds = iris(&session());
    let error = told(&ds.map(|n: Numbers| Ok(n.variety)).collect().unwrap_err());
    assert!(
        error.starts_with("map cannot convert between rows and") && error.contains("'variety' has type"),
        "{error}"
    );
    let error = told(&ds.map(|n: Missing| Ok(n.colour)).collect().unwrap_err());
    assert!(error.contains("colour"), "{error}");
    let error = told(&ds.map(|x: f64| Ok(x)).collect().unwrap_err());
    assert!(error.contains("a plain value needs one column, and there are 5"), "{error}");
    let error = told(&ds.take::<i64>(1).unwrap_err());
    assert!(error.contains("a plain value needs one column"), "{error}");
    let nulls = session().from_items(vec![Some(1_i64), None]).unwrap();
    let error = told(&nulls.map(|x: i64| Ok(x)).collect().unwrap_err());
    assert!(error.contains("row 1 of block 0"), "{error}");
    assert_eq!(nulls.map(|x: Option<i64>| Ok(x.unwrap_or(7))).take_all::<i64>().unwrap(), [1, 7]);
}

#[test]
fn columns_that_cannot_be_told() {
    let ds = iris(&session());
    let error = told(&ds.map(|row: Row| Ok(row)).count().unwrap_err());
    assert!(error.starts_with("cannot tell the columns that map returns"), "{error}");
    let schema = ds.schema().unwrap();
    assert_eq!(ds.map_to(schema, |row: Row| Ok(row)).count().unwrap(), 150);
    let error = told(
        &ds.map_batches(|batch| if batch.num_rows() == 0 { Err("no rows".into()) } else { Ok(batch) })
            .count()
            .unwrap_err(),
    );
    assert!(error.contains("map_batches_to"), "{error}");
    assert!(session().from_items(Vec::<i64>::new()).is_err());
}

#[test]
fn a_batch_of_other_columns_than_promised() {
    let ds = session()
        .range(10)
        .unwrap()
        .map_batches(|batch| if batch.num_rows() == 0 { Ok(batch) } else { Ok(batch.project(&[])?) });
    let error = told(&ds.collect().unwrap_err());
    assert!(error.contains("expected columns (id: Int64), got ()"), "{error}");
}

#[test]
fn settings_out_of_range() {
    let config = air_data::SessionConfig { batch_rows: 0, ..Default::default() };
    assert_eq!(told(&Session::new(config).unwrap_err()), "bad setting batch_rows: between 1 and 16777216");
    let ds = session().range(10).unwrap();
    assert!(matches!(
        ds.repartition(0).count().unwrap_err().root(),
        DataError::Config { field: "blocks", .. }
    ));
    assert!(matches!(ds.batches(0).unwrap_err(), DataError::Config { field: "rows", .. }));
}
