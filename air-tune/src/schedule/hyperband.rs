//! HyperBand: brackets of successive halving that trade many short trials for few long ones.
//!
//! Li, Jamieson, DeSalvo, Rostamizadeh, Talwalkar: "Hyperband: A Novel Bandit-Based Approach to Hyperparameter Optimization", JMLR 2018, algorithm 1. Trials fill
//! the brackets in the order they start. At a rung a trial pauses; when all of its bracket are there, the best go on to the next rung. So it judges with all
//! results at hand, where [`Asha`](super::Asha) never waits.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{Action, Decision, Scheduler, StopReason};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::search::{Mode, Outcome};
use crate::space::Assignment;

/// Settings of [`HyperBand`]; the defaults are Ray's and the paper's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HyperBandConfig {
    /// Iterations after which a trial is complete.
    pub max_t: u64,
    /// One trial of this many goes on at each rung.
    pub reduction_factor: u64,
}

impl Default for HyperBandConfig {
    fn default() -> Self {
        Self { max_t: 81, reduction_factor: 3 }
    }
}

impl HyperBandConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        if self.max_t == 0 {
            return Err(TuneError::config("max_t", "must be at least 1"));
        }
        if self.reduction_factor < 2 {
            return Err(TuneError::config("reduction_factor", "must be at least 2"));
        }
        Ok(())
    }

    /// The brackets of one round, the one with most trials first: how many trials each takes, and its rungs, the last one `max_t`.
    pub fn brackets(&self) -> Vec<(u64, Vec<u64>)> {
        let halvings = self.max_t.ilog(self.reduction_factor);
        let power = |s: u32| self.reduction_factor.saturating_pow(s);
        (0..=halvings)
            .rev()
            .map(|s| {
                let trials = (u64::from(halvings) + 1).saturating_mul(power(s)).div_ceil(u64::from(s) + 1);
                let rungs = (0..=s).rev().map(|i| (self.max_t / power(i)).max(1)).collect();
                (trials, rungs)
            })
            .collect()
    }

    /// Every iteration at which some bracket judges, and `max_t`, in order.
    pub fn rungs(&self) -> Vec<u64> {
        self.brackets().into_iter().next().map(|(_, rungs)| rungs).unwrap_or_default()
    }
}

/// See the module.
#[derive(Debug)]
pub struct HyperBand {
    config: HyperBandConfig,
    mode: Mode,
    /// Brackets with trials in them that are not over; the last one is filled.
    brackets: BTreeMap<u64, Bracket>,
    filled: u64,
    member: HashMap<TrialId, u64>,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Bracket {
    rungs: Vec<u64>,
    /// Trials still to come.
    room: u64,
    /// Which rung its trials are on their way to.
    rung: usize,
    /// How many trials set out for that rung.
    set_out: u64,
    /// Of each trial that is not over: its value at the rung, once it is there.
    trials: BTreeMap<TrialId, Option<f64>>,
}

impl HyperBand {
    /// Judges trials by the rules of `config`.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first field out of range.
    pub fn new(config: HyperBandConfig, mode: Mode) -> Result<Self> {
        config.validate()?;
        Ok(Self {
            config,
            mode,
            brackets: BTreeMap::new(),
            filled: 0,
            member: HashMap::new(),
            actions: Vec::new(),
        })
    }

    /// The bracket of a trial, which is the one being filled if it is new.
    fn bracket_of(&mut self, trial: TrialId) -> u64 {
        if let Some(bracket) = self.member.get(&trial) {
            return *bracket;
        }
        if self.brackets.get(&self.filled).is_some_and(|bracket| bracket.room == 0) {
            self.filled += 1;
        }
        let shapes = self.config.brackets();
        let (room, rungs) = shapes[(self.filled % shapes.len() as u64) as usize].clone();
        let bracket = self.brackets.entry(self.filled).or_insert_with(|| Bracket {
            rungs,
            room,
            rung: 0,
            set_out: 0,
            trials: BTreeMap::new(),
        });
        bracket.room -= 1;
        bracket.set_out += 1;
        bracket.trials.insert(trial, None);
        self.member.insert(trial, self.filled);
        self.filled
    }

    /// Halves a bracket if all of its trials have come to the rung.
    fn judge(&mut self, number: u64) {
        let Some(bracket) = self.brackets.get_mut(&number) else { return };
        if bracket.room > 0 || bracket.trials.values().any(Option::is_none) {
            return;
        }
        if bracket.trials.is_empty() {
            // Keep what is being filled: its number says which shape comes next.
            if number < self.filled {
                self.brackets.remove(&number);
            }
            return;
        }
        let mut ranked: Vec<(TrialId, f64)> =
            bracket.trials.iter().map(|(trial, value)| (*trial, value.unwrap_or(f64::NAN))).collect();
        ranked.sort_by(|(a, x), (b, y)| {
            self.mode.better(*y, *x).cmp(&self.mode.better(*x, *y)).then_with(|| a.cmp(b))
        });
        let kept = (bracket.set_out / self.config.reduction_factor).max(1) as usize;
        let rung = bracket.rungs[bracket.rung];
        bracket.rung += 1;
        bracket.set_out = kept.min(ranked.len()) as u64;
        for (at, (trial, _)) in ranked.into_iter().enumerate() {
            if at < kept {
                bracket.trials.insert(trial, None);
                self.actions.push(Action::Resume { trial, change: None });
            } else {
                bracket.trials.remove(&trial);
                self.actions.push(Action::Stop { trial, reason: StopReason::Behind { rung } });
            }
        }
    }
}

impl Scheduler for HyperBand {
    fn on_start(&mut self, trial: TrialId, _: &Assignment) {
        self.bracket_of(trial);
    }

