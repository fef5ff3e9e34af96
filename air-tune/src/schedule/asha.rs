//! Asynchronous successive halving.
//!
//! Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, in its stopping form, which is what Ray Tune's
//! `ASHAScheduler` runs: a trial is judged once at each rung it reaches, against those that reached the rung before it, and
//! never waits for others.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{Decision, Scheduler, StopReason};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::search::{Mode, Outcome};

/// Settings of [`Asha`]; the defaults are Ray's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AshaConfig {
    /// Iterations after which a trial is complete.
    pub max_t: u64,
    /// Iterations every trial gets before it may be stopped.
    pub grace_period: u64,
    /// One trial of this many goes on at each rung.
    pub reduction_factor: u64,
    /// Trials are dealt to this many brackets in turn; bracket `s` leaves out the first `s` rungs.
    pub brackets: u64,
}

impl Default for AshaConfig {
    fn default() -> Self {
        Self { max_t: 100, grace_period: 1, reduction_factor: 4, brackets: 1 }
    }
}

impl AshaConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: &str| Err(TuneError::config(field, reason));
        if self.grace_period == 0 {
            return bad("grace_period", "must be at least 1");
        }
        if self.max_t < self.grace_period {
            return bad("max_t", "must be at least `grace_period`");
        }
        if self.reduction_factor < 2 {
            return bad("reduction_factor", "must be at least 2");
        }
        if !(1..=64).contains(&self.brackets) {
            return bad("brackets", "must be between 1 and 64");
        }
        Ok(())
    }
}

/// Asynchronous successive halving; see [`AshaConfig`].
///
/// At a rung reached by `n` trials, a trial goes on if fewer than `max(1, n / reduction_factor)` of them are better than it. Not-a-number is
/// worse than every number.
#[derive(Debug)]
pub struct Asha {
    config: AshaConfig,
    mode: Mode,
    brackets: Vec<Vec<Rung>>,
    /// How many rungs of its bracket each unfinished trial has been judged at, or has passed.
    passed: HashMap<TrialId, usize>,
}

#[derive(Debug)]
struct Rung {
    iteration: u64,
    /// What trials reported here, best first.
    values: Vec<f64>,
}

impl Asha {
    /// Judges trials by the rules of `config`.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first field out of range.
    pub fn new(config: AshaConfig, mode: Mode) -> Result<Self> {
        config.validate()?;
        let bracket = |skip: u64| {
            let first =
                (0..skip).try_fold(config.grace_period, |at, _| at.checked_mul(config.reduction_factor));
            std::iter::successors(first, |at| at.checked_mul(config.reduction_factor))
                .take_while(|at| *at < config.max_t)
                .map(|iteration| Rung { iteration, values: Vec::new() })
                .collect()
        };
        let brackets = (0..config.brackets).map(bracket).collect();
        Ok(Self { brackets, config, mode, passed: HashMap::new() })
    }
}

impl Rung {
    /// Files `value` and tells whether it is among the best of those filed so far.
    fn judge(&mut self, value: f64, mode: Mode, reduction_factor: u64) -> bool {
        let better = self.values.partition_point(|other| mode.better(*other, value));
        self.values.insert(better, value);
        better < (self.values.len() / reduction_factor as usize).max(1)
    }
}

impl Scheduler for Asha {
    fn on_report(&mut self, trial: TrialId, iteration: u64, value: f64) -> Decision {
        if iteration >= self.config.max_t {
            return Decision::Stop(StopReason::Finished { iterations: self.config.max_t });
        }
        let bracket = (trial % self.config.brackets) as usize;
        let rungs = &mut self.brackets[bracket];
        // A trial that reports rarely is judged at the highest rung it has reached, and only there.
        let reached = rungs.partition_point(|rung| rung.iteration <= iteration);
        let passed = self.passed.entry(trial).or_default();
        if reached <= *passed {
            return Decision::Continue;
        }
        *passed = reached;
        let rung = &mut rungs[reached - 1];
        if rung.judge(value, self.mode, self.config.reduction_factor) {
            Decision::Continue
        } else {
            Decision::Stop(StopReason::Behind { rung: rung.iteration })
        }
    }

