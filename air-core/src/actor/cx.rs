//! What a worker can do while it handles a message.

use std::any::TypeId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::call::{Ran, Run};
use super::exit::Exit;
use super::flight::Flights;
use super::how::Takes;
use super::mailbox::Mailbox;
use super::message::{Handle, Message, Worker};
use super::shared::{Envelope, Shared};
use super::spec::Spec;
use super::timer::{Timer, Timers, next_due};
use super::watch::{Ended, Link, Notice, WatchId};
use crate::BoxError;
use crate::clock::Clock;
use crate::device::{Device, DeviceError, Stream};

/// A worker's view of itself; handed to each of its handlers.
pub struct Cx<W: Worker> {
    shared: Arc<Shared<W>>,
    generation: u64,
    deadline: Option<Duration>,
    exit: Option<Exit>,
    timers: Timers,
    streams: Vec<Arc<Stream>>,
    pub(super) flights: Flights<W>,
}

impl<W: Worker> Cx<W> {
    pub(super) fn new(shared: Arc<Shared<W>>, generation: u64) -> Self {
        let flights = Flights::new(&shared.spec);
        let (timers, streams) = (Timers::default(), Vec::new());
        Self { shared, generation, deadline: None, exit: None, timers, streams, flights }
    }

    /// The worker's name.
    pub fn name(&self) -> &str {
        &self.shared.spec.name
    }

    /// Which life this is; the first is 1.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The GPUs this worker was given, the same in all its lives: as many as its [`Spec`](super::Spec) asks for. It uses no others.
    pub fn devices(&self) -> &[Device] {
        self.shared.devices.get().map_or(&[], Vec::as_slice)
    }

    /// This life's own [`Stream`] on the first of its GPUs, opened on its thread when first asked for.
    ///
    /// An error of it that leaves a handler ends the life as [`Exit::DeviceLost`] where the device is lost. The next life's stream begins
    /// anew; whether it works is up to the driver.
    pub fn stream(&mut self) -> Result<Arc<Stream>, DeviceError> {
        let none = || DeviceError::NotGiven { device: None, given: Vec::new() };
        self.stream_on(*self.devices().first().ok_or_else(none)?)
    }

    /// As [`stream`](Self::stream), on one of several GPUs.
    pub fn stream_on(&mut self, device: Device) -> Result<Arc<Stream>, DeviceError> {
        if !self.devices().contains(&device) {
            return Err(DeviceError::NotGiven { device: Some(device), given: self.devices().to_vec() });
        }
        if let Some(stream) = self.streams.iter().find(|stream| stream.device() == device) {
            return Ok(Arc::clone(stream));
        }
        let stream = Arc::new(Stream::new(device)?);
        self.streams.push(Arc::clone(&stream));
        Ok(stream)
    }

    /// Time on the runtime's clock.
    pub fn now(&self) -> Duration {
        self.shared.core.clock.now()
    }

    /// The runtime's clock.
    pub fn clock(&self) -> &Clock {
        &self.shared.core.clock
    }

    /// By when the present message's sender wants its answer, on the runtime's clock.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// The worker's own mailbox. Asking oneself and waiting for the answer would wait for ever.
    pub fn mailbox(&self) -> Mailbox<W> {
        Mailbox::new(Arc::clone(&self.shared))
    }

    /// Sends the worker a message after a delay. If the worker has ended by then, it becomes a dead letter.
    pub fn tell_after<M: Message, How: 'static>(&self, delay: Duration, message: M)
    where
        W: Takes<M, How>,
    {
        let mailbox = self.mailbox();
        let pause = self.clock().sleep(delay);
        actix::spawn(async move {
            pause.await;
            if let Err(error) = mailbox.tell(message).await {
                mailbox.dead_letter::<M>(error.reason);
            }
        });
    }

