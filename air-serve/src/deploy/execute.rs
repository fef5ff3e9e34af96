//! What replicas do: build a model, pull, answer. And what becomes of the requests of one that is lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use air_core::BoxError;
use parking_lot::MutexGuard;

use super::AnyModel;
use super::config::Execution;
use super::context;
use super::core::{Core, End, Job, Taken};
use super::courier;
use super::handle::Submitted;
use super::slot::Slot;
use crate::error::{CallError, Told, chain};
use crate::model::Model;

/// How long an inline caller waits for a slot before it queues instead: a few calls of a cheap model.
const SLOT_PATIENCE: Duration = Duration::from_micros(200);

/// What came of a call of the model.
enum Outcome<O> {
    Answers(Vec<O>),
    /// The model said no; it lives on.
    Failed(CallError),
    /// The model is not to be called again.
    Lost(CallError),
}

impl<I: Send + 'static, O: Send + 'static> Core<I, O> {
    /// Builds a replica's model, configures it and warms it up; from then on it gets requests.
    pub(crate) fn prepare(&self, slot: &Arc<Slot<I, O>>) -> Result<(), Arc<str>> {
        let (number, user_config) = self.user_config();
        let built = caught(|| {
            let mut model = (self.factory)()?;
            self.suits(&*model)?;
            if let Some(user_config) = &user_config {
                model.reconfigure(user_config).map_err(|error| format!("user_config: {}", chain(&error)))?;
            }
            if let Some(warm_up) = &self.warm_up {
                self.warm_up(slot, &mut model, warm_up())?;
            }
            Ok(model)
        });
        let mut place = slot.model.lock();
        let model = built?;
        if slot.is_given_up() {
            drop_model(model);
            return Err("nobody waits for it any more".into());
        }
        if let Some(held) = model.holds() {
            if let Some(metrics) = self.metrics.loads() {
                held.count_in(metrics);
            }
            let _ = slot.held.set(held);
        }
        *place = Some(model);
        slot.configured.store(number, Ordering::Release);
        self.enlist(slot);
        slot.set_ready();
        drop(place);
        (self.poke)();
        Ok(())
    }

    /// Whether the settings suit this kind of model.
    fn suits(&self, model: &dyn Model<In = I, Out = O>) -> Result<(), BoxError> {
        let is_async = model.beside().is_some();
        self.is_async.store(is_async, Ordering::Release);
        match (is_async, self.config.execution) {
            (true, Execution::Inline | Execution::Thread) => {
                Err("its model is async: leave execution at `auto`, or make it `async`".into())
            }
            (true, _) if self.config.batches() => {
                Err("its model is async, which takes requests one by one: leave max_batch_size at 1".into())
            }
            (false, Execution::Async) => {
                Err("execution is `async` and its model is not: use each_async, or an AsyncModel".into())
            }
            _ => Ok(()),
        }
    }

    /// Pulls and answers until the replica is to end or its model is lost.
    pub(crate) fn pull(self: &Arc<Self>, slot: &Arc<Slot<I, O>>) -> End {
        // When it had done its last batch.
        let mut last = Duration::ZERO;
        loop {
            match self.take(slot) {
                Taken::Batch { batch, late } => {
                    Self::too_late(late);
                    if !batch.is_empty() {
                        self.answer(slot, batch, &mut last);
                    }
                    if slot.ongoing().running() > 0 {
                        self.step(slot);
                    }
                }
                Taken::Reconfigure => self.reconfigure(slot),
                Taken::End(end) => return end,
            }
        }
    }

    /// Ends a replica's part in the deployment: it gets no more requests, and its model is dropped.
    pub(crate) fn leave(&self, slot: &Slot<I, O>, how: Result<(), Arc<str>>) {
        self.delist(slot);
        // Waits for the inline call under way, if there is one.
        if let Some(model) = slot.model.lock().take() {
            drop_model(model);
        }
        // None are left of one that ended as it should.
        let reason = how.clone().err().unwrap_or_else(|| "it ended".into());
        let error = CallError::GivenUp { replica: Arc::clone(&slot.name), reason };
        self.after_loss(slot.take_hand(), &error);
        slot.ongoing().fail(&error);
        slot.ongoing().note(0, false);
        slot.end(how);
        (self.poke)();
    }

