//! Who looks after a deployment: what can be asked of it. `reconcile` has what it does then.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use air_core::resource::ResourcePool;
use air_core::{BoxError, CoreError, Cx, Handle, Mailbox, Message, RuntimeHandle, Spec, Worker};
use parking_lot::Mutex;
use serde_json::Value;

use super::core::{Core, Poke};
use super::fleet::VersionId;
use super::handle::DeploymentHandle;
use super::mirror::Offer;
use super::reconcile::{State, Update, Version};
use super::rollout::Rollout;
use super::status::DeploymentStatus;
use super::switch::{Split, Switch};
use super::{DeploymentConfig, Erased};
use crate::error::ServeError;
use crate::metrics::Metrics;

/// How often a deployment is looked after, if nothing calls for it earlier.
const PERIOD: Duration = Duration::from_millis(100);

/// What deployments stand on.
#[derive(Clone)]
pub(crate) struct Ground {
    pub runtime: RuntimeHandle,
    pub resources: ResourcePool,
    pub metrics: Metrics,
}

impl Ground {
    /// Starts what copies a version's requests, if something is to.
    fn mirror<I: Send + 'static, O>(
        &self,
        of: &mut Erased<I, O>,
    ) -> Result<Option<Box<dyn Offer<I>>>, ServeError> {
        let mirror = of.mirror.take().map(|mirror| mirror.start(&of.name, &self.runtime, &self.metrics));
        Ok(mirror.transpose()?)
    }

    /// Refuses replicas that could never have what they ask for.
    fn can_have(&self, deployment: &Arc<str>, config: &DeploymentConfig) -> Result<(), ServeError> {
        let Some(resources) = config.resources() else { return Ok(()) };
        self.resources.check(&resources).map_err(|error| ServeError::Refused {
            deployment: Arc::clone(deployment),
            reason: format!("a replica could never start: {error}"),
        })
    }
}

/// How something that was begun will have ended.
pub(crate) struct Outcome(Receiver<Result<(), ServeError>>);

/// Says so.
pub(crate) type Done = SyncSender<Result<(), ServeError>>;

impl Outcome {
    pub(super) fn new() -> (Done, Self) {
        let (done, outcome) = sync_channel(1);
        (done, Outcome(outcome))
    }

    /// Waits for it.
    pub(crate) fn wait(self) -> Result<(), ServeError> {
        self.0.recv().unwrap_or(Err(ServeError::Core(CoreError::Stopped)))
    }

    /// Waits for it no longer than that; says whether it has ended.
    pub(crate) fn wait_for(self, limit: Duration) -> bool {
        !matches!(self.0.recv_timeout(limit), Err(RecvTimeoutError::Timeout))
    }
}

/// A running deployment without the types of its requests.
pub(crate) trait Running: Send + Sync {
    fn name(&self) -> &Arc<str>;
    /// Its `DeploymentHandle<In, Out>`.
    fn handle(&self) -> Box<dyn Any>;
    fn status(&self) -> DeploymentStatus;
    /// Whether some replica can answer, or one would be started for a request.
    fn is_up(&self) -> bool;
    /// Begins to end it: nothing is let in any more, what waits is answered.
    fn close(&self) -> Outcome;
    /// How long that may take.
    fn grace(&self) -> Duration;
    /// Waits no longer for it to end.
    fn give_up(&self, reason: &str);
    /// Begins to give it another `Erased<In, Out>`; with a share, to that share of the requests only.
    fn update(&self, to: Box<dyn Any>, canary: Option<f64>) -> Result<Outcome, ServeError>;
    /// Changes the share of a canary; without one, begins to make it the only version.
    fn promote(&self, canary: Option<f64>) -> Result<Outcome, ServeError>;
    /// Begins to end an update in favour of the version before.
    fn roll_back(&self, reason: &str) -> Result<Outcome, ServeError>;
    /// Begins to give its models other settings.
    fn reconfigure(&self, user_config: Value) -> Result<Outcome, ServeError>;
}

/// Who looks after one deployment.
pub(crate) struct Controller<I: Send + 'static, O: Send + 'static> {
    name: Arc<str>,
    ground: Ground,
    bell: Arc<OnceLock<Mailbox<Keeper>>>,
    pub switch: Arc<Switch<I, O>>,
    state: Mutex<State<I, O>>,
}

