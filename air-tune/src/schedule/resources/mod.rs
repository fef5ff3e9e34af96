//! Trials that get more of the machine as others make room: a scheduler around another one.
//!
//! Ray's `ResourceChangingScheduler`. What a trial has counts in multiples of what every trial has at least. A trial that is to have more is paused, and goes on at
//! once from its checkpoint; so it is given more when it starts, or at a report, and never less while it runs.
//!
//! Nothing is promised twice: what all trials that are not over have beyond the least, and the least for as many as may run at once, is never more than there is. A
//! trial that the inner scheduler pauses gives back what it had beyond the least.

mod config;
#[cfg(test)]
mod tests;

pub use config::{Favour, ResourceConfig};

use std::collections::BTreeMap;

use air_core::resource::Resources;

use super::{Action, Decision, Scheduler};
use crate::TrialId;
use crate::error::Result;
use crate::search::{Mode, Outcome};
use crate::space::Assignment;

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
    /// [`TuneError::InvalidConfig`](crate::TuneError::InvalidConfig) for the first field out of range.
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