    /// Answers the requests of a replica that does not return, and lets it have no more.
    pub(crate) fn give_up(&self, slot: &Slot<I, O>, reason: &Arc<str>) {
        slot.give_up();
        self.delist(slot);
        let error = CallError::GivenUp { replica: Arc::clone(&slot.name), reason: Arc::clone(reason) };
        self.after_loss(slot.take_hand(), &error);
        slot.ongoing().fail(&error);
        self.wake();
    }

    /// Gives a replica the user configuration there is now.
    pub(super) fn reconfigure(&self, slot: &Slot<I, O>) {
        let (number, value) = self.user_config();
        let mut place = slot.model.lock();
        let Some(model) = place.as_mut() else { return slot.lose("its model is gone".into()) };
        slot.work().begin(self.now(), 0);
        let done = match &value {
            Some(value) => caught(|| model.reconfigure(value)),
            // There was one and now there is none: only a fresh model knows what it is without.
            None => Err("its user_config was removed".into()),
        };
        slot.work().end(self.now());
        drop(place);
        if let Err(reason) = done {
            *slot.refusal.lock() = Some((number, Arc::clone(&reason)));
            slot.lose(format!("user_config: {reason}").into());
            if slot.ongoing().running() == 0 {
                self.delist(slot);
            } else {
                *slot.finishing_since.lock() = Some(self.now());
            }
        }
        slot.configured.store(number, Ordering::Release);
        (self.poke)();
    }

    /// Runs one request on the caller's thread, if a slot is free soon; gives the input back otherwise.
    pub(super) fn answer_inline(
        self: &Arc<Self>,
        input: I,
        limit: Duration,
        priority: u8,
        fitted: bool,
    ) -> Result<Submitted<O>, I> {
        thread_local! {
            static PREFERRED: usize = {
                static NEXT: AtomicUsize = AtomicUsize::new(0);
                NEXT.fetch_add(1, Ordering::Relaxed)
            };
        }
        let slots = self.slots.load();
        if slots.is_empty() {
            return Err(input);
        }
        let first = PREFERRED.with(|preferred| *preferred) % slots.len();
        let in_turn = slots[first..].iter().chain(&slots[..first]);
        let mut free = in_turn.filter_map(|slot| slot.model.try_lock().map(|guard| (slot, guard)));
        let free = free.find(|(_, guard)| guard.is_some());
        let found = free.or_else(|| {
            let slot = &slots[first];
            slot.model.try_lock_for(SLOT_PATIENCE).filter(|guard| guard.is_some()).map(|guard| (slot, guard))
        });
        let Some((slot, guard)) = found else { return Err(input) };
        let copy = self.spare.as_ref().map(|spare| spare(&input));
        let aside = courier::aside();
        let above = context::trace();
        let traced = above.as_ref().map(|trace| trace.execute(&self.name, &slot.name, 1));
        if let Some(traced) = &traced {
            context::set_trace(Some(traced.trace().clone()));
        }
        let outcome = self.call(slot, guard, vec![input], Some((limit, priority)));
        if let Some(traced) = traced {
            context::set_trace(above);
            if let Outcome::Failed(error) | Outcome::Lost(error) = &outcome {
                traced.fail(error);
            }
        }
        drop(aside);
        match outcome {
            Outcome::Answers(mut answers) => match answers.pop() {
                Some(answer) => Ok(Submitted::Done(Ok(answer))),
                None => Ok(Submitted::Done(Err(wrong_batch(slot, 1, 0)))),
            },
            Outcome::Lost(_) if copy.is_some() => {
                let (reply, receiver) = courier::channel();
                let since = self.now();
                let deadline = since.saturating_add(limit);
                let along = context::along(None);
                let job = Job {
                    input: copy,
                    since,
                    foretold: None,
                    deadline,
                    size: 1,
                    again: true,
                    priority,
                    fitted,
                    along,
                    traced: None,
                    reply,
                };
                self.after_loss_try(vec![job]);
                Ok(self.waiting(receiver, None, limit, None))
            }
            Outcome::Failed(error) | Outcome::Lost(error) => Ok(Submitted::Done(Err(error))),
        }
    }

