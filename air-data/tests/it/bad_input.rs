//! More bad input: files cut short and of another kind than their names say, names with odd characters, places that cannot be entered, keys that make no
//! directories.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use air_data::{DataError, FileFormat, ReadOptions, Session, WriteOptions};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;

use super::{example, session, told};

fn path(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

/// A file, and what is said of it by whoever reads it.
fn refused(session: &Session, dir: &tempfile::TempDir, name: &str, content: &[u8]) -> String {
    let path = path(dir, name);
    fs::write(&path, content).unwrap();
    let format = FileFormat::of_path(&path).unwrap();
    let error = session.read(path.as_str(), format).and_then(|ds| ds.collect()).unwrap_err();
    let text = told(&error);
    assert!(text.contains(&path), "{text}");
    text
}

fn batch(column: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter([("a", column)]).unwrap()
}

fn parquet(path: &str, batch: &RecordBatch) {
    let mut writer = ArrowWriter::try_new(fs::File::create(path).unwrap(), batch.schema(), None).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn ints() -> RecordBatch {
    batch(Arc::new(Int64Array::from_iter_values(0..1000)))
}

#[test]
fn files_that_are_cut_short() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let whole = path(&dir, "whole.arrow");
    session.from_batches(vec![ints()]).unwrap().write_ipc(&whole).unwrap();
    let bytes = fs::read(&whole).unwrap();
    for end in [0, 3, bytes.len() / 2, bytes.len() - 1] {
        refused(&session, &dir, "cut.arrow", &bytes[..end]);
    }
    let whole = path(&dir, "whole.npy");
    session.from_batches(vec![ints()]).unwrap().write_npy(&whole).unwrap();
    let bytes = fs::read(&whole).unwrap();
    for end in [0, 3, 70, bytes.len() - 1] {
        refused(&session, &dir, "cut.npy", &bytes[..end]);
    }
    let bytes = fs::read(example("iris.parquet")).unwrap();
    for end in [3, 8, bytes.len() - 1] {
        refused(&session, &dir, "cut.parquet", &bytes[..end]);
    }
    let text = refused(&session, &dir, "cut.json", b"{\"a\": 1}\n{\"a\": 2");
    assert!(text.contains("line 2"), "{text}");
}

#[test]
fn files_of_another_kind_than_their_names_say() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let parquet = fs::read(example("iris.parquet")).unwrap();
    let csv = fs::read(example("iris.csv")).unwrap();
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x4b\xd4\xe1\x02\x00\x77\x5a\x1c\x3c";
    for (name, content, kind) in [
        ("a.csv", &parquet[..], "a Parquet file"),
        ("a.json", &parquet[..], "a Parquet file"),
        ("b.csv", &gzip[..], "compressed with gzip"),
        ("b.json", &gzip[..], "compressed with gzip"),
        ("b.parquet", &gzip[..], "compressed with gzip"),
        ("c.csv", &b"\x28\xb5\x2f\xfd\x04\x00"[..], "compressed with Zstandard"),
        ("d.csv", &b"\xff\xfea\x00,\x00b\x00\n\x00"[..], "UTF-16"),
        ("e.arrow", &parquet[..], "a Parquet file"),
    ] {
        let text = refused(&session, &dir, name, content);
        assert!(text.contains(kind), "{name}: {text}");
    }
    for name in ["f.parquet", "f.arrow", "f.npy"] {
        refused(&session, &dir, name, &csv);
    }
    // A mark at the beginning that says UTF-8 is none of the first column's name.
    let marked = path(&dir, "marked.csv");
    fs::write(&marked, b"\xef\xbb\xbfa,b\n1,2\n").unwrap();
    assert_eq!(session.read_csv(&marked).unwrap().columns().unwrap(), ["a", "b"]);
}

#[test]
fn empty_files_have_no_rows_or_are_refused() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    for name in ["empty.parquet", "empty.arrow", "empty.npy"] {
        refused(&session, &dir, name, b"");
    }
    let empty = path(&dir, "empty.txt");
    fs::write(&empty, b"").unwrap();
    assert_eq!(session.read_text(&empty).unwrap().count().unwrap(), 0);
    // Beside others they are no harm.
    fs::create_dir(dir.path().join("csv")).unwrap();
    fs::write(dir.path().join("csv/0.csv"), "").unwrap();
    fs::write(dir.path().join("csv/1.csv"), "a\n1\n").unwrap();
    assert_eq!(session.read_csv(dir.path().join("csv")).unwrap().sum::<i64>("a").unwrap(), 1);
    fs::create_dir(dir.path().join("json")).unwrap();
    fs::write(dir.path().join("json/0.json"), "").unwrap();
    fs::write(dir.path().join("json/1.json"), "{\"a\": 1}\n").unwrap();
    assert_eq!(session.read_json(dir.path().join("json")).unwrap().sum::<i64>("a").unwrap(), 1);
}

