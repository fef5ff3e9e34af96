//! What goes in and out of the controller: where trials stand, what to run, what to store.

use std::time::Duration;

use air_core::resource::Resources;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::TrialId;
use crate::error::Cause;
use crate::schedule::StopReason;
use crate::space::{Assignment, Domain};
use crate::values::Values;

/// Where a trial stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Status {
    /// It waits to run, for the first time or again.
    Waiting,
    /// It runs now.
    Running,
    /// It ran to its end.
    Complete,
    /// It was stopped early.
    Stopped,
    /// It failed.
    Failed,
}

impl Status {
    /// The status as one lowercase word.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Waiting => "waiting",
            Status::Running => "running",
            Status::Complete => "complete",
            Status::Stopped => "stopped",
            Status::Failed => "failed",
        }
    }

    /// Whether nothing will change any more.
    pub fn is_over(self) -> bool {
        matches!(self, Status::Complete | Status::Stopped | Status::Failed)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What a slot is to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Next {
    /// Run this trial.
    Run(Launch),
    /// Nothing can start until something else ends.
    Wait,
    /// Nothing will start any more.
    Over,
}

/// A trial to run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Launch {
    pub trial: TrialId,
    pub assignment: Assignment,
    /// 1 for the first.
    pub attempt: u32,
    /// How many iterations the trial has behind it.
    pub iteration: u64,
    /// How often the trial was made a clone: each generation has a folder of checkpoints of its own.
    pub generation: u32,
    /// What the generation starts from, until it has been copied.
    pub origin: Option<Origin>,
    /// What it has of the machine, if that is dealt out.
    pub resources: Option<Resources>,
}

/// The checkpoint that a clone starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Origin {
    /// Who the trial goes on as.
    pub donor: TrialId,
    /// Whose checkpoint it is, and of which generation: the donor's, unless that is a clone that has not copied its own yet.
    pub source: (TrialId, u32),
    /// Where it is, within the experiment's folder; the newest of its source, if that is not known.
    pub checkpoint: Option<String>,
    /// How many iterations the donor had behind it.
    pub donor_iterations: u64,
}

/// A generation of a trial's checkpoints that there is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Begun {
    /// The newest one's place within the experiment's folder, and how many iterations the trial had behind it.
    pub saved: Option<(String, u64)>,
}

/// Something to be stored, in order. `seq` orders everything a searcher or scheduler has seen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    Started {
        seq: u64,
        trial: TrialId,
        attempt: u32,
        assignment: Assignment,
        at: Duration,
    },
    Reported {
        seq: u64,
        trial: TrialId,
        iteration: u64,
        value: Option<f64>,
        values: Values,
        seconds: f64,
        at: Duration,
    },
    Requeued {
        trial: TrialId,
        cause: Cause,
    },
    /// It waits until the scheduler says so.
    Paused {
        trial: TrialId,
    },
    /// It goes on as a clone.
    Changed {
        seq: u64,
        trial: TrialId,
        iteration: u64,
        origin: Origin,
        assignment: Assignment,
    },
    /// It named a parameter, and this is its value.
    Suggested {
        seq: u64,
        trial: TrialId,
        path: String,
        domain: Domain,
        value: Value,
    },
    /// The scheduler was told that nothing runs.
    Idle {
        seq: u64,
    },
    /// The scheduler was told that no new trial will start, and heeds it.
    Exhausted {
        seq: u64,
    },
    Ended {
        seq: u64,
        trial: TrialId,
        end: End,
        attempts: u32,
        assignment: Assignment,
        last: Values,
        at: Duration,
    },
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    pub status: Status,
    pub value: Option<f64>,
    pub iterations: u64,
    pub seconds: f64,
    pub stop: Option<StopReason>,
    pub cause: Option<Cause>,
}

/// One thing of the past, in the order it happened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Replay {
    Started {
        trial: TrialId,
        attempts: u32,
        assignment: Assignment,
    },
    Reported {
        trial: TrialId,
        iteration: u64,
        value: Option<f64>,
        values: Values,
        seconds: f64,
    },
    Ended {
        trial: TrialId,
        end: End,
    },
    /// What the scheduler said of a trial just before: this is where its checkpoint was.
    Changed {
        trial: TrialId,
        origin: Origin,
    },
    /// What a trial named.
    Suggested {
        trial: TrialId,
        path: String,
        domain: Domain,
        value: Value,
    },
    Idle,
    Exhausted,
}
