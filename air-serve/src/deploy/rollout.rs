//! How a version takes over from the one before it: start before stop, a readiness gate, shares of the requests, a rollback. Pure.
//!
//! Asked again whenever something has changed, and told what is there now, it says how many replicas of each version there should be and which
//! share of the requests goes to the new one. Three things hold whatever happens: an old replica is taken away only where a new one that is
//! ready stands in for it; there are never more than the surge beyond what is desired; the new version gets requests only while it
//! has a replica that is ready.

use std::sync::Arc;

/// The replicas of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Those that can answer.
    pub ready: usize,
    /// Those, and those that are starting.
    pub alive: usize,
    /// Those that finish what they have.
    pub stopping: usize,
    /// How often one failed, at its start or later.
    pub failures: usize,
    /// Why the last one did.
    pub reason: Option<Arc<str>>,
}

/// What there should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Plan {
    /// Replicas of the old version.
    pub old: usize,
    /// Replicas of the new version.
    pub new: usize,
    /// The new version's share of the requests.
    pub share: f64,
    /// That it is over, and how.
    pub end: Option<End>,
}

/// How many replicas each version should have if it were alone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Desired {
    pub old: usize,
    pub new: usize,
}

/// How an update ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The new version has taken over; the old one can go.
    Done,
    /// The old version serves as before, or nothing does if there was none; the new one can go.
    RolledBack(Arc<str>),
}

/// An update under way.
#[derive(Clone, Debug)]
pub(crate) struct Rollout {
    /// Failures of the new version that are put up with.
    retries: usize,
    /// Replicas there may be beyond what is desired; at least 1.
    surge: usize,
    /// The share at which the update stays until it is promoted.
    canary: Option<f64>,
    /// Why it is to be rolled back.
    abort: Option<Arc<str>>,
}

impl Rollout {
    pub(crate) fn new(retries: usize, surge: usize, canary: Option<f64>) -> Self {
        Rollout { retries, surge: surge.max(1), canary, abort: None }
    }

    /// The share it stays at, if it does.
    pub(crate) fn canary(&self) -> Option<f64> {
        self.canary
    }

    /// Changes the share at which it stays; `None` goes all the way.
    pub(crate) fn set_canary(&mut self, share: Option<f64>) {
        self.canary = share;
    }

    /// Gives the update up.
    pub(crate) fn roll_back(&mut self, reason: Arc<str>) {
        self.abort.get_or_insert(reason);
    }

    /// What there should be now. `old` is none for a first version.
    pub(crate) fn step(&self, desired: Desired, old: Option<&Count>, new: &Count) -> Plan {
        let failure = (new.failures > self.retries).then(|| {
            let reason = new.reason.as_deref().unwrap_or("its replicas fail");
            let times = if new.failures == 1 { "once" } else { &format!("{} times", new.failures) };
            format!("{reason} (failed {times})").into()
        });
        if let Some(reason) = self.abort.clone().or(failure) {
            return Plan { old: desired.old, new: 0, share: 0.0, end: Some(End::RolledBack(reason)) };
        }
        let Some(old) = old else {
            let end = (new.ready >= desired.new).then_some(End::Done);
            return Plan { old: 0, new: desired.new, share: 1.0, end };
        };
        // An update of a deployment that has scaled to zero is proved by one replica.
        let needed = desired.new.max(1);
        if let Some(share) = self.canary {
            let replicas = ((needed as f64 * share).ceil() as usize).clamp(1, needed);
            let share = if new.ready > 0 { share } else { 0.0 };
            return Plan { old: desired.old, new: replicas, share, end: None };
        }
        if new.ready >= needed {
            return Plan { old: 0, new: desired.new, share: 1.0, end: Some(End::Done) };
        }
        let room = (needed + self.surge).saturating_sub(old.alive + old.stopping + new.stopping);
        // What was started is not called off for an old replica that has come back.
        let replicas = room.max(new.alive).max(1).min(needed);
        let share = match (old.ready, new.ready) {
            (_, 0) => 0.0,
            (old, new) => new as f64 / (old + new) as f64,
        };
        // Nothing is taken away before the new version has shown that it can be ready.
        let stays = if new.ready == 0 { desired.old } else { desired.old.min(needed - new.ready) };
        Plan { old: stays, new: replicas, share, end: None }
    }
}

