//! Reading with settings, and the formats beyond CSV, Parquet and JSON.

use std::path::Path;
use std::sync::Arc;

use air_data::{
    DataError, Dataset, FileErrors, FileFormat, ReadOptions, Row, WriteMode, WriteOptions, col, lit,
};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Float32Type, Int64Type, Schema};

use super::{example, iris, out, put, session, told};

fn lines(ds: &Dataset) -> Vec<String> {
    ds.take_all::<Row>().unwrap().iter().map(Row::to_string).collect()
}

fn files_below(path: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut todo = vec![path.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() {
                todo.push(entry);
            } else {
                files.push(entry.strip_prefix(path).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    files.sort();
    files
}

#[test]
fn directories_that_are_keys_become_columns() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "t/year=2024/city=Oslo/a.csv", "x\n1\n2\n");
    put(&dir, "t/year=2024/city=São Paulo/a.csv", "x\n3\n");
    put(&dir, "t/year=2025/city=__HIVE_DEFAULT_PARTITION__/a.csv", "x\n4\n");
    let session = session();
    let ds = session.read_csv(out(&dir, "t")).unwrap();
    let expected = [
        r#"{"x":1,"year":2024,"city":"Oslo"}"#,
        r#"{"x":2,"year":2024,"city":"Oslo"}"#,
        r#"{"x":3,"year":2024,"city":"São Paulo"}"#,
        r#"{"x":4,"year":2025,"city":null}"#,
    ];
    assert_eq!(lines(&ds), expected);
    assert_eq!(lines(&ds.select(["city", "x"]).limit(1)), [r#"{"city":"Oslo","x":1}"#]);
    // A pattern's directories, too; without them where they are not wanted, or in front of what was asked for.
    assert_eq!(lines(&session.read_csv(out(&dir, "t/year=*/*/a.csv")).unwrap()), expected);
    assert_eq!(session.read_csv(out(&dir, "t/year=2024")).unwrap().columns().unwrap(), ["x", "city"]);
    let plain = ReadOptions { hive: false, ..ReadOptions::default() };
    let format = || FileFormat::of_path("a.csv").unwrap();
    assert_eq!(session.read_with(out(&dir, "t"), format(), plain).unwrap().columns().unwrap(), ["x"]);

    let paths = ReadOptions { include_paths: Some("path".to_owned()), ..ReadOptions::default() };
    let ds = session.read_with(out(&dir, "t"), format(), paths).unwrap();
    let path = ds.filter_expr(col("x").eq(lit(3))).select(["path"]).take_all::<String>().unwrap();
    assert_eq!(
        path,
        [out(&dir, "t/year=2024/city=São Paulo/a.csv")].map(|path| ds
            .input_files()
            .unwrap()
            .into_iter()
            .find(|file| file.contains("Paulo"))
            .unwrap_or(path))
    );
    let taken = ReadOptions { include_paths: Some("x".to_owned()), ..ReadOptions::default() };
    let error = session.read_with(out(&dir, "t"), format(), taken).unwrap_err();
    assert!(matches!(error, DataError::DuplicateColumn { .. }), "{error}");
}

#[test]
fn a_filter_over_keys_opens_only_the_files_that_match() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "t/day=1/a.parquet", std::fs::read(example("iris.parquet")).unwrap());
    put(&dir, "t/day=2/a.parquet", std::fs::read(example("iris.parquet")).unwrap());
    let ds = session().read_parquet(out(&dir, "t")).unwrap();
    assert_eq!(ds.count().unwrap(), 300);
    // Opening this one would fail from now on.
    put(&dir, "t/day=1/a.parquet", "garbage");
    let second = ds.filter_expr(col("day").gt(lit(1)).and(col("variety").eq(lit("Setosa"))));
    assert_eq!(second.count().unwrap(), 50);
    assert_eq!(ds.filter_expr(col("day").eq(lit(7))).count().unwrap(), 0);
    assert!(ds.filter_expr(col("day").lt(lit(2))).collect().is_err());
    // A filter over both kinds of columns reads all.
    assert!(ds.filter_expr(col("day").gt(lit(1)).or(col("variety").eq(lit("Setosa")))).collect().is_err());
}

#[test]
fn columns_that_are_given_are_not_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = put(&dir, "a.csv", "a,b\n1,x\n2,y\n");
    let fields = [("a", DataType::Float64), ("b", DataType::Utf8)];
    let schema = Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, true)).to_vec()));
    let given = ReadOptions { schema: Some(schema), ..ReadOptions::default() };
    let ds = session().read_with(&path, FileFormat::of_path(&path).unwrap(), given.clone()).unwrap();
    assert_eq!(lines(&ds), [r#"{"a":1.0,"b":"x"}"#, r#"{"a":2.0,"b":"y"}"#]);
    // By name in JSON, where a column that is missing is null.
    let json = put(&dir, "a.jsonl", "{\"b\": \"x\"}\n{\"a\": 3, \"b\": \"y\", \"c\": 1}\n");
    let ds = session().read_with(&json, FileFormat::Json, given).unwrap();
    assert_eq!(lines(&ds), [r#"{"a":null,"b":"x"}"#, r#"{"a":3.0,"b":"y"}"#]);
}

#[test]
fn other_endings_can_be_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "d/a.data", "x\n1\n");
    put(&dir, "d/b.csv", "x\n2\n");
    let options = ReadOptions { extensions: Some(vec!["data".to_owned()]), ..ReadOptions::default() };
    let ds = session().read_with(out(&dir, "d"), FileFormat::of_path("x.csv").unwrap(), options).unwrap();
    assert_eq!(ds.take_all::<i64>().unwrap(), [1]);
}

#[test]
fn files_that_cannot_be_read_are_skipped_and_listed_where_asked() {
    let dir = tempfile::tempdir().unwrap();
    let mut good = String::new();
    good.extend((0..20_000).map(|i| format!("{{\"x\": {i}}}\n")));
    put(&dir, "d/1.jsonl", &good);
    let early = put(&dir, "d/2.jsonl", "not json\n");
    // Beyond what is looked at for the columns.
    let late = put(&dir, "d/3.jsonl", format!("{good}{{\"x\": \"y\"}}\n"));
    put(&dir, "d/4.jsonl", "{\"x\": 7}\n");
    let session = session();
    assert!(session.read_json(out(&dir, "d")).is_err());
    let skip = ReadOptions { on_error: FileErrors::Skip, ..ReadOptions::default() };
    let ds = session.read_with(out(&dir, "d"), FileFormat::Json, skip.clone()).unwrap();
    let skipped = ds.skipped_files().unwrap();
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].path, early);
    assert!(skipped[0].error.contains("line 1"), "{}", skipped[0].error);
    let rows = ds.take_all::<i64>().unwrap();
    assert_eq!((rows[0], *rows.last().unwrap()), (0, 7));
    // What was read before the error stays.
    assert!((20_001..=40_001).contains(&rows.len()), "{}", rows.len());
    let skipped = ds.skipped_files().unwrap();
    assert_eq!(skipped.iter().map(|file| &file.path).collect::<Vec<_>>(), [&early, &late]);
    assert!(skipped[1].error.contains("line 20001"), "{}", skipped[1].error);

    // Parquet: one with a broken footer, one with broken pages.
    let whole = std::fs::read(example("iris.parquet")).unwrap();
    put(&dir, "p/1.parquet", &whole[..whole.len() / 2]);
    put(&dir, "p/2.parquet", &whole);
    let mut broken = whole.clone();
    broken[4..400].fill(0xff);
    put(&dir, "p/3.parquet", broken);
    let ds = session.read_with(out(&dir, "p"), FileFormat::Parquet, skip.clone()).unwrap();
    assert_eq!(ds.collect().unwrap().iter().map(RecordBatch::num_rows).sum::<usize>(), 150);
    assert_eq!(ds.skipped_files().unwrap().len(), 2);
    // With none left there is nothing to tell the columns from.
    put(&dir, "n/1.jsonl", "no\n");
    assert!(session.read_with(out(&dir, "n"), FileFormat::Json, skip.clone()).is_err());
    put(&dir, "t/1.txt", "fine\n");
    put(&dir, "t/2.txt", b"caf\xe9\n");
    put(&dir, "t/3.txt", "too\n");
    let ds = session.read_with(out(&dir, "t"), FileFormat::Text, skip).unwrap();
    assert_eq!(ds.take_all::<String>().unwrap(), ["fine", "too"]);
    assert_eq!(ds.skipped_files().unwrap()[0].path, out(&dir, "t/2.txt"));
}

