//! How an experiment that was cut off is taken up again: its past is lived through, thing by thing, and then it goes on.

use std::time::Duration;

use super::{Controller, Decision, Replay, StopReason, TrialState};
use crate::TrialId;

impl Controller {
    /// Lives through one thing of the past. Call [`resume`](Self::resume) after the last.
    pub fn replay(&mut self, past: Replay) -> Result<(), String> {
        match past {
            Replay::Started { trial, attempts, assignment } => {
                if trial != self.trials.len() as TrialId {
                    return Err(format!("trial {trial} follows trial {}", self.trials.len()));
                }
                self.searcher.replay(trial, &assignment);
                self.scheduler.on_start(trial, &assignment);
                self.trials.push(TrialState { attempts, ..TrialState::new(assignment) });
            }
            Replay::Reported { trial, iteration, value, values, seconds } => {
                let state = self.trials.get_mut(trial as usize).ok_or_else(|| format!("no trial {trial}"))?;
                state.iterations = iteration;
                state.furthest = state.furthest.max(iteration);
                state.value = value.or(state.value);
                state.last = values.clone();
                state.seconds = seconds;
                if let Some(value) = value {
                    match self.scheduler.on_report(trial, iteration, value) {
                        Decision::Continue => {}
                        Decision::Stop(reason) => state.stop = Some(reason),
                        Decision::Pause => self.hold(trial),
                    }
                }
                self.see(trial, iteration, value, &values, seconds);
                self.act(Duration::ZERO, false);
            }
            Replay::Ended { trial, end } => {
                let state = self.trials.get_mut(trial as usize).ok_or_else(|| format!("no trial {trial}"))?;
                state.status = end.status;
                state.value = end.value;
                state.iterations = end.iterations;
                state.seconds = end.seconds;
                state.stop = end.stop;
                state.cause = end.cause;
                self.release(trial);
                self.tell(trial);
                self.act(Duration::ZERO, false);
            }
            Replay::Changed { trial, origin } => {
                let state = self.trials.get_mut(trial as usize).ok_or_else(|| format!("no trial {trial}"))?;
                state.clone.origin = Some(origin);
            }
            Replay::Suggested { trial, path, domain, value } => {
                self.by_run.replay(trial, &path, &domain, &value).map_err(|error| error.to_string())?;
                let state = self.trials.get_mut(trial as usize).ok_or_else(|| format!("no trial {trial}"))?;
                state.assignment.push(path, value);
            }
            Replay::Exhausted => {
                self.scheduler.on_exhausted();
            }
            Replay::Idle => {
                self.scheduler.on_idle();
                self.act(Duration::ZERO, false);
                self.resume_unnamed(false);
            }
        }
        Ok(())
    }

    /// Ends the replay: `seq` is the last one stored. Trials cut off are queued to run again, in order; those already told to
    /// stop end now.
    pub fn resume(&mut self, seq: u64, now: Duration) {
        self.seq = seq;
        self.pin_origins();
        for trial in 0..self.trials.len() as TrialId {
            let behind = self.is_behind(trial);
            let state = &mut self.trials[trial as usize];
            match state.stop {
                _ if state.status.is_over() => {}
                _ if state.pause.waits => {
                    if behind && self.release(trial) {
                        self.requeued.push_back(trial);
                    }
                }
                // Its last report was judged; only the end was not stored.
                Some(reason) => {
                    self.settle(trial, reason);
                    self.close(trial, now);
                    self.act(now, true);
                }
                // The experiment had ended; only this trial had not been told.
                None if self.closing.is_some() && state.value.is_some() => {
                    let reason = self.closing.unwrap_or(StopReason::ExperimentPlateau);
                    self.settle(trial, reason);
                    self.close(trial, now);
                }
                None => self.requeued.push_back(trial),
            }
        }
    }
}
