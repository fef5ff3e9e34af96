//! The rules of an experiment: what runs next, what a report means, what an end means.
//!
//! A pure state machine: events come in as method calls with the time they happened at; what is to be stored comes out
//! as [`Record`]s. Threads, files and the clock are elsewhere, so every rule here is tested in microseconds.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use air_core::seed::Seed;

use crate::TrialId;
use crate::error::Cause;
use crate::schedule::{Action, Change, Decision, Scheduler, StopReason};
use crate::search::byrun::ByRun;
use crate::search::{Mode, Outcome, Searcher};
use crate::space::Assignment;
use crate::stop::{Seen, Stoppers, Verdict};
use crate::values::Values;

mod past;
mod pause;
mod record;
mod suggest;

pub use record::Status;
pub(crate) use record::{Begun, End, Launch, Next, Origin, Record, Replay};

/// What the experiment does about failures and time.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub metric: String,
    /// What else counts.
    pub also: Vec<String>,
    pub max_failures: u32,
    pub fail_fast: bool,
    pub time_budget: Option<Duration>,
}

/// All that is kept of a trial in memory.
#[derive(Debug, Clone)]
pub(crate) struct TrialState {
    pub assignment: Assignment,
    pub status: Status,
    pub attempts: u32,
    /// Iterations reported, by the trial's own count.
    pub iterations: u64,
    /// The most of them so far: an interrupted trial repeats some.
    furthest: u64,
    /// The metric, as last reported.
    pub value: Option<f64>,
    /// The last report.
    pub last: Values,
    pub stop: Option<StopReason>,
    pub cause: Option<Cause>,
    /// Seconds it ran, over all attempts.
    pub seconds: f64,
    started: Duration,
    /// How often it failed and was run again.
    retries: u32,
    pause: pause::Pause,
    clone: pause::Clone,
}

pub(crate) struct Controller {
    rules: Rules,
    searcher: Box<dyn Searcher>,
    scheduler: Box<dyn Scheduler>,
    stoppers: Stoppers,
    /// Who proposes values of parameters that trials name while they run.
    by_run: ByRun,
    trials: Vec<TrialState>,
    requeued: VecDeque<TrialId>,
    running: usize,
    exhausted: bool,
    /// Set once nothing new may start.
    closing: Option<StopReason>,
    seq: u64,
    outbox: Vec<Record>,
    /// Trials that wait for the scheduler, and whether any ever did.
    paused: usize,
    scheduler_pauses: bool,
    /// Checkpoints that clones are still to be made from, and of how many.
    pinned: BTreeMap<String, u32>,
}

impl Controller {
    pub fn new(rules: Rules, searcher: Box<dyn Searcher>, scheduler: Box<dyn Scheduler>) -> Self {
        Self {
            rules,
            searcher,
            scheduler,
            stoppers: Stoppers::default(),
            by_run: ByRun::new(Mode::Min, Seed::new(0)),
            trials: Vec::new(),
            requeued: VecDeque::new(),
            running: 0,
            exhausted: false,
            closing: None,
            seq: 0,
            outbox: Vec::new(),
            paused: 0,
            scheduler_pauses: false,
            pinned: BTreeMap::new(),
        }
    }

    /// Has these say when trials are complete.
    pub fn stoppers(mut self, stoppers: Stoppers) -> Self {
        self.stoppers = stoppers;
        self
    }

    /// Has trials name their own parameters.
    pub fn by_run(mut self, mode: Mode, seed: Seed) -> Self {
        self.by_run = ByRun::new(mode, seed);
        self
    }

    /// What a free slot is to do now.
    pub fn next(&mut self, now: Duration) -> Next {
        self.check_budget(now);
        if self.closing.is_some() {
            self.close_paused(now);
            return Next::Over;
        }
        if let Some(trial) = self.requeued.pop_front() {
            return self.launch(trial, now);
        }
        if !self.exhausted {
            let trial = self.trials.len() as TrialId;
            if let Some(assignment) = self.searcher.ask(trial) {
                self.scheduler.on_start(trial, &assignment);
                self.trials.push(TrialState::new(assignment));
                return self.launch(trial, now);
            }
            self.exhausted = true;
            if self.scheduler.on_exhausted() {
                let seq = self.tick();
                self.outbox.push(Record::Exhausted { seq });
            }
        }
        if self.running == 0 && self.paused > 0 {
            self.idle(now);
            if let Some(trial) = self.requeued.pop_front() {
                return self.launch(trial, now);
            }
        }
        // A running trial may yet fail and be tried again, be paused, or have others go on that are.
        let may_return = self.rules.max_failures > 0 || self.paused > 0 || self.scheduler_pauses;
        if self.running > 0 && may_return { Next::Wait } else { Next::Over }
    }

