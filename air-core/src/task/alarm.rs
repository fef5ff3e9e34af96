//! [`Alarm`]: something done when a clock says so.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use crate::clock::{Clock, Sleep};

/// Rings once, on the thread that drives the clock, unless it is put off before. What it does must be short and run no user code.
pub(super) struct Alarm {
    sleep: Mutex<Option<Sleep>>,
    ring: Box<dyn Fn() + Send + Sync>,
}

impl Alarm {
    pub(super) fn set(clock: &Clock, after: Duration, ring: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        let alarm = Arc::new(Self { sleep: Mutex::new(Some(clock.sleep(after))), ring: Box::new(ring) });
        alarm.look();
        alarm
    }

    pub(super) fn put_off(&self) {
        let sleep = self.sleep.lock().take();
        drop(sleep);
    }

    /// Rings if it is time; otherwise the clock calls again.
    fn look(self: &Arc<Self>) {
        let waker = Waker::from(Arc::clone(self));
        let mut sleep = self.sleep.lock();
        let Some(pending) = sleep.as_mut() else { return };
        if let Poll::Ready(()) = Pin::new(pending).poll(&mut Context::from_waker(&waker)) {
            *sleep = None;
            drop(sleep);
            (self.ring)();
        }
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.look();
    }
}
