//! The median stopping rule.
//!
//! Golovin et al., "Google Vizier: A Service for Black-Box Optimization", KDD 2017, section 3.2.2: a trial is stopped at a report if its best value so far is worse than the
//! median, over the other trials, of the mean of what each reported up to that iteration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Decision, Scheduler, StopReason};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::search::{Mode, Outcome};

/// Most reports of one trial that are remembered: of longer ones every second, then every fourth, and so on.
const REMEMBERED: usize = 1_024;

/// Settings of [`MedianStopping`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MedianConfig {
    /// Iterations every trial gets before it may be stopped.
    pub grace_period: u64,
    /// Fewer other trials than this at an iteration say nothing.
    pub min_samples: usize,
    /// Iterations after which a trial is complete, if there are any.
    pub max_t: Option<u64>,
}

impl Default for MedianConfig {
    fn default() -> Self {
        Self { grace_period: 1, min_samples: 3, max_t: None }
    }
}

impl MedianConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: &str| Err(TuneError::config(field, reason));
        if self.grace_period == 0 {
            return bad("grace_period", "must be at least 1");
        }
        if self.min_samples == 0 {
            return bad("min_samples", "must be at least 1");
        }
        if self.max_t.is_some_and(|max_t| max_t < self.grace_period) {
            return bad("max_t", "must be at least `grace_period`");
        }
        Ok(())
    }
}

/// Stops trials that are worse than the median of the others; see the module.
#[derive(Debug)]
pub struct MedianStopping {
    config: MedianConfig,
    mode: Mode,
    trials: BTreeMap<TrialId, Course>,
}

/// What a trial has reported.
#[derive(Debug, Default)]
struct Course {
    best: f64,
    sum: f64,
    count: u64,
    last: u64,
    /// Iteration, and the mean up to there; thinned out where it grows long.
    means: Vec<(u64, f64)>,
}

impl Course {
    fn file(&mut self, iteration: u64, value: f64, mode: Mode) {
        self.last = iteration;
        self.sum += value;
        self.count += 1;
        if self.count == 1 || mode.better(value, self.best) {
            self.best = value;
        }
        if self.means.len() >= REMEMBERED {
            let mut at = 0;
            self.means.retain(|_| {
                at += 1;
                at % 2 == 1
            });
        }
        self.means.push((iteration, self.sum / self.count as f64));
    }

    /// The mean of what it had reported by an iteration.
    fn mean_at(&self, iteration: u64) -> Option<f64> {
        let upto = self.means.partition_point(|(at, _)| *at <= iteration);
        upto.checked_sub(1).map(|at| self.means[at].1)
    }
}

impl MedianStopping {
    /// Judges trials by the rules of `config`.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first field out of range.
    pub fn new(config: MedianConfig, mode: Mode) -> Result<Self> {
        config.validate()?;
        Ok(Self { config, mode, trials: BTreeMap::new() })
    }
}

impl Scheduler for MedianStopping {
    fn on_report(&mut self, trial: TrialId, iteration: u64, value: f64) -> Decision {
        if let Some(max_t) = self.config.max_t.filter(|max_t| iteration >= *max_t) {
            return Decision::Stop(StopReason::Finished { iterations: max_t });
        }
        let course = self.trials.entry(trial).or_default();
        // An interrupted trial repeats itself: that was judged before.
        if iteration <= course.last {
            return Decision::Continue;
        }
        course.file(iteration, value, self.mode);
        if iteration < self.config.grace_period {
            return Decision::Continue;
        }
        let best = course.best;
        let mut means: Vec<f64> = self
            .trials
            .iter()
            .filter(|(other, course)| **other != trial && course.last >= iteration)
            .filter_map(|(_, course)| course.mean_at(iteration))
            .collect();
        if means.len() < self.config.min_samples {
            return Decision::Continue;
        }
        // Best first, and what is no number last; of an even number the worse of the two in the middle.
        means.sort_by(|a, b| {
            self.mode.better(*b, *a).cmp(&self.mode.better(*a, *b)).then_with(|| a.total_cmp(b))
        });
        let median = means[means.len() / 2];
        if self.mode.better(median, best) {
            Decision::Stop(StopReason::Behind { rung: iteration })
        } else {
            Decision::Continue
        }
    }

    fn on_end(&mut self, _: TrialId, _: Outcome) {}
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;

    fn median(config: MedianConfig) -> MedianStopping {
        MedianStopping::new(config, Mode::Min).unwrap()
    }

    #[test]
    fn it_is_a_scheduler() {
        testing::scheduler(|mode| Box::new(MedianStopping::new(MedianConfig::default(), mode).unwrap()));
    }

    #[test]
    fn a_trial_worse_than_the_median_of_means_is_stopped() {
        let mut rule = median(MedianConfig { grace_period: 2, ..MedianConfig::default() });
        for (trial, values) in [(0, [1.0, 3.0]), (1, [4.0, 4.0]), (2, [9.0, 9.0])] {
            for (at, value) in values.into_iter().enumerate() {
                let decision = rule.on_report(trial, at as u64 + 1, value);
                assert_eq!(decision, Decision::Continue, "fewer than three others say nothing");
            }
        }
        // The means at 2 are 2, 4 and 9. The best of a trial counts, not its last.
        assert_eq!(rule.on_report(3, 1, 4.5), Decision::Continue, "within its grace");
        assert_eq!(rule.on_report(3, 2, 5.0), Decision::Stop(StopReason::Behind { rung: 2 }));
        assert_eq!(rule.on_report(4, 1, 3.9), Decision::Continue);
        assert_eq!(rule.on_report(4, 2, 50.0), Decision::Continue);
    }

    #[test]
    fn trials_that_have_not_come_so_far_have_no_say_and_long_ones_are_thinned_out() {
        let mut rule = median(MedianConfig { min_samples: 1, ..MedianConfig::default() });
        rule.on_report(0, 1, 0.0);
        assert_eq!(rule.on_report(1, 5, 100.0), Decision::Continue);
        for iteration in 2..5_000 {
            rule.on_report(0, iteration, 0.0);
        }
        assert!(rule.trials[&0].means.len() <= REMEMBERED);
        assert_eq!(rule.on_report(2, 6, 1.0), Decision::Stop(StopReason::Behind { rung: 6 }));
    }

    #[test]
    fn fields_out_of_range_are_named() {
        for (config, field) in [
            (MedianConfig { grace_period: 0, ..MedianConfig::default() }, "grace_period"),
            (MedianConfig { min_samples: 0, ..MedianConfig::default() }, "min_samples"),
            (MedianConfig { max_t: Some(0), ..MedianConfig::default() }, "max_t"),
        ] {
            assert!(config.validate().unwrap_err().to_string().contains(field));
        }
        let mut rule = median(MedianConfig { max_t: Some(4), ..MedianConfig::default() });
        assert_eq!(rule.on_report(0, 4, f64::NAN), Decision::Stop(StopReason::Finished { iterations: 4 }));
    }
}
