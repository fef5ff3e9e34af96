#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::space::{choice, int_uniform, log_uniform, uniform};
use crate::testing;

fn space() -> Space {
    Space::new()
        .with("lr", log_uniform(1e-4, 1.0))
        .with("step", uniform(0.0, 1.0).step(0.25))
        .with("units", int_uniform(1..=64))
        .with("kind", choice(["a", "b", "c"]))
        .when("kind", ["b"], Space::new().with("deep", choice([1, 2, 3])))
        .with("epochs", 10)
}

fn point(lr: f64) -> Assignment {
    let mut point = Assignment::new();
    for (path, value) in [
        ("lr", json!(lr)),
        ("step", json!(0.5)),
        ("units", json!(3)),
        ("kind", json!("b")),
        ("deep", json!(2)),
    ] {
        point.push(path, value);
    }
    point.push("epochs", json!(10));
    point
}

fn pbt(config: PbtConfig) -> Pbt {
    Pbt::new(config, &space(), Mode::Min, Seed::new(1)).unwrap()
}

#[test]
fn it_is_a_scheduler_in_step_and_out_of_it() {
    let perturbed = [(false, Explore::Perturb), (true, Explore::Perturb)];
    for (synchronous, explore) in
        perturbed.into_iter().chain([(false, Explore::Bandit), (true, Explore::Bandit)])
    {
        testing::scheduler(|mode| {
            let config = PbtConfig { interval: 4, synchronous, explore, ..PbtConfig::default() };
            Box::new(Pbt::new(config, &testing::space(), mode, Seed::new(0)).unwrap())
        });
    }
}

#[test]
fn the_worst_go_on_as_the_best_and_nobody_else_changes() {
    let mut pbt = pbt(PbtConfig { interval: 2, ..PbtConfig::default() });
    for trial in 0..4 {
        pbt.on_start(trial, &point(0.1 / (trial + 1) as f64));
    }
    for (trial, value) in [(0, 4.0), (1, 1.0), (2, 2.0), (3, f64::NAN)] {
        assert_eq!(pbt.on_report(trial, 1, value), Decision::Continue, "within its interval");
    }
    assert_eq!(pbt.on_report(0, 2, 5.0), Decision::Continue, "it is bad, and another is worse");
    assert_eq!(pbt.on_report(1, 2, 1.0), Decision::Continue);
    assert_eq!(pbt.on_report(3, 2, f64::NAN), Decision::Pause);
    let actions = pbt.take_actions();
    let [Action::Resume { trial: 3, change: Some(Change { donor: 1, assignment }) }] = &actions[..] else {
        panic!("{actions:?}")
    };
    space().check(assignment).unwrap();
    assert_ne!(assignment, &point(0.05));
    assert_eq!(assignment.get("kind"), Some(&json!("b")), "what others depend on stays");
    assert_eq!(pbt.on_report(3, 2, 7.0), Decision::Continue, "repeated after an interruption");
}

#[test]
fn in_step_all_wait_and_the_same_comes_of_it_in_any_order() {
    let run = |order: [TrialId; 4]| {
        let mut pbt = pbt(PbtConfig { interval: 1, synchronous: true, ..PbtConfig::default() });
        for trial in 0..4 {
            pbt.on_start(trial, &point(0.01));
        }
        for trial in order {
            assert_eq!(pbt.on_report(trial, 1, trial as f64), Decision::Pause);
            assert!(pbt.take_actions().is_empty());
        }
        pbt.on_idle();
        pbt.take_actions()
    };
    let actions = run([0, 1, 2, 3]);
    assert_eq!(actions, run([3, 1, 0, 2]));
    let changed: Vec<_> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Resume { trial, change: Some(change) } => Some((*trial, change.donor)),
            _ => None,
        })
        .collect();
    assert_eq!((actions.len(), &changed[..]), (4, &[(3, 0)][..]));
}

#[test]
fn fields_out_of_range_are_named() {
    let parent = || vec!["kind".to_owned()];
    for (config, field) in [
        (PbtConfig { interval: 0, ..PbtConfig::default() }, "interval"),
        (PbtConfig { quantile: 0.6, ..PbtConfig::default() }, "quantile"),
        (PbtConfig { resample: -0.1, ..PbtConfig::default() }, "resample"),
        (PbtConfig { factors: (0.0, 1.0), ..PbtConfig::default() }, "factors"),
        (PbtConfig { max_t: Some(0), ..PbtConfig::default() }, "max_t"),
        (PbtConfig { mutate: vec!["no".into()], ..PbtConfig::default() }, "no parameter `no`"),
        (PbtConfig { mutate: parent(), ..PbtConfig::default() }, "depend on `kind`"),
    ] {
        let error = Pbt::new(config, &space(), Mode::Min, Seed::new(0)).unwrap_err().to_string();
        assert!(error.contains(field), "{error}");
    }
}

#[test]
fn a_policy_is_followed_segment_by_segment() {
    let segment = |iterations, lr| Segment { iterations, assignment: point(lr) };
    let policy = Policy { segments: vec![segment(2, 0.1), segment(3, 0.2), segment(1, 0.3)] };
    assert_eq!(policy.space().get("lr").unwrap().domain, crate::space::fixed(0.1));
    let mut replay = PolicyReplay::new(policy).unwrap();
    let mut seen = Vec::new();
    for iteration in 1..=8 {
        let decision = replay.on_report(0, iteration, 0.0);
        for action in replay.take_actions() {
            assert_eq!(decision, Decision::Pause);
            let Action::Resume { trial: 0, change: Some(change) } = action else { panic!("{action:?}") };
            assert_eq!(change.donor, 0);
            seen.push((iteration, change.assignment.get("lr").cloned().unwrap()));
        }
    }
    assert_eq!(seen, [(2, json!(0.2)), (5, json!(0.3))]);
    assert!(PolicyReplay::new(Policy::default()).is_err());
    assert!(PolicyReplay::new(Policy { segments: vec![segment(0, 0.1)] }).is_err());
}

