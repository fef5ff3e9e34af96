//! `run`: pipelines that do what they say.

use std::path::PathBuf;

use air_data::preprocess::{LabelEncoder, Preprocessor};

use super::super::{example, iris, session};
use super::{air_data, succeeds};

/// A directory with `flowers.csv`, which is iris, `kinds.csv` and `pipe.toml`.
pub(super) struct Case {
    pub(super) dir: tempfile::TempDir,
}

impl Case {
    pub(super) fn new(pipeline: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(example("iris.csv"), dir.path().join("flowers.csv")).unwrap();
        std::fs::write(
            dir.path().join("kinds.csv"),
            "name,latin\nSetosa,Iris setosa\nVirginica,Iris virginica\n",
        )
        .unwrap();
        std::fs::write(dir.path().join("pipe.toml"), pipeline).unwrap();
        Self { dir }
    }

    /// `[read]` of the flowers, then these steps.
    pub(super) fn steps(steps: &[&str]) -> Self {
        let steps = steps.iter().fold(String::new(), |text, step| text + "[[step]]\n" + step + "\n");
        Self::new(&format!("read.path = \"flowers.csv\"\ntables.kinds.path = \"kinds.csv\"\n{steps}"))
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_string_lossy().into_owned()
    }

    fn rows(&self, args: &[&str]) -> Vec<serde_json::Value> {
        let file = self.path("pipe.toml");
        let text = succeeds(&[&["run", &file], args].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// What the steps make of iris.
fn made(steps: &[&str]) -> Vec<serde_json::Value> {
    Case::steps(steps).rows(&[])
}

fn texts(rows: &[serde_json::Value]) -> Vec<String> {
    rows.iter().map(ToString::to_string).collect()
}

#[test]
fn the_example_runs() {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/data_pipeline.toml");
    let output = air_data(&["run", &file.to_string_lossy()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().next(), Some(r#"{"variety":"Setosa","area":0.96,"ratio":2.63}"#));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("finished in ") && told.contains(": 5 rows\n"), "{told}");
}

#[test]
fn each_verb() {
    let rows = made(&[
        r#"filter = '"petal.length" > 6'"#,
        r#"select = ["variety", "petal.length", '"petal.length" * 10 as ten', '"petal.width" + 1']"#,
        "with = { ten = 'round(ten)', kind = 'lower(variety)' }",
        r#"drop = ["variety"]"#,
        r#"rename = { "petal.length" = "long", ten = "mm" }"#,
        r#"sort = ["long desc nulls last", "kind"]"#,
        "limit = 1",
    ]);
    assert_eq!(texts(&rows), [r#"{"\"petal.width\" + 1":3.3,"kind":"virginica","long":6.9,"mm":69.0}"#]);
    let kinds = made(&[r#"select = ["variety"]"#, "distinct = true", r#"sort = ["variety desc"]"#]);
    assert_eq!(
        kinds.iter().map(|row| row["variety"].as_str().unwrap()).collect::<Vec<_>>(),
        ["Virginica", "Versicolor", "Setosa"]
    );
    let groups = made(&[
        r#"group_by = { keys = ["variety"], aggregates = ['max("petal.length") as longest', "count(*)"] }"#,
        r#"sort = ["variety"]"#,
    ]);
    assert_eq!(texts(&groups)[0], r#"{"count(*)":50,"longest":1.9,"variety":"Setosa"}"#);
    let whole = made(&[r#"group_by = { aggregates = ["count(*) as n"] }"#]);
    assert_eq!(texts(&whole), [r#"{"n":150}"#]);
    let query =
        made(&["sql = 'select i.variety, k.latin from input i join kinds k on i.variety = k.name limit 1'"]);
    assert_eq!(texts(&query), [r#"{"latin":"Iris setosa","variety":"Setosa"}"#]);
}

#[test]
fn steps_with_settings() {
    let count = r#"group_by = { aggregates = ["count(*) as n"] }"#;
    let number = |steps: &[&str]| made(&[steps, &[count]].concat())[0]["n"].as_u64().unwrap();
    assert_eq!(number(&[r#"join = { table = "kinds", on = [["variety", "name"]] }"#]), 100);
    assert_eq!(number(&[r#"join = { table = "kinds", on = [["variety", "name"]], how = "left" }"#]), 150);
    assert_eq!(number(&[r#"join = { table = "kinds", on = [["variety", "name"]], how = "left_anti" }"#]), 50);
    assert_eq!(number(&["repartition = 7"]), 150);
    let sampled = number(&["sample = { fraction = 0.5, seed = 3 }"]);
    let same = iris(&session()).random_sample(0.5, 3).count().unwrap();
    assert_eq!(sampled, same);
    let shuffled = made(&["shuffle = { seed = 3 }"]);
    let same = iris(&session()).random_shuffle(3).take::<air_data::Row>(150).unwrap();
    let same: Vec<serde_json::Value> = same.iter().map(|row| serde_json::to_value(row).unwrap()).collect();
    assert_eq!(shuffled, same);
}

#[test]
fn a_saved_preprocessor_is_applied() {
    let case = Case::steps(&[r#"preprocess = "prep.json""#, r#"filter = "variety = 2""#]);
    let fitted = LabelEncoder::new("variety").fit(&iris(&session())).unwrap();
    std::fs::write(case.dir.path().join("prep.json"), fitted.to_json()).unwrap();
    assert_eq!(case.rows(&[]).len(), 50);
}

#[test]
fn rows_go_to_files() {
    let case = Case::new(
        "read.path = ['flowers.csv']\n[[step]]\nlimit = 60\n[write]\npath = 'out'\nformat = 'csv'\ncsv.delimiter = ';'\npartition_by = ['variety']\n",
    );
    let file = case.path("pipe.toml");
    let output = air_data(&["run", &file]);
    let written = String::from_utf8(output.stdout).unwrap();
    let mut names: Vec<&str> =
        written.lines().map(|line| line.strip_prefix(&case.path("out")).unwrap()).collect();
    names.sort_unstable();
    assert!(
        names.len() == 2
            && names[0].starts_with("/variety=Setosa/")
            && names[1].starts_with("/variety=Versicolor/"),
        "{written}"
    );
    assert!(String::from_utf8(output.stderr).unwrap().contains(": 60 rows\n"));
    let setosa = std::fs::read_to_string(written.lines().next().unwrap()).unwrap();
    assert_eq!(setosa.lines().next(), Some("sepal.length;sepal.width;petal.length;petal.width"));

    let again = air_data(&["run", &file]);
    assert_eq!(again.status.code(), Some(1));
    let error = String::from_utf8(again.stderr).unwrap();
    assert!(error.contains("already exists"), "{error}");
    succeeds(&["run", &file, "--set", "write.mode=overwrite"]);
    // What was written is read again: the formats, the columns of the directories, the settings.
    let back = Case::new("[read]\npath = 'out'\nformat = 'csv'\ncsv.delimiter = ';'\n");
    std::fs::rename(case.path("out"), back.path("out")).unwrap();
    let rows = back.rows(&[]);
    assert_eq!((rows.len(), &rows[59]["variety"]), (60, &"Versicolor".into()));
}

#[test]
fn records_and_samples_are_written_into_directories_and_read_again() {
    let records = r#"select = ["variety", '"petal.length" as x']"#;
    let samples = r#"sql = """select 'flower' || cast(row_number() over () as varchar) as "__key__", variety as txt from input""""#;
    for (format, step, column, first) in
        [("tfrecord", records, "x", "1.4"), ("webdataset", samples, "__key__", "\"flower1\"")]
    {
        let case = Case::new(&format!(
            "read.path = 'flowers.csv'\n[[step]]\n{step}\n[write]\npath = 'out'\nformat = '{format}'\nresume = true\n"
        ));
        assert_eq!(succeeds(&["run", &case.path("pipe.toml")]).lines().count(), 1, "{format}");
        let back = Case::new(&format!("[read]\npath = 'out'\nformat = '{format}'\n"));
        std::fs::rename(case.path("out"), back.path("out")).unwrap();
        let rows = back.rows(&[]);
        assert_eq!((rows.len(), rows[0][column].to_string().as_str()), (150, first), "{format}: {}", rows[0]);
    }
}

#[test]
fn keys_are_set_from_outside() {
    let case = Case::new(
        "read.path = 'flowers.csv'\nparams = { least = 6, kind = 'Virginica' }\n[[step]]\nfilter = '\"petal.length\" > $least and variety = $kind'\n[[step]]\nsql = 'select count(*) as n, $kind as kind from input'\n",
    );
    assert_eq!(texts(&case.rows(&[])), [r#"{"kind":"Virginica","n":9}"#]);
    assert_eq!(texts(&case.rows(&["--set", "params.least=5.5"])), [r#"{"kind":"Virginica","n":25}"#]);
    assert_eq!(
        texts(&case.rows(&["--set", "params.kind=Setosa", "--set", "params.least=0"])),
        [r#"{"kind":"Setosa","n":50}"#]
    );
    let out = case.path("n.json");
    assert_eq!(succeeds(&["run", &case.path("pipe.toml"), "--set", "write.path=n.json"]).trim(), out);
    assert_eq!(std::fs::read_to_string(out).unwrap(), "{\"n\":9,\"kind\":\"Virginica\"}\n");
}

#[test]
fn columns_of_a_file_can_be_given() {
    let case = Case::new(
        "[read]\npath = 'raw.csv'\ncsv.header = false\ninclude_paths = 'file'\nschema = ['id bigint', '\"full name\" text', 'paid decimal(8, 2)']\n",
    );
    std::fs::write(case.path("raw.csv"), "1,Ada,1.5\n2,,3\n").unwrap();
    let rows = case.rows(&[]);
    assert_eq!((rows[0]["id"].as_i64(), rows[0]["full name"].as_str()), (Some(1), Some("Ada")));
    assert_eq!(rows[1]["full name"], serde_json::Value::Null);
    assert!(rows[1]["file"].as_str().unwrap().ends_with("raw.csv"));
    let told = succeeds(&["run", &case.path("pipe.toml"), "--dry-run"]);
    assert!(told.contains("paid: Decimal128(8, 2)"), "{told}");
}

#[test]
fn a_dry_run_and_an_explanation_run_nothing() {
    // The file is no JSON, which only a run finds out.
    let case = Case::new(
        "read = { path = 'broken.json', schema = ['a bigint'] }\n[[step]]\nwith = { b = 'a * 2' }\n[[step]]\nfilter = 'b > 3'\n[write]\npath = 'out.parquet'\n",
    );
    std::fs::write(case.path("broken.json"), "no json\n").unwrap();
    let file = case.path("pipe.toml");
    let told = succeeds(&["run", &file, "--dry-run"]);
    assert_eq!(
        told,
        format!(
            "read: a: Int64 (nullable)\nstep 1 (with): a: Int64 (nullable), b: Int64 (nullable)\nstep 2 (filter): the same columns\nwrite: {}\n",
            case.path("out.parquet")
        )
    );
    let plan = succeeds(&["run", &file, "--explain"]);
    assert!(plan.starts_with("described\n") && plan.contains("\nruns\n"), "{plan}");
    assert!(!case.dir.path().join("out.parquet").exists());
    let output = air_data(&["run", &file]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && error.contains("broken.json") && error.contains("line 1"),
        "{error}"
    );
    assert!(!case.dir.path().join("out.parquet").exists());
}

#[test]
fn inputs_and_outputs_may_be_compressed() {
    let case = Case::new(
        "read.path = \"flowers.csv\"\nwrite = { path = \"out\", format = \"json\", compression = \"gzip\" }\n",
    );
    let written = succeeds(&["run", &case.path("pipe.toml")]);
    assert!(written.trim().ends_with("part-00000.json.gz"), "{written}");
    assert_eq!(succeeds(&["head", &case.path("out"), "-n", "200"]).lines().count(), 150);
    // Under a name that does not say so.
    std::fs::rename(case.path("out/part-00000.json.gz"), case.path("flowers.log")).unwrap();
    let read = "read = { path = \"flowers.log\", format = \"json\", compression = \"gzip\" }\n";
    std::fs::write(case.path("pipe.toml"), read).unwrap();
    assert_eq!(case.rows(&[]).len(), 150);
    let told = air_data(&["run", &case.path("pipe.toml"), "--set", "read.compression=lzma"]);
    assert_eq!(told.status.code(), Some(1));
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(told.contains("lzma") && told.contains("`gzip`"), "{told}");
}