    /// Runs a batch on this replica's own thread.
    fn answer(self: &Arc<Self>, slot: &Arc<Slot<I, O>>, batch: Vec<Job<I, O>>, last: &mut Duration) {
        let guard = slot.model.lock();
        if guard.is_none() {
            // An inline call lost the model since this batch was dispatched: it has not run, so another replica may have it.
            return self.try_again(batch);
        }
        let now = self.now();
        // One that waited when the last batch was done waited for what lies between the two as well.
        let waited = batch.first().is_some_and(|job| job.since < *last);
        let since = if waited { *last } else { now };
        let mut inputs = Vec::with_capacity(batch.len());
        let mut hand = Vec::with_capacity(batch.len());
        for mut job in batch {
            // One that was moved here keeps no ticket, so that its caller's going shows only here.
            let Some(input) = job.input.take().filter(|_| !job.reply.is_closed()) else {
                self.metrics.cancelled();
                continue;
            };
            self.metrics.waited(now.saturating_sub(job.since));
            if !job.again {
                job.input = self.spare.as_ref().map(|spare| spare(&input));
            }
            inputs.push(input);
            hand.push(job);
        }
        let size = hand.len();
        if size == 0 {
            return;
        }
        for job in &mut hand {
            job.trace(&self.name, &slot.name, size, now);
        }
        *slot.hand.lock() = hand;
        let outcome = self.call(slot, guard, inputs, None);
        // Empty if it was given up meanwhile: then they have been answered.
        let hand = std::mem::take(&mut *slot.hand.lock());
        let answered = self.now();
        let slip = hand.iter().map(|job| job.slip(answered)).max().unwrap_or_default();
        match outcome {
            // A caller that went away while the model ran is no error.
            Outcome::Answers(answers) => {
                let answered = hand.into_iter().zip(answers).map(|(mut job, answer)| {
                    self.admit(slot, &mut job, &answer);
                    (job.reply, Ok(answer))
                });
                courier::send_all(answered.collect());
            }
            Outcome::Failed(error) => {
                for job in hand {
                    job.fail(&error);
                }
            }
            Outcome::Lost(error) => self.after_loss(hand, &error),
        }
        let end = self.now();
        *last = end;
        let mut queue = self.queue.lock();
        queue.drain.record(end, size);
        // Those that wait for one that steps wait for others to end, not for batches.
        if !self.steps() {
            queue.pace.observe(end.saturating_sub(since));
            queue.pace.slipped(slip);
        }
    }

    /// What becomes of the requests that a lost replica had in hand: those that may run twice are tried again, the others are told.
    fn after_loss(&self, hand: Vec<Job<I, O>>, error: &CallError) {
        let (mut again, told): (Vec<_>, Vec<_>) = hand.into_iter().partition(|job| job.input.is_some());
        for job in told {
            job.fail(error);
        }
        for job in &mut again {
            job.again = true;
            if let Some(traced) = job.traced.take() {
                traced.fail(error);
            }
        }
        self.after_loss_try(again);
    }

    fn after_loss_try(&self, jobs: Vec<Job<I, O>>) {
        if !jobs.is_empty() {
            self.metrics.retried(jobs.len());
            self.try_again(jobs);
        }
    }