    fn on_report(&mut self, trial: TrialId, iteration: u64, value: f64) -> Decision {
        if iteration >= self.config.max_t {
            return Decision::Stop(StopReason::Finished { iterations: self.config.max_t });
        }
        let number = self.bracket_of(trial);
        let Some(bracket) = self.brackets.get_mut(&number) else { return Decision::Continue };
        let Some(reached) = bracket.trials.get_mut(&trial) else { return Decision::Continue };
        if reached.is_some() {
            return Decision::Pause;
        }
        if bracket.rungs.get(bracket.rung).is_none_or(|rung| iteration < *rung) {
            return Decision::Continue;
        }
        *reached = Some(value);
        self.judge(number);
        Decision::Pause
    }

    fn on_end(&mut self, trial: TrialId, _: Outcome) {
        let Some(number) = self.member.remove(&trial) else { return };
        if let Some(bracket) = self.brackets.get_mut(&number) {
            bracket.trials.remove(&trial);
        }
        self.judge(number);
    }

    fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// No more trials come: the bracket that is being filled is as full as it gets.
    fn on_idle(&mut self) {
        for bracket in self.brackets.values_mut() {
            bracket.room = 0;
        }
        for number in self.brackets.keys().copied().collect::<Vec<_>>() {
            self.judge(number);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::testing;

    #[test]
    fn it_is_a_scheduler() {
        testing::scheduler(|mode| Box::new(HyperBand::new(HyperBandConfig::default(), mode).unwrap()));
    }

    #[test]
    fn brackets_are_the_papers() {
        let brackets = HyperBandConfig::default().brackets();
        assert_eq!(
            brackets,
            [
                (81, vec![1, 3, 9, 27, 81]),
                (34, vec![3, 9, 27, 81]),
                (15, vec![9, 27, 81]),
                (8, vec![27, 81]),
                (5, vec![81]),
            ]
        );
        assert_eq!(HyperBandConfig { max_t: 1, reduction_factor: 2 }.brackets(), [(1, vec![1])]);
        let huge = HyperBandConfig { max_t: u64::MAX, reduction_factor: 2 };
        assert_eq!(huge.brackets().len(), 64);
    }

    #[test]
    fn a_bracket_is_halved_when_all_are_there_and_not_before() {
        let config = HyperBandConfig { max_t: 4, reduction_factor: 2 };
        assert_eq!(config.brackets(), [(4, vec![1, 2, 4]), (3, vec![2, 4]), (3, vec![4])]);
        let mut band = HyperBand::new(config, Mode::Min).unwrap();
        for trial in 0..8 {
            band.on_start(trial, &Assignment::new());
        }
        for (trial, value) in [(0, 4.0), (1, 1.0), (2, f64::NAN)] {
            assert_eq!(band.on_report(trial, 1, value), Decision::Pause);
            assert!(band.take_actions().is_empty(), "trial 3 is not there yet");
        }
        assert_eq!(band.on_report(3, 1, 2.0), Decision::Pause);
        let resumed = |trial| Action::Resume { trial, change: None };
        let stopped = |trial, rung| Action::Stop { trial, reason: StopReason::Behind { rung } };
        assert_eq!(band.take_actions(), [resumed(1), resumed(3), stopped(0, 1), stopped(2, 1)]);
        assert_eq!(band.on_report(1, 1, 1.0), Decision::Continue, "repeated after an interruption");
        // A trial that fails does not hold the others up.
        assert_eq!(band.on_report(3, 2, 2.0), Decision::Pause);
        band.on_end(1, Outcome::Failed);
        assert_eq!(band.take_actions(), [resumed(3)]);
        assert_eq!(band.on_report(3, 4, 2.0), Decision::Stop(StopReason::Finished { iterations: 4 }));
        // Trials 4 to 6 are in the second bracket, 7 in the third.
        assert_eq!(band.on_report(4, 1, 0.0), Decision::Continue);
        assert_eq!(band.on_report(7, 3, 0.0), Decision::Continue);
    }

    #[test]
    fn when_no_more_come_a_bracket_is_judged_with_those_it_has() {
        let mut band = HyperBand::new(HyperBandConfig::default(), Mode::Max).unwrap();
        for trial in 0..7 {
            band.on_start(trial, &Assignment::new());
            assert_eq!(band.on_report(trial, 1, trial as f64), Decision::Pause);
        }
        assert!(band.take_actions().is_empty());
        band.on_idle();
        let kept: Vec<Action> = band
            .take_actions()
            .into_iter()
            .filter(|action| matches!(action, Action::Resume { .. }))
            .collect();
        assert_eq!(
            kept,
            [Action::Resume { trial: 6, change: None }, Action::Resume { trial: 5, change: None }]
        );
    }

    #[test]
    fn fields_out_of_range_are_named() {
        for (config, field) in [
            (HyperBandConfig { max_t: 0, ..HyperBandConfig::default() }, "max_t"),
            (HyperBandConfig { reduction_factor: 1, ..HyperBandConfig::default() }, "reduction_factor"),
        ] {
            assert!(config.validate().unwrap_err().to_string().contains(field));
        }
    }
}
