//! What looking after a deployment is: see what is there, decide (`autoscale`, `rollout`, `fleet`), carry it out.
//!
//! Nothing here depends on which events have been seen: each look starts from what is there now. So a look too many does no harm, and one
//! that is missed is made up for by the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use air_core::RuntimeHandle;
use air_core::resource::ResourcePool;

use super::autoscale::{Autoscaler, Load};
use super::config::DeploymentConfig;
use super::control::{Done, Ground, Versions};
use super::core::Core;
use super::fleet::{Action, Fleet, Member, Number, Seen, Stage, VersionId, Want};
use super::reconfigure::Reconfiguring;
use super::replica::Life;
use super::rollout::{Desired, End, Plan, Rollout};
use super::status::{DeploymentStatus, Facts, ReplicaStatus};
use super::switch::{Split, Switch};
use crate::error::{CallError, ServeError};
use crate::metrics::DeploymentMetrics;

/// A version that still has something to do.
pub(super) struct Version<I, O> {
    pub label: Arc<str>,
    pub core: Arc<Core<I, O>>,
    pub config: DeploymentConfig,
}

/// An update under way.
pub(super) struct Update {
    id: VersionId,
    pub rollout: Rollout,
    /// There was no version before.
    first: bool,
    plan: Plan,
    /// Who waits for the new version to take over, or to have its share.
    done: Vec<Done>,
    /// Who waits for the old one to be back.
    back: Vec<Done>,
}

impl Update {
    pub(super) fn new(id: VersionId, rollout: Rollout, first: bool, done: Done) -> Self {
        let plan = Plan { old: 0, new: 0, share: 0.0, end: None };
        Update { id, rollout, first, plan, done: vec![done], back: Vec::new() }
    }

    pub(super) fn is_first(&self) -> bool {
        self.first
    }

    pub(super) fn wait(&mut self, done: Done) {
        self.done.push(done);
    }

    pub(super) fn wait_for_rollback(&mut self, done: Done) {
        self.back.push(done);
    }

    pub(super) fn end(
        self,
        result: impl Fn() -> Result<(), ServeError>,
        back: impl Fn() -> Result<(), ServeError>,
    ) {
        self.done.into_iter().for_each(|done| drop(done.send(result())));
        self.back.into_iter().for_each(|done| drop(done.send(back())));
    }
}

/// All there is to a deployment.
pub(super) struct State<I: Send + 'static, O: Send + 'static> {
    pub(super) runtime: RuntimeHandle,
    resources: ResourcePool,
    pub(super) metrics: Arc<DeploymentMetrics>,
    pub(super) switch: Arc<Switch<I, O>>,
    pub(super) versions: Versions<I, O>,
    pub(super) next_version: VersionId,
    /// The version that serves; of a first one, that is to.
    pub(super) current: VersionId,
    pub(super) update: Option<Update>,
    pub(super) reconfiguring: Option<Reconfiguring>,
    pub(super) fleet: Fleet,
    pub(super) lives: BTreeMap<Number, Life<I, O>>,
    pub(super) scaler: Option<Autoscaler>,
    /// The replicas' time at work when it was last counted, and when that was.
    pub(super) worked: (Duration, Duration),
    /// What went wrong last.
    pub(super) message: String,
    /// It is ending, and who waits for that.
    pub(super) closing: Option<Vec<Done>>,
    /// It has ended.
    pub(super) over: bool,
    /// Nobody looks after it any more.
    pub(super) left: bool,
}

impl<I: Send + 'static, O: Send + 'static> State<I, O> {
    pub(super) fn new(ground: &Ground, metrics: Arc<DeploymentMetrics>, switch: Arc<Switch<I, O>>) -> Self {
        State {
            runtime: ground.runtime.clone(),
            resources: ground.resources.clone(),
            metrics,
            switch,
            versions: BTreeMap::new(),
            next_version: 1,
            current: 1,
            update: None,
            reconfiguring: None,
            fleet: Fleet::default(),
            lives: BTreeMap::new(),
            scaler: None,
            worked: (Duration::ZERO, Duration::ZERO),
            message: String::new(),
            closing: None,
            over: false,
            left: false,
        }
    }

