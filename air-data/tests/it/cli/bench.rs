//! `bench`.

use super::super::example;
use super::{fails, succeeds};

fn measured(args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&succeeds(args)).unwrap()
}

#[test]
fn every_verb_has_its_figures() {
    let json = measured(&["bench", "--rows", "5000", "--rounds", "1", "--json"]);
    assert_eq!((&json["table"]["rows"], &json["table"]["bytes"]), (&5000.into(), &120_000.into()));
    let figures = json["figures"].as_object().unwrap();
    let mut names: Vec<&str> = figures.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["batches", "closure", "filter", "group", "scan", "sort"]);
    for (name, figure) in figures {
        let number = |field: &str| figure[field].as_f64().unwrap();
        let (rows, bytes) = (5000.0 / number("seconds"), 120_000.0 / number("seconds"));
        assert!((number("rows_per_second") / rows - 1.0).abs() < 1e-9, "{name}");
        assert!((number("bytes_per_second") / bytes - 1.0).abs() < 1e-9, "{name}");
    }
    // A sort holds all of it.
    assert!(figures["sort"]["peak_bytes"].as_u64().unwrap() >= 120_000, "{json}");
}

#[test]
fn a_file_is_measured_and_a_part_alone() {
    let args = ["bench", &example("iris.parquet"), "--rounds", "1", "--only", "group", "--only", "scan"];
    let text = succeeds(&args);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].contains(": 150 rows, ")
            && lines[0].ends_with("grouped by variety, sorted and filtered by sepal.length"),
        "{text}"
    );
    let verbs: Vec<&str> = lines[1..].iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(verbs, ["verb", "scan", "group"]);
}

#[test]
fn what_cannot_be_measured_is_told() {
    assert_eq!(fails(&["bench", "/no/such.csv"]), (1, "error: no file at /no/such.csv\n".to_owned()));
    let (code, error) = fails(&["bench", "--only", "sorting"]);
    assert!(code == 2 && error.contains("sort") && error.contains("'sorting'"), "{error}");
    assert_eq!(fails(&["bench", "--rows", "0"]).0, 2);
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.csv");
    std::fs::write(&empty, "a,b\n").unwrap();
    let (code, error) = fails(&["bench", &empty.to_string_lossy()]);
    assert!(code == 1 && error.contains("empty.csv: a bench needs rows"), "{error}");
}
