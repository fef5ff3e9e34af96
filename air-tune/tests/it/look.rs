//! Looking at an experiment: the report, the tables, and the verbs that show them.

use std::path::Path;

use air_tune::search::SearchConfig;
use air_tune::space::{Space, choice, log_uniform, uniform};
use air_tune::{Mode, Objective, ResultGrid, RunConfig, TuneConfig, Tuner};
use serde_json::{Value, json};

use crate::support::{air_tune, failure, stderr, stdout, text};

/// Sixty trials of three reports; the loss is mostly `lr`, a little `<units>`, and not `noise`. One in ten fails.
fn experiment(dir: &Path, also: Vec<Objective>) -> ResultGrid {
    let space = Space::new()
        .with("lr", log_uniform(1e-4, 1.0))
        .with("<units>", choice([16, 32, 64]))
        .with("noise", uniform(0.0, 1.0))
        .when("<units>", [64], Space::new().with("deep", uniform(0.0, 1.0)));
    Tuner::new(space, |trial, config| {
        if trial.id() % 10 == 9 {
            return Err("no <luck>".into());
        }
        for step in 1..=3 {
            let size = config.f64("<units>")?;
            let loss = (config.f64("lr")?.log10() + 2.0).powi(2) + size / 640.0 + 1.0 / f64::from(step);
            let _ = trial.report(&[("loss", loss), ("size", size)])?;
        }
        Ok(())
    })
    .tune_config(TuneConfig {
        num_samples: 60,
        search: SearchConfig::Variants,
        also,
        max_concurrent_trials: Some(1),
        ..TuneConfig::default()
    })
    .run_config(RunConfig { dir: Some(dir.to_owned()), ..RunConfig::default() })
    .fit()
    .unwrap()
}

#[test]
fn the_report_is_one_page_with_its_charts() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("a & b");
    let grid = experiment(&dir, vec![Objective { metric: "size".into(), mode: Mode::Min }]);
    let importance = grid.importance();
    assert_eq!((importance[0].0.as_str(), importance.len()), ("lr", 4));
    assert!(importance[0].1 > 0.7, "{importance:?}");
    let effects = grid.main_effects();
    assert!(effects[0].0 == "lr" && effects[0].1 > 0.5 && effects.len() == 4, "{effects:?}");
    assert!(effects.iter().map(|(_, share)| share).sum::<f64>() < 1.0 + 1e-9, "{effects:?}");
    let output = air_tune(&["report", text(&dir)]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stdout(&output).trim_end(), text(&dir.join("report.html")));
    let page = std::fs::read_to_string(dir.join("report.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<h1>a &amp; b</h1>"));
    assert!(page.contains("60 trials: 54 complete, 6 failed."));
    for title in [
        "Pareto front",
        "History",
        "Importance of parameters",
        "Main effects",
        "Parallel coordinates",
        "Learning curves",
        "Slices",
    ] {
        assert!(page.contains(&format!("<h2>{title}</h2>")), "no {title}");
    }
    assert_eq!((page.matches("<svg").count(), page.matches("</svg>").count()), (6 + 4, 6 + 4));
    assert!(
        !page.contains("<units>") && !page.contains("http-equiv") && !page.contains("src="),
        "it needs nothing else"
    );
    assert!(!page.contains("NaN"), "what has no place is not drawn");
    let history = &page[page.find("<h2>History").unwrap()..page.find("<h2>Importance").unwrap()];
    assert_eq!(history.matches("<circle").count(), 54);
    assert_eq!(page, grid.report().unwrap(), "in memory and from the folder it is the same");
}

#[test]
fn an_experiment_without_results_has_a_report_too() {
    let grid = Tuner::new(Space::new().with("x", 1), |_, _| Err("no".into())).fit().unwrap();
    let page = grid.report().unwrap();
    assert!(page.contains("1 trials: 1 failed.") && page.ends_with("</body></html>\n"));
    assert!(grid.importance().is_empty());
}

