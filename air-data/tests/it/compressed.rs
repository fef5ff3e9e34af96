//! Files that are compressed as a whole: there and back, found, mixed with others, spoilt.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use air_data::{
    Compression, CsvOptions, Dataset, FileErrors, FileFormat, ReadOptions, Row, Session, WriteOptions, col,
    lit,
};
use arrow::datatypes::{DataType, Field, Schema};
use flate2::write::GzEncoder;

use super::{example, http, iris, out, put, session, told};

pub fn gzip(content: impl AsRef<[u8]>, level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(content.as_ref()).unwrap();
    encoder.finish().unwrap()
}

pub fn zstandard(content: impl AsRef<[u8]>) -> Vec<u8> {
    zstd::encode_all(content.as_ref(), 1).unwrap()
}

/// What the libraries' own readers make of a file.
fn unpacked(path: &str) -> Vec<u8> {
    let (file, mut content) = (std::fs::File::open(path).unwrap(), Vec::new());
    if Path::new(path).extension().is_some_and(|ending| ending == "gz") {
        std::io::copy(&mut flate2::read::GzDecoder::new(file), &mut content).unwrap();
    } else {
        std::io::copy(&mut zstd::Decoder::new(file).unwrap(), &mut content).unwrap();
    }
    content
}

fn csv() -> FileFormat {
    FileFormat::Csv(CsvOptions::default())
}

fn with(compression: Compression) -> ReadOptions {
    ReadOptions { compression, ..ReadOptions::default() }
}

fn rows(ds: &Dataset) -> Vec<String> {
    ds.take_all::<Row>().unwrap().iter().map(Row::to_string).collect()
}

#[test]
fn every_format_there_and_back() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let ds = iris(&session);
    let expected = rows(&ds);
    for ending in ["gz", "zst"] {
        for (name, format) in
            [("a.csv", csv()), ("a.jsonl", FileFormat::Json), ("b.json", FileFormat::JsonArray)]
        {
            let (plain, packed) = (out(&dir, name), out(&dir, &format!("{name}.{ending}")));
            let options = WriteOptions { mode: air_data::WriteMode::Overwrite, ..WriteOptions::default() };
            ds.write(&plain, format.clone(), options.clone()).unwrap();
            assert_eq!(ds.write(&packed, format.clone(), options).unwrap(), std::slice::from_ref(&packed));
            assert_eq!(unpacked(&packed), std::fs::read(&plain).unwrap(), "{packed}");
            let back = session.read(&packed, FileFormat::of_path(&packed).unwrap()).unwrap();
            let names =
                ds.schema().unwrap().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
            assert_eq!(rows(&back.select(names)), expected, "{packed}");
            assert_eq!(back.count().unwrap(), 150);
        }
        let text = ["a", "", "ä", "the last has no line end"];
        let content = text.join("\n");
        let content = if ending == "gz" { gzip(content, 6) } else { zstandard(content) };
        let path = put(&dir, &format!("a.txt.{ending}"), content);
        assert_eq!(session.read_text(&path).unwrap().take_all::<String>().unwrap(), text);
        assert!(session.read_text(&path).unwrap().limit(2).take_all::<String>().unwrap() == ["a", ""]);
    }
    // CSV with a filter, of which the engine reads no more than it needs.
    let packed = session.read_csv(out(&dir, "a.csv.gz")).unwrap();
    let few = packed.filter_expr(col("variety").eq(lit("Setosa"))).select(["variety"]);
    assert_eq!(few.count().unwrap(), 50);
    // Tabs, and names in capitals.
    let path = put(&dir, "T.TSV.GZ", gzip("a\tb\n1\t2\n", 9));
    assert_eq!(
        rows(&session.read(&path, FileFormat::of_path(&path).unwrap()).unwrap()),
        [r#"{"a":1,"b":2}"#]
    );
}

