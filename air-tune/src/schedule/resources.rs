//! Trials that get more of the machine as others make room: a scheduler around another one.
//!
//! Ray's `ResourceChangingScheduler`. What a trial has counts in multiples of what every trial has at least. A trial that is to have more is paused, and goes on at
//! once from its checkpoint; so it is given more when it starts, or at a report, and never less while it runs.
//!
//! Nothing is promised twice: what all trials that are not over have beyond the least, and the least for as many as may run at once, is never more than there is. A
//! trial that the inner scheduler pauses gives back what it had beyond the least.

use std::collections::BTreeMap;

use air_core::resource::Resources;
use serde::{Deserialize, Serialize};

use super::{Action, Decision, Scheduler, SchedulerConfig};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::search::{Mode, Outcome};
use crate::space::Assignment;

/// Most trials at once that resources are dealt to.
const MOST: u64 = 1024;

/// Who gets what is left over once every trial has the least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Favour {
    /// All trials alike.
    #[default]
    Even,
    /// The best trial, as far as is known.
    Best,
}

/// Settings of [`ResourceChanging`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceConfig {
    /// Who decides which trials go on.
    pub inner: Box<SchedulerConfig>,
    /// What all trials have together; the processors of this machine unless set.
    pub total: Resources,
    /// What every trial has at least, and what is added to it; one processor unless set.
    pub per_trial: Resources,
    /// Who gets what is left over.
    pub favour: Favour,
    /// Iterations a trial is left alone for after it was given more.
    pub interval: u64,
}

impl Default for ResourceConfig {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            inner: Box::default(),
            total: Resources::new().cpu(processors as f64),
            per_trial: Resources::new().cpu(1.0),
            favour: Favour::Even,
            interval: 1,
        }
    }
}

impl ResourceConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: String| Err(TuneError::config(field, reason));
        self.inner.validate()?;
        if let SchedulerConfig::Resources(_) = *self.inner {
            return bad("inner", "deals with resources already".into());
        }
        if let Err(error) = self.total.validate() {
            return bad("total", error.to_string());
        }
        if let Err(error) = self.per_trial.validate() {
            return bad("per_trial", error.to_string());
        }
        if self.total.gpu.fract() != 0.0 {
            return bad("total", format!("{} gpu: a machine has whole devices", self.total.gpu));
        }
        if self.per_trial == Resources::new() {
            return bad("per_trial", "must name something that trials share".into());
        }
        if self.units() == 0 {
            return bad("total", format!("{} is less than {} for one trial", self.total, self.per_trial));
        }
        if self.interval == 0 {
            return bad("interval", "must be at least 1".into());
        }
        Ok(())
    }

    /// How often the least fits into all there is.
    fn units(&self) -> u64 {
        let custom = self.per_trial.custom.iter();
        let pairs = [
            (self.total.cpu, self.per_trial.cpu),
            (self.total.gpu, self.per_trial.gpu),
            (self.total.memory_bytes as f64, self.per_trial.memory_bytes as f64),
        ];
        pairs
            .into_iter()
            .chain(custom.map(|(kind, least)| (self.total.custom.get(kind).copied().unwrap_or(0.0), *least)))
            .filter(|(_, least)| *least > 0.0)
            // Shares are counted in ten-thousandths: a tenth fits ten times.
            .map(|(total, least)| ((total / least + 1e-6).floor() as u64).min(MOST))
            .min()
            .unwrap_or(0)
    }

    /// So many times the least.
    fn times(&self, units: u64) -> Resources {
        let by = units as f64;
        let mut all = self.per_trial.clone();
        all.cpu *= by;
        all.gpu *= by;
        all.memory_bytes = all.memory_bytes.saturating_mul(units);
        all.custom.values_mut().for_each(|amount| *amount *= by);
        all
    }

    /// The most units, up to `units`, that one trial can have: shares of a GPU do not add up to one and a half.
    fn usable(&self, units: u64) -> u64 {
        (1..=units).rev().find(|units| self.times(*units).validate().is_ok()).unwrap_or(1)
    }
}

/// See the module.
pub struct ResourceChanging {
    config: ResourceConfig,
    inner: Box<dyn Scheduler>,
    mode: Mode,
    /// All there is, in units of the least, and how many trials may run at once.
    units: u64,
    slots: u64,
    /// No new trial will start.
    exhausted: bool,
    /// Trials that are not over.
    members: BTreeMap<TrialId, Member>,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Member {
    units: u64,
    value: f64,
    /// The iteration it was last heard of, and the one it was last given more at.
    iteration: u64,
    changed: u64,
}

impl ResourceChanging {
    /// Deals resources to the trials that `inner` lets go on. [`ResourceConfig::inner`] is not looked at.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first field out of range.
    pub fn new(config: ResourceConfig, inner: Box<dyn Scheduler>, mode: Mode) -> Result<Self> {
        config.validate()?;
        let units = config.units();
        Ok(Self {
            config,
            inner,
            mode,
            units,
            slots: units,
            exhausted: false,
            members: BTreeMap::new(),
            actions: Vec::new(),
        })
    }

