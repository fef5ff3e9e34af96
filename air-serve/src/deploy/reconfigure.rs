//! Changing how a version is run without fresh replicas: how many there are, and what its models are configured with.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::config::DeploymentConfig;
use super::control::Done;
use super::reconcile::State;
use super::slot::Slot;
use crate::error::ServeError;

/// A change of the user configuration under way.
pub(super) struct Reconfiguring {
    pub number: u64,
    pub before: DeploymentConfig,
    /// Failures of the version when it began.
    pub failures: usize,
    pub done: Done,
}

impl<I: Send + 'static, O: Send + 'static> State<I, O> {
    /// Begins to run the present version with these settings, which change only what can change in place.
    pub(super) fn begin_change(&mut self, config: DeploymentConfig, done: Done) {
        self.message.clear();
        let before = self.current().config.clone();
        let user_config = config.user_config.clone();
        self.set_config(config);
        if user_config == before.user_config {
            let _ = done.send(Ok(()));
            return;
        }
        let number = self.current().core.set_user_config(user_config);
        let failures = self.failures(self.current);
        self.reconfiguring = Some(Reconfiguring { number, before, failures, done });
    }

    /// Whether the replicas have taken the user configuration, or one has refused it.
    pub(super) fn settle_reconfiguring(&mut self) {
        let Some(reconfiguring) = &self.reconfiguring else { return };
        let version = self.current();
        let slots = || {
            let own = self.lives.values().filter(|life| Arc::ptr_eq(&life.core, &version.core));
            own.map(|life| &life.slot)
        };
        let refusals = slots().filter_map(|slot| slot.refusal.lock().clone());
        let refused = refusals.into_iter().find(|(number, _)| *number == reconfiguring.number);
        let failures = self.failures(self.current);
        let reason: Option<Arc<str>> = match refused {
            Some((_, reason)) => Some(reason),
            None if failures > reconfiguring.failures + version.config.max_constructor_retry_count => {
                self.fleet.count(self.current).reason
            }
            None => None,
        };
        let Some(reason) = reason else {
            let takes = |slot: &Slot<I, O>| slot.configured.load(Ordering::Acquire) >= reconfiguring.number;
            let ready = slots().filter(|slot| slot.is_ready() && slot.ended().is_none());
            let some = self.fleet.count(self.current).ready > 0 || self.desired(&version.config) == 0;
            if some
                && ready.into_iter().all(|slot| takes(slot))
                && let Some(reconfiguring) = self.reconfiguring.take()
            {
                let _ = reconfiguring.done.send(Ok(()));
            }
            return;
        };
        let (deployment, version) = (Arc::clone(&version.core.name), Arc::clone(&version.label));
        let Some(Reconfiguring { before, done, .. }) = self.reconfiguring.take() else { return };
        self.message = format!("the change of its user_config was taken back: {reason}");
        self.current().core.set_user_config(before.user_config.clone());
        self.set_config(before);
        let reason = format!("user_config: {reason}").into();
        let _ = done.send(Err(ServeError::RolledBack { deployment, version, reason }));
    }
}
