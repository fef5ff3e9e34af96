//! How a worker's end is brought about, and waited for.

use std::time::Duration;

use futures::future::{Either, select};

use super::exit::{Exit, ExitRecord};
use super::mailbox::Mailbox;
use super::message::Worker;
use super::park::block_on;

impl<W: Worker> Mailbox<W> {
    /// Ends the worker once it has handled what waits; nothing new is let in, and it is not restarted.
    pub fn stop(&self) {
        self.shared.queue.finish();
    }

    /// [`stop`](Self::stop)s the worker and waits for its end; if that takes longer than `limit`, [`kill`](Self::kill)s it. Returns why it
    /// ended: [`Exit::Normal`] if it handled all that waited, [`Exit::Killed`] if it did not get there.
    ///
    /// Dropped before it is done, it has stopped the worker and set no limit.
    pub async fn stop_within(&self, limit: Duration) -> Exit {
        self.stop();
        let over = std::pin::pin!(self.shared.core.clock.sleep(limit));
        match select(std::pin::pin!(self.wait_ended()), over).await {
            Either::Left((exit, _)) => exit,
            Either::Right(((), ended)) => {
                self.kill();
                ended.await
            }
        }
    }

    /// [`stop_within`](Self::stop_within) for threads without an executor.
    pub fn stop_within_blocking(&self, limit: Duration) -> Exit {
        block_on(self.stop_within(limit))
    }

    /// Ends the worker for good, now: what waits goes back to its senders, who asked for what it is doing is told
    /// [`AskError::Died`](super::AskError::Died), and it handles nothing more. It is not restarted, and [`Worker::stopped`] is not called.
    ///
    /// A handler that is running cannot be cut short. Its thread ends when it returns, or is left behind when it has not returned within
    /// its supervisor's [`stop_limit`](super::SupervisorSpec::stop_limit).
    pub fn kill(&self) {
        self.shared.kill();
    }

    /// [`kill`](Self::kill)s a worker that is known not to return: if a handler is running, its thread is left behind now and not after a
    /// limit, so that nothing waits for it. Where it returns after all the thread ends.
    pub fn abandon(&self) {
        self.shared.abandon();
    }

    /// Waits until there will be no further life, and says why.
    pub async fn wait_ended(&self) -> Exit {
        self.shared.gone().await
    }

    /// [`wait_ended`](Self::wait_ended) for threads without an executor.
    pub fn wait_ended_blocking(&self) -> Exit {
        block_on(self.wait_ended())
    }

    /// Why there will be no further life, once that is so.
    pub fn ended(&self) -> Option<Exit> {
        self.shared.queue.closed()
    }

    /// Its last ends, oldest first (at most 16).
    pub fn exits(&self) -> Vec<ExitRecord> {
        self.shared.exits()
    }
}
