//! The overview's two examples, to the digit.

use air_tune::space::{Space, choice, grid};
use air_tune::{Mode, ResultGrid, RunConfig, Status, TuneConfig, Tuner};

fn config(metric: &str, seed: u64) -> TuneConfig {
    TuneConfig { metric: metric.into(), mode: Mode::Min, seed, ..TuneConfig::default() }
}

#[test]
fn a_score_reported_once() {
    let space = Space::new().with("a", grid([0.001, 0.01, 0.1, 1.0])).with("b", choice([1, 2, 3]));
    let mut best_possible = f64::INFINITY;
    for seed in 0..20 {
        let results = Tuner::new(space.clone(), |trial, config| {
            let score = config.f64("a")?.powi(2) + config.f64("b")?;
            let _ = trial.report(&[("score", score)])?;
            Ok(())
        })
        .tune_config(config("score", seed))
        .fit()
        .unwrap();
        assert_eq!(results.len(), 4);
        let best = results.best().unwrap();
        let lowest = results.iter().map(|t| t.value.unwrap()).fold(f64::INFINITY, f64::min);
        assert_eq!(best.value, Some(lowest));
        best_possible = best_possible.min(lowest);
    }
    assert_eq!(best_possible, 1.000_001);
}

fn mean_loss(run: RunConfig, seed: u64) -> ResultGrid {
    let space = Space::new().with("alpha", grid([0.001, 0.01, 0.1])).with("beta", choice([1, 2, 3]));
    Tuner::new(space, |trial, config| {
        let (alpha, beta) = (config.f64("alpha")?, config.f64("beta")?);
        for step in 0..10 {
            let loss = 1.0 / (0.1 + alpha * f64::from(step) / 100.0) + 0.1 * beta;
            if trial.report(&[("mean_loss", loss)])?.is_stop() {
                break;
            }
        }
        Ok(())
    })
    .tune_config(config("mean_loss", seed))
    .run_config(run)
    .fit()
    .unwrap()
}

/// For equal betas alpha = 0.1 wins, so the loss of the winner is one of three numbers; between unequal ones the smaller beta does.
#[test]
fn ten_steps_of_a_mean_loss() {
    let expected = [(1.0, 9.2743), (2.0, 9.3743), (3.0, 9.4743)];
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let results = mean_loss(RunConfig::default(), seed);
        assert_eq!(results.len(), 3);
        assert!(results.iter().all(|t| t.iterations == 10 && t.status == Status::Complete));
        let steepest = results.iter().find(|t| t.config.f64("alpha").unwrap() == 0.1).unwrap();
        let beta = steepest.config.f64("beta").unwrap();
        let (_, loss) = expected.iter().find(|(b, _)| *b == beta).unwrap();
        assert!((steepest.value.unwrap() - loss).abs() < 5e-5, "beta {beta}: {:?}", steepest.value);
        seen.insert(beta as i64);
    }
    assert_eq!(seen.len(), 3, "every beta was drawn");
}

#[test]
fn results_make_a_table_and_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let run = RunConfig { dir: Some(dir.path().join("mean")), ..RunConfig::default() };
    let results = mean_loss(run, 0);
    let table = results.table();
    let header: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["trial", "status", "iterations", "seconds", "alpha", "beta", "mean_loss"]);
    assert_eq!(table.lines().count(), 4);

    let folder = dir.path().join("mean");
    let csv = std::fs::read_to_string(folder.join("results.csv")).unwrap();
    assert_eq!(
        csv.lines().next().unwrap(),
        "trial,status,iterations,seconds,alpha,beta,mean_loss,attempts,stop,cause"
    );
    for trial in &results {
        assert_eq!(results.history(trial.trial).unwrap().len(), 10);
        let progress = std::fs::read_to_string(trial.dir.as_ref().unwrap().join("progress.csv")).unwrap();
        assert_eq!(progress.lines().count(), 11);
        assert!(progress.starts_with("iteration,seconds,mean_loss\n1,"));
    }
    assert_eq!(std::fs::read_to_string(folder.join("reports.jsonl")).unwrap().lines().count(), 3 * 12);
}