#[test]
fn lines_of_text() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "t/1.txt", "one\r\n\nthree, with ümlaut\nlast");
    put(&dir, "t/2.txt", "");
    put(&dir, "t/3.txt", "x\n".repeat(20_000));
    let ds = session().read_text(out(&dir, "t")).unwrap();
    let lines = ds.take_all::<String>().unwrap();
    assert_eq!(lines.len(), 20_004);
    assert_eq!(lines[..5], ["one", "", "three, with ümlaut", "last", "x"]);
    assert_eq!(ds.count().unwrap(), 20_004);
    let bad = put(&dir, "bad.txt", b"good\ncaf\xe9\n");
    let error = told(&session().read_text(&bad).unwrap().collect().unwrap_err());
    assert_eq!(error, format!("reading {bad}\n  caused by: line 2: not UTF-8 after 3 bytes"));
}

#[test]
fn whole_files() {
    let dir = tempfile::tempdir().unwrap();
    put(&dir, "b/1.png", [0_u8, 255, 1]);
    put(&dir, "b/2", []);
    let options = ReadOptions { include_paths: Some("path".to_owned()), ..ReadOptions::default() };
    let ds = session().read_with(out(&dir, "b"), FileFormat::Binary, options).unwrap();
    assert_eq!(ds.count().unwrap(), 2);
    let batch = ds.to_batch().unwrap();
    let bytes = batch.column(0).as_binary::<i32>();
    assert_eq!((bytes.value(0), bytes.value(1)), (&[0_u8, 255, 1][..], &[][..]));
    assert_eq!(batch.column(1).as_string::<i32>().value(1), out(&dir, "b/2"));
}

