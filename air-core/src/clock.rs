//! Time as a parameter.
//!
//! A [`Clock`] tells how long ago its origin was and lets futures sleep on it. A [`Runtime`](crate::Runtime) drives the system
//! clock's timers from its own thread; a [`ManualClock`] is driven by a test, so that back-off, deadlines and stall limits are tested
//! without waiting for them.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// A source of time; cheap to clone, clones tell the same time.
#[derive(Clone)]
pub struct Clock {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    timers: Mutex<Timers>,
    /// Told when a timer earlier than all others was added: the driver must look again.
    earlier: Notify,
    /// Told whenever a timer is added: a test waits here for the sleeper it wants to wake.
    added: Condvar,
}

enum Source {
    System(Instant),
    Manual(Mutex<Duration>),
}

/// What sleeps, ordered by when it wakes; the number tells apart those that wake together.
#[derive(Default)]
struct Timers {
    waiting: BTreeMap<(Duration, u64), Waker>,
    next_id: u64,
}

impl Clock {
    /// The machine's monotonic clock; its origin is now.
    ///
    /// Sleeping on it needs a driver, which every [`Runtime`](crate::Runtime) is for its own clock.
    pub fn system() -> Self {
        Self::new(Source::System(Instant::now()))
    }

    /// A clock that stands still until it is advanced.
    pub fn manual() -> (Self, ManualClock) {
        let clock = Self::new(Source::Manual(Mutex::new(Duration::ZERO)));
        (clock.clone(), ManualClock { clock })
    }

    fn new(source: Source) -> Self {
        let inner = Inner { source, timers: Mutex::default(), earlier: Notify::new(), added: Condvar::new() };
        Self { inner: Arc::new(inner) }
    }

    /// Time since the clock's origin.
    pub fn now(&self) -> Duration {
        match &self.inner.source {
            Source::System(origin) => origin.elapsed(),
            Source::Manual(now) => *now.lock(),
        }
    }

    /// Completes when `duration` has passed.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now().saturating_add(duration))
    }

    /// Completes when [`now`](Self::now) has reached `at`.
    pub fn sleep_until(&self, at: Duration) -> Sleep {
        Sleep { clock: self.clone(), at, id: None }
    }

    /// Wakes sleepers as the system's time passes, for as long as it is polled.
    pub(crate) async fn drive(&self) {
        if matches!(self.inner.source, Source::Manual(_)) {
            return;
        }
        loop {
            let earlier = self.inner.earlier.notified();
            match self.wake_due() {
                None => earlier.await,
                Some(at) => {
                    let pause = at.saturating_sub(self.now());
                    let _ = tokio::time::timeout(pause, earlier).await;
                }
            }
        }
    }

    /// Wakes everyone whose time has come; says when the next one's will.
    fn wake_due(&self) -> Option<Duration> {
        let now = self.now();
        let mut timers = self.inner.timers.lock();
        let later = timers.waiting.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut timers.waiting, later);
        let next = timers.waiting.first_key_value().map(|((at, _), _)| *at);
        drop(timers);
        due.into_values().for_each(Waker::wake);
        next
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// Drives a [`Clock::manual`].
#[derive(Debug)]
pub struct ManualClock {
    clock: Clock,
}

impl ManualClock {
    /// Moves time forward and wakes whoever was to wake by then.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now) = &self.clock.inner.source {
            *now.lock() += by;
        }
        self.clock.wake_due();
    }

    /// Blocks until at least `count` sleepers wait on the clock.
    pub fn wait_for_sleepers(&self, count: usize) {
        let inner = &self.clock.inner;
        let mut timers = inner.timers.lock();
        while timers.waiting.len() < count {
            inner.added.wait(&mut timers);
        }
    }
}

/// See [`Clock::sleep`]. Dropping it ends the wait.
#[derive(Debug)]
#[must_use = "a sleep does nothing unless it is awaited"]
pub struct Sleep {
    clock: Clock,
    at: Duration,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let inner = Arc::clone(&self.clock.inner);
        // The time is read under the lock: an advance either is seen here or sees this sleeper.
        let mut timers = inner.timers.lock();
        if self.clock.now() >= self.at {
            if let Some(id) = self.id.take() {
                timers.waiting.remove(&(self.at, id));
            }
            return Poll::Ready(());
        }
        let id = self.id.unwrap_or_else(|| {
            timers.next_id += 1;
            timers.next_id
        });
        let first = timers.waiting.first_key_value().is_none_or(|((at, _), _)| self.at < *at);
        timers.waiting.insert((self.at, id), cx.waker().clone());
        drop(timers);
        self.id = Some(id);
        if first {
            inner.earlier.notify_one();
        }
        inner.added.notify_all();
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.clock.inner.timers.lock().waiting.remove(&(self.at, id));
        }
    }
}

/// Durations as a number of seconds, for people who read them as JSON.
pub(crate) mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(duration.as_secs_f64())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_manual_clock_wakes_exactly_those_whose_time_has_come() {
        let (clock, manual) = Clock::manual();
        let wakes = Arc::new(Count(AtomicUsize::new(0)));
        let waker = Waker::from(Arc::clone(&wakes));
        let mut cx = Context::from_waker(&waker);
        let mut sleeps: Vec<_> = (1..=3).map(|s| Box::pin(clock.sleep(SECOND * s))).collect();
        for sleep in &mut sleeps {
            assert!(sleep.as_mut().poll(&mut cx).is_pending());
        }
        manual.advance(SECOND * 2);
        assert_eq!(wakes.0.load(Ordering::SeqCst), 2);
        assert!(sleeps[1].as_mut().poll(&mut cx).is_ready());
        assert!(sleeps[2].as_mut().poll(&mut cx).is_pending());
        assert_eq!(clock.now(), SECOND * 2);
    }

    #[test]
    fn a_dropped_sleep_leaves_nothing_behind() {
        let (clock, manual) = Clock::manual();
        let mut sleep = Box::pin(clock.sleep(SECOND));
        assert!(sleep.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(clock.inner.timers.lock().waiting.len(), 1);
        drop(sleep);
        assert_eq!(clock.inner.timers.lock().waiting.len(), 0);
        manual.advance(SECOND);
    }

    #[test]
    fn a_driven_system_clock_wakes_in_order_of_time_not_of_arrival() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let first = runtime.block_on(async {
            let clock = Clock::system();
            let late = clock.sleep(Duration::from_hours(1));
            let early = clock.sleep(Duration::from_millis(5));
            tokio::select! {
                // The driver sleeps before anybody has come, and is told of each.
                biased;
                () = clock.drive() => "the driver",
                () = late => "late",
                () = early => "early",
            }
        });
        assert_eq!(first, "early");
    }
}