#[test]
fn directories_may_have_files_of_each_kind() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let ds = session.range(3000).unwrap().repartition(3);
    for (compression, ending) in [(Compression::Gzip, "gz"), (Compression::Zstd, "zst")] {
        let to = out(&dir, ending);
        let options = WriteOptions { compression, ..WriteOptions::default() };
        let files = ds.write(&to, csv(), options).unwrap();
        let names: Vec<&str> = files.iter().map(|file| file.rsplit('/').next().unwrap()).collect();
        let expected: Vec<String> = (0..3).map(|part| format!("part-{part:05}.csv.{ending}")).collect();
        assert_eq!(names, expected);
        assert_eq!(session.read_csv(&to).unwrap().take_all::<i64>().unwrap(), (0..3000).collect::<Vec<_>>());
    }
    // Without a word, files in a directory are as they were.
    assert!(ds.write_csv(out(&dir, "plain")).unwrap()[0].ends_with("part-00000.csv"));

    put(&dir, "mixed/day=1/a.csv.gz", gzip("id\n1\n", 6));
    put(&dir, "mixed/day=1/b.csv", "id\n2\n");
    put(&dir, "mixed/day=2/a.csv.zst", zstandard("id\n3\n"));
    put(&dir, "mixed/day=2/b.jsonl.gz", "of another format");
    put(&dir, "mixed/day=2/csv.gz", "hardly a name");
    let mixed = session.read_csv(out(&dir, "mixed")).unwrap();
    assert_eq!(rows(&mixed), [r#"{"id":1,"day":1}"#, r#"{"id":2,"day":1}"#, r#"{"id":3,"day":2}"#]);
    assert_eq!(rows(&mixed.filter_expr(col("day").eq(lit(2)))), [r#"{"id":3,"day":2}"#]);
    // A pattern finds what it says.
    assert!(session.read_csv(out(&dir, "mixed/*/*.gz")).is_err(), "not only CSV");
    assert_eq!(session.read_csv(out(&dir, "mixed/*/a.csv*")).unwrap().count().unwrap(), 2);
    let none = ReadOptions { compression: Compression::None, ..ReadOptions::default() };
    assert_eq!(session.read_with(out(&dir, "mixed"), csv(), none).unwrap().count().unwrap(), 1);
    let own = ReadOptions { extensions: Some(vec!["csv.zst".into()]), ..ReadOptions::default() };
    assert_eq!(session.read_with(out(&dir, "mixed"), csv(), own).unwrap().count().unwrap(), 1);
}

/// Lines of numbers in no order.
fn numbers(rows: u64) -> impl Iterator<Item = u64> {
    (0..rows).map(|row| row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20)
}

#[test]
fn large_files_are_one_piece_in_order() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let expected: Vec<u64> = numbers(300_000).collect();
    let lines =
        |line: &dyn Fn(u64) -> String| expected.iter().map(|number| line(*number)).collect::<String>();
    let table = format!("n\n{}", lines(&|number| format!("{number}\n")));
    // As large in the store as files are that would be cut.
    let stored = put(&dir, "a.csv.gz", gzip(&table, 0));
    let json = put(
        &dir,
        "a.jsonl.gz",
        gzip(lines(&|number| format!("{{\"n\":{number},\"x\":\"{number:040}\"}}\n")), 0),
    );
    assert!([&stored, &json].iter().all(|path| Path::new(path).metadata().unwrap().len() > 4_000_000));
    for ds in [session.read_csv(&stored).unwrap(), session.read_json(&json).unwrap().select(["n"])] {
        assert_eq!(ds.take_all::<u64>().unwrap(), expected);
        assert_eq!(ds.repartition(4).take_all::<u64>().unwrap(), expected);
        assert_eq!(ds.limit(5).take_all::<u64>().unwrap(), expected[..5]);
        assert_eq!(ds.count().unwrap(), 300_000);
    }
    // Beside one that is cut.
    put(&dir, "both/a.csv.gz", gzip("n\n1\n", 6));
    put(&dir, "both/b.csv", &table);
    let both = session.read_csv(out(&dir, "both")).unwrap().take_all::<u64>().unwrap();
    assert!(both[0] == 1 && both[1..] == expected);
}

#[test]
fn all_members_are_read() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let members =
        |pack: &dyn Fn(&str) -> Vec<u8>| [pack("id\n1\n2\n"), pack(""), pack("3\n"), pack("4")].concat();
    let gz = put(&dir, "a.csv.gz", members(&|text| gzip(text, 6)));
    let zst = put(&dir, "a.csv.zst", members(&|text| zstandard(text)));
    for path in [gz, zst] {
        assert_eq!(session.read_csv(&path).unwrap().take_all::<i64>().unwrap(), [1, 2, 3, 4], "{path}");
    }
}

fn given(name: &str) -> Option<arrow::datatypes::SchemaRef> {
    Some(Arc::new(Schema::new(vec![Field::new(name, DataType::Int64, true)])))
}

#[test]
fn spoilt_files_are_named_with_how_far_they_got() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let table: String = "id\n".into();
    let table = numbers(100_000).fold(table, |table, number| table + &format!("{number}\n"));
    let whole = gzip(&table, 6);
    let short = put(&dir, "d/2.csv.gz", &whole[..whole.len() / 2]);
    let mut broken = whole.clone();
    let at = broken.len() - 6;
    broken[at] ^= 1;
    let broken = put(&dir, "d/3.csv.gz", broken);
    let another = put(&dir, "d/4.csv.gz", "id\n1\n");
    put(&dir, "d/1.csv", "id\n7\n");
    put(&dir, "d/5.csv.gz", gzip("id\n8\n", 6));

    let error = told(&session.read_csv(&short).unwrap().count().unwrap_err());
    let begins = format!(
        "reading {short}\n  caused by: cut short: the gzip data does not end in its {} bytes, which hold ",
        whole.len() / 2
    );
    assert!(error.contains(&begins), "{error}");
    let error = told(&session.read_csv(&broken).unwrap().count().unwrap_err());
    assert!(error.contains(&format!("reading {broken}\n  caused by: spoilt gzip data after ")), "{error}");
    assert!(
        error.contains(&format!("which hold {} bytes unpacked or more: the checksum", table.len())),
        "{error}"
    );
    let error = told(&session.read_csv(&another).unwrap_err());
    assert!(
        error.contains(&format!("reading {another}\n  caused by: it is not compressed with gzip")),
        "{error}"
    );
    assert_eq!(session.read_with(&another, csv(), with(Compression::None)).unwrap().count().unwrap(), 1);

    // What was read before stays; the others are read.
    for schema in [None, given("id")] {
        let skip = ReadOptions { on_error: FileErrors::Skip, schema, ..ReadOptions::default() };
        let ds = session.read_with(out(&dir, "d"), csv(), skip).unwrap();
        let found = ds.take_all::<u64>().unwrap();
        assert_eq!((found[0], *found.last().unwrap()), (7, 8));
        assert!((30_000..200_000).contains(&found.len()), "{}", found.len());
        let skipped = ds.skipped_files().unwrap();
        assert_eq!(skipped.iter().map(|file| &file.path).collect::<Vec<_>>(), [&short, &broken, &another]);
        assert!(skipped[0].error.contains("cut short"), "{}", skipped[0].error);
    }
    // So it is with the engine's reader, and with Zstandard.
    let lines = zstandard("{\"id\":1}\n".repeat(50_000));
    let lines = put(&dir, "a.jsonl.zst", &lines[..lines.len() - 1]);
    for options in [ReadOptions::default(), ReadOptions { schema: given("id"), ..ReadOptions::default() }] {
        let ds = session.read_with(&lines, FileFormat::Json, options);
        let error = told(&ds.and_then(|ds| ds.count()).unwrap_err());
        assert!(
            error.contains(&format!("reading {lines}\n  caused by: cut short: the Zstandard data")),
            "{error}"
        );
    }
}