proptest! {
    #[test]
    fn a_perturbed_point_lies_in_the_space(seed: u64, lr in 1e-4..1.0_f64, up in 0.01..100.0_f64, resample in 0.0..=1.0_f64) {
        let config = PbtConfig { factors: (up, 1.0 / up), resample, ..PbtConfig::default() };
        let mutated = config.mutated(&space()).unwrap();
        let mut from = point(lr);
        let mut rng = Seed::new(seed).rng();
        for _ in 0..20 {
            from = explore::perturb(&space(), &mutated, &from, &config, &mut rng);
            prop_assert!(space().check(&from).is_ok(), "{:?}", from);
        }
    }
}

/// What a population came to in which a trial's interval is worth 1 − 4(x − o)², o moving from 0.8 to 0.2: the best member's sum, and how far from o each clone was given x.
fn chase(explore: Explore, members: u64, seed: u64) -> (f64, Vec<f64>) {
    let space = Space::new().with("x", uniform(0.0, 1.0));
    let config = PbtConfig { interval: 1, synchronous: true, explore, ..PbtConfig::default() };
    let mut pbt = Pbt::new(config, &space, Mode::Max, Seed::new(seed)).unwrap();
    let mut given: Vec<f64> = Vec::new();
    for trial in 0..members {
        given.push(Seed::new(seed).child("start", trial).rng().random());
        let mut point = Assignment::new();
        point.push("x", json!(given[trial as usize]));
        pbt.on_start(trial, &point);
    }
    let (mut values, mut away) = (vec![0.0; members as usize], Vec::new());
    for iteration in 1..=40 {
        let optimum = 0.8 - 0.6 * f64::from(iteration as u32) / 40.0;
        for trial in 0..members as usize {
            values[trial] += 1.0 - 4.0 * (given[trial] - optimum).powi(2);
            assert_eq!(pbt.on_report(trial as u64, iteration, values[trial]), Decision::Pause);
        }
        pbt.on_idle();
        for action in pbt.take_actions() {
            let Action::Resume { trial, change } = action else { panic!("{action:?}") };
            let Some(change) = change else { continue };
            space.check(&change.assignment).unwrap();
            let x = change.assignment.get("x").and_then(serde_json::Value::as_f64).unwrap();
            values[trial as usize] = values[change.donor as usize];
            given[trial as usize] = x;
            away.push((x - optimum).abs());
        }
    }
    (values.into_iter().fold(f64::NEG_INFINITY, f64::max), away)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn a_bandit_follows_what_is_good_now_where_perturbing_lags_behind() {
    let of = |explore| -> (f64, f64) {
        let (sums, away): (Vec<f64>, Vec<Vec<f64>>) = (0..12).map(|seed| chase(explore, 4, seed)).unzip();
        (median(sums), median(away.into_iter().flat_map(|away| away.into_iter().skip(10)).collect()))
    };
    let (bandit, perturbed) = (of(Explore::Bandit), of(Explore::Perturb));
    assert!(bandit.0 > perturbed.0, "{bandit:?} {perturbed:?}");
    assert!(bandit.1 < perturbed.1, "{bandit:?} {perturbed:?}");
    assert_eq!(chase(Explore::Bandit, 4, 3), chase(Explore::Bandit, 4, 3));
}

/// Clones are made one at a time, each when its own interval is over, and learn from their donors on.
#[test]
fn out_of_step_a_clone_is_judged_from_its_donors_value_on() {
    let space = Space::new().with("x", uniform(0.0, 1.0)).with("kind", choice(["a", "b"]));
    let config =
        PbtConfig { interval: 2, explore: Explore::Bandit, mutate: vec!["x".into()], ..PbtConfig::default() };
    let mut pbt = Pbt::new(config, &space, Mode::Min, Seed::new(1)).unwrap();
    for trial in 0..4 {
        let mut point = Assignment::new();
        point.push("x", json!(0.2 * (trial + 1) as f64));
        point.push("kind", json!(if trial == 0 { "b" } else { "a" }));
        pbt.on_start(trial, &point);
    }
    let mut changes = Vec::new();
    for iteration in 1..=6 {
        for trial in 0..4 {
            let decision = pbt.on_report(trial, iteration, (trial * 10) as f64 - iteration as f64);
            for action in pbt.take_actions() {
                let Action::Resume { trial: named, change: Some(change) } = action else {
                    panic!("{action:?}")
                };
                assert_eq!((decision, named, change.donor), (Decision::Pause, trial, 0));
                assert_eq!(
                    change.assignment.get("kind"),
                    Some(&json!("b")),
                    "what is not to change is its donor's"
                );
                changes.push((iteration, pbt.members[&trial].start.unwrap().value));
            }
        }
    }
    // The donor, trial 0, stands at −iteration, of which small is good.
    assert_eq!(changes, [(2, 2.0), (4, 4.0), (6, 6.0)]);
}