    /// Adds a version that has no replicas yet.
    pub(super) fn add_version(
        &mut self,
        label: Option<Arc<str>>,
        core: Arc<Core<I, O>>,
        config: DeploymentConfig,
    ) -> VersionId {
        let id = self.next_version;
        self.next_version += 1;
        let label = label.unwrap_or_else(|| id.to_string().into());
        self.versions.insert(id, Version { label, core, config });
        id
    }

    /// The version that serves.
    pub(super) fn current(&self) -> &Version<I, O> {
        &self.versions[&self.current]
    }

    pub(super) fn failures(&self, version: VersionId) -> usize {
        self.fleet.count(version).failures
    }

    /// Sets how the present version is run.
    pub(super) fn set_config(&mut self, config: DeploymentConfig) {
        self.scaler = config.autoscaling().map(|autoscaling| match self.scaler.take() {
            Some(mut scaler) => {
                scaler.reconfigure(autoscaling);
                scaler
            }
            None => Autoscaler::new(autoscaling),
        });
        if let Some(version) = self.versions.get_mut(&self.current) {
            version.config = config;
        }
    }

    /// Replicas a version with these settings should have if it were alone.
    pub(super) fn desired(&self, config: &DeploymentConfig) -> usize {
        match (config.autoscaling(), &self.scaler) {
            (None, _) => config.num_replicas,
            (Some(bounds), Some(scaler)) => scaler.target().clamp(bounds.min_replicas, bounds.max_replicas),
            (Some(bounds), None) => Autoscaler::new(bounds).target(),
        }
    }

