//! What every searcher must hold to.

use air_core::seed::Seed;

use crate::TrialId;
use crate::search::{Outcome, Searcher};
use crate::space::{
    Assignment, Domain, Space, choice, fixed, int_uniform, log_int_uniform, log_uniform, normal, uniform,
};

const TRIALS: u64 = 40;

/// The space that the suites search: everything is in it, and two parameters share their bounds.
pub fn space() -> Space {
    Space::new()
        .with("fixed", fixed("always"))
        .with("x", uniform(0.0, 1.0))
        .with("y", uniform(0.0, 1.0))
        .with("lr", log_uniform(1e-6, 1.0))
        .with("step", uniform(-1.0, 1.0).step(0.25))
        .with("noise", normal(0.0, 1.0))
        .with("layers", int_uniform(1..=4))
        .with("batch", log_int_uniform(1..=1024))
        .with("even", int_uniform(0..=10).step(2.0))
        .with("net", Space::new().with("kind", choice(["mlp", "conv"])))
        .when("net.kind", ["conv"], Space::new().with("kernel", choice([3, 5, 7])))
}

/// Something with an optimum, so that a searcher that learns has something to learn.
fn objective(point: &Assignment) -> f64 {
    let number = |path: &str| point.get(path).and_then(serde_json::Value::as_f64).unwrap_or(0.0);
    (number("x") - 0.3).powi(2) + number("y") + number("lr").ln().abs() / 10.0 + number("layers")
}

/// Asks and tells `TRIALS` trials; every seventh fails, every fifth is stopped.
fn run(searcher: &mut dyn Searcher, from: TrialId) -> Vec<Assignment> {
    let mut points = Vec::new();
    for trial in from..TRIALS {
        let Some(point) = searcher.ask(trial) else { break };
        searcher.tell(trial, outcome(trial, &point));
        points.push(point);
    }
    points
}

fn outcome(trial: TrialId, point: &Assignment) -> Outcome {
    match trial {
        t if t % 7 == 6 => Outcome::Failed,
        t if t % 5 == 4 => Outcome::Stopped(objective(point)),
        _ => Outcome::Complete(objective(point)),
    }
}

/// Checks that searchers from `make`, which should propose at least 40 trials, keep to the space, reach all of it, repeat themselves for
/// one seed and no other, and go on exactly after a replay.
///
/// # Panics
/// With the rule that is broken.
pub fn searcher(make: impl Fn(&Space, Seed) -> Box<dyn Searcher>) {
    let space = space();
    let seed = Seed::new(1);
    let points = run(&mut *make(&space, seed), 0);
    assert_eq!(points.len() as u64, TRIALS, "the searcher ended before {TRIALS} trials");

    for (trial, point) in points.iter().enumerate() {
        if let Err(error) = space.check(point) {
            panic!("trial {trial} lies outside of the space: {error}");
        }
    }
    for param in space.params().iter().filter(|p| !matches!(p.domain, Domain::Fixed { .. })) {
        let mut seen: Vec<String> =
            points.iter().filter_map(|p| p.get(&param.path)).map(ToString::to_string).collect();
        seen.sort();
        seen.dedup();
        assert!(seen.len() > 1, "`{}` never changes", param.path);
    }
    let differ = points.iter().filter(|point| point.get("x") != point.get("y")).count() as u64;
    assert!(differ > TRIALS / 2, "parameters with equal bounds get the same value");

    assert_eq!(points, run(&mut *make(&space, seed), 0), "one seed gives two searches");
    assert_ne!(points, run(&mut *make(&space, Seed::new(2)), 0), "two seeds give one search");

    // Cut off after half, with one trial still running; then replayed into a fresh searcher.
    let half = TRIALS / 2;
    let mut whole = make(&space, seed);
    let mut resumed = make(&space, seed);
    for (trial, point) in (0..half).zip(&points) {
        let asked = whole.ask(trial);
        assert_eq!(asked.as_ref(), Some(point), "trial {trial} differs though nothing else did");
        resumed.replay(trial, point);
        if trial + 1 < half {
            whole.tell(trial, outcome(trial, point));
            resumed.tell(trial, outcome(trial, point));
        }
    }
    assert_eq!(run(&mut *whole, half), run(&mut *resumed, half), "a replayed searcher goes on differently");
}
