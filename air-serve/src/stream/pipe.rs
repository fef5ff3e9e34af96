//! What a sequence and its reader share: a buffer under a lock, and whom to wake. One lock is never held while another is taken, nor while
//! somebody is woken.

use std::sync::Arc;
use std::task::{Context, Poll};

use air_core::BoxError;
use parking_lot::Mutex;

use super::buffer::{Buffer, Found, Vacancy};
use super::watch::Progress;
use super::{Host, Stream};
use crate::deploy::Sleeper;
use crate::error::{CallError, chain};

/// Until a deployment says how many.
const CAPACITY: usize = 16;

/// Why a stream failed.
#[derive(Clone, Debug)]
pub(super) enum Cause {
    Told(CallError),
    /// What its model said; whose that is, is known when the stream is attached.
    Failed(Arc<str>),
}

impl Cause {
    pub(super) fn of(error: BoxError) -> Self {
        match error.downcast::<CallError>() {
            Ok(error) => Cause::Told(*error),
            Err(error) => Cause::Failed(chain(&error)),
        }
    }

    fn named(self, replica: impl FnOnce() -> Arc<str>) -> CallError {
        match self {
            Cause::Told(error) => error,
            Cause::Failed(reason) => CallError::Failed { replica: replica(), reason },
        }
    }
}

pub(super) struct Pipe<T> {
    shared: Mutex<Shared<T>>,
}

struct Shared<T> {
    buffer: Buffer<T, Cause>,
    /// Who waits for an item.
    reader: Option<Sleeper>,
    /// There from when it is attached until it is over.
    host: Option<Arc<dyn Host>>,
    is_attached: bool,
}

/// What is to be done once the lock is free.
#[derive(Default)]
struct After {
    wake: Option<Sleeper>,
    poke: Option<Arc<dyn Host>>,
    first: Option<Arc<dyn Host>>,
    over: Option<(Arc<dyn Host>, u64)>,
}

impl After {
    fn run(self) {
        if let Some(host) = self.first {
            host.first();
        }
        if let Some(reader) = self.wake {
            reader.wake();
        }
        if let Some((host, items)) = self.over {
            host.over(items);
        }
        if let Some(host) = self.poke {
            host.poke();
        }
    }
}

impl<T> Shared<T> {
    /// What follows from its end.
    fn over(&mut self) -> After {
        let host = self.host.take();
        After {
            wake: self.reader.take(),
            poke: host.clone().filter(|_| self.buffer.is_left_out()),
            first: None,
            over: host.map(|host| (host, self.buffer.counts().0)),
        }
    }
}

impl<T> Pipe<T> {
    pub(super) fn new() -> Arc<Self> {
        let shared = Shared { buffer: Buffer::new(CAPACITY), reader: None, host: None, is_attached: false };
        Arc::new(Pipe { shared: Mutex::new(shared) })
    }

    pub(super) fn vacancy(&self) -> Vacancy {
        self.shared.lock().buffer.vacancy()
    }

    pub(super) fn push(&self, item: T) {
        let mut shared = self.shared.lock();
        let unread = shared.buffer.push(item);
        let first = if shared.buffer.counts().0 == 1 { shared.host.clone() } else { None };
        let after = After { wake: shared.reader.take(), first, ..After::default() };
        drop(shared);
        after.run();
        drop(unread);
    }

    pub(super) fn end(&self, end: Result<(), Cause>) {
        let mut shared = self.shared.lock();
        let end = end.map_err(|cause| match &shared.host {
            Some(host) => Cause::Told(cause.named(|| host.replica())),
            None => cause,
        });
        if shared.buffer.end(end) {
            let after = shared.over();
            drop(shared);
            after.run();
        }
    }

