//! `stats`.

use super::super::example;
use super::{fails, succeeds};

#[test]
fn every_column_in_numbers() {
    let iris = example("iris.csv");
    let text = succeeds(&["stats", &iris]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[1]), ("1 file, 3.8 KiB", "150 rows"));
    let petal: Vec<&str> = lines[5].split_whitespace().collect();
    assert_eq!(
        petal,
        ["petal.length", "Float64", "0", "0.0000", "43", "1.0", "6.9", "3.7580", "1.7653", "0.0000"]
    );
    let variety: Vec<&str> = lines[7].split_whitespace().collect();
    assert_eq!(variety, ["variety", "Utf8", "0", "0.0000", "3", "Setosa", "Virginica"]);
    assert_eq!(lines.len(), 8);

    let json: serde_json::Value = serde_json::from_str(&succeeds(&["stats", &iris, "--json"])).unwrap();
    let size = std::fs::metadata(&iris).unwrap().len();
    assert_eq!((&json["files"], &json["bytes"], &json["rows"]), (&1.into(), &size.into(), &150.into()));
    let variety = &json["columns"][4];
    assert_eq!((&variety["distinct"], &variety["distinct_exact"]), (&3.into(), &true.into()));
    assert_eq!((&variety["nulls"], &variety["mean"]), (&0.into(), &serde_json::Value::Null));
}

#[test]
fn nulls_are_counted_and_many_values_are_said_to_be_nearly_counted() {
    let dir = tempfile::tempdir().unwrap();
    for part in 0..2 {
        let mut text = "id,name\n".to_owned();
        text.extend(
            (0..3000).map(|row| format!("{},{}\n", part * 3000 + row, if row % 3 == 0 { "" } else { "x" })),
        );
        std::fs::write(dir.path().join(format!("{part}.csv")), text).unwrap();
    }
    let dir = dir.path().to_string_lossy().into_owned();
    let json: serde_json::Value = serde_json::from_str(&succeeds(&["stats", &dir, "--json"])).unwrap();
    assert_eq!((&json["files"], &json["rows"]), (&2.into(), &6000.into()));
    let (id, name) = (&json["columns"][0], &json["columns"][1]);
    assert_eq!((&name["nulls"], &name["count"], &name["distinct"]), (&2000.into(), &4000.into(), &1.into()));
    assert_eq!((&id["nulls"], &id["distinct_exact"], &id["max"]), (&0.into(), &false.into(), &"5999".into()));
    let distinct = id["distinct"].as_u64().unwrap();
    assert!((5700..6300).contains(&distinct), "{distinct}");
    let text = succeeds(&["stats", &dir]);
    assert!(
        text.contains(&format!(" ~{distinct} ")) && text.ends_with("\n~ nearly (HyperLogLog)\n"),
        "{text}"
    );
}

#[test]
fn what_cannot_be_read_is_told() {
    assert_eq!(fails(&["stats", "/no/such.csv"]), (1, "error: no file at /no/such.csv\n".to_owned()));
}