#[test]
fn arrow_files_there_and_back() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let iris = iris(&session);
    iris.write_ipc(out(&dir, "iris.arrow")).unwrap();
    let back = session.read_ipc(out(&dir, "iris.arrow")).unwrap();
    assert_eq!(back.to_batch().unwrap(), iris.to_batch().unwrap());
    assert_eq!(back.select(["variety"]).limit(1).take_all::<String>().unwrap(), ["Setosa"]);
    let many = session.range(100_000).unwrap();
    assert_eq!(many.repartition(3).write_ipc(out(&dir, "many")).unwrap().len(), 3);
    assert_eq!(session.read_ipc(out(&dir, "many")).unwrap().to_batch().unwrap(), many.to_batch().unwrap());
    let bad = put(&dir, "bad.arrow", "garbage");
    let error = told(&session.read_ipc(&bad).unwrap_err());
    assert!(error.contains(&bad), "{error}");
}

/// Made by NumPy 2.4: `np.save("x.npy", np.arange(6, dtype="<f4").reshape(3, 2) / 2)`.
const HALVES: &[u8] = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }                                                          \n\
\0\0\0\0\0\0\0?\0\0\x80?\0\0\xc0?\0\0\0@\0\0 @";

#[test]
fn numpy_arrays_there_and_back() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let path = put(&dir, "halves.npy", HALVES);
    let ds = session.read_npy(&path).unwrap();
    assert_eq!(ds.take_all::<Vec<f32>>().unwrap(), [[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]]);
    let field = ds.schema().unwrap().field(0).clone();
    assert_eq!(field.metadata()["ARROW:extension:name"], "arrow.fixed_shape_tensor");
    assert_eq!(field.metadata()["ARROW:extension:metadata"], "{\"shape\":[2]}");
    ds.write_npy(out(&dir, "again.npy")).unwrap();
    assert_eq!(std::fs::read(out(&dir, "again.npy")).unwrap(), HALVES);
    // Every other row: a selection of lists.
    ds.limit(3).filter(|row: &Vec<f32>| Ok(row[0] != 1.0)).write_npy(out(&dir, "two.npy")).unwrap();
    let two = session.read_npy(out(&dir, "two.npy")).unwrap().to_batch().unwrap();
    assert_eq!(
        two.column(0).as_fixed_size_list().values().as_primitive::<Float32Type>().values(),
        &[0.0, 0.5, 2.0, 2.5]
    );

    session.range(10_000).unwrap().write_npy(out(&dir, "ids.npy")).unwrap();
    let ids = session.read_npy(out(&dir, "ids.npy")).unwrap();
    assert_eq!(ids.columns().unwrap(), ["data"]);
    assert_eq!(ids.sum::<i64>("data").unwrap(), 9_999 * 5_000);
    let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true, false, true]));
    let flags = session.from_batches(vec![RecordBatch::try_from_iter([("f", flags)]).unwrap()]).unwrap();
    flags.write_npy(out(&dir, "flags.npy")).unwrap();
    assert_eq!(
        session.read_npy(out(&dir, "flags.npy")).unwrap().take_all::<bool>().unwrap(),
        [true, false, true]
    );

    let error = told(&iris(&session).write_npy(out(&dir, "iris.npy")).unwrap_err());
    assert!(error.contains(".npy holds one column"), "{error}");
    let nulls = session.from_items(vec![Some(1), None]).unwrap();
    let error = told(&nulls.write_npy(out(&dir, "nulls.npy")).unwrap_err());
    assert!(error.contains("a null, which .npy cannot hold"), "{error}");
    assert!(!dir.path().join("nulls.npy").exists());
    let cut = put(&dir, "cut.npy", &HALVES[..HALVES.len() - 1]);
    let error = told(&session.read_npy(&cut).unwrap().collect().unwrap_err());
    assert!(
        error.contains(&cut) && error.contains("23 bytes of values, where the shape [3, 2] needs 24"),
        "{error}"
    );
}