    /// Calls the model; inline on behalf of a request of this limit and priority. It gives as many answers as there are inputs, or none.
    fn call(
        &self,
        slot: &Slot<I, O>,
        mut guard: MutexGuard<'_, Option<AnyModel<I, O>>>,
        inputs: Vec<I>,
        inline: Option<(Duration, u8)>,
    ) -> Outcome<O> {
        let size = inputs.len();
        let replica = || Arc::clone(&slot.name);
        let Some(model) = guard.as_mut() else {
            let reason = "it has no model".into();
            return Outcome::Lost(CallError::GivenUp { replica: replica(), reason });
        };
        let start = self.now();
        slot.work().begin(start, size);
        let predict = || catch_unwind(AssertUnwindSafe(|| (model.predict(inputs), model.running())));
        let outcome = match inline {
            None => predict(),
            Some((limit, priority)) => {
                context::inline(&self.name, start.saturating_add(limit), priority, predict)
            }
        };
        let end = self.now();
        slot.work().end(end);
        let took = end.saturating_sub(start);
        self.metrics.executed(size, took);
        if let Ok((_, running)) = &outcome {
            self.note_running(slot, *running, false);
        }
        let (reason, error): (Arc<str>, CallError) = match outcome.map(|(answers, _)| answers) {
            Ok(Ok(answers)) if answers.len() == size => {
                if self.config.execution == Execution::Auto && !self.config.batches() && !self.steps() {
                    let inline = self.chooser.lock().observe(took);
                    self.inline.store(inline, Ordering::Relaxed);
                }
                return Outcome::Answers(answers);
            }
            Ok(Err(error)) => return Outcome::Failed(failed(&slot.name, &error)),
            Ok(Ok(answers)) => {
                let error = wrong_batch(slot, size, answers.len());
                (format!("gave {} answers to a batch of {size}", answers.len()).into(), error)
            }
            Err(payload) => self.panicked(slot, &*payload),
        };
        self.lose_model(slot, guard, reason, &error);
        Outcome::Lost(error)
    }

    /// Why a model is lost that panicked, and what callers are told.
    pub(super) fn panicked(
        &self,
        slot: &Slot<I, O>,
        payload: &(dyn std::any::Any + Send),
    ) -> (Arc<str>, CallError) {
        self.metrics.panicked();
        let text = panic_text(payload);
        let reason = format!("panicked: {text}").into();
        (reason, CallError::Panicked { replica: Arc::clone(&slot.name), reason: text.into() })
    }

    /// Drops a model that is not to be called again; its streams end with this error.
    pub(super) fn lose_model(
        &self,
        slot: &Slot<I, O>,
        mut guard: MutexGuard<'_, Option<AnyModel<I, O>>>,
        reason: Arc<str>,
        error: &CallError,
    ) {
        slot.ongoing().fail(error);
        slot.ongoing().note(0, false);
        // What a panic left behind is not reused, nor a model that cannot count.
        if let Some(broken) = guard.take() {
            drop_model(broken);
        }
        tracing::error!(replica = %slot.name, %reason, "the model is lost; the replica is replaced");
        slot.lose(reason);
        drop(guard);
        self.delist(slot);
        self.wake();
    }
}

/// The error of a model. That a call it made was refused or came too late is told as what it is.
pub(super) fn failed(replica: &Arc<str>, error: &BoxError) -> CallError {
    if let Some(Told(error)) = error.downcast_ref() {
        return error.clone();
    }
    match error.downcast_ref::<CallError>() {
        Some(of_its_call) if of_its_call.status() > 500 => of_its_call.clone(),
        _ => CallError::Failed { replica: Arc::clone(replica), reason: chain(error) },
    }
}

fn wrong_batch<I, O>(slot: &Slot<I, O>, expected: usize, got: usize) -> CallError {
    CallError::WrongBatch { replica: Arc::clone(&slot.name), expected, got }
}

/// Runs a user's code; its error or panic comes back as text.
fn caught<T>(run: impl FnOnce() -> Result<T, BoxError>) -> Result<T, Arc<str>> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => done.map_err(|error| chain(&error)),
        Err(payload) => Err(format!("it panicked: {}", panic_text(&*payload)).into()),
    }
}

/// Drops a model; one that is broken may panic again.
fn drop_model<I, O>(model: AnyModel<I, O>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(model)));
}

/// What a panic's payload says.
pub(crate) fn panic_text(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message")
        .to_owned()
}