    fn on_end(&mut self, trial: TrialId, _: Outcome) {
        self.passed.remove(&trial);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn asha(mode: Mode) -> Asha {
        Asha::new(AshaConfig::default(), mode).unwrap()
    }

    #[test]
    fn rungs_are_powers_of_the_reduction_factor_below_the_end() {
        let at = |config: AshaConfig| -> Vec<Vec<u64>> {
            let asha = Asha::new(config, Mode::Min).unwrap();
            asha.brackets.iter().map(|rungs| rungs.iter().map(|r| r.iteration).collect()).collect()
        };
        assert_eq!(at(AshaConfig::default()), [[1, 4, 16, 64]]);
        let two = AshaConfig { max_t: 64, brackets: 2, grace_period: 2, ..AshaConfig::default() };
        assert_eq!(at(two), [vec![2, 8, 32], vec![8, 32]]);
        assert_eq!(at(AshaConfig { max_t: 1, ..AshaConfig::default() }), [Vec::<u64>::new()]);
        let huge =
            AshaConfig { max_t: u64::MAX, reduction_factor: u64::MAX, brackets: 64, ..AshaConfig::default() };
        assert_eq!(at(huge)[0], [1]);
    }

    #[test]
    fn fields_out_of_range_are_refused() {
        for (config, field) in [
            (AshaConfig { grace_period: 0, ..AshaConfig::default() }, "grace_period"),
            (AshaConfig { max_t: 1, grace_period: 2, ..AshaConfig::default() }, "max_t"),
            (AshaConfig { reduction_factor: 1, ..AshaConfig::default() }, "reduction_factor"),
            (AshaConfig { brackets: 0, ..AshaConfig::default() }, "brackets"),
        ] {
            assert!(config.validate().unwrap_err().to_string().contains(field));
        }
    }

    #[test]
    fn the_last_iteration_completes_a_trial() {
        let finished = Decision::Stop(StopReason::Finished { iterations: 100 });
        assert_eq!(asha(Mode::Min).on_report(0, 100, f64::NAN), finished);
    }

    #[test]
    fn a_repeated_report_is_not_judged_again() {
        let mut asha = asha(Mode::Min);
        assert_eq!(asha.on_report(0, 1, 1.0), Decision::Continue);
        assert_eq!(asha.on_report(1, 1, 0.5), Decision::Continue);
        assert_eq!(asha.on_report(0, 1, 9.0), Decision::Continue);
        assert_eq!(asha.brackets[0][0].values, [0.5, 1.0]);
    }

    #[test]
    fn a_trial_that_reports_rarely_is_judged_at_the_highest_rung_it_reached() {
        let mut asha = asha(Mode::Max);
        asha.on_report(0, 16, 1.0);
        assert_eq!(asha.on_report(1, 20, 0.0), Decision::Stop(StopReason::Behind { rung: 16 }));
        assert!(asha.brackets[0][0].values.is_empty() && asha.brackets[0][1].values.is_empty());
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        let value = prop_oneof![
            8 => -10.0..10.0_f64, 2 => (-3_i8..3).prop_map(f64::from), 1 => Just(f64::NAN),
            1 => Just(f64::INFINITY), 1 => Just(f64::NEG_INFINITY),
        ];
        proptest::collection::vec(value, 1..60)
    }

    proptest! {
        /// Against the definition, computed the slow way.
        #[test]
        fn a_trial_in_the_top_share_of_its_rung_is_never_stopped(values in values(), rf in 2_u64..6, max: bool) {
            let mode = if max { Mode::Max } else { Mode::Min };
            let config = AshaConfig { reduction_factor: rf, ..AshaConfig::default() };
            let mut asha = Asha::new(config, mode).unwrap();
            for (at, value) in values.iter().enumerate() {
                let better = values[..at].iter().filter(|other| mode.better(**other, *value)).count();
                let top = better < ((at + 1) / rf as usize).max(1);
                let kept = asha.on_report(at as u64, 1, *value) == Decision::Continue;
                prop_assert_eq!(kept, top, "value {} of {:?}", at, &values[..=at]);
            }
        }

        #[test]
        fn not_a_number_never_stops_a_number(values in values()) {
            let mut with = asha(Mode::Min);
            let mut best = f64::INFINITY;
            for (at, value) in values.iter().enumerate() {
                let decision = with.on_report(at as u64, 1, *value);
                if *value < best {
                    best = *value;
                    prop_assert_eq!(decision, Decision::Continue);
                }
            }
        }
    }
}