#[test]
fn a_write_into_directories_by_columns_reads_back_the_same() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let ds = session
        .range(1000)
        .unwrap()
        .with_columns([
            ("k", col("id") % lit(3)),
            ("t", air_data::expr::when((col("id") % lit(2)).eq(lit(0)), lit("a/b = 50%")).end().unwrap()),
        ])
        .repartition(2);
    let by = |columns: &[&str]| WriteOptions {
        partition_by: columns.iter().map(ToString::to_string).collect(),
        row_group_rows: Some(100),
        ..WriteOptions::default()
    };
    let files = ds.write(&out(&dir, "t"), FileFormat::Parquet, by(&["k", "t"])).unwrap();
    assert_eq!(files.len(), 12);
    assert!(files[0].starts_with(&out(&dir, "t/k=0/t=")), "{files:?}");
    let below = files_below(&dir.path().join("t"));
    assert_eq!(below.len(), 12);
    assert!(
        below.iter().any(|file| file == "k=2/t=__HIVE_DEFAULT_PARTITION__/part-00001.parquet"),
        "{below:?}"
    );
    let back = session.read_parquet(out(&dir, "t")).unwrap();
    assert_eq!(back.columns().unwrap(), ["id", "k", "t"]);
    assert_eq!(back.sort(["id"]).to_batch().unwrap().columns(), ds.to_batch().unwrap().columns());
    // Rows of a directory keep their order.
    let of_one = back.filter_expr(col("k").eq(lit(1)).and(col("t").is_null())).select(["id"]);
    assert_eq!(of_one.take_all::<i64>().unwrap(), (0..1000).filter(|id| id % 6 == 1).collect::<Vec<_>>());
    // A file has as many row groups as were asked for: 84 rows of each block and directory are one; 500 of a block are five.
    ds.write(&out(&dir, "plain"), FileFormat::Parquet, by(&[])).unwrap();
    let file = std::fs::File::open(dir.path().join("plain/part-00000.parquet")).unwrap();
    let metadata = parquet::file::reader::FileReader::metadata(
        &parquet::file::reader::SerializedFileReader::new(file).unwrap(),
    )
    .clone();
    assert_eq!(metadata.num_row_groups(), 5);

    let error = told(&ds.write(&out(&dir, "x"), FileFormat::Parquet, by(&["nope"])).unwrap_err());
    assert!(error.starts_with("no column 'nope'"), "{error}");
    let error = told(&ds.write(&out(&dir, "x.parquet"), FileFormat::Parquet, by(&["k"])).unwrap_err());
    assert!(error.starts_with("bad setting partition_by: a single file has no directories"), "{error}");
    let all = ds.write(&out(&dir, "x"), FileFormat::Parquet, by(&["k", "t", "id"])).unwrap_err();
    assert!(told(&all).contains("there has to be a column left"), "{all}");
    assert!(!dir.path().join("x").exists());
    let zero = WriteOptions { row_group_rows: Some(0), ..WriteOptions::default() };
    assert!(ds.write(&out(&dir, "x"), FileFormat::Parquet, zero).is_err());
    let many = session.range(5000).unwrap().with_column("k", col("id"));
    let error = told(&many.write(&out(&dir, "x"), FileFormat::Parquet, by(&["k"])).unwrap_err());
    assert!(error.contains("more than 4096 directories in one block"), "{error}");
    assert!(!dir.path().join("x").exists());
}

#[test]
fn a_directory_appears_with_all_its_files() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let seen = dir.path().to_owned();
    // Each row looks whether anything can be seen yet.
    let ds = session.range(100).unwrap().repartition(4).map(move |id: i64| {
        let visible = std::fs::read_dir(&seen)?
            .filter_map(Result::ok)
            .any(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
        if visible { Err("too early".into()) } else { Ok(id) }
    });
    let files = ds.write_parquet(out(&dir, "t")).unwrap();
    assert_eq!(files, (0..4).map(|part| out(&dir, &format!("t/part-{part:05}.parquet"))).collect::<Vec<_>>());
    assert_eq!(files_below(dir.path()).len(), 4, "nothing is left of the hidden directory");
    assert_eq!(session.read_parquet(out(&dir, "t")).unwrap().count().unwrap(), 100);
    let failing = session
        .range(100)
        .unwrap()
        .repartition(4)
        .map(|id: i64| if id == 99 { Err("no".into()) } else { Ok(id) });
    assert!(failing.write_parquet(out(&dir, "f")).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left of a failed write");
    // Over a directory that is there: the new files, and none of the old.
    let over = WriteOptions { mode: WriteMode::Overwrite, ..WriteOptions::default() };
    session.range(5).unwrap().write(&out(&dir, "t"), FileFormat::Parquet, over).unwrap();
    assert_eq!(files_below(dir.path()), ["t/part-00000.parquet"]);
    let batch = session.read_parquet(out(&dir, "t")).unwrap().to_batch().unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().values(), &[0, 1, 2, 3, 4]);
    assert_eq!(batch.column(0).null_count(), 0);
}
