//! Stoppers: when a trial has run long enough, and when the experiment has.
//!
//! Where a scheduler compares trials, a stopper looks at what a trial reports: a trial that it ends is complete. Stoppers are pure, like schedulers: an
//! interrupted experiment shows them the past again.
//!
//! ```
//! use air_tune::stop::{Seen, StopperConfig, Verdict};
//! use air_tune::TuneConfig;
//! let config = TuneConfig {
//!     stop: vec![
//!         StopperConfig::MaxIterations { iterations: 100 },
//!         StopperConfig::Target { metric: "accuracy".into(), at_least: Some(0.99), at_most: None },
//!     ],
//!     ..TuneConfig::default()
//! };
//! config.validate()?;
//! # Ok::<(), air_tune::TuneError>(())
//! ```

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::schedule::StopReason;
use crate::search::{Mode, Outcome};
use crate::values::Values;

/// Longest window of a plateau.
const MAX_WINDOW: usize = 10_000;

/// A report, as a stopper sees it.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Seen<'a> {
    /// Whose it is.
    pub trial: TrialId,
    /// How many iterations the trial has behind it.
    pub iteration: u64,
    /// All that was reported.
    pub values: &'a Values,
    /// The experiment's metric, if it is there.
    pub value: Option<f64>,
    /// Seconds the trial has run.
    pub seconds: f64,
}

/// What a stopper says to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Continue,
    /// The trial is complete.
    EndTrial,
    /// The whole experiment ends: running trials are stopped at their next report.
    EndExperiment,
}

/// Ends trials, or the experiment.
pub trait Stopper: Send {
    /// A trial reported. Repeated iterations of an interrupted trial are not shown again.
    fn on_report(&mut self, seen: &Seen<'_>) -> Verdict;

    /// A trial is over.
    fn on_end(&mut self, trial: TrialId, outcome: Outcome) {
        let _ = (trial, outcome);
    }

    /// What the experiment's trials and ends are put down to.
    fn reason(&self) -> StopReason {
        StopReason::Stopper
    }
}

/// A function of a report: whether the trial is complete.
impl<F: FnMut(&Seen<'_>) -> bool + Send> Stopper for F {
    fn on_report(&mut self, seen: &Seen<'_>) -> Verdict {
        if self(seen) { Verdict::EndTrial } else { Verdict::Continue }
    }
}

/// A stopper as data. Of several the first one that says something is heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum StopperConfig {
    /// A trial is complete after so many iterations.
    MaxIterations {
        /// How many.
        iterations: u64,
    },
    /// A trial is complete once a number has reached a bound.
    Target {
        /// The number's name.
        metric: String,
        /// It is complete from here upwards.
        #[serde(default)]
        at_least: Option<f64>,
        /// It is complete from here downwards.
        #[serde(default)]
        at_most: Option<f64>,
    },
    /// A trial is complete once the last values of a number hardly differ.
    TrialPlateau {
        /// The number's name.
        metric: String,
        /// How many of the last values.
        window: usize,
        /// Their standard deviation, at most.
        deviation: f64,
        /// Iterations before which nothing is said.
        grace_period: u64,
    },
    /// A trial is complete once it has run so long, over all attempts.
    TrialTime {
        /// How long.
        seconds: f64,
    },
    /// The experiment ends once its best trials hardly differ.
    ExperimentPlateau {
        /// How many of the best.
        top: usize,
        /// The standard deviation of their values, at most.
        deviation: f64,
        /// How many trials may end in a row with nothing changing before it does.
        patience: u64,
    },
}

impl StopperConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: &str| Err(TuneError::config(field, reason));
        let spread = |deviation: f64| deviation >= 0.0 && deviation.is_finite();
        match self {
            StopperConfig::MaxIterations { iterations: 0 } => bad("stop.iterations", "must be at least 1"),
            StopperConfig::MaxIterations { .. } => Ok(()),
            StopperConfig::Target { metric, at_least, at_most } => {
                let bounds: Vec<f64> = at_least.iter().chain(at_most).copied().collect();
                if metric.is_empty() {
                    return bad("stop.metric", "must name what the trials report");
                }
                if bounds.is_empty() || bounds.iter().any(|bound| bound.is_nan()) {
                    return bad("stop.at_least", "a target needs `at_least` or `at_most`, a number");
                }
                Ok(())
            }
            StopperConfig::TrialPlateau { metric, window, deviation, .. } => {
                if metric.is_empty() {
                    return bad("stop.metric", "must name what the trials report");
                }
                if !(2..=MAX_WINDOW).contains(window) {
                    return bad("stop.window", "must be between 2 and 10000");
                }
                if spread(*deviation) {
                    Ok(())
                } else {
                    bad("stop.deviation", "must be at least 0, and finite")
                }
            }
            StopperConfig::TrialTime { seconds } => {
                if *seconds > 0.0 {
                    Ok(())
                } else {
                    bad("stop.seconds", "must be above 0")
                }
            }
            StopperConfig::ExperimentPlateau { top, deviation, .. } => {
                if !(2..=MAX_WINDOW).contains(top) {
                    return bad("stop.top", "must be between 2 and 10000");
                }
                if spread(*deviation) {
                    Ok(())
                } else {
                    bad("stop.deviation", "must be at least 0, and finite")
                }
            }
        }
    }

    /// Builds the stopper.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn build(&self, mode: Mode) -> Result<Box<dyn Stopper>> {
        self.validate()?;
        Ok(match self.clone() {
            StopperConfig::TrialPlateau { metric, window, deviation, grace_period } => {
                Box::new(TrialPlateau { metric, window, deviation, grace_period, last: HashMap::new() })
            }
            StopperConfig::ExperimentPlateau { top, deviation, patience } => Box::new(ExperimentPlateau {
                mode,
                top,
                deviation,
                patience,
                best: Vec::new(),
                still: 0,
                over: false,
            }),
            rule => Box::new(Bound(rule)),
        })
    }
}