    fn launch(&mut self, trial: TrialId, now: Duration) -> Next {
        let seq = self.tick();
        let state = &mut self.trials[trial as usize];
        state.status = Status::Running;
        state.attempts += 1;
        state.started = now;
        self.running += 1;
        let (assignment, attempt) = (state.assignment.clone(), state.attempts);
        let (iteration, generation) = (state.iterations, state.clone.generation);
        let origin = state.clone.origin.clone();
        let resources = self.scheduler.resources(trial);
        self.outbox.push(Record::Started { seq, trial, attempt, assignment: assignment.clone(), at: now });
        Next::Run(Launch { trial, assignment, attempt, iteration, generation, origin, resources })
    }

    /// A running trial reported; returns why it must stop, if it must.
    pub fn report(
        &mut self,
        now: Duration,
        trial: TrialId,
        iteration: u64,
        values: Values,
    ) -> Option<StopReason> {
        self.check_budget(now);
        let seq = self.tick();
        let state = self.trials.get_mut(trial as usize).filter(|state| state.status == Status::Running)?;
        if state.stop.is_some() {
            // It was told before; what it reports past its end is not kept.
            return state.stop;
        }
        let value = values.get(&self.rules.metric);
        let seconds = state.seconds + now.saturating_sub(state.started).as_secs_f64();
        state.iterations = iteration;
        state.value = value.or(state.value);
        state.last = values.clone();
        let again = iteration <= state.furthest;
        state.furthest = state.furthest.max(iteration);
        if let Some(value) = value {
            match self.scheduler.on_report(trial, iteration, value) {
                Decision::Continue => {}
                Decision::Stop(reason) => state.stop = Some(reason),
                Decision::Pause => state.stop = Some(StopReason::Paused),
            }
        }
        if !again {
            self.see(trial, iteration, value, &values, seconds);
        }
        self.outbox.push(Record::Reported { seq, trial, iteration, value, values, seconds, at: now });
        let state = &mut self.trials[trial as usize];
        state.stop = state.stop.or(self.closing);
        let stop = state.stop;
        self.scheduler_pauses |= stop == Some(StopReason::Paused);
        self.act(now, true);
        stop
    }

    /// Shows a report to searcher and stoppers.
    fn see(&mut self, trial: TrialId, iteration: u64, value: Option<f64>, values: &Values, seconds: f64) {
        if let Some(value) = value {
            self.searcher.observe(trial, iteration, value);
        }
        let state = &mut self.trials[trial as usize];
        match self.stoppers.on_report(&Seen { trial, iteration, values, value, seconds }) {
            None | Some((Verdict::Continue, _)) => {}
            // A trial that was to make room has no need to go on any more.
            Some((Verdict::EndTrial, reason)) => match state.stop {
                None | Some(StopReason::Paused) => {
                    state.stop = Some(reason);
                    self.release(trial);
                }
                Some(_) => {}
            },
            Some((Verdict::EndExperiment, reason)) => self.closing = self.closing.or(Some(reason)),
        }
    }

    /// Why a running trial must stop, if it must: for trials that have nothing to report.
    pub fn must_stop(&mut self, now: Duration, trial: TrialId) -> Option<StopReason> {
        self.check_budget(now);
        let state = self.trials.get_mut(trial as usize)?;
        state.stop = state.stop.or(self.closing);
        state.stop
    }

    /// A running trial ended.
    pub fn ended(&mut self, now: Duration, trial: TrialId, result: Result<(), Cause>) {
        let Some(state) = self.trials.get_mut(trial as usize).filter(|state| state.status == Status::Running)
        else {
            return;
        };
        state.seconds += now.saturating_sub(state.started).as_secs_f64();
        self.running -= 1;
        if state.stop == Some(StopReason::Paused) {
            return self.paused(trial);
        }
        let metric = &self.rules.metric;
        // A trial that was told to stop may well end in an error; that is no failure.
        let (status, cause) = match (state.stop, result) {
            (None, Err(cause)) => (Status::Failed, Some(cause)),
            (Some(StopReason::TimeBudget), _) if state.value.is_none() => {
                (Status::Failed, Some(Cause::OutOfTime { metric: metric.clone() }))
            }
            (stop, _) if stop.is_none_or(StopReason::completes) => match state.value {
                None => {
                    let names: Vec<String> = state.last.iter().map(|(name, _)| format!("`{name}`")).collect();
                    let hint = (!names.is_empty()).then(|| format!("it reported {}", names.join(", ")));
                    (Status::Failed, Some(Cause::MissingMetric { metric: metric.clone(), hint }))
                }
                Some(value) if value.is_nan() => {
                    (Status::Failed, Some(Cause::NotANumber { metric: metric.clone() }))
                }
                Some(_) => match missing(&self.rules.also, &state.last) {
                    Some(cause) => (Status::Failed, Some(cause)),
                    None => (Status::Complete, None),
                },
            },
            (_, _) => (Status::Stopped, None),
        };
        if let (Status::Failed, Some(cause)) = (status, &cause) {
            if state.retries < self.rules.max_failures && self.closing.is_none() {
                state.status = Status::Waiting;
                state.stop = None;
                state.retries += 1;
                self.outbox.push(Record::Requeued { trial, cause: cause.clone() });
                self.requeued.push_back(trial);
                return;
            }
            if self.rules.fail_fast {
                self.closing = self.closing.or(Some(StopReason::FailFast));
            }
        }
        state.status = status;
        state.cause = cause;
        self.close(trial, now);
        self.act(now, true);
    }