    /// The next item or the end; or the reader is woken when there is one.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Option<T>, CallError>> {
        let mut shared = self.shared.lock();
        let (found, goes_on) = shared.buffer.take();
        let poke = shared.host.clone().filter(|_| goes_on);
        if let Found::Nothing = found {
            shared.wait(cx);
        }
        drop(shared);
        After { poke, ..After::default() }.run();
        match found {
            Found::Item(item) => Poll::Ready(Ok(Some(item))),
            Found::Nothing => Poll::Pending,
            Found::End(Ok(())) => Poll::Ready(Ok(None)),
            Found::End(Err(cause)) => Poll::Ready(Err(cause.named(unnamed))),
        }
    }

    /// Whether there is an item or the end; or the reader is woken when there is.
    pub(super) fn poll_some(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = self.shared.lock();
        let (pushed, taken) = shared.buffer.counts();
        if pushed > taken || shared.buffer.is_over() {
            return Poll::Ready(());
        }
        shared.wait(cx);
        Poll::Pending
    }

    /// All items that are there, and the end if nothing comes after them.
    pub(super) fn take_all(&self) -> (impl ExactSizeIterator<Item = T>, Option<Result<(), CallError>>) {
        let mut shared = self.shared.lock();
        let (items, goes_on) = shared.buffer.take_all();
        let end = shared.buffer.ended().cloned();
        let poke = shared.host.clone().filter(|_| goes_on);
        drop(shared);
        After { poke, ..After::default() }.run();
        (items.into_iter(), end.map(|end| end.map_err(|cause| cause.named(unnamed))))
    }

    /// The reader has gone.
    pub(super) fn leave(&self) {
        let mut shared = self.shared.lock();
        let (unread, first) = shared.buffer.leave();
        let after = if first { shared.over() } else { After::default() };
        drop(shared);
        after.run();
        drop(unread);
    }
}

impl<T> Shared<T> {
    fn wait(&mut self, cx: &mut Context<'_>) {
        match &mut self.reader {
            Some(reader) => reader.replace(cx),
            none => *none = Some(Sleeper::here(cx)),
        }
    }
}

impl<T: Send> Stream for Pipe<T> {
    fn attach(&self, host: Arc<dyn Host>, capacity: usize) {
        let mut shared = self.shared.lock();
        if std::mem::replace(&mut shared.is_attached, true) {
            return;
        }
        shared.buffer.set_capacity(capacity);
        let replica = host.replica();
        shared.buffer.map_error(|cause| *cause = Cause::Told(cause.clone().named(|| replica)));
        let pushed = shared.buffer.counts().0;
        let first = (pushed > 0).then(|| Arc::clone(&host));
        shared.host = Some(host);
        let after = if shared.buffer.is_over() { shared.over() } else { After::default() };
        drop(shared);
        After { first, ..after }.run();
    }

    fn fail(&self, error: CallError) {
        self.end(Err(Cause::Told(error)));
    }

    fn is_over(&self) -> bool {
        self.shared.lock().buffer.is_over()
    }

    fn progress(&self) -> Progress {
        let (pushed, taken) = self.shared.lock().buffer.counts();
        Progress { pushed, taken }
    }

    fn discard(&self) {
        self.shared.lock().buffer.discard();
    }

    fn failure(&self) -> Option<CallError> {
        let ended = self.shared.lock().buffer.ended().cloned();
        ended.and_then(Result::err).map(|cause| cause.named(unnamed))
    }
}

/// Whose error it is that no deployment has taken.
fn unnamed() -> Arc<str> {
    "without a name".into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::thread;

    use futures::FutureExt;

    use super::super::Items;
    use super::*;
    use crate::deploy::deliver;

    #[test]
    fn a_thread_that_waits_for_items_itself_is_not_left_to_its_courier() {
        let pipe = Pipe::new();
        let mut items = Items::new(Arc::clone(&pipe));
        let reader = thread::spawn(move || {
            let mut courier = Box::pin(deliver());
            assert!(courier.as_mut().now_or_never().is_none());
            items.blocking().map(Result::unwrap).collect::<Vec<u32>>()
        });
        while pipe.shared.lock().reader.is_none() {
            thread::yield_now();
        }
        pipe.push(1);
        pipe.push(2);
        pipe.end(Ok(()));
        assert_eq!(reader.join().unwrap(), [1, 2]);
    }
}