    /// How many trials the least is kept for.
    fn places(&self) -> u64 {
        if self.exhausted { self.slots.min(self.members.len() as u64).max(1) } else { self.slots }
    }

    /// What nobody has, beyond the least for every place.
    fn spare(&self) -> u64 {
        let dealt: u64 = self.members.values().map(|member| member.units - 1).sum();
        (self.units - self.places()).saturating_sub(dealt)
    }

    /// How much a trial is to have.
    fn goal(&self, trial: TrialId) -> u64 {
        match self.config.favour {
            Favour::Even => self.units.div_ceil(self.places()),
            Favour::Best if self.is_best(trial) => self.units,
            Favour::Best => 1,
        }
    }

    fn is_best(&self, trial: TrialId) -> bool {
        let Some(own) = self.members.get(&trial) else { return false };
        let others = self.members.iter().filter(|(other, _)| **other != trial);
        let ahead = |(other, member): (&TrialId, &Member)| {
            self.mode.better(member.value, own.value)
                || (!self.mode.better(own.value, member.value) && *other < trial)
        };
        !own.value.is_nan() && !others.into_iter().any(ahead)
    }

    /// Gives a trial what it is to have, as far as there is any; returns whether that is more than before.
    fn give(&mut self, trial: TrialId) -> bool {
        let (goal, spare) = (self.goal(trial), self.spare());
        let Some(has) = self.members.get(&trial).map(|member| member.units) else { return false };
        let units = self.config.usable(goal.min(has + spare));
        if let Some(member) = self.members.get_mut(&trial).filter(|_| units > has) {
            member.units = units;
            member.changed = member.iteration;
        }
        units > has
    }
}

impl Scheduler for ResourceChanging {
    fn at_once(&mut self, slots: usize) -> usize {
        self.slots = self.units.min(self.inner.at_once(slots) as u64).max(1);
        self.slots as usize
    }

    fn on_start(&mut self, trial: TrialId, assignment: &Assignment) {
        self.inner.on_start(trial, assignment);
        self.exhausted = false;
        self.members.insert(trial, Member { units: 1, value: f64::NAN, iteration: 0, changed: 0 });
        // Nobody is known to be the best yet.
        self.give(trial);
    }

    fn on_report(&mut self, trial: TrialId, iteration: u64, value: f64) -> Decision {
        let decision = self.inner.on_report(trial, iteration, value);
        // An interrupted trial repeats itself: that was looked at before.
        let Some(member) = self.members.get_mut(&trial).filter(|member| iteration > member.iteration) else {
            return decision;
        };
        member.iteration = iteration;
        member.value = value;
        match decision {
            Decision::Continue => {}
            Decision::Pause => {
                member.units = 1;
                return decision;
            }
            Decision::Stop(_) => return decision,
        }
        if iteration - member.changed < self.config.interval || !self.give(trial) {
            return Decision::Continue;
        }
        self.actions.push(Action::Resume { trial, change: None });
        Decision::Pause
    }

    fn on_end(&mut self, trial: TrialId, outcome: Outcome) {
        self.inner.on_end(trial, outcome);
        self.members.remove(&trial);
    }

    fn take_actions(&mut self) -> Vec<Action> {
        let inner = self.inner.take_actions();
        for action in &inner {
            if let Action::Resume { trial, .. } = action {
                self.give(*trial);
            }
        }
        let mut actions = std::mem::take(&mut self.actions);
        actions.extend(inner);
        actions
    }

    fn on_idle(&mut self) {
        self.inner.on_idle();
    }

    fn on_exhausted(&mut self) -> bool {
        let heeded = self.inner.on_exhausted();
        !std::mem::replace(&mut self.exhausted, true) || heeded
    }

    fn resources(&self, trial: TrialId) -> Option<Resources> {
        self.members.get(&trial).map(|member| self.config.times(member.units))
    }

    fn total(&self) -> Option<Resources> {
        Some(self.config.total.clone())
    }

    fn needs_checkpoints(&self) -> bool {
        self.inner.needs_checkpoints()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::super::{AshaConfig, HyperBandConfig, PbtConfig};
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
        let mut scheduler = around(
            SchedulerConfig::Fifo,
            ResourceConfig { interval: 5, ..config(4.0, Favour::Best) },
            Mode::Max,
        );
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
                ResourceConfig {
                    inner: Box::new(ResourceConfig::default().into()),
                    ..ResourceConfig::default()
                },
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
}