    /// Files the end of a trial whose state says how it ended.
    fn close(&mut self, trial: TrialId, now: Duration) {
        let seq = self.tick();
        self.tell(trial);
        let state = &self.trials[trial as usize];
        let (end, attempts) = (state.end(), state.attempts);
        let (assignment, last) = (state.assignment.clone(), state.last.clone());
        self.outbox.push(Record::Ended { seq, trial, end, attempts, assignment, last, at: now });
    }

    fn tell(&mut self, trial: TrialId) {
        let state = &self.trials[trial as usize];
        let outcome = match (state.status, state.value.filter(|value| !value.is_nan())) {
            (Status::Complete, Some(value)) => Outcome::Complete(value),
            (Status::Stopped, Some(value)) => Outcome::Stopped(value),
            _ => Outcome::Failed,
        };
        let mut values = Vec::with_capacity(1 + self.rules.also.len());
        if let Outcome::Complete(value) | Outcome::Stopped(value) = outcome {
            values.push(value);
            values.extend(self.rules.also.iter().map(|name| state.last.get(name).unwrap_or(f64::NAN)));
        }
        self.scheduler.on_end(trial, outcome);
        self.stoppers.on_end(trial, outcome);
        self.searcher.tell_all(trial, outcome, &values);
        self.by_run.tell(trial, outcome);
    }

    /// Where a trial stands that was stopped after its last report.
    fn settle(&mut self, trial: TrialId, reason: StopReason) {
        let state = &mut self.trials[trial as usize];
        let finished = reason.completes();
        let usable = state.value.is_some_and(|value| !value.is_nan());
        state.stop = Some(reason);
        state.status = match (finished, usable) {
            (true, true) => Status::Complete,
            (true, false) => Status::Failed,
            (false, _) => Status::Stopped,
        };
        if state.status == Status::Failed {
            state.cause = Some(Cause::NotANumber { metric: self.rules.metric.clone() });
        } else if let Some(cause) = missing(&self.rules.also, &state.last).filter(|_| finished) {
            state.status = Status::Failed;
            state.cause = Some(cause);
        }
    }

    /// Stops everything: nothing starts, running trials stop at their next report.
    pub fn shut(&mut self, reason: StopReason) {
        self.closing = self.closing.or(Some(reason));
    }

    fn check_budget(&mut self, now: Duration) {
        if self.rules.time_budget.is_some_and(|budget| now >= budget) {
            self.shut(StopReason::TimeBudget);
        }
    }

    fn tick(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// What is to be stored since the last call.
    pub fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.outbox)
    }

    /// How many trials the search will have, where that is known.
    pub fn total(&self) -> Option<u64> {
        self.searcher.total()
    }

    /// All trials, at the end.
    pub fn take_trials(&mut self) -> Vec<TrialState> {
        std::mem::take(&mut self.trials)
    }

    #[cfg(test)]
    fn trials(&self) -> &[TrialState] {
        &self.trials
    }
}

/// What is wrong with a complete trial whose further objectives are these.
fn missing(also: &[String], last: &Values) -> Option<Cause> {
    also.iter().find_map(|name| match last.get(name) {
        None => Some(Cause::MissingMetric { metric: name.clone(), hint: None }),
        Some(value) if value.is_nan() => Some(Cause::NotANumber { metric: name.clone() }),
        Some(_) => None,
    })
}

impl TrialState {
    fn new(mut assignment: Assignment) -> Self {
        assignment.shrink_to_fit();
        Self {
            assignment,
            status: Status::Waiting,
            attempts: 0,
            iterations: 0,
            furthest: 0,
            value: None,
            last: Values::default(),
            stop: None,
            cause: None,
            seconds: 0.0,
            started: Duration::ZERO,
            retries: 0,
            pause: pause::Pause::default(),
            clone: pause::Clone::default(),
        }
    }

    pub fn end(&self) -> End {
        End {
            status: self.status,
            value: self.value,
            iterations: self.iterations,
            seconds: self.seconds,
            stop: self.stop,
            cause: self.cause.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
