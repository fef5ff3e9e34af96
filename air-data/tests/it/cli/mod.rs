//! The binary, as a user runs it.

mod bench;
mod mistakes;
mod pipelines;
mod stats;

use std::process::{Command, Output};

use super::example;

fn air_data(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_air-data")).args(args).output().unwrap()
}

fn succeeds(args: &[&str]) -> String {
    let output = air_data(args);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fails(args: &[&str]) -> (i32, String) {
    let output = air_data(args);
    assert!(output.stdout.is_empty());
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn schema_and_head() {
    let iris = example("iris.csv");
    let schema = succeeds(&["schema", &iris]);
    assert_eq!(
        schema,
        "sepal.length: float64\nsepal.width: float64\npetal.length: float64\npetal.width: float64\nvariety: string\n"
    );
    let json: serde_json::Value = serde_json::from_str(&succeeds(&["schema", &iris, "--json"])).unwrap();
    assert_eq!(json["columns"][4]["type"], "string");
    let head = succeeds(&["head", &iris, "-n", "2"]);
    let first =
        r#"{"sepal.length":5.1,"sepal.width":3.5,"petal.length":1.4,"petal.width":0.2,"variety":"Setosa"}"#;
    assert_eq!(head.lines().next(), Some(first));
    assert_eq!(head.lines().count(), 2);
}

#[test]
fn convert_and_sql() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("iris.parquet").to_string_lossy().into_owned();
    assert!(succeeds(&["convert", &example("iris.csv"), &out]).trim().ends_with("iris.parquet"));
    assert_eq!(fails(&["convert", &example("iris.csv"), &out]).0, 1, "there already");
    succeeds(&["convert", &example("iris.csv"), &out, "--overwrite"]);
    let table = format!("t={out}");
    let query = "select variety, count(*) as n from t group by variety order by variety";
    let rows = succeeds(&["sql", query, "--table", &table, "--json"]);
    assert_eq!(
        rows,
        "{\"variety\":\"Setosa\",\"n\":50}\n{\"variety\":\"Versicolor\",\"n\":50}\n{\"variety\":\"Virginica\",\"n\":50}\n"
    );
    assert!(succeeds(&["sql", query, "--table", &table]).contains("| Versicolor | 50 |"));
    let parts = dir.path().join("parts").to_string_lossy().into_owned();
    let written = succeeds(&["convert", &out, &parts, "--format", "csv", "--files", "3"]);
    assert_eq!(written.lines().count(), 3);
    assert_eq!(succeeds(&["head", &parts, "-n", "200"]).lines().count(), 150);
    let packed = dir.path().join("packed").to_string_lossy().into_owned();
    let written = succeeds(&["convert", &out, &packed, "--format", "csv", "--compression", "zstd"]);
    assert!(written.trim().ends_with("part-00000.csv.zst"), "{written}");
    let gz = dir.path().join("iris.jsonl.gz").to_string_lossy().into_owned();
    succeeds(&["convert", &packed, &gz]);
    assert_eq!(succeeds(&["head", &gz, "-n", "200"]).lines().count(), 150);
    let arrow = dir.path().join("iris.arrow").to_string_lossy().into_owned();
    succeeds(&["convert", &out, &arrow]);
    assert_eq!(succeeds(&["head", &arrow, "-n", "200"]).lines().count(), 150);
}

#[test]
fn mistakes() {
    let (code, error) = fails(&["head", "/no/such/file.csv"]);
    assert_eq!((code, error.as_str()), (1, "error: no file at /no/such/file.csv\n"));
    let (code, error) = fails(&["schema", &example("make_iris.py")]);
    assert_eq!(code, 1);
    assert!(error.starts_with("error: cannot tell the format of "), "{error}");
    assert_eq!(fails(&["sql", "select 1", "--table", "nonsense"]).0, 2);
    assert_eq!(fails(&["frobnicate"]).0, 2);
    let (code, error) =
        fails(&["sql", "select colour from t", "--table", &format!("t={}", example("iris.csv"))]);
    assert_eq!(code, 1);
    assert!(error.contains("no column 'colour'"), "{error}");
    let help = succeeds(&["--help"]);
    for verb in ["schema", "head", "stats", "convert", "sql", "run", "bench"] {
        assert!(help.contains(&format!("  {verb} ")), "{help}");
    }
}