#[test]
fn what_is_wrong_within_is_told_as_of_files_that_are_not_compressed() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let lines = format!("{}{{\"id\":\"x\"}}\n", "{\"id\":1}\n".repeat(20_000));
    let path = put(&dir, "a.jsonl.gz", gzip(lines, 6));
    let error = told(&session.read_json(&path).unwrap().count_rows_of("id").unwrap_err());
    assert!(error.contains(&format!("reading {path}\n  caused by: line 20001: ")), "{error}");
    let table = format!("id\n{}x\n", "1\n".repeat(20_000));
    let told_of = |path: &str| told(&session.read_csv(path).unwrap().take_all::<i64>().unwrap_err());
    let (plain, packed) = (put(&dir, "b.csv", &table), put(&dir, "b.csv.gz", gzip(&table, 6)));
    assert!(told_of(&plain).contains("at line 20001"), "{}", told_of(&plain));
    assert_eq!(told_of(&packed), told_of(&plain).replace(&plain, &packed));
    let path = put(&dir, "twice.csv.gz", gzip("a,a\n1,2\n", 6));
    assert!(told(&session.read_csv(&path).unwrap_err()).contains("'a'"));
    // A line that never ends takes no more memory than lines may.
    let path = put(&dir, "long.txt.gz", gzip(vec![b'x'; 80 << 20], 1));
    let error = told(&session.read_text(&path).unwrap().count().unwrap_err());
    assert!(error.contains("line 1 is longer than 67108864 bytes"), "{error}");
    // Compressed, and nothing says so.
    let path = put(&dir, "c.csv", gzip("id\n5\n", 6));
    let error = told(&session.read_csv(&path).unwrap_err());
    assert!(error.contains("it is compressed with gzip; if it is CSV, JSON or text, say so"), "{error}");
    assert_eq!(
        session.read_with(&path, csv(), with(Compression::Gzip)).unwrap().take_all::<i64>().unwrap(),
        [5]
    );
}

