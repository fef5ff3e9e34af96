#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::super::{AshaConfig, HyperBandConfig, PbtConfig, SchedulerConfig};
use super::*;
use crate::testing;
use air_core::seed::Seed;

fn config(total: f64, favour: Favour) -> ResourceConfig {
    ResourceConfig { total: Resources::new().cpu(total), favour, ..ResourceConfig::default() }
}

fn around(inner: SchedulerConfig, config: ResourceConfig, mode: Mode) -> ResourceChanging {
    let inner = inner.build(&testing::space(), mode, Seed::new(0)).unwrap();
    ResourceChanging::new(config, inner, mode).unwrap()
}

fn cpus(scheduler: &ResourceChanging, trial: TrialId) -> f64 {
    scheduler.resources(trial).unwrap().cpu
}

/// Four trials on eight processors, all of them started, two slots more than there are trials.
fn four(favour: Favour) -> ResourceChanging {
    let mut scheduler = around(SchedulerConfig::Fifo, config(8.0, favour), Mode::Min);
    assert_eq!(scheduler.at_once(4), 4);
    (0..4).for_each(|trial| scheduler.on_start(trial, &Assignment::new()));
    scheduler
}

#[test]
fn it_is_a_scheduler_around_any_other() {
    let pbt = |synchronous| PbtConfig { interval: 4, synchronous, ..PbtConfig::default() };
    let inner: [SchedulerConfig; 5] = [
        SchedulerConfig::Fifo,
        AshaConfig::default().into(),
        HyperBandConfig::default().into(),
        pbt(true).into(),
        pbt(false).into(),
    ];
    for inner in inner {
        for favour in [Favour::Even, Favour::Best] {
            testing::scheduler(|mode| {
                let mut scheduler = around(inner.clone(), config(60.0, favour), mode);
                scheduler.at_once(27);
                Box::new(scheduler)
            });
        }
    }
}

#[test]
fn what_those_that_are_over_had_goes_to_the_others() {
    let mut scheduler = four(Favour::Even);
    assert_eq!([0, 1, 2, 3].map(|trial| cpus(&scheduler, trial)), [2.0; 4], "even from the start");
    for trial in 0..4 {
        assert_eq!(scheduler.on_report(trial, 1, 1.0), Decision::Continue);
    }
    scheduler.on_end(3, Outcome::Complete(1.0));
    assert_eq!(scheduler.on_report(0, 2, 1.0), Decision::Continue, "another trial may start");
    assert!(scheduler.on_exhausted());
    assert!(!scheduler.on_exhausted(), "nothing new");
    // Eight processors for three: what does not go into three goes to those that report first.
    assert_eq!(scheduler.on_report(0, 3, 1.0), Decision::Pause);
    assert_eq!(scheduler.take_actions(), [Action::Resume { trial: 0, change: None }]);
    assert_eq!(scheduler.on_report(1, 2, 1.0), Decision::Pause);
    assert_eq!(scheduler.on_report(2, 2, 1.0), Decision::Continue, "nothing is left");
    assert_eq!([0, 1, 2].map(|trial| cpus(&scheduler, trial)), [3.0, 3.0, 2.0]);
    assert_eq!(scheduler.on_report(0, 3, 1.0), Decision::Continue, "repeated after an interruption");
    scheduler.on_end(0, Outcome::Complete(1.0));
    scheduler.on_end(1, Outcome::Failed);
    assert_eq!(scheduler.on_report(2, 3, 1.0), Decision::Pause);
    assert_eq!(cpus(&scheduler, 2), 8.0);
    assert_eq!(scheduler.resources(0), None);
}

#[test]
fn the_best_gets_all_that_is_left_over() {
    let mut scheduler = four(Favour::Best);
    assert_eq!([0, 1, 2, 3].map(|trial| cpus(&scheduler, trial)), [1.0; 4]);
    assert_eq!(scheduler.on_report(2, 1, f64::NAN), Decision::Continue);
    assert_eq!(scheduler.on_report(1, 1, 0.5), Decision::Pause);
    assert_eq!(cpus(&scheduler, 1), 5.0, "three are kept for the others");
    assert_eq!(scheduler.on_report(0, 1, 0.9), Decision::Continue);
    assert_eq!(scheduler.on_report(3, 1, 0.1), Decision::Continue, "there is nothing to give");
    scheduler.on_exhausted();
    scheduler.on_end(1, Outcome::Complete(0.5));
    assert_eq!(scheduler.on_report(0, 2, 0.8), Decision::Continue);
    assert_eq!(scheduler.on_report(3, 2, 0.1), Decision::Pause);
    assert_eq!(cpus(&scheduler, 3), 6.0);
}

#[test]
fn a_trial_is_left_alone_for_an_interval() {
    let mut scheduler =
        around(SchedulerConfig::Fifo, ResourceConfig { interval: 5, ..config(4.0, Favour::Best) }, Mode::Max);
    scheduler.at_once(2);
    (0..2).for_each(|trial| scheduler.on_start(trial, &Assignment::new()));
    let decisions: Vec<Decision> = (1..=6).map(|at| scheduler.on_report(0, at, 1.0)).collect();
    assert_eq!(decisions.iter().position(|decision| *decision == Decision::Pause), Some(4));
}

