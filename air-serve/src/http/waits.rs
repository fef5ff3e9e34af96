//! One timer for all the waits of a connection.
//!
//! hyper makes a timer whenever it begins to wait for a head, and drops it when the head has come; on a busy connection that is once a request. Here
//! a wait is no more than its deadline. The one timer is set when a wait goes on for so long that somebody must be woken, and stays set
//! when the wait is over: it then comes early for a later one, and is set again.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use parking_lot::Mutex;

/// The timer of one connection.
#[derive(Clone, Default)]
pub(crate) struct Waits(Arc<Mutex<Option<Pin<Box<tokio::time::Sleep>>>>>);

/// Of which there is one at a time: the timer wakes whoever polled last.
struct Wait {
    waits: Waits,
    deadline: tokio::time::Instant,
}

impl Timer for Waits {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Wait { waits: self.clone(), deadline: deadline.into() })
    }
}

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut timer = self.waits.0.lock();
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(self.deadline)));
        if timer.deadline() > self.deadline {
            timer.as_mut().reset(self.deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(self.deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn waits_end_when_each_is_due_whatever_the_timer_was_set_for() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.map_or_else(
            |error| unreachable!("{error}"),
            |runtime| {
                runtime.block_on(async {
                    let waits = Waits::default();
                    let start = Instant::now();
                    let due = |ms| start + Duration::from_millis(ms);
                    // This one sets the timer, and is dropped.
                    assert!(waits.sleep_until(due(20)).now_or_never().is_none());
                    waits.sleep_until(due(60)).await;
                    assert!(Instant::now() >= due(60), "not when the timer was set for first");
                    assert!(waits.sleep_until(due(3_600_000)).now_or_never().is_none());
                    waits.sleep_until(due(80)).await;
                    assert!((due(80)..due(60_000)).contains(&Instant::now()), "an earlier one sets it back");
                    waits.sleep_until(due(70)).await;
                });
            },
        );
    }
}