impl<I: Send + 'static, O: Send + 'static> Controller<I, O> {
    /// Begins to run a deployment; the outcome tells when it is ready.
    pub(crate) fn start(
        mut deployment: Erased<I, O>,
        ground: &Ground,
    ) -> Result<(Arc<Self>, Outcome), ServeError> {
        deployment.validate()?;
        ground.can_have(&deployment.name, &deployment.config)?;
        let name = Arc::clone(&deployment.name);
        let metrics = Arc::new(ground.metrics.deployment(&name)?);
        let bell: Arc<OnceLock<Mailbox<Keeper>>> = Arc::default();
        let (clock, config) = (ground.runtime.clock().clone(), deployment.config.clone());
        let label = deployment.version.clone();
        let switch = Arc::clone(&deployment.switch);
        let mirror = ground.mirror(&mut deployment)?;
        let core = Core::new(deployment, Arc::clone(&metrics), clock, ringing(&bell));
        mirror.map(|mirror| core.mirror.set(mirror));
        switch.set(Split { main: Arc::clone(&core), other: None });
        let (done, outcome) = Outcome::new();
        let mut state = State::new(ground, metrics, Arc::clone(&switch));
        state.add_version(label, core, config.clone());
        state.set_config(config.clone());
        let rollout = Rollout::new(config.max_constructor_retry_count, 1, None);
        state.update = Some(Update::new(1, rollout, true, done));
        let controller = Arc::new(Controller {
            name: Arc::clone(&name),
            ground: ground.clone(),
            bell: Arc::clone(&bell),
            switch,
            state: Mutex::new(state),
        });
        let _ = bell.set(keep(&ground.runtime, &name, Arc::clone(&controller) as _)?);
        // Whoever rang before it hung there, a replica that was ready that soon, was not heard.
        controller.ring();
        Ok((controller, outcome))
    }

    fn ring(&self) {
        ring(&self.bell);
    }

    /// Changes what is to be, unless the deployment ends or a change is under way.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut State<I, O>) -> Result<T, ServeError>,
    ) -> Result<T, ServeError> {
        let mut state = self.state.lock();
        if state.is_closing() {
            return Err(self.refused("it is shutting down"));
        }
        let changed = change(&mut state);
        drop(state);
        self.ring();
        changed
    }

    fn refused(&self, reason: impl Into<String>) -> ServeError {
        ServeError::Refused { deployment: Arc::clone(&self.name), reason: reason.into() }
    }

    fn is_free(&self, state: &State<I, O>) -> Result<(), ServeError> {
        match (&state.update, &state.reconfiguring) {
            (None, None) => Ok(()),
            (Some(update), _) if update.rollout.canary().is_some() => {
                Err(self.refused("a canary is under way: promote it or roll it back first"))
            }
            _ => Err(self.refused("an update is under way: wait for its end or roll it back first")),
        }
    }

    fn begin_update(
        &self,
        state: &mut State<I, O>,
        mut to: Erased<I, O>,
        canary: Option<f64>,
    ) -> Result<Outcome, ServeError> {
        self.is_free(state)?;
        let (done, outcome) = Outcome::new();
        let current = state.current();
        let same = to.version.is_some() && to.version.as_deref() == Some(&*current.label);
        if same && canary.is_none() && current.config.changes_in_place(&to.config) {
            state.begin_change(to.config, done);
            return Ok(outcome);
        }
        // One that does not say how tensors are read reads them as before.
        to.reach = to.reach.or_else(|| current.core.reach.clone());
        let (config, label) = (to.config.clone(), to.version.clone());
        let (metrics, clock) = (Arc::clone(&state.metrics), self.ground.runtime.clock().clone());
        let mirror = self.ground.mirror(&mut to)?;
        let core = Core::new(to, metrics, clock, ringing(&self.bell));
        mirror.map(|mirror| core.mirror.set(mirror));
        let surge = config.surge(state.desired(&config));
        let rollout = Rollout::new(config.max_constructor_retry_count, surge, canary);
        let id = state.add_version(label, core, config);
        state.update = Some(Update::new(id, rollout, false, done));
        state.message.clear();
        Ok(outcome)
    }
}

impl<I: Send + 'static, O: Send + 'static> Running for Controller<I, O> {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn handle(&self) -> Box<dyn Any> {
        Box::new(DeploymentHandle::new(Arc::clone(&self.switch)))
    }

    fn status(&self) -> DeploymentStatus {
        self.state.lock().status(self.ground.runtime.clock().now())
    }

    fn is_up(&self) -> bool {
        let up = self.switch.split().is_some_and(|split| {
            split.main.is_up() || split.other.as_ref().is_some_and(|(core, _)| core.is_up())
        });
        up || self.state.lock().sleeps()
    }

    fn close(&self) -> Outcome {
        let outcome = self.state.lock().close();
        self.ring();
        outcome
    }

    fn grace(&self) -> Duration {
        self.state.lock().current().config.limits().grace
    }

    fn give_up(&self, reason: &str) {
        self.state.lock().give_up(reason);
        self.ring();
    }

    fn update(&self, to: Box<dyn Any>, canary: Option<f64>) -> Result<Outcome, ServeError> {
        let to = to.downcast::<Erased<I, O>>().map_err(|_| {
            let (input, output) = (std::any::type_name::<I>(), std::any::type_name::<O>());
            self.refused(format!(
                "it takes {input} and gives {output}, and so must its update: give the new one another name"
            ))
        })?;
        to.validate()?;
        self.ground.can_have(&self.name, &to.config)?;
        if let Some(share) = canary {
            valid_share(share).map_err(|reason| self.refused(reason))?;
        }
        self.change(|state| {
            let switch = Arc::clone(&to.switch);
            let outcome = self.begin_update(state, *to, canary)?;
            switch.connect(&self.switch);
            Ok(outcome)
        })
    }