#[test]
fn trials_and_experiments_are_listed_shown_and_exported() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("runs/one");
    let grid = experiment(&dir, Vec::new());
    let lines = |args: &[&str]| -> Vec<Value> {
        let output = air_tune(args);
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines(&["list", text(root.path()), "--json"]);
    assert_eq!((all.len(), &all[0]["trials"]), (1, &json!({"complete": 54, "failed": 6})));
    assert_eq!(all[0]["best"]["value"].as_f64(), grid.best().unwrap().value);
    assert!(stdout(&air_tune(&["list", text(root.path())])).contains("54 complete, 6 failed  best loss"));
    let failed = lines(&["list", text(&dir), "--status", "failed", "--json"]);
    assert_eq!(
        failed.iter().map(|t| t["trial"].as_u64().unwrap()).collect::<Vec<_>>(),
        [9, 19, 29, 39, 49, 59]
    );

    let shown = lines(&["show", text(&dir), "3", "--json"]);
    let reports = shown[0]["reports"].as_array().unwrap();
    assert_eq!((reports.len(), &reports[2]["iteration"]), (3, &json!(3)));
    assert_eq!(reports[2]["values"]["loss"], shown[0]["value"]);
    let page = stdout(&air_tune(&["show", text(&dir), "9"]));
    assert!(page.starts_with("trial 9: failed\n  no <luck>\n") && page.contains("  lr = "), "{page}");

    assert_eq!(stdout(&air_tune(&["export", text(&dir)])), grid.to_csv());
    let file = root.path().join("trials.jsonl");
    assert!(air_tune(&["export", text(&dir), "--format", "json", "--out", text(&file)]).status.success());
    let exported = std::fs::read_to_string(&file).unwrap();
    assert_eq!(exported, grid.to_json_lines().unwrap());
    assert_eq!(exported.lines().count(), 60);

    if cfg!(not(feature = "parquet")) {
        let (code, error) = failure(&["export", text(&dir), "--format", "parquet"]);
        assert!(code == 2 && error.contains("--features parquet"), "{error}");
    }

    let (code, error) = failure(&["show", text(&dir), "60"]);
    assert_eq!(
        (code, error.as_str()),
        (2, "error: there is no trial 60: the experiment has 60, counted from 0")
    );
    assert_eq!(failure(&["list", text(&dir), "--status", "lost"]).0, 2);
    assert_eq!(failure(&["list", text(&dir.join("trial_00000"))]).0, 2);
    assert_eq!(failure(&["report", text(root.path())]).0, 2);
}

#[test]
fn rules_points_and_objectives_are_given_on_the_command_line() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("out");
    let trial = r#"for i in 1 2 3 4 5; do echo "{\"loss\": $AIR_PARAM_A, \"size\": $AIR_PARAM_B}"; done"#;
    let options = [
        "run",
        "--param",
        "a=randint(0,10)",
        "--param",
        "b=randint(0,10)",
        "--require",
        "a + b >= 9",
        "--try",
        r#"{"a": 9, "b": 1}"#,
        "--also",
        "size:max",
        "--stop",
        "iterations>=2",
        "--trials",
        "6",
        "--search",
        "random",
        "--out",
        text(&dir),
        "--",
        "sh",
        "-c",
        trial,
    ];
    let output = air_tune(&options);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stdout(&output).contains("no trial beats these in everything: "));
    let grid = ResultGrid::load(&dir).unwrap();
    assert_eq!(grid.len(), 6);
    assert!(
        grid.iter()
            .all(|t| t.config.i64("a").unwrap() + t.config.i64("b").unwrap() >= 9 && t.iterations == 2)
    );
    assert_eq!(grid.iter().next().unwrap().config.to_value(), json!({"a": 9, "b": 1}));
    for (option, value) in [
        ("--require", "a < 1"),
        ("--require", "c <= 1"),
        ("--try", "{"),
        ("--also", "size"),
        ("--stop", "loss"),
    ] {
        let never = root.path().join("never");
        let args = ["run", "--param", "a=1", option, value, "--out", text(&never), "--", "true"];
        assert_eq!(failure(&args).0, 2, "{option} {value}");
        assert!(!never.exists());
    }
}
