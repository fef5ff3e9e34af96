//! Trials that make room for others, and go on later: as themselves, or as clones of others.

use std::time::Duration;

use super::{Action, Begun, Change, Controller, Origin, Record, Status, StopReason};
use crate::TrialId;

/// How a trial stands to the scheduler.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pause {
    /// It waits to be named.
    pub waits: bool,
    /// It was named while its code had not returned yet.
    pub named: bool,
}

/// What a trial was made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Clone {
    /// How often it was made a clone.
    pub generation: u32,
    /// What the present generation starts from, until it has been copied.
    pub origin: Option<Origin>,
    /// Its newest checkpoint, within the experiment's folder, and how many iterations the trial had behind it then.
    pub saved: Option<(String, u64)>,
}

impl Controller {
    /// A running trial that was told to make room has returned.
    pub(super) fn paused(&mut self, trial: TrialId) {
        let state = &mut self.trials[trial as usize];
        state.stop = None;
        state.status = Status::Waiting;
        self.outbox.push(Record::Paused { trial });
        if std::mem::take(&mut state.pause.named) {
            self.requeued.push_back(trial);
        } else {
            self.hold(trial);
        }
    }

    /// The trial waits for the scheduler.
    pub(super) fn hold(&mut self, trial: TrialId) {
        self.scheduler_pauses = true;
        let pause = &mut self.trials[trial as usize].pause;
        if !pause.waits {
            pause.waits = true;
            self.paused += 1;
        }
    }

    /// The trial waits no longer; returns whether it did.
    pub(super) fn release(&mut self, trial: TrialId) -> bool {
        let waited = std::mem::take(&mut self.trials[trial as usize].pause.waits);
        self.paused -= usize::from(waited);
        waited
    }

