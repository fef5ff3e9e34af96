//! Reading and writing files: every format there and back, paths of every kind, all or nothing.

use air_data::{Compression, CsvOptions, DataError, Dataset, FileFormat, Row, WriteMode, WriteOptions};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;

use super::{example, iris, session};

fn all(ds: &Dataset) -> RecordBatch {
    concat_batches(&ds.schema().unwrap(), &ds.collect().unwrap()).unwrap()
}

fn out(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_string_lossy().into_owned()
}

const MIXED: &str = "\
name,day,at,n,x,ok
\"a, b\",2024-02-29,2024-02-29T12:30:00,1,1.5,true
\"two
lines\",,2024-03-01T00:00:00,,,
\"say \"\"hi\"\"\",1999-12-31,,-3,1e300,false
";

#[test]
fn csv_to_parquet_and_back_is_the_same_text() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let source = out(&dir, "mixed.csv");
    std::fs::write(&source, MIXED).unwrap();
    let ds = session.read_csv(&source).unwrap();
    let types: Vec<String> =
        ds.schema().unwrap().fields().iter().map(|f| f.data_type().to_string()).collect();
    assert_eq!(types[1], "Date32");
    assert!(types[2].starts_with("Timestamp"), "{types:?}");
    assert_eq!(types[3..], ["Int64", "Float64", "Boolean"]);
    ds.write_parquet(out(&dir, "mixed.parquet")).unwrap();
    let parquet = session.read_parquet(out(&dir, "mixed.parquet")).unwrap();
    assert_eq!(all(&parquet), all(&ds));
    parquet.write_csv(out(&dir, "back.csv")).unwrap();
    let back = std::fs::read_to_string(out(&dir, "back.csv")).unwrap();
    assert_eq!(back, MIXED, "quotes, line ends, nulls, dates and times survive");
}

#[test]
fn json_lines_there_and_back() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let ds = iris(&session);
    let files = ds.write_json(out(&dir, "iris")).unwrap();
    assert_eq!(files.len(), 1);
    assert!(files[0].ends_with("part-00000.json"), "{files:?}");
    let back = session.read_json(out(&dir, "iris")).unwrap();
    let (a, b): (Vec<Row>, Vec<Row>) = (
        ds.take_all().unwrap(),
        back.select(ds.schema().unwrap().fields().iter().map(|f| f.name().clone())).take_all().unwrap(),
    );
    assert_eq!(a, b);
}

#[test]
fn directories_patterns_lists_and_urls_read_in_order() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    for (name, n) in [("b.csv", 2), ("a.csv", 1), ("sub/c.csv", 3), ("_hidden.csv", 9), (".hidden.csv", 9)] {
        std::fs::write(dir.path().join(name), format!("n\n{n}\n")).unwrap();
    }
    let read = |ds: Result<Dataset, DataError>| ds.unwrap().take_all::<i64>().unwrap();
    assert_eq!(read(session.read_csv(dir.path())), [1, 2, 3]);
    assert_eq!(read(session.read_csv(out(&dir, "*.csv"))), [1, 2]);
    assert_eq!(read(session.read_csv(vec![out(&dir, "b.csv"), out(&dir, "a.csv")])), [2, 1]);
    assert_eq!(read(session.read_csv(format!("file://{}", out(&dir, "a.csv")))), [1]);
}

#[test]
fn many_rows_of_csv_keep_their_order_when_read_by_several_threads() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let path = out(&dir, "numbers.csv");
    session.range(1_600_000).unwrap().write_csv(&path).unwrap();
    let ds = session.read_csv(&path).unwrap().map(|x: i64| Ok(x));
    assert!(ds.num_blocks().unwrap() > 1, "one file, several threads");
    let mut next = 0_i64;
    for x in ds.batches(100_000).unwrap() {
        for x in
            arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(x.unwrap().column(0)).values()
        {
            assert_eq!(*x, next);
            next += 1;
        }
    }
    assert_eq!(next, 1_600_000);
}

#[test]
fn csv_in_other_clothes() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let path = out(&dir, "odd.csv");
    std::fs::write(&path, "# made by hand\n1;'a;b'\n2;c\n").unwrap();
    let options = CsvOptions {
        header: false,
        delimiter: ';',
        quote: '\'',
        comment: Some('#'),
        ..CsvOptions::default()
    };
    let rows: Vec<Row> = session.read_csv_with(&path, options).unwrap().take_all().unwrap();
    let text: Vec<String> = rows.iter().map(Row::to_string).collect();
    assert_eq!(text, [r#"{"column_1":1,"column_2":"a;b"}"#, r#"{"column_1":2,"column_2":"c"}"#]);
    let wrong = CsvOptions { delimiter: '→', ..CsvOptions::default() };
    assert!(matches!(
        session.read_csv_with(&path, wrong).unwrap_err(),
        DataError::Config { field: "delimiter", .. }
    ));
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let ds = session
        .range(100_000)
        .unwrap()
        .repartition(4)
        .map(|x: i64| if x == 99_999 { Err("late".into()) } else { Ok(x) });
    for format in [FileFormat::Parquet, FileFormat::Json, FileFormat::Csv(CsvOptions::default())] {
        assert!(ds.write(&out(&dir, "out"), format, WriteOptions::default()).is_err());
        let left = std::fs::read_dir(dir.path().join("out")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "no file, not even a temporary one");
    }
}

#[test]
fn what_is_there_is_not_replaced_unasked() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let path = out(&dir, "numbers");
    let ds = session.range(10).unwrap();
    assert_eq!(ds.repartition(3).write_parquet(&path).unwrap().len(), 3);
    assert!(matches!(ds.write_parquet(&path).unwrap_err().root(), DataError::Exists { .. }));
    let options = WriteOptions {
        mode: WriteMode::Overwrite,
        compression: Compression::Zstd,
        ..WriteOptions::default()
    };
    assert_eq!(ds.write(&path, FileFormat::Parquet, options.clone()).unwrap().len(), 1);
    assert_eq!(session.read_parquet(&path).unwrap().take_all::<i64>().unwrap(), (0..10).collect::<Vec<_>>());
    let file = out(&dir, "one.csv");
    assert_eq!(ds.repartition(3).write_csv(&file).unwrap().len(), 1);
    assert!(matches!(ds.write_csv(&file).unwrap_err().root(), DataError::Exists { .. }));
    let options = WriteOptions { compression: Compression::Auto, ..options };
    ds.limit(2).write(&file, FileFormat::Csv(CsvOptions::default()), options).unwrap();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "id\n0\n1\n");
}

#[test]
fn no_rows_still_make_a_file_with_columns() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let none = iris(&session).filter(|_: &Row2| Ok(false)).repartition(3);
    assert_eq!(none.write_parquet(out(&dir, "none")).unwrap().len(), 1);
    let back = session.read_parquet(out(&dir, "none")).unwrap();
    assert_eq!((back.count().unwrap(), back.schema().unwrap().fields().len()), (0, 5));
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Row2 {
    variety: String,
}

#[test]
fn writes_to_where_nobody_may_write_say_so() {
    let session = session();
    let error = session.range(3).unwrap().write_csv("/proc/no/such/place.csv").unwrap_err();
    assert!(matches!(error.root(), DataError::Write { .. }), "{error:?}");
    assert!(
        session.read_csv(example("iris_gbc.onnx")).is_err()
            || session.read_csv(example("iris_gbc.onnx")).unwrap().count().is_err()
    );
}