    /// Whether it has no replica because it needs none, and would start one for a request.
    pub(super) fn sleeps(&self) -> bool {
        self.closing.is_none() && self.scaler.as_ref().is_some_and(|scaler| scaler.target() == 0)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Looks after it once; returns whether there is more to look after.
    pub(super) fn look(&mut self) -> bool {
        let now = self.runtime.clock().now();
        self.settle_reconfiguring();
        let lives = &self.lives;
        let given_up = self.fleet.look(now, |number| see(lives.get(&number)));
        self.carry_out(given_up);
        let members = self.fleet.members();
        self.lives.retain(|number, life| {
            let lives_on =
                members.get(number).is_some_and(|member| !matches!(member.stage, Stage::Waiting { .. }));
            if !lives_on {
                life.bury();
            }
            lives_on
        });
        self.scale(now);
        self.roll();
        let actions = self.fleet.fit(now, &self.wants());
        self.carry_out(actions);
        self.clean_up();
        self.show();
        self.over = self.is_closing() && self.fleet.members().is_empty();
        if self.over {
            for done in self.closing.iter_mut().flat_map(|closing| closing.drain(..)) {
                let _ = done.send(Ok(()));
            }
        }
        !self.over
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Start(number, version) => self.start(number, version),
                Action::Drain(number) => {
                    if let Some(life) = self.lives.get(&number) {
                        life.drain();
                    }
                }
                Action::GiveUp(number, reason) => {
                    if let Some(life) = self.lives.remove(&number) {
                        life.give_up(&reason);
                    }
                }
            }
        }
    }

    fn start(&mut self, number: Number, version: VersionId) {
        let Some(Version { core, .. }) = self.versions.get(&version) else { return };
        if self.fleet.members().get(&number).is_some_and(|member| member.restarts > 0) {
            self.metrics.restarted();
        }
        match Life::start(core, format!("{}#{number}", core.name).into(), &self.runtime) {
            Ok(life) => {
                self.lives.insert(number, life);
            }
            // The runtime is ending.
            Err(error) => tracing::error!(%error, "a replica could not be started"),
        }
    }

    /// Counts what is under way and adjusts how many replicas there should be.
    fn scale(&mut self, now: Duration) {
        let Some(scaler) = &mut self.scaler else { return };
        let mut sum = Load { ongoing: 0, busy: 0.0, running: 0 };
        let mut worked = Duration::ZERO;
        for version in self.versions.values() {
            let (load, time) = version.core.load();
            sum.ongoing += load.ongoing;
            sum.running += load.running;
            worked += time;
        }
        if sum.running == 0 && sum.ongoing > 0 {
            scaler.wake();
        }
        if scaler.is_due(now) {
            let (worked_before, then) = self.worked;
            let passed = now.saturating_sub(then).as_secs_f64();
            // Less than before if a replica has gone, which took its count with it.
            let busy = worked.saturating_sub(worked_before).as_secs_f64();
            sum.busy = if passed > 0.0 { busy / passed } else { 0.0 };
            self.worked = (worked, now);
            let before = scaler.target();
            let target = scaler.observe(now, sum);
            if target != before {
                tracing::info!(deployment = %self.switch.name(), before, target, "scaled");
            }
        }
    }

    /// Takes the update one step further.
    fn roll(&mut self) {
        let Some(update) = &self.update else { return };
        let Some(new) = self.versions.get(&update.id) else { return };
        let old = (!update.first).then(|| self.fleet.count(self.current));
        let count = self.fleet.count(update.id);
        let desired = Desired { old: self.desired(&self.current().config), new: self.desired(&new.config) };
        let plan = update.rollout.step(desired, old.as_ref(), &count);
        let has_share = plan.share > 0.0 && count.ready >= plan.new;
        if !update.first && plan.share != update.plan.share {
            let other = (plan.share > 0.0).then(|| (Arc::clone(&new.core), plan.share));
            self.switch.set(Split { main: Arc::clone(&self.current().core), other });
        }
        match plan.end.clone() {
            Some(End::Done) => return self.take_over(),
            Some(End::RolledBack(reason)) => return self.roll_back(&reason),
            None => {}
        }
        if let Some(update) = &mut self.update {
            if update.rollout.canary().is_some() && has_share {
                update.done.drain(..).for_each(|done| drop(done.send(Ok(()))));
            }
            update.plan = plan;
        }
    }

    /// The new version has taken over: the old one hands over what waits, finishes what it is at, and ends.
    fn take_over(&mut self) {
        let Some(update) = self.update.take() else { return };
        let Some(new) = self.versions.get(&update.id) else { return };
        let (label, config) = (Arc::clone(&new.label), new.config.clone());
        self.switch.set(Split { main: Arc::clone(&new.core), other: None });
        if !update.first {
            self.current().core.hand_over(&new.core);
            tracing::info!(deployment = %self.switch.name(), version = %label, "updated");
        }
        self.current = update.id;
        self.fleet.forgive(update.id);
        self.set_config(config);
        self.message.clear();
        let name = Arc::clone(&self.current().core.name);
        let too_late = || {
            let reason = "the update was done before it could be rolled back".to_owned();
            Err(ServeError::Refused { deployment: Arc::clone(&name), reason })
        };
        update.end(|| Ok(()), too_late);
    }

    /// The old version serves alone again, and what waits for the new one goes to it.
    fn roll_back(&mut self, reason: &Arc<str>) {
        let Some(update) = self.update.take() else { return };
        let Some(new) = self.versions.get(&update.id) else { return };
        let (deployment, version) = (Arc::clone(&new.core.name), Arc::clone(&new.label));
        let reason = Arc::clone(reason);
        if update.first {
            self.message.clone_from(&format!("its model could not be built: {reason}"));
            new.core.close();
            self.closing.get_or_insert_default();
            let failed = || ServeError::Model { deployment: deployment.clone(), reason: reason.clone() };
            return update.end(|| Err(failed()), || Err(failed()));
        }
        self.switch.set(Split { main: Arc::clone(&self.current().core), other: None });
        new.core.hand_over(&self.current().core);
        self.message = format!("the update to version {version} was rolled back: {reason}");
        tracing::error!(%deployment, %version, %reason, "the update was rolled back");
        let failed = || ServeError::RolledBack {
            deployment: deployment.clone(),
            version: version.clone(),
            reason: reason.clone(),
        };
        update.end(|| Err(failed()), || Ok(()));
    }

    fn wants(&self) -> Vec<Want> {
        if self.is_closing() {
            return Vec::new();
        }
        let want = |id: VersionId, replicas: usize| {
            self.versions.get(&id).map(|version| Want {
                version: id,
                replicas,
                limits: version.config.limits(),
            })
        };
        let wants = match &self.update {
            Some(update) if update.first => [None, want(update.id, update.plan.new)],
            Some(update) => [want(self.current, update.plan.old), want(update.id, update.plan.new)],
            None => [want(self.current, self.desired(&self.current().config)), None],
        };
        wants.into_iter().flatten().collect()
    }

    /// Forgets versions that are over. What still waits there goes to the one that serves.
    fn clean_up(&mut self) {
        let updating = self.update.as_ref().map(|update| update.id);
        let closing = self.is_closing();
        let is_over = |id: &VersionId| {
            (closing || (*id != self.current && Some(*id) != updating)) && self.fleet.is_gone(*id)
        };
        let over: Vec<VersionId> = self.versions.keys().copied().filter(is_over).collect();
        for id in over {
            let Some(version) = self.versions.get(&id) else { continue };
            let jobs = version.core.take_last();
            if closing {
                for job in jobs {
                    let deployment = Arc::clone(&version.core.name);
                    let _ = job.reply.send(Err(CallError::Closed { deployment }));
                }
            } else {
                let to = &self.current().core;
                let is_same = to.is_signed_as(&version.core);
                let (taken, unfit): (Vec<_>, Vec<_>) =
                    jobs.into_iter().partition(|job| is_same || !job.fitted);
                for job in unfit {
                    let deployment = Arc::clone(&version.core.name);
                    let _ = job.reply.send(Err(CallError::Replaced { deployment }));
                }
                to.adopt(taken);
                self.versions.remove(&id);
                self.fleet.forgive(id);
            }
        }
        for version in self.versions.values() {
            version.core.expire();
        }
    }

    fn show(&self) {
        let mut counts = [0usize; 4];
        for member in self.fleet.members().values() {
            counts[super::status::ReplicaState::of(member.stage) as usize] += 1;
        }
        self.metrics.replicas(counts, self.target());
    }

    /// Replicas there should be, of whichever version.
    fn target(&self) -> usize {
        if self.is_closing() { 0 } else { self.desired(&self.current().config) }
    }

    /// What it looks like from outside.
    pub(super) fn status(&self, now: Duration) -> DeploymentStatus {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let at = |time: Duration| unix.saturating_sub(now.saturating_sub(time)).as_secs_f64();
        let models = |number: &Number| {
            let held = self.lives.get(number).and_then(|life| life.slot.held.get());
            held.map_or_else(Vec::new, |held| held.ids().iter().map(ToString::to_string).collect())
        };
        // Asked only of those that ask for something, as finding out what there is may take a while.
        let asks = self.versions.values().any(|version| version.config.resources().is_some());
        let waiting = if asks { self.resources.state().waiting } else { Vec::new() };
        let waits_for = |number: &Number| {
            let name = format!("{}#{number}", self.switch.name());
            let request = waiting.iter().find(|request| request.owner.as_deref() == Some(&*name))?;
            Some(format!("{}: {}", request.resources, request.reason))
        };
        let replica = |(number, member): (&Number, &Member)| ReplicaStatus {
            name: format!("{}#{number}", self.switch.name()),
            version: self
                .versions
                .get(&member.version)
                .map(|version| version.label.to_string())
                .unwrap_or_default(),
            state: super::status::ReplicaState::of(member.stage),
            since_s: at(member.since),
            restarts: member.restarts,
            last_exit: member.last_exit.as_ref().map(|(_, reason)| reason.to_string()),
            last_exit_s: member.last_exit.as_ref().map(|(time, _)| at(*time)),
            models: models(number),
            waits_for: waits_for(number),
        };
        let update = self.update.as_ref().and_then(|update| {
            let label = self.versions.get(&update.id)?.label.to_string();
            Some((label, update.plan.share, update.rollout.canary().is_some()))
        });
        DeploymentStatus::of(Facts {
            version: self.current().label.to_string(),
            update: update.filter(|_| self.update.as_ref().is_some_and(|update| !update.first)),
            changing: self.update.is_some() || self.reconfiguring.is_some(),
            target: self.target(),
            queued: self.versions.values().map(|version| version.core.queued()).sum(),
            message: self.message.clone(),
            replicas: self.fleet.members().iter().map(replica).collect(),
        })
    }
}

fn see<I: Send + 'static, O: Send + 'static>(life: Option<&Life<I, O>>) -> Seen {
    let Some(life) = life else { return Seen::default() };
    let slot = &life.slot;
    let finishing_since = *slot.finishing_since.lock();
    Seen { ready: slot.is_ready(), busy_since: slot.work().since(), finishing_since, ended: life.ended() }
}