/// Makes the rows, which counting alone would not.
trait CountRowsOf {
    fn count_rows_of(&self, column: &str) -> air_data::Result<usize>;
}

impl CountRowsOf for Dataset {
    fn count_rows_of(&self, column: &str) -> air_data::Result<usize> {
        Ok(self.select([column]).take_all::<i64>()?.len())
    }
}

#[test]
fn settings_that_mean_nothing_are_refused() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let npy = ReadOptions { compression: Compression::Gzip, ..ReadOptions::default() };
    let error = told(&session.read_with("no.npy", FileFormat::Npy, npy).unwrap_err());
    assert!(error.contains("compression") && error.contains("these are npy"), "{error}");
    let error = told(&session.read_with("no.csv", csv(), with(Compression::Snappy)).unwrap_err());
    assert!(error.contains("auto, none, gzip or zstd"), "{error}");
    let ds = session.range(3).unwrap();
    let written = |name: &str, format, compression| {
        let options = WriteOptions { compression, ..WriteOptions::default() };
        ds.write(&out(&dir, name), format, options)
    };
    let error = told(&written("a.csv", csv(), Compression::Snappy).unwrap_err());
    assert!(error.contains("snappy is for Parquet"), "{error}");
    let error = told(&written("a.arrow", FileFormat::Ipc, Compression::Zstd).unwrap_err());
    assert!(error.contains("these are arrow"), "{error}");
    assert!(FileFormat::of_path("a.parquet.gz").is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // Parquet is compressed within.
    for compression in [Compression::Gzip, Compression::Zstd, Compression::None, Compression::Auto] {
        let file = format!("{compression:?}.parquet");
        written(&file, FileFormat::Parquet, compression).unwrap();
        assert_eq!(session.read_parquet(out(&dir, &file)).unwrap().take_all::<i64>().unwrap(), [0, 1, 2]);
    }
    // Said, and not named; named, and not said.
    written("said.csv", csv(), Compression::Zstd).unwrap();
    assert_eq!(
        zstd::decode_all(&std::fs::read(out(&dir, "said.csv")).unwrap()[..]).unwrap(),
        b"id\n0\n1\n2\n"
    );
    written("plain.csv.gz", csv(), Compression::None).unwrap();
    assert_eq!(std::fs::read(out(&dir, "plain.csv.gz")).unwrap(), b"id\n0\n1\n2\n");
}

#[test]
fn a_write_that_fails_leaves_nothing() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let late = |x: i64| if x == 99_999 { Err("late".into()) } else { Ok(x) };
    let ds = session.range(100_000).unwrap().repartition(4).map(late);
    let options = WriteOptions { compression: Compression::Gzip, ..WriteOptions::default() };
    assert!(ds.write(&out(&dir, "out"), csv(), options).is_err());
    assert!(ds.write_csv(out(&dir, "one.csv.gz")).is_err());
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn compressed_over_http() {
    let session: Session = session();
    let url = http::serve(gzip(std::fs::read(example("iris.csv")).unwrap(), 6));
    assert_eq!(session.read_csv(format!("{url}/iris.csv.gz")).unwrap().count().unwrap(), 150);
    let lines = rows(&iris(&session)).join("\n");
    let whole = zstandard(lines);
    let short = http::serve(whole[..whole.len() - 9].to_vec());
    let url = http::serve(whole);
    assert_eq!(session.read_json(format!("{url}/iris.jsonl.zst")).unwrap().count().unwrap(), 150);
    let error = told(&session.read_json(format!("{short}/iris.jsonl.zst")).unwrap_err());
    assert!(
        error.contains("/iris.jsonl.zst\n  caused by: cut short: the Zstandard data does not end"),
        "{error}"
    );
}
