//! The configurations that a trial of a population went through, run again as one trial.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Action, Change, Decision, Scheduler};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::search::Outcome;
use crate::space::{Assignment, Space};

/// Most segments of one policy.
const MAX_SEGMENTS: usize = 100_000;

/// A schedule of configurations; [`ResultGrid::policy`](crate::ResultGrid::policy) gives that of a trial, over all the trials it was cloned from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Policy {
    /// One after another.
    pub segments: Vec<Segment>,
}

/// A configuration and for how long it is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segment {
    /// Iterations.
    pub iterations: u64,
    /// What the trial is given.
    pub assignment: Assignment,
}

impl Policy {
    /// Checks every segment.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] if there is none, one has no iterations, or there are over 100 000.
    pub fn validate(&self) -> Result<()> {
        if !(1..=MAX_SEGMENTS).contains(&self.segments.len()) {
            return Err(TuneError::config("policy", format!("must have 1 to {MAX_SEGMENTS} segments")));
        }
        if self.segments.iter().any(|segment| segment.iterations == 0) {
            return Err(TuneError::config("policy", "a segment must have at least 1 iteration"));
        }
        Ok(())
    }

    /// What a trial that follows the policy starts with, as a space that holds nothing else.
    pub fn space(&self) -> Space {
        let first = self.segments.first().map(|segment| &segment.assignment);
        first
            .into_iter()
            .flat_map(Assignment::iter)
            .fold(Space::new(), |space, (path, value)| space.with(path, value.clone()))
    }
}

/// Gives every trial the configurations of a [`Policy`], one after another, each time from the trial's own checkpoint.
#[derive(Debug)]
pub struct PolicyReplay {
    policy: Policy,
    /// The segment each trial is in, and the last iteration it was heard of.
    trials: BTreeMap<TrialId, (usize, u64)>,
    actions: Vec<Action>,
}

impl PolicyReplay {
    /// Follows `policy`.
    ///
    /// # Errors
    /// As [`Policy::validate`].
    pub fn new(policy: Policy) -> Result<Self> {
        policy.validate()?;
        Ok(Self { policy, trials: BTreeMap::new(), actions: Vec::new() })
    }
}

impl Scheduler for PolicyReplay {
    fn on_report(&mut self, trial: TrialId, iteration: u64, _: f64) -> Decision {
        let (segment, last) = self.trials.entry(trial).or_default();
        if iteration <= *last {
            return Decision::Continue;
        }
        *last = iteration;
        // Where the segment ends that the iteration lies in.
        let mut end = 0_u64;
        let reached = self
            .policy
            .segments
            .iter()
            .take_while(|segment| {
                end = end.saturating_add(segment.iterations);
                end <= iteration
            })
            .count()
            .min(self.policy.segments.len() - 1);
        if reached <= *segment {
            return Decision::Continue;
        }
        *segment = reached;
        let assignment = self.policy.segments[reached].assignment.clone();
        self.actions.push(Action::Resume { trial, change: Some(Change { donor: trial, assignment }) });
        Decision::Pause
    }

    fn on_end(&mut self, trial: TrialId, _: Outcome) {
        self.trials.remove(&trial);
    }

    fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    fn needs_checkpoints(&self) -> bool {
        true
    }
}