/// The stoppers that look at one report alone.
#[derive(Debug)]
struct Bound(StopperConfig);

impl Stopper for Bound {
    fn on_report(&mut self, seen: &Seen<'_>) -> Verdict {
        let over = match &self.0 {
            StopperConfig::MaxIterations { iterations } => seen.iteration >= *iterations,
            StopperConfig::Target { metric, at_least, at_most } => {
                let value = seen.values.get(metric).unwrap_or(f64::NAN);
                at_least.is_some_and(|bound| value >= bound) || at_most.is_some_and(|bound| value <= bound)
            }
            StopperConfig::TrialTime { seconds } => seen.seconds >= *seconds,
            _ => false,
        };
        if over { Verdict::EndTrial } else { Verdict::Continue }
    }

    fn reason(&self) -> StopReason {
        match self.0 {
            StopperConfig::MaxIterations { iterations } => StopReason::Finished { iterations },
            StopperConfig::Target { .. } => StopReason::Target,
            StopperConfig::TrialTime { .. } => StopReason::TrialTime,
            _ => StopReason::Stopper,
        }
    }
}

/// The standard deviation, not-a-number if any value is.
fn deviation(values: impl Iterator<Item = f64> + Clone) -> f64 {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (values.map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt()
}

#[derive(Debug)]
struct TrialPlateau {
    metric: String,
    window: usize,
    deviation: f64,
    grace_period: u64,
    last: HashMap<TrialId, VecDeque<f64>>,
}

impl Stopper for TrialPlateau {
    fn on_report(&mut self, seen: &Seen<'_>) -> Verdict {
        let Some(value) = seen.values.get(&self.metric) else { return Verdict::Continue };
        let last = self.last.entry(seen.trial).or_default();
        if last.len() == self.window {
            last.pop_front();
        }
        last.push_back(value);
        let full = last.len() == self.window && seen.iteration >= self.grace_period;
        if full && deviation(last.iter().copied()) <= self.deviation {
            Verdict::EndTrial
        } else {
            Verdict::Continue
        }
    }

    fn on_end(&mut self, trial: TrialId, _: Outcome) {
        self.last.remove(&trial);
    }

    fn reason(&self) -> StopReason {
        StopReason::Plateau
    }
}

#[derive(Debug)]
struct ExperimentPlateau {
    mode: Mode,
    top: usize,
    deviation: f64,
    patience: u64,
    /// Values of the best trials, best first.
    best: Vec<f64>,
    /// How many trials have ended in a row with the best hardly differing.
    still: u64,
    over: bool,
}

impl Stopper for ExperimentPlateau {
    fn on_report(&mut self, _: &Seen<'_>) -> Verdict {
        if self.over { Verdict::EndExperiment } else { Verdict::Continue }
    }

    fn on_end(&mut self, _: TrialId, outcome: Outcome) {
        if let Outcome::Complete(value) | Outcome::Stopped(value) = outcome {
            let at = self.best.partition_point(|other| !self.mode.better(value, *other));
            self.best.insert(at, value);
            self.best.truncate(self.top);
        }
        let still = self.best.len() == self.top && deviation(self.best.iter().copied()) <= self.deviation;
        self.still = if still { self.still + 1 } else { 0 };
        self.over |= self.still > self.patience;
    }

    fn reason(&self) -> StopReason {
        StopReason::ExperimentPlateau
    }
}

/// All stoppers of an experiment.
#[derive(Default)]
pub(crate) struct Stoppers(pub Vec<Box<dyn Stopper>>);

impl Stoppers {
    /// All are shown the report; the first that says something is heard.
    pub fn on_report(&mut self, seen: &Seen<'_>) -> Option<(Verdict, StopReason)> {
        let mut heard = None;
        for stopper in &mut self.0 {
            let verdict = stopper.on_report(seen);
            if verdict != Verdict::Continue && heard.is_none() {
                heard = Some((verdict, stopper.reason()));
            }
        }
        heard
    }

    pub fn on_end(&mut self, trial: TrialId, outcome: Outcome) {
        for stopper in &mut self.0 {
            stopper.on_end(trial, outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// What a stopper says to the values of one trial.
    fn verdicts(config: &StopperConfig, values: &[f64]) -> Vec<Verdict> {
        let mut stopper = config.build(Mode::Min).unwrap();
        let see = |(at, value): (usize, &f64)| {
            let values = Values::new(&[("loss", *value)]).unwrap();
            let iteration = at as u64 + 1;
            let seen =
                Seen { trial: 0, iteration, values: &values, value: Some(*value), seconds: iteration as f64 };
            stopper.on_report(&seen)
        };
        values.iter().enumerate().map(see).collect()
    }

    #[test]
    fn a_trial_ends_where_its_stopper_says() {
        use Verdict::{Continue, EndTrial};
        let most = StopperConfig::MaxIterations { iterations: 3 };
        assert_eq!(verdicts(&most, &[1.0, 1.0, f64::NAN]), [Continue, Continue, EndTrial]);
        let low = StopperConfig::Target { metric: "loss".into(), at_least: None, at_most: Some(0.5) };
        assert_eq!(verdicts(&low, &[1.0, f64::NAN, 0.5]), [Continue, Continue, EndTrial]);
        let other = StopperConfig::Target { metric: "accuracy".into(), at_least: Some(0.0), at_most: None };
        assert_eq!(verdicts(&other, &[1.0]), [Continue]);
        assert_eq!(verdicts(&StopperConfig::TrialTime { seconds: 2.0 }, &[1.0, 1.0]), [Continue, EndTrial]);
        let plateau = |grace_period| StopperConfig::TrialPlateau {
            metric: "loss".into(),
            window: 2,
            deviation: 0.1,
            grace_period,
        };
        let values = [5.0, 5.1, 3.0, 3.0];
        assert_eq!(verdicts(&plateau(0), &values), [Continue, EndTrial, Continue, EndTrial]);
        assert_eq!(verdicts(&plateau(3), &values), [Continue, Continue, Continue, EndTrial]);
        assert_eq!(verdicts(&plateau(0), &[f64::NAN, f64::NAN]), [Continue, Continue]);
    }

    #[test]
    fn the_experiment_ends_when_its_best_hardly_differ() {
        let config = StopperConfig::ExperimentPlateau { top: 2, deviation: 0.1, patience: 1 };
        let mut stopper = config.build(Mode::Max).unwrap();
        let values = Values::new(&[("loss", 0.0)]).unwrap();
        let seen = Seen { trial: 0, iteration: 1, values: &values, value: Some(0.0), seconds: 0.0 };
        let mut said = Vec::new();
        for (trial, value) in [1.0, 5.0, 9.0, 9.0, 2.0].into_iter().enumerate() {
            stopper.on_end(trial as TrialId, Outcome::Complete(value));
            said.push(stopper.on_report(&seen) == Verdict::EndExperiment);
        }
        // The best two are alike from the fourth trial on, and one more may end.
        assert_eq!(said, [false, false, false, false, true]);
        stopper.on_end(5, Outcome::Failed);
        assert_eq!(stopper.reason(), StopReason::ExperimentPlateau);
    }

    #[test]
    fn a_function_is_a_stopper_and_the_first_to_speak_is_heard() {
        let mut all = Stoppers(vec![
            Box::new(|seen: &Seen<'_>| seen.value == Some(7.0)),
            StopperConfig::MaxIterations { iterations: 2 }.build(Mode::Min).unwrap(),
        ]);
        let values = Values::default();
        let mut see = |iteration, value| {
            all.on_report(&Seen { trial: 0, iteration, values: &values, value: Some(value), seconds: 0.0 })
        };
        assert_eq!(see(1, 1.0), None);
        assert_eq!(see(1, 7.0), Some((Verdict::EndTrial, StopReason::Stopper)));
        assert_eq!(see(2, 1.0), Some((Verdict::EndTrial, StopReason::Finished { iterations: 2 })));
    }

    #[test]
    fn fields_out_of_range_are_named() {
        let plateau = |metric: &str, window, deviation| StopperConfig::TrialPlateau {
            metric: metric.into(),
            window,
            deviation,
            grace_period: 0,
        };
        for (config, field) in [
            (StopperConfig::MaxIterations { iterations: 0 }, "iterations"),
            (StopperConfig::Target { metric: "x".into(), at_least: None, at_most: None }, "at_least"),
            (StopperConfig::Target { metric: String::new(), at_least: Some(0.0), at_most: None }, "metric"),
            (plateau("", 2, 0.0), "metric"),
            (plateau("x", 1, 0.0), "window"),
            (plateau("x", 2, -1.0), "deviation"),
            (StopperConfig::TrialTime { seconds: f64::NAN }, "seconds"),
            (StopperConfig::ExperimentPlateau { top: 1, deviation: 0.0, patience: 0 }, "top"),
            (StopperConfig::ExperimentPlateau { top: 2, deviation: f64::INFINITY, patience: 0 }, "deviation"),
        ] {
            assert!(config.validate().unwrap_err().to_string().contains(field));
        }
        let text = r#"{"kind":"target","metric":"accuracy","at_least":0.9}"#;
        let read: StopperConfig = serde_json::from_str(text).unwrap();
        assert_eq!(
            read,
            StopperConfig::Target { metric: "accuracy".into(), at_least: Some(0.9), at_most: None }
        );
    }
}
