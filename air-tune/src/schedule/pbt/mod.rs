//! Population based training: trials that do badly go on from the checkpoint of one that does well, with its configuration, perturbed.
//!
//! Jaderberg et al., "Population Based Training of Neural Networks", 2017, with Ray's defaults. Either each trial is looked at when its interval is over, which takes
//! as many slots as there are trials; or, `synchronous`, the whole population is, which takes any number of slots and does not depend on their speed.

mod bandit;
mod explore;
mod policy;

use std::collections::BTreeMap;

use air_core::seed::Seed;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use bandit::{Bandit, Start};
pub use policy::{Policy, PolicyReplay, Segment};

use super::{Action, Change, Decision, Scheduler, StopReason};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::search::{Mode, Outcome};
use crate::space::{Assignment, Space};

/// How a clone's configuration is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Explore {
    /// That of its donor, perturbed.
    #[default]
    Perturb,
    /// PB2 (Parker-Holder, Nguyen, Roberts, 2020): numbers are those that a Gaussian process, which has seen by how much trials improved over their intervals, holds most promising;
    /// the rest is perturbed. For small populations.
    Bandit,
}

/// Settings of [`Pbt`]; the defaults are Ray's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PbtConfig {
    /// Iterations between two looks at a trial.
    pub interval: u64,
    /// Iterations before the first look.
    pub burn_in: u64,
    /// The share of trials that count as good, and the share that counts as bad; at most a half.
    pub quantile: f64,
    /// How likely a parameter is drawn anew, rather than moved.
    pub resample: f64,
    /// A number is multiplied by one of these.
    pub factors: (f64, f64),
    /// Paths of the parameters that change; all but those that others depend on, if there are none here.
    pub mutate: Vec<String>,
    /// How a clone's configuration is found.
    pub explore: Explore,
    /// Whether the whole population is looked at together.
    pub synchronous: bool,
    /// Iterations after which a trial is complete, if there are any.
    pub max_t: Option<u64>,
}

impl Default for PbtConfig {
    fn default() -> Self {
        Self {
            interval: 60,
            burn_in: 0,
            quantile: 0.25,
            resample: 0.25,
            factors: (1.2, 0.8),
            mutate: Vec::new(),
            explore: Explore::Perturb,
            synchronous: false,
            max_t: None,
        }
    }
}