    /// Does what the scheduler says of paused trials. While the past is lived through again (`live` is false) nothing runs and nothing is filed.
    pub(super) fn act(&mut self, now: Duration, live: bool) {
        loop {
            let actions = self.scheduler.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                let (Action::Resume { trial, .. } | Action::Stop { trial, .. }) = &action;
                let trial = *trial;
                match self.trials.get(trial as usize) {
                    Some(state) if !state.status.is_over() => {}
                    _ => continue,
                }
                match action {
                    Action::Resume { change, .. } => {
                        if let Some(change) = change {
                            self.change(trial, change, live);
                        }
                        if self.release(trial) {
                            if live {
                                self.requeued.push_back(trial);
                            }
                        } else {
                            self.trials[trial as usize].pause.named = live;
                        }
                    }
                    Action::Stop { reason, .. } => {
                        let waited = self.release(trial);
                        self.trials[trial as usize].stop = Some(reason);
                        if live && waited {
                            self.settle(trial, reason);
                            self.close(trial, now);
                        }
                    }
                }
            }
        }
    }

    /// Nothing runs and nothing new starts: the scheduler must name someone, or all that wait go on.
    pub(super) fn idle(&mut self, now: Duration) {
        let seq = self.tick();
        self.outbox.push(Record::Idle { seq });
        self.scheduler.on_idle();
        self.act(now, true);
        self.resume_unnamed(true);
    }

    pub(super) fn resume_unnamed(&mut self, live: bool) {
        let over =
            |state: &super::TrialState| state.status.is_over() || state.pause.waits || state.stop.is_some();
        if self.paused == 0 || !self.requeued.is_empty() || (!live && !self.trials.iter().all(over)) {
            return;
        }
        for trial in 0..self.trials.len() as TrialId {
            if self.release(trial) && live {
                self.requeued.push_back(trial);
            }
        }
    }

    /// Ends those that wait when the experiment's time is over; after a failure they stay, to go on when it is resumed.
    pub(super) fn close_paused(&mut self, now: Duration) {
        let over = |reason: &StopReason| {
            matches!(reason, StopReason::TimeBudget | StopReason::ExperimentPlateau | StopReason::Stopper)
        };
        let Some(reason) = self.closing.filter(over) else { return };
        if self.paused == 0 || self.running > 0 {
            return;
        }
        for trial in 0..self.trials.len() as TrialId {
            if self.release(trial) {
                self.settle(trial, reason);
                self.close(trial, now);
            }
        }
    }

    fn change(&mut self, trial: TrialId, change: Change, live: bool) {
        let donor = self.trials.get(change.donor as usize);
        let reported = donor.map_or(0, |donor| donor.iterations);
        let (source, checkpoint, donor_iterations) = match donor.map(|donor| &donor.clone) {
            Some(Clone { saved: None, origin: Some(origin), .. }) => {
                (origin.source, origin.checkpoint.clone(), reported)
            }
            // A trial that goes on from its own checkpoint may save one more before it returns.
            Some(clone) if change.donor == trial => ((trial, clone.generation), None, reported),
            Some(Clone { saved: Some((place, at)), generation, .. }) => {
                ((change.donor, *generation), Some(place.clone()), *at)
            }
            Some(clone) => ((change.donor, clone.generation), None, reported),
            None => ((change.donor, 0), None, reported),
        };
        let origin = Origin { donor: change.donor, source, checkpoint, donor_iterations };
        let state = &mut self.trials[trial as usize];
        state.assignment = change.assignment;
        state.clone.generation += 1;
        // What it had saved is not what it goes on from.
        state.clone.saved = None;
        let before = state.clone.origin.replace(origin.clone());
        if live {
            self.unpin(before);
            let state = &self.trials[trial as usize];
            let (iteration, assignment) = (state.iterations, state.assignment.clone());
            self.pin(origin.checkpoint.as_ref());
            let seq = self.tick();
            self.outbox.push(Record::Changed { seq, trial, iteration, origin, assignment });
        }
    }

    fn pin(&mut self, checkpoint: Option<&String>) {
        if let Some(checkpoint) = checkpoint {
            *self.pinned.entry(checkpoint.clone()).or_default() += 1;
        }
    }

    /// After the replay: what the present generation of each trial that is not over has saved. `look` tells it, where the generation has begun.
    pub fn find_saved<E>(
        &mut self,
        mut look: impl FnMut(TrialId, u32) -> Result<Option<Begun>, E>,
    ) -> Result<(), E> {
        for (trial, state) in self.trials.iter_mut().enumerate() {
            if !state.status.is_over()
                && let Some(begun) = look(trial as TrialId, state.clone.generation)?
            {
                // A clone that has begun has copied what it started from.
                (state.clone.saved, state.clone.origin) = (begun.saved, None);
            }
        }
        Ok(())
    }

    /// Whether a trial was cut off between its last report and the checkpoint after it. Others may be made clones of it: it runs up to there once more.
    pub(super) fn is_behind(&self, trial: TrialId) -> bool {
        let state = &self.trials[trial as usize];
        state.clone.saved.as_ref().is_some_and(|(_, at)| *at < state.iterations)
    }

    /// Pins what clones are to be made from that an interruption came before.
    pub(super) fn pin_origins(&mut self) {
        let origins: Vec<Option<String>> = self
            .trials
            .iter()
            .filter(|state| !state.status.is_over())
            .filter_map(|state| state.clone.origin.as_ref().map(|origin| origin.checkpoint.clone()))
            .collect();
        for checkpoint in &origins {
            self.pin(checkpoint.as_ref());
        }
    }

    /// The trial saved a checkpoint, with so many iterations behind it.
    pub fn saved(&mut self, trial: TrialId, checkpoint: String, iteration: u64) {
        if let Some(state) = self.trials.get_mut(trial as usize) {
            state.clone.saved = Some((checkpoint, iteration));
        }
    }

    /// The trial has copied what it starts from, if there was anything, to this place.
    pub fn copied(&mut self, trial: TrialId, place: Option<String>) {
        let Some(state) = self.trials.get_mut(trial as usize) else { return };
        state.clone.saved = place.map(|place| (place, state.iterations));
        let origin = state.clone.origin.take();
        self.unpin(origin);
    }

    fn unpin(&mut self, origin: Option<Origin>) {
        let Some(checkpoint) = origin.and_then(|origin| origin.checkpoint) else { return };
        if let Some(count) = self.pinned.get_mut(&checkpoint) {
            *count -= 1;
            if *count == 0 {
                self.pinned.remove(&checkpoint);
            }
        }
    }

    /// Whether a clone is still to be made from something at or below this place.
    pub fn is_pinned(&self, place: &str) -> bool {
        self.pinned.keys().any(|pinned| {
            pinned.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// Whether a slot that waits would find something to do.
    pub fn has_work(&self) -> bool {
        !self.requeued.is_empty()
    }
}