/// Whether request number `turn` goes to the version with this share: of any run of requests, as exactly the share as can be.
pub(crate) fn takes_turn(turn: u64, share: f64) -> bool {
    let before = (turn as f64 * share).floor();
    let after = ((turn + 1) as f64 * share).floor();
    after > before
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn step(rollout: &Rollout, desired: usize, old: Option<&Count>, new: &Count) -> Plan {
        rollout.step(Desired { old: desired, new: desired }, old, new)
    }

    fn count(ready: usize, alive: usize) -> Count {
        Count { ready, alive, ..Count::default() }
    }

    fn plan(old: usize, new: usize, share: f64) -> Plan {
        Plan { old, new, share, end: None }
    }

    #[test]
    fn one_replica_is_replaced_by_starting_the_other_first() {
        let rollout = Rollout::new(2, 1, None);
        assert_eq!(step(&rollout, 1, Some(&count(1, 1)), &count(0, 0)), plan(1, 1, 0.0));
        assert_eq!(step(&rollout, 1, Some(&count(1, 1)), &count(0, 1)), plan(1, 1, 0.0));
        let done = Plan { end: Some(End::Done), ..plan(0, 1, 1.0) };
        assert_eq!(step(&rollout, 1, Some(&count(1, 1)), &count(1, 1)), done);
    }

    #[test]
    fn four_replicas_go_one_by_one_and_the_requests_with_them() {
        let rollout = Rollout::new(2, 1, None);
        let seen = [
            (4, 0, 0),
            (4, 0, 1),
            (4, 1, 1),
            (3, 1, 2),
            (3, 2, 2),
            (2, 2, 3),
            (2, 3, 3),
            (1, 3, 4),
            (1, 4, 4),
        ];
        let plans: Vec<_> = seen
            .iter()
            .map(|(old, ready, alive)| step(&rollout, 4, Some(&count(*old, *old)), &count(*ready, *alive)))
            .map(|plan| (plan.old, plan.new, (plan.share * 100.0).round() as u32, plan.end.is_some()))
            .collect();
        let want = [
            (4, 1, 0, false),
            (4, 1, 0, false),
            (3, 1, 20, false),
            (3, 2, 25, false),
            (2, 2, 40, false),
            (2, 3, 50, false),
            (1, 3, 60, false),
            (1, 4, 75, false),
            (0, 4, 100, true),
        ];
        assert_eq!(plans, want);
    }

    #[test]
    fn too_many_failures_roll_it_back_with_the_reason() {
        let rollout = Rollout::new(1, 1, None);
        let mut new = Count { failures: 1, reason: Some("no weights".into()), ..count(0, 0) };
        assert_eq!(step(&rollout, 2, Some(&count(2, 2)), &new).end, None);
        new.failures = 2;
        let back = step(&rollout, 2, Some(&count(2, 2)), &new);
        let reason = "no weights (failed 2 times)".into();
        assert_eq!(back, Plan { end: Some(End::RolledBack(reason)), ..plan(2, 0, 0.0) });
    }

    #[test]
    fn a_first_version_is_done_when_all_of_it_is_ready_and_none_may_be_asked_for() {
        let rollout = Rollout::new(0, 1, None);
        assert_eq!(step(&rollout, 2, None, &count(1, 2)), plan(0, 2, 1.0));
        assert_eq!(step(&rollout, 2, None, &count(2, 2)).end, Some(End::Done));
        assert_eq!(step(&rollout, 0, None, &count(0, 0)).end, Some(End::Done));
    }

    #[test]
    fn a_version_scaled_to_zero_is_updated_by_proving_the_new_one() {
        let rollout = Rollout::new(0, 1, None);
        assert_eq!(step(&rollout, 0, Some(&count(0, 0)), &count(0, 0)), plan(0, 1, 0.0));
        let done = Plan { end: Some(End::Done), ..plan(0, 0, 1.0) };
        assert_eq!(step(&rollout, 0, Some(&count(0, 0)), &count(1, 1)), done);
    }

    #[test]
    fn fewer_replicas_are_left_only_once_the_new_version_has_one_that_is_ready() {
        let rollout = Rollout::new(0, 1, None);
        let desired = Desired { old: 4, new: 2 };
        assert_eq!(rollout.step(desired, Some(&count(4, 4)), &count(0, 1)), plan(4, 1, 0.0));
        assert_eq!(rollout.step(desired, Some(&count(4, 4)), &count(1, 1)), plan(1, 1, 0.2));
    }

    #[test]
    fn a_canary_stays_at_its_share_until_it_is_promoted_or_rolled_back() {
        let mut rollout = Rollout::new(0, 1, Some(0.3));
        assert_eq!(step(&rollout, 4, Some(&count(4, 4)), &count(0, 0)), plan(4, 2, 0.0));
        assert_eq!(step(&rollout, 4, Some(&count(4, 4)), &count(2, 2)), plan(4, 2, 0.3));
        let mut promoted = rollout.clone();
        promoted.set_canary(None);
        assert_eq!(step(&promoted, 4, Some(&count(4, 4)), &count(2, 2)), plan(2, 2, 2.0 / 6.0));
        rollout.roll_back("asked to".into());
        let end = step(&rollout, 4, Some(&count(4, 4)), &count(2, 2)).end;
        assert_eq!(end, Some(End::RolledBack("asked to".into())));
    }

    #[test]
    fn a_share_is_kept_exactly() {
        for share in [0.0, 0.01, 0.25, 1.0 / 3.0, 0.5, 0.9, 1.0] {
            let taken = (0..10_000).filter(|turn| takes_turn(*turn, share)).count() as f64;
            assert!((taken - 10_000.0 * share).abs() <= 1.0, "{share}: {taken}");
        }
    }

    /// What may happen between two looks.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        NewStarts,
        NewFails,
        NewCrashes,
        OldCrashes,
        OldStarts,
        OldIsGone,
        Desired(usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => Just(Event::NewStarts),
            1 => Just(Event::NewFails),
            1 => Just(Event::NewCrashes),
            1 => Just(Event::OldCrashes),
            2 => Just(Event::OldStarts),
            4 => Just(Event::OldIsGone),
            1 => (0..6usize).prop_map(Event::Desired),
        ]
    }

    proptest! {
        /// Whatever fails, crashes and is scaled in whatever order.
        #[test]
        fn capacity_is_kept_and_the_surge_is_not_exceeded(
            start in 1..6usize, surge in 1..3usize, retries in 0..6usize,
            canary in prop::option::of(0.05..1.0f64), events in prop::collection::vec(event(), 0..80)
        ) {
            let rollout = Rollout::new(retries, surge, canary);
            let mut desired = start;
            let (mut old, mut new) = (count(start, start), Count::default());
            for event in events {
                match event {
                    Event::NewStarts if new.alive > new.ready => new.ready += 1,
                    Event::NewFails if new.alive > new.ready => {
                        new.alive -= 1;
                        new.failures += 1;
                    }
                    Event::NewCrashes if new.ready > 0 => {
                        new.ready -= 1;
                        new.alive -= 1;
                        new.failures += 1;
                    }
                    Event::OldCrashes if old.ready > 0 => {
                        old.ready -= 1;
                        old.alive -= 1;
                    }
                    Event::OldStarts if old.alive > old.ready => old.ready += 1,
                    Event::OldIsGone if old.stopping > 0 => old.stopping -= 1,
                    Event::Desired(replicas) => desired = replicas,
                    _ => {}
                }
                let plan = step(&rollout, desired, Some(&old), &new);
                prop_assert!((0.0..=1.0).contains(&plan.share));
                prop_assert!(plan.share == 0.0 || new.ready > 0, "nobody there to take its share: {plan:?}");
                let needed = desired.max(1);
                match plan.end {
                    Some(End::Done) => {
                        prop_assert!(new.ready >= needed && canary.is_none());
                        break;
                    }
                    Some(End::RolledBack(_)) => {
                        prop_assert!(new.failures > retries);
                        prop_assert_eq!((plan.old, plan.share), (desired, 0.0));
                        break;
                    }
                    None => {}
                }
                prop_assert!(new.failures <= retries);
                let ready = old.ready + new.ready;
                let kept = old.ready.min(plan.old) + new.ready.min(plan.new);
                if canary.is_some() {
                    prop_assert_eq!(plan.old, desired);
                } else {
                    prop_assert!(kept >= ready.min(desired), "{old:?} {new:?} {plan:?}");
                }
                let started = plan.new.saturating_sub(new.alive);
                if started > 0 && canary.is_none() {
                    let all = old.alive + old.stopping + new.alive + new.stopping + started;
                    // With no room left one is started all the same: or it would wait for ever for an old one that cannot be had.
                    prop_assert!(all <= needed + surge || new.alive + started == 1, "{old:?} {new:?} {plan:?}");
                }
                // Carry it out.
                let gone = old.alive.saturating_sub(plan.old);
                old.stopping += gone.min(old.ready);
                old.alive -= gone;
                old.ready = old.ready.min(old.alive);
                old.alive = old.alive.max(plan.old);
                new.alive = plan.new;
                new.ready = new.ready.min(new.alive);
            }
        }

        /// Where new replicas start and old ones end, an update comes to its end; where they fail, to a rollback.
        #[test]
        fn every_update_ends(desired in 0..8usize, surge in 1..4usize, fails in any::<bool>()) {
            let rollout = Rollout::new(2, surge, None);
            let (mut old, mut new) = (count(desired, desired), Count::default());
            for _ in 0..4 * (desired + 2) {
                let plan = step(&rollout, desired, Some(&old), &new);
                if let Some(end) = plan.end {
                    prop_assert_eq!(matches!(end, End::RolledBack(_)), fails);
                    return Ok(());
                }
                old.stopping = 0;
                old.alive = plan.old;
                old.ready = plan.old;
                if fails {
                    new.failures += plan.new;
                } else {
                    new = count(plan.new, plan.new);
                }
            }
            prop_assert!(false, "it never ended");
        }
    }
}