impl PbtConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: &str| Err(TuneError::config(field, reason));
        if self.interval == 0 {
            return bad("interval", "must be at least 1");
        }
        if !(self.quantile > 0.0 && self.quantile <= 0.5) {
            return bad("quantile", "must be above 0 and at most 0.5");
        }
        if !(0.0..=1.0).contains(&self.resample) {
            return bad("resample", "must lie between 0 and 1");
        }
        let positive = |factor: f64| factor > 0.0 && factor.is_finite();
        if !positive(self.factors.0) || !positive(self.factors.1) {
            return bad("factors", "must be two finite numbers above 0");
        }
        if self.max_t == Some(0) {
            return bad("max_t", "must be at least 1");
        }
        Ok(())
    }

    /// The parameters that change.
    fn mutated(&self, space: &Space) -> Result<Vec<String>> {
        let decides = |path: &str| {
            space.params().iter().any(|param| param.conditions.iter().any(|condition| condition.path == path))
        };
        for path in &self.mutate {
            if space.get(path).is_none() {
                return Err(TuneError::config("mutate", format!("the space has no parameter `{path}`")));
            }
            if decides(path) {
                return Err(TuneError::config("mutate", format!("other parameters depend on `{path}`")));
            }
        }
        let all = space.params().iter().map(|param| param.path.clone()).filter(|path| !decides(path));
        Ok(if self.mutate.is_empty() { all.collect() } else { self.mutate.clone() })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Pbt {
    config: PbtConfig,
    space: Space,
    mutated: Vec<String>,
    mode: Mode,
    seed: Seed,
    /// Trials that are not over.
    members: BTreeMap<TrialId, Member>,
    bandit: Option<Bandit>,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Member {
    assignment: Assignment,
    value: f64,
    /// The iteration it was last heard of, and the one it was last looked at.
    iteration: u64,
    looked: u64,
    paused: bool,
    /// How often its configuration was changed.
    changes: u64,
    /// Where its present interval began, if that is known, and whether that was with a configuration nobody has seen the end of yet.
    start: Option<Start>,
    untold: bool,
}

impl Pbt {
    /// Runs a population by the rules of `config`.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first field out of range, or a path that is not in `space` or that others depend on.
    pub fn new(config: PbtConfig, space: &Space, mode: Mode, seed: Seed) -> Result<Self> {
        config.validate()?;
        let mutated = config.mutated(space)?;
        let bandit = match config.explore {
            Explore::Perturb => None,
            Explore::Bandit => Some(Bandit::new(space, &mutated)?),
        };
        Ok(Self {
            mutated,
            bandit,
            config,
            space: space.clone(),
            mode,
            seed,
            members: BTreeMap::new(),
            actions: Vec::new(),
        })
    }

    /// The bad and the good of the population, each best first; none, while there are fewer than two to compare.
    fn quantiles(&self) -> (Vec<TrialId>, Vec<TrialId>) {
        let mut ranked: Vec<(TrialId, f64)> = self
            .members
            .iter()
            .filter(|(_, member)| member.iteration > 0)
            .map(|(trial, member)| (*trial, member.value))
            .collect();
        ranked.sort_by(|(a, x), (b, y)| {
            self.mode.better(*y, *x).cmp(&self.mode.better(*x, *y)).then_with(|| a.cmp(b))
        });
        let share = (ranked.len() as f64 * self.config.quantile).ceil() as usize;
        let share = share.min(ranked.len() / 2);
        let trials = |part: &[(TrialId, f64)]| part.iter().map(|(trial, _)| *trial).collect();
        (trials(&ranked[ranked.len() - share..]), trials(&ranked[..share]))
    }

    /// What a bad trial goes on as.
    fn change(&mut self, trial: TrialId, good: &[TrialId]) -> Option<Change> {
        let changes = self.members.get(&trial)?.changes;
        let mut rng = self.seed.child("trial", trial).child("change", changes).rng();
        let donor = good[rng.random_range(0..good.len())];
        let from = self.members.get(&donor)?;
        let start = Start { at: self.members.get(&trial)?.iteration, value: self.signed(from.value) };
        let mut assignment =
            explore::perturb(&self.space, &self.mutated, &from.assignment, &self.config, &mut rng);
        if let Some(bandit) = &mut self.bandit {
            let others = self.members.iter().filter(|(other, member)| **other != trial && member.untold);
            let tried: Vec<Assignment> = others.map(|(_, member)| member.assignment.clone()).collect();
            let holds = |point: &Assignment| self.space.holds(point);
            assignment = bandit.pick(&assignment, start, &tried, holds, &mut rng).unwrap_or(assignment);
        }
        let member = self.members.get_mut(&trial)?;
        member.assignment = assignment.clone();
        member.changes += 1;
        member.start = Some(start);
        member.untold = true;
        Some(Change { donor, assignment })
    }

    fn signed(&self, value: f64) -> f64 {
        if self.mode == Mode::Max { value } else { -value }
    }

    /// The interval of a trial is over.
    fn learn(&mut self, trial: TrialId) {
        let Some(member) = self.members.get(&trial) else { return };
        let (iteration, value) = (member.iteration, self.signed(member.value));
        if let (Some(bandit), Some(start)) = (&mut self.bandit, member.start) {
            bandit.learn(&member.assignment, start, iteration, value);
        }
        if let Some(member) = self.members.get_mut(&trial) {
            member.start = Some(Start { at: iteration, value });
            member.untold = false;
        }
    }

    /// Looks at all that are paused.
    fn look_at_all(&mut self) {
        let (bad, good) = self.quantiles();
        let paused: Vec<TrialId> =
            self.members.iter().filter(|(_, member)| member.paused).map(|(trial, _)| *trial).collect();
        // In order of the trials, whoever was there first.
        for trial in &paused {
            self.learn(*trial);
        }
        // What is given away is what the good have now.
        for trial in paused {
            let change = if bad.contains(&trial) { self.change(trial, &good) } else { None };
            self.actions.push(Action::Resume { trial, change });
            if let Some(member) = self.members.get_mut(&trial) {
                member.paused = false;
            }
        }
    }
}

impl Scheduler for Pbt {
    fn on_start(&mut self, trial: TrialId, assignment: &Assignment) {
        let member = Member {
            assignment: assignment.clone(),
            value: f64::NAN,
            iteration: 0,
            looked: self.config.burn_in,
            paused: false,
            changes: 0,
            start: None,
            untold: false,
        };
        self.members.insert(trial, member);
    }

    fn on_report(&mut self, trial: TrialId, iteration: u64, value: f64) -> Decision {
        if let Some(max_t) = self.config.max_t.filter(|max_t| iteration >= *max_t) {
            return Decision::Stop(StopReason::Finished { iterations: max_t });
        }
        let signed = self.signed(value);
        let Some(member) = self.members.get_mut(&trial) else { return Decision::Continue };
        // An interrupted trial repeats itself: that was looked at before, and where it was to wait it is.
        if iteration <= member.iteration {
            let waits = member.paused && iteration == member.iteration;
            return if waits { Decision::Pause } else { Decision::Continue };
        }
        member.iteration = iteration;
        member.value = value;
        member.start = member.start.or(Some(Start { at: iteration, value: signed }));
        if iteration < member.looked.saturating_add(self.config.interval) {
            return Decision::Continue;
        }
        member.looked = iteration;
        if self.config.synchronous {
            member.paused = true;
            return Decision::Pause;
        }
        self.learn(trial);
        let (bad, good) = self.quantiles();
        match bad.contains(&trial).then(|| self.change(trial, &good)).flatten() {
            Some(change) => {
                self.actions.push(Action::Resume { trial, change: Some(change) });
                Decision::Pause
            }
            None => Decision::Continue,
        }
    }

    fn on_end(&mut self, trial: TrialId, _: Outcome) {
        self.members.remove(&trial);
    }

    fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn on_idle(&mut self) {
        self.look_at_all();
    }

    fn needs_checkpoints(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