#[test]
fn shares_of_a_gpu_add_up_to_what_one_device_has() {
    let config = ResourceConfig {
        total: Resources::new().gpu(2.0).cpu(64.0),
        per_trial: Resources::new().gpu(0.25).cpu(1.0),
        ..ResourceConfig::default()
    };
    let mut scheduler = around(SchedulerConfig::Fifo, config, Mode::Min);
    assert_eq!(scheduler.at_once(100), 8);
    scheduler.at_once(1);
    scheduler.on_start(0, &Assignment::new());
    assert_eq!(scheduler.resources(0), Some(Resources::new().gpu(2.0).cpu(8.0)));
    scheduler.at_once(4);
    scheduler.on_start(1, &Assignment::new());
    let config = ResourceConfig {
        total: Resources::new().gpu(2.0),
        per_trial: Resources::new().gpu(0.4),
        ..ResourceConfig::default()
    };
    // 0.4 fits five times; 1.2 and 1.6 are more than one device and no whole number.
    assert_eq!(config.units(), 5);
    assert_eq!([5, 4, 3, 2, 1].map(|units| config.usable(units)), [5, 2, 2, 2, 1]);
}

#[test]
fn fields_out_of_range_are_named() {
    let none = Resources::new();
    for (config, message) in [
        (config(0.5, Favour::Even), "`total`: 0.5 cpu is less than 1 cpu for one trial"),
        (
            ResourceConfig { per_trial: none.clone(), ..ResourceConfig::default() },
            "`per_trial`: must name something that trials share",
        ),
        (
            ResourceConfig { total: none.clone().gpu(0.5).cpu(1.0), ..ResourceConfig::default() },
            "`total`: 0.5 gpu: a machine has whole devices",
        ),
        (ResourceConfig { interval: 0, ..ResourceConfig::default() }, "`interval`: must be at least 1"),
        (
            ResourceConfig { per_trial: none.clone().gpu(1.5), ..ResourceConfig::default() },
            "`per_trial`: cannot ask for 1.5 gpu: more than one device must be a whole number, as a share is never split",
        ),
        (
            ResourceConfig { inner: Box::new(ResourceConfig::default().into()), ..ResourceConfig::default() },
            "`inner`: deals with resources already",
        ),
    ] {
        assert_eq!(config.validate().unwrap_err().to_string(), message);
    }
}

proptest! {
    /// Whatever happens in whatever order, as many trials as may run at once have no more together than there is.
    #[test]
    fn nothing_is_promised_twice(
        total in 1_u64..40,
        slots in 1_usize..12,
        best: bool,
        halving: bool,
        happens in prop::collection::vec((0_u8..8, any::<prop::sample::Index>(), -10..10_i32), 1..200),
    ) {
        let inner: SchedulerConfig = if halving {
            HyperBandConfig { max_t: 9, reduction_factor: 3 }.into()
        } else {
            SchedulerConfig::Fifo
        };
        let favour = if best { Favour::Best } else { Favour::Even };
        let mut scheduler = around(inner, config(total as f64, favour), Mode::Min);
        let slots = scheduler.at_once(slots);
        prop_assert!(slots as u64 <= total);
        // Trials that run, and how far they are; those that wait have no slot.
        let (mut running, mut paused) = (BTreeMap::<TrialId, u64>::new(), BTreeMap::<TrialId, u64>::new());
        let (mut next, mut exhausted) = (0, false);
        for (what, which, value) in happens {
            let mut named: Vec<TrialId> = Vec::new();
            match what {
                0 if running.len() < slots && !exhausted => {
                    scheduler.on_start(next, &Assignment::new());
                    running.insert(next, 0);
                    next += 1;
                }
                1 if !running.is_empty() => {
                    let trial = *which.get(&running.keys().copied().collect::<Vec<_>>());
                    running.remove(&trial);
                    scheduler.on_end(trial, Outcome::Complete(f64::from(value)));
                }
                2 if value == 0 && !exhausted => {
                    exhausted = true;
                    scheduler.on_exhausted();
                }
                _ if !running.is_empty() => {
                    let trial = *which.get(&running.keys().copied().collect::<Vec<_>>());
                    let iteration = running[&trial] + 1;
                    let before = cpus(&scheduler, trial);
                    let decision = scheduler.on_report(trial, iteration, f64::from(value));
                    running.insert(trial, iteration);
                    match decision {
                        Decision::Continue => prop_assert_eq!(before, cpus(&scheduler, trial), "it was told"),
                        Decision::Pause => {
                            running.remove(&trial);
                            paused.insert(trial, iteration);
                        }
                        Decision::Stop(_) => {
                            running.remove(&trial);
                            scheduler.on_end(trial, Outcome::Stopped(f64::from(value)));
                        }
                    }
                }
                _ => {
                    scheduler.on_idle();
                }
            }
            for action in scheduler.take_actions() {
                match action {
                    Action::Resume { trial, .. } => named.push(trial),
                    Action::Stop { trial, .. } => {
                        paused.remove(&trial);
                        scheduler.on_end(trial, Outcome::Stopped(0.0));
                    }
                }
            }
            for trial in named {
                let at = paused.remove(&trial).unwrap_or(0);
                running.insert(trial, at);
            }
            // More may have been named than there are slots: then any of them run.
            let mut has: Vec<f64> = running.keys().map(|trial| cpus(&scheduler, *trial)).collect();
            has.sort_by(f64::total_cmp);
            let most: f64 = has.iter().rev().take(slots).sum();
            prop_assert!(most <= total as f64, "{most} of {total}");
        }
    }
}