#[test]
fn files_whose_columns_do_not_agree_are_named_with_the_column() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    parquet(&path(&dir, "1.parquet"), &ints());
    let second = path(&dir, "2.parquet");
    parquet(&second, &batch(Arc::new(StringArray::from(vec!["x"]))));
    let text = told(&session.read_parquet(dir.path()).unwrap_err());
    assert!(text.contains(&second) && text.contains("'a'") || text.contains("field a"), "{text}");
    // With the columns given, the file says otherwise when it is read.
    let schema = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, true)]));
    let options = ReadOptions { schema: Some(schema), ..ReadOptions::default() };
    let error = session
        .read_with(second.as_str(), FileFormat::Parquet, options)
        .and_then(|ds| ds.collect())
        .unwrap_err();
    let text = told(&error);
    assert!(text.contains(&second), "{text}");

    let twice = Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int64, false),
        Field::new("a", DataType::Int64, false),
    ]));
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_new(twice, vec![column.clone(), column]).unwrap();
    let doubled = path(&dir, "twice.parquet");
    parquet(&doubled, &batch);
    let text = told(&session.read_parquet(&doubled).unwrap_err());
    assert_eq!(text, format!("column 'a' appears more than once in {doubled}"));
    let error = session.from_batches(vec![batch]).and_then(|ds| ds.collect()).unwrap_err();
    assert!(told(&error).contains('a'), "{error}");
}

#[test]
fn text_that_is_not_text_is_named_with_its_line() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let mut csv = b"a,b\n".to_vec();
    csv.extend((0..20_000).flat_map(|n| format!("{n},x\n").into_bytes()));
    csv.extend(b"1,caf\xe9\n");
    let text = refused(&session, &dir, "late.csv", &csv);
    assert!(text.to_lowercase().contains("utf-8") && text.contains("line 2000"), "{text}");
    let text = refused(&session, &dir, "latin1.txt", b"one\ncaf\xe9\n");
    assert!(text.to_lowercase().contains("utf-8") && text.contains("line 2"), "{text}");
    let text = refused(&session, &dir, "latin1.json", b"{\"a\": \"x\"}\n{\"a\": \"caf\xe9\"}\n");
    assert!(text.contains("line 2"), "{text}");
}

#[test]
fn a_directory_where_a_file_is_expected_and_the_other_way_round() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let ds = session.range(3).unwrap();
    let named = path(&dir, "dir.csv");
    fs::create_dir(&named).unwrap();
    let text = told(&session.read_csv(&named).unwrap_err());
    assert_eq!(text, format!("no .csv file in directory {named}"));
    let text = told(&ds.write_csv(&named).unwrap_err());
    assert!(text.contains(&named) && text.contains("directory"), "{text}");
    let file = path(&dir, "file");
    fs::write(&file, "x").unwrap();
    let text = told(&ds.write_csv(&file).unwrap_err());
    assert!(text.contains(&file), "{text}");
    let text = told(&ds.write_csv(format!("{file}/below/out.csv")).unwrap_err());
    assert!(text.contains(&file), "{text}");
    let text = told(&session.read_csv(format!("{file}/")).unwrap_err());
    assert!(text.contains(&file), "{text}");
    assert_eq!((fs::read(&file).unwrap(), fs::read_dir(&named).unwrap().count()), (b"x".to_vec(), 0));
}

#[test]
fn names_with_odd_characters_are_names() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let names = [
        "a b", "ü", "100%", "a%20b", "a#b", "a?b", "a[1]", "a*b", "{x}", "quo'te\"", "a&b;c", "~", "a\\b",
        "-x", "a:b",
    ];
    for (n, name) in names.iter().enumerate() {
        let file = path(&dir, &format!("{name}.csv"));
        fs::write(&file, format!("n\n{n}\n")).unwrap();
        let ds = session.read_csv(&file).unwrap();
        assert_eq!(ds.take_all::<i64>().unwrap(), [n as i64], "{name}");
        assert_eq!(ds.input_files().unwrap(), [file.as_str()], "{name}");
        // An error tells it as it is written.
        fs::write(&file, "n\n1\n2,3\n").unwrap();
        let error = session.read_csv(&file).and_then(|ds| ds.collect()).unwrap_err();
        assert!(told(&error).contains(&file), "{name}: {error}");
        fs::write(&file, format!("n\n{n}\n")).unwrap();
        let out = path(&dir, &format!("out/{name}.csv"));
        assert_eq!(ds.write_csv(&out).unwrap(), [out.as_str()], "{name}");
        assert_eq!(fs::read_to_string(&out).unwrap(), format!("n\n{n}\n"));
    }
    let all = session.read_csv(dir.path()).unwrap();
    assert_eq!(all.count().unwrap(), 2 * names.len() as u64);
    let whole = ds_of(&session, "a[1] dir", &dir);
    assert_eq!(session.read_csv(&whole).unwrap().count().unwrap(), 1);
    // What no store can name is refused by name.
    let odd = path(&dir, "new\nline.csv");
    fs::write(&odd, "n\n1\n").unwrap();
    let error = session.read_csv(&odd).unwrap_err();
    assert!(
        matches!(error.root(), DataError::BadPath { .. }) && told(&error).contains("line.csv"),
        "{error}"
    );
}