    /// Sends the worker a message every `period`, the first one after one period, for as long as this life lasts or until the timer
    /// returned is stopped.
    ///
    /// The times are multiples of the period from now on. A message that finds no room waits for it; the times that pass meanwhile are
    /// left out, not made up for. A period below a microsecond counts as one.
    pub fn tell_every<M: Message, How: 'static>(
        &mut self,
        period: Duration,
        mut message: impl FnMut() -> M + 'static,
    ) -> Timer
    where
        W: Takes<M, How>,
    {
        let period = period.max(Duration::from_micros(1));
        let (mailbox, clock) = (self.mailbox(), self.clock().clone());
        self.timers.add(async move {
            let mut due = clock.now();
            loop {
                due = next_due(due, period, clock.now());
                clock.sleep_until(due).await;
                if mailbox.tell(message()).await.is_err() {
                    return;
                }
            }
        })
    }

    /// Has this life told as an [`Ended`] message when a life of the other worker ends, and why; also at once if it has ended for good.
    ///
    /// It lasts until the other has ended for good ([`Ended::last`]) or this life ends; a fresh life watches anew, in
    /// [`Worker::started`] say. Notices come before other messages and need no room in the mailbox. If further lives end before a
    /// notice is handled, it tells of the latest.
    pub fn watch<V: Worker>(&self, other: &Mailbox<V>)
    where
        W: Handle<Ended>,
    {
        let watchers = &other.shared.watchers;
        if !watchers.has(WatchId::new(&self.shared, self.generation)) {
            watchers.add(Arc::new(Notice::new(&self.shared, self.generation)));
        }
    }

    /// Ends a [`watch`](Self::watch).
    pub fn unwatch<V: Worker>(&self, other: &Mailbox<V>) {
        other.shared.watchers.remove(WatchId::new(&self.shared, self.generation));
    }

    /// Lets this life and the other worker's present one end together: when either ends, for whatever reason, the other ends after its
    /// current message as [`Exit::Linked`]. Each is then treated by its own supervisor, for which such an end is the failure, or the
    /// orderly end, that the first one was. A fresh life links anew.
    pub fn link<V: Worker>(&self, other: &Mailbox<V>) {
        let broken = Arc::new(AtomicBool::new(false));
        other.shared.watchers.add(Arc::new(Link::new(&self.shared, &broken)));
        self.shared.watchers.add(Arc::new(Link::new(&other.shared, &broken)));
    }

    /// Ends the worker in order once this message is handled; what waits in the mailbox is not handled.
    pub fn stop(&mut self) {
        self.exit.get_or_insert(Exit::Normal);
    }

    /// Ends the worker as failed once this message is handled.
    pub fn fail(&mut self, error: impl Into<BoxError>) {
        self.exit = Some(Exit::of(error.into(), self.devices()));
    }

    /// Ends the worker because its device can no longer be trusted, which an error does not tell by itself.
    pub fn device_lost(&mut self, what: impl Into<Arc<str>>) {
        self.exit = Some(Exit::DeviceLost(what.into()));
    }

    /// Takes further messages that are `alike` out of the mailbox; they count as being handled.
    pub(super) fn take_alike(&self, most: usize, alike: TypeId) -> Vec<Envelope<W>> {
        self.shared.queue.take_alike(self.generation, most, |envelope| envelope.is(alike))
    }

    /// Keeps the present message in hand when its handler returns: it is in progress. Nothing if the life was left behind.
    pub(super) fn keep_in_hand(&self) -> Option<Envelope<W>> {
        let mut flying = self.shared.flying.lock();
        let envelope = self.shared.queue.in_hand(self.generation)?;
        flying.push((self.generation, Arc::clone(&envelope)));
        Some(envelope)
    }

    /// When what begins now began, if spans are kept.
    pub(super) fn begin_span(&self) -> Option<Duration> {
        self.shared.core.timeline.begin()
    }

    pub(super) fn spec(&self) -> &Spec {
        &self.shared.spec
    }

    /// Notes what came of a message.
    pub(super) fn book(&mut self, ran: Ran, envelope: &dyn Run<W>) {
        let handled = || self.shared.vitals.handled.fetch_add(1, Ordering::Relaxed);
        match ran {
            Ran::Skipped | Ran::Flying => {}
            Ran::Dead(reason) => self.shared.bury(envelope, reason),
            Ran::Done => {
                handled();
            }
            Ran::Late => {
                handled();
                self.shared.core.late_reply();
            }
            Ran::Left => {
                handled();
                self.shared.core.cancelled();
            }
            Ran::Unheard(error) => {
                handled();
                self.end_as(Exit::of(error, self.devices()));
            }
            Ran::Lost { error, late } => {
                handled();
                if late {
                    self.shared.core.late_reply();
                }
                if let Some(exit) = Exit::device_lost(&error, self.devices()) {
                    self.end_as(exit);
                }
            }
        }
    }

    /// Ends the worker, unless the handler has said more precisely what is wrong.
    fn end_as(&mut self, exit: Exit) {
        if !self.exit.as_ref().is_some_and(Exit::is_failure) {
            self.exit = Some(exit);
        }
    }

    /// Ends what goes on beside the handlers.
    pub(super) fn end(&mut self) {
        self.timers = Timers::default();
        self.streams = Vec::new();
        self.flights = Flights::new(&self.shared.spec);
    }

    pub(super) fn set_deadline(&mut self, deadline: Option<Duration>) {
        self.deadline = deadline;
    }

    pub(super) fn take_exit(&mut self) -> Option<Exit> {
        self.exit.take()
    }
}
