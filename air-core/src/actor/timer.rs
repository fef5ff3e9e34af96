//! Messages a worker sends itself, again and again.

use std::future::Future;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinHandle};

/// Sends a worker a message every so often; see [`Cx::tell_every`](super::Cx::tell_every). Dropping it changes nothing.
#[derive(Debug)]
pub struct Timer(AbortHandle);

impl Timer {
    /// Sends no more; what waits in the mailbox stays there.
    pub fn stop(&self) {
        self.0.abort();
    }
}

/// The timers of one life, which end with it.
#[derive(Default)]
pub(super) struct Timers(Vec<JoinHandle<()>>);

impl Timers {
    /// Starts one on this thread.
    pub(super) fn add(&mut self, timer: impl Future<Output = ()> + 'static) -> Timer {
        self.0.retain(|timer| !timer.is_finished());
        let task = actix::spawn(timer);
        let timer = Timer(task.abort_handle());
        self.0.push(task);
        timer
    }
}

impl Drop for Timers {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

/// The first time after `now` that is a whole number of periods after `due`, and after `due` itself.
pub(super) fn next_due(due: Duration, period: Duration, now: Duration) -> Duration {
    let behind = now.saturating_sub(due).as_nanos() / period.as_nanos();
    let missed = period.saturating_mul(u32::try_from(behind).unwrap_or(u32::MAX));
    due.saturating_add(missed).saturating_add(period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_multiples_of_the_period_and_those_missed_are_left_out() {
        let ms = Duration::from_millis;
        assert_eq!(next_due(ms(100), ms(10), ms(100)), ms(110));
        assert_eq!(next_due(ms(110), ms(10), ms(111)), ms(120));
        assert_eq!(next_due(ms(110), ms(10), ms(147)), ms(150));
        assert_eq!(next_due(ms(110), ms(10), ms(150)), ms(160), "a time that is now has been served");
        assert_eq!(
            next_due(ms(0), ms(10), Duration::MAX),
            ms(10).saturating_mul(u32::MAX).saturating_add(ms(10))
        );
    }
}