fn ds_of(session: &Session, name: &str, dir: &tempfile::TempDir) -> String {
    let whole = path(dir, &format!("in {name}"));
    session.range(1).unwrap().write_csv(&whole).unwrap();
    whole
}

#[derive(serde::Deserialize)]
struct Keyed {
    n: i64,
    k: Option<String>,
}

#[test]
fn odd_values_of_keys_make_directories_that_are_read_back() {
    let (session, dir) = (session(), tempfile::tempdir().unwrap());
    let values =
        ["plain", "a/b", "..", ".", "", "a=b", "100%", "%2F", "ü", "a b", "x?*[1]", "new\nline", "_", "~"];
    let keys: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..values.len() as i64));
    let batch = RecordBatch::try_from_iter([("k", keys), ("n", numbers)]).unwrap();
    let out = path(&dir, "keys");
    let by_k = || WriteOptions { partition_by: vec!["k".to_owned()], ..WriteOptions::default() };
    session.from_batches(vec![batch]).unwrap().write(&out, FileFormat::Parquet, by_k()).unwrap();
    let keys_by_number = |path: &str| {
        let mut rows: Vec<Keyed> = session.read_parquet(path).unwrap().take_all().unwrap();
        rows.sort_by_key(|row| row.n);
        rows.into_iter().map(|row| row.k).collect::<Vec<_>>()
    };
    let expected: Vec<Option<String>> = values.iter().map(|k| Some((*k).to_owned())).collect();
    assert_eq!(keys_by_number(&out), expected);

    let keys: ArrayRef = Arc::new(Float64Array::from(vec![
        Some(f64::NAN),
        Some(-0.0),
        Some(0.5),
        None,
        Some(f64::INFINITY),
        Some(-f64::NAN),
    ]));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..6));
    let batch = RecordBatch::try_from_iter([("k", keys), ("n", numbers)]).unwrap();
    let out = path(&dir, "floats");
    session.from_batches(vec![batch]).unwrap().write(&out, FileFormat::Parquet, by_k()).unwrap();
    let back = keys_by_number(&out);
    let keys: Vec<Option<&str>> = back.iter().map(Option::as_deref).collect();
    assert_eq!(keys, [Some("NaN"), Some("-0.0"), Some("0.5"), None, Some("inf"), Some("NaN")]);

    // A name that would hide its directories from readers, or read as another.
    for name in ["_k", ".k", "k=1"] {
        let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let batch = RecordBatch::try_from_iter([(name, column.clone()), ("n", column)]).unwrap();
        let options = WriteOptions { partition_by: vec![name.to_owned()], ..WriteOptions::default() };
        let out = path(&dir, "refused");
        let error =
            session.from_batches(vec![batch]).unwrap().write(&out, FileFormat::Parquet, options).unwrap_err();
        assert!(matches!(error.root(), DataError::Config { field: "partition_by", .. }), "{error}");
        assert!(told(&error).contains(&format!("'{name}'")) && !Path::new(&out).exists(), "{error}");
    }
}

#[test]
fn places_that_may_not_be_entered_are_named() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let shut = |name: &str, is_dir: bool| {
        let path = path(&dir, name);
        if is_dir {
            fs::create_dir(&path).unwrap();
            fs::write(format!("{path}/a.csv"), "n\n1\n").unwrap();
        } else {
            fs::write(&path, "n\n1\n").unwrap();
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
        path
    };
    let (file, below) = (shut("a.csv", false), shut("d", true));
    let plain = path(&dir, "b.csv");
    fs::write(&plain, "n\n1\n").unwrap();
    // Root may enter everything, unless it gives that up.
    let is_root = fs::read(&file).is_ok();
    let air_data = |args: &[&str]| {
        let program = env!("CARGO_BIN_EXE_air-data");
        let mut command = if is_root { Command::new("setpriv") } else { Command::new(program) };
        if is_root {
            command.args(["--bounding-set=-dac_override,-dac_read_search", program]);
        }
        command.args(args).output()
    };
    if is_root && !air_data(&["head", &plain]).is_ok_and(|output| output.status.success()) {
        eprintln!("nothing was checked: root without a setpriv that takes its powers");
        return;
    }
    let fails = |args: &[&str]| {
        let output = air_data(args).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (args, place) in [
        (vec!["head", file.as_str()], &file),
        (vec!["head", &format!("{below}/a.csv")], &below),
        (vec!["head", &format!("{below}/*.csv")], &below),
        (vec!["convert", &plain, &format!("{below}/out.csv")], &below),
        (vec!["convert", &plain, &format!("{below}/out"), "--format", "csv"], &below),
    ] {
        let text = fails(&args);
        assert!(text.contains(place.as_str()) && text.contains("ermission denied"), "{args:?}: {text}");
    }
    fs::set_permissions(&below, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(fs::read_dir(&below).unwrap().count(), 1, "nothing was left");
}
