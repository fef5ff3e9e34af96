//! How a deployment ends: by itself, with what is left of it given up, or with nobody to look after it.

use std::sync::Arc;

use super::control::Outcome;
use super::reconcile::State;
use crate::error::ServeError;

impl<I: Send + 'static, O: Send + 'static> State<I, O> {
    /// Begins to end it.
    pub(super) fn close(&mut self) -> Outcome {
        let (done, outcome) = Outcome::new();
        if self.over {
            let _ = done.send(Ok(()));
            return outcome;
        }
        if self.left {
            return outcome;
        }
        self.closing.get_or_insert_default().push(done);
        for version in self.versions.values() {
            version.core.close();
        }
        let deployment = Arc::clone(&self.current().core.name);
        let closed = || {
            let reason = "it is shutting down".to_owned();
            Err(ServeError::Refused { deployment: Arc::clone(&deployment), reason })
        };
        if let Some(update) = self.update.take() {
            update.end(closed, closed);
        }
        if let Some(reconfiguring) = self.reconfiguring.take() {
            let _ = reconfiguring.done.send(closed());
        }
        outcome
    }

    /// Ends all that is waited for: nobody looks after it any more.
    pub(super) fn leave(&mut self) {
        (self.update, self.reconfiguring, self.closing) = (None, None, Some(Vec::new()));
        self.left = true;
    }

    /// Gives up all replicas that are left of one that is ending.
    pub(super) fn give_up(&mut self, reason: &str) {
        let now = self.runtime.clock().now();
        for life in std::mem::take(&mut self.lives).into_values() {
            let work = life.slot.work();
            let at_work = work.since().map(|since| {
                let (requests, time) = (work.requests(), now.saturating_sub(since));
                format!("; its model has been at work on {requests} requests for {time:.1?}")
            });
            life.give_up(&format!("{reason}{}", at_work.unwrap_or_default()).into());
        }
        self.fleet.clear();
        self.look();
    }
}