    fn promote(&self, canary: Option<f64>) -> Result<Outcome, ServeError> {
        if let Some(share) = canary {
            valid_share(share).map_err(|reason| self.refused(reason))?;
        }
        self.change(|state| {
            let update = state.update.as_mut().filter(|update| update.rollout.canary().is_some());
            let update = update.ok_or_else(|| self.refused("there is no canary to promote"))?;
            let (done, outcome) = Outcome::new();
            update.rollout.set_canary(canary);
            update.wait(done);
            Ok(outcome)
        })
    }

    fn roll_back(&self, reason: &str) -> Result<Outcome, ServeError> {
        self.change(|state| {
            let update = state.update.as_mut().filter(|update| !update.is_first());
            let update = update.ok_or_else(|| self.refused("there is no update to roll back"))?;
            let (done, outcome) = Outcome::new();
            update.rollout.roll_back(reason.into());
            update.wait_for_rollback(done);
            Ok(outcome)
        })
    }

    fn reconfigure(&self, user_config: Value) -> Result<Outcome, ServeError> {
        self.change(|state| {
            self.is_free(state)?;
            let (done, outcome) = Outcome::new();
            let config =
                DeploymentConfig { user_config: Some(user_config), ..state.current().config.clone() };
            state.begin_change(config, done);
            Ok(outcome)
        })
    }
}

fn valid_share(share: f64) -> Result<(), String> {
    if share > 0.0 && share < 1.0 {
        Ok(())
    } else {
        Err(format!("a canary's share is {share}, it must be above 0 and below 1"))
    }
}

fn ringing(bell: &Arc<OnceLock<Mailbox<Keeper>>>) -> Poke {
    let bell = Arc::clone(bell);
    Arc::new(move || ring(&bell))
}

/// Has a deployment looked after now. A full mailbox means that it will be anyway.
fn ring(bell: &OnceLock<Mailbox<Keeper>>) {
    if let Some(keeper) = bell.get() {
        let _ = keeper.try_tell(Look);
    }
}

/// What is looked after.
trait LookAfter: Send + Sync {
    /// Returns whether there is more to look after.
    fn look(&self) -> bool;

    /// Nobody looks after it any more, whether it has ended or not.
    fn leave(&self);
}

impl<I: Send + 'static, O: Send + 'static> LookAfter for Controller<I, O> {
    fn look(&self) -> bool {
        self.state.lock().look()
    }

    fn leave(&self) {
        self.state.lock().leave();
    }
}

/// Has a worker look after a deployment for as long as it has to be, or as its lives last.
fn keep(runtime: &RuntimeHandle, name: &str, kept: Arc<dyn LookAfter>) -> Result<Mailbox<Keeper>, CoreError> {
    let charge = Charge(kept);
    runtime.spawn(Spec::new(format!("serve/{name}")).shared().capacity(4), move |_| {
        Ok(Keeper(Arc::clone(&charge.0)))
    })
}

/// What a keeper's lives have in common; it goes with the last of them.
struct Charge(Arc<dyn LookAfter>);

impl Drop for Charge {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// The worker that looks after a deployment: whenever something has changed, and every so often. It never blocks.
struct Keeper(Arc<dyn LookAfter>);

struct Look;

impl Message for Look {
    type Reply = ();

    /// Once it has ended there is nothing left to look after.
    const MATTERS: bool = false;
}

impl Worker for Keeper {
    fn started(&mut self, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        cx.tell_every(PERIOD, || Look);
        // A full mailbox, of a life before this one, means that it will look anyway.
        let _ = cx.mailbox().try_tell(Look);
        Ok(())
    }
}

impl Handle<Look> for Keeper {
    fn handle(&mut self, _: Look, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        if !self.0.look() {
            cx.mailbox().stop();
        }
        Ok(())
    }
}

/// The versions of a deployment that still have something to do.
pub(super) type Versions<I, O> = BTreeMap<VersionId, Version<I, O>>;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use air_core::Runtime;

    use super::*;

    struct Broken(SyncSender<()>);

    impl LookAfter for Broken {
        fn look(&self) -> bool {
            panic!("it cannot be looked after")
        }

        fn leave(&self) {
            self.0.send(()).unwrap();
        }
    }

    #[test]
    fn what_is_waited_for_ends_with_the_last_life_of_a_keeper() {
        let runtime = Runtime::with(air_core::RuntimeConfig::default()).unwrap();
        let (left, end) = sync_channel(1);
        let _keeper = keep(&runtime.handle(), "broken", Arc::new(Broken(left))).unwrap();
        end.recv().unwrap();
    }
}
