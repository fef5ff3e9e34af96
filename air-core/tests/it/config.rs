//! Configuration from a file, the environment and flags.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use air_core::CoreError;
use air_core::config::{self, ConfigError, Origin};
use serde::Deserialize;
use tempfile::TempDir;

#[derive(Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Train {
    name: String,
    epochs: u32,
    lr: f64,
    scheduler: Scheduler,
    scaling: Scaling,
    layers: Vec<Layer>,
}

impl Default for Train {
    fn default() -> Self {
        Self {
            name: "run".into(),
            epochs: 3,
            lr: 0.1,
            scheduler: Scheduler::Fifo,
            scaling: Scaling::default(),
            layers: Vec::new(),
        }
    }
}

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Scaling {
    workers: usize,
    gpu: bool,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layer {
    units: usize,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scheduler {
    Fifo,
    Asha,
}

struct Case {
    dir: TempDir,
    env: Vec<(String, String)>,
    sets: Vec<String>,
}

impl Case {
    fn new(file: &str, env: &[(&str, &str)], sets: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("train.toml"), file).unwrap();
        let env = env.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Self { dir, env, sets: sets.iter().map(ToString::to_string).collect() }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("train.toml")
    }

    fn load(&self) -> Result<Train, CoreError> {
        config::load_from(Some(&self.path()), "AIR_TRAIN", self.env.clone(), &self.sets)
    }

    /// The error, with the directory cut from its text.
    fn error(&self) -> String {
        let text = self.load().unwrap_err().to_string();
        text.replace(&format!("{}/", self.dir.path().display()), "")
    }
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = "epochs = 10\nlr = 1\n[scaling]\nworkers = 2\ngpu = true\n[[layers]]\nunits = 64\n";
    let env = [
        ("AIR_TRAIN_EPOCHS", "20"),
        ("AIR_TRAIN_SCALING__WORKERS", "3"),
        ("AIR_OTHER", "x"),
        ("AIR_LOG", "x"),
    ];
    let train = Case::new(file, &env, &["scaling.workers=4", "scheduler = asha"]).load().unwrap();
    let expected = Train {
        epochs: 20,
        lr: 1.0,
        scheduler: Scheduler::Asha,
        scaling: Scaling { workers: 4, gpu: true },
        layers: vec![Layer { units: 64 }],
        ..Train::default()
    };
    assert_eq!(train, expected);
    let nothing: Train = config::load_from(None, "AIR_TRAIN", [], &[]).unwrap();
    assert_eq!(nothing, Train::default());
}

#[test]
fn a_text_may_look_like_anything() {
    for text in ["7", "1e-3", "true", "2024-01-01", "a=b", "[x", "\"quoted\"", "plain words", "1\nepochs=9"] {
        let train = Case::new("", &[("AIR_TRAIN_NAME", text)], &[]).load().unwrap();
        assert_eq!(train.name, text.trim_matches('"'), "{text}");
        assert_eq!(train.epochs, 3);
    }
    let train = Case::new("", &[], &["layers=[{units=3}, {units=4}]"]).load().unwrap();
    assert_eq!(train.layers.len(), 2);
}

#[test]
fn an_unknown_key_names_its_line_and_the_nearest_known_one() {
    let error = |file: &str| Case::new(file, &[], &[]).error();
    assert_eq!(
        error("# comment\nepoch = 10\n"),
        "train.toml:2: unknown field `epoch`, expected one of `name`, `epochs`, `lr`, `scheduler`, `scaling`, `layers`; \
         did you mean `epochs`?"
    );
    assert_eq!(
        error("epochs = 1\n\n[scaling]\nworkers = 1\nwrokers = 2\n"),
        "train.toml:5: `scaling.wrokers`: unknown field `wrokers`, expected `workers` or `gpu`; did you mean `workers`?"
    );
    assert_eq!(
        error("[[layers]]\nunits = 1\n[[layers]]\ncolour = 2\n"),
        "train.toml:4: `layers[1].colour`: unknown field `colour`, expected `units`"
    );
    assert_eq!(
        error("scheduler = \"ahsa\"\n"),
        "train.toml:1: `scheduler`: unknown variant `ahsa`, expected `fifo` or `asha`; did you mean `asha`?"
    );
}

#[test]
fn a_value_of_the_wrong_kind_names_its_line() {
    let error = |file: &str| Case::new(file, &[], &[]).error();
    assert_eq!(
        error("\n\nepochs = \"ten\"\n"),
        "train.toml:3: `epochs`: invalid type: string \"ten\", expected u32"
    );
    assert_eq!(error("epochs = -1\n"), "train.toml:1: `epochs`: invalid value: integer `-1`, expected u32");
    assert_eq!(
        error("[scaling]\ngpu = 1\n"),
        "train.toml:2: `scaling.gpu`: invalid type: integer `1`, expected a boolean"
    );
    // In a file a text has its quotes.
    assert_eq!(error("name = 7\n"), "train.toml:1: `name`: invalid type: integer `7`, expected a string");
    assert_eq!(error("[[layers]]\n"), "train.toml:1: `layers[0]`: missing field `units`");
    assert_eq!(
        error("scaling = 3\n"),
        "train.toml:1: `scaling`: invalid type: integer `3`, expected struct Scaling"
    );
}

#[test]
fn a_variable_and_a_flag_are_named_too() {
    let error = |env: &[(&str, &str)], sets: &[&str]| Case::new("epochs = 1\n", env, sets).error();
    assert_eq!(
        error(&[("AIR_TRAIN_EPOCHS", "many")], &[]),
        "environment variable AIR_TRAIN_EPOCHS: `epochs`: invalid type: string \"many\", expected u32"
    );
    assert_eq!(
        error(&[("AIR_TRAIN_SCALING__GPUS", "1")], &[]),
        "environment variable AIR_TRAIN_SCALING__GPUS: `scaling.gpus`: unknown field `gpus`, expected `workers` or `gpu`; \
         did you mean `gpu`?"
    );
    assert_eq!(
        error(&[], &["scaling.gpu=3"]),
        "--set scaling.gpu=3: `scaling.gpu`: invalid type: integer `3`, expected a boolean"
    );
    assert_eq!(error(&[], &["epochs"]), "--set epochs: expected KEY=VALUE");
    assert_eq!(error(&[], &["=1"]), "--set =1: the key is empty, or a part of it");
    assert_eq!(error(&[], &["a..b=1"]), "--set a..b=1: the key is empty, or a part of it");
    assert_eq!(error(&[], &["epochs.x=1"]), "--set epochs.x=1: `epochs` is a value, not a table");
    let deep = format!("{}=1", vec!["a"; 17].join("."));
    assert_eq!(error(&[], &[&deep]), format!("--set {deep}: the key has more than 16 parts"));
}

#[test]
fn a_file_that_is_no_configuration_is_named() {
    let case = Case::new("epochs = 1\nlr = = 2\n", &[], &[]);
    assert!(case.error().starts_with("train.toml:2: "), "{}", case.error());
    assert!(
        Case::new("epochs = 1\nepochs = 2\n", &[], &[]).error().starts_with("train.toml:2: duplicate key")
    );

    let big = Case::new(&"#".repeat(2 << 20), &[], &[]);
    assert_eq!(big.error(), format!("the configuration `{}` is larger than 1048576 bytes", "train.toml"));

    let missing =
        config::load_from::<Train>(Some("no/such.toml".as_ref()), "AIR_TRAIN", [], &[]).unwrap_err();
    assert_eq!(missing.to_string(), "cannot read the configuration `no/such.toml`");
}

#[test]
fn an_error_can_be_taken_apart() {
    let case = Case::new("[scaling]\nwrokers = 1\n", &[], &[]);
    let CoreError::Configuration(ConfigError::Invalid { origin, key, suggestion, .. }) =
        case.load().unwrap_err()
    else {
        panic!("another error");
    };
    assert_eq!(origin, Origin::File { path: case.path(), line: Some(2) });
    assert_eq!((key.as_str(), suggestion.as_deref()), ("scaling.wrokers", Some("workers")));
}

#[test]
fn a_file_may_be_yaml_and_its_lines_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.yaml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        config::load_from::<Train>(Some(&path), "AIR_TRAIN", [], &["epochs=7".into()])
    };
    let train =
        load("name: a\nepochs: 1\nlr: 1.0e-3\nscaling: {workers: 2}\nlayers:\n- units: 4\n- {units: 5}\n")
            .unwrap();
    let layers = vec![Layer { units: 4 }, Layer { units: 5 }];
    let scaling = Scaling { workers: 2, gpu: false };
    assert_eq!(train, Train { name: "a".into(), epochs: 7, lr: 1e-3, scaling, layers, ..Train::default() });
    for (text, says) in [
        (
            "name: a\nlayers:\n- units: 4\n- unit: 5\n",
            "train.yaml:4: `layers[1].unit`: unknown field `unit`, expected `units`; did you mean `units`?",
        ),
        ("name: a\nlr: fast\n", "train.yaml:2: `lr`: invalid type: string \"fast\", expected f64"),
        ("name: a\nname: b\n", "train.yaml:2: `name` is there twice"),
        ("name: [a\n", "train.yaml:1: "),
    ] {
        let error = load(text).unwrap_err().to_string();
        assert!(error.contains(says), "expected {says:?}: {error}");
    }
}
