//! Which replica to start, to start again, to drain and to give up. Pure.
//!
//! It is told what is seen of each replica and how many of each version there should be, and says what to do. A replica keeps its number
//! through its lives; numbers are never used twice. One that fails is started again after a delay that doubles while failures follow each
//! other, and one that does not return within its limits is given up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::rollout::Count;

/// A replica's number within its deployment.
pub(crate) type Number = u64;
/// A version's number within its deployment.
pub(crate) type VersionId = u64;

/// The delay after a first failure, and the longest.
const FIRST_DELAY: Duration = Duration::from_millis(10);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// A replica that has run for so long has recovered: its next failure is a first one again.
const STEADY: Duration = Duration::from_secs(10);

/// How long a replica may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// From its start until it is ready.
    pub startup: Duration,
    /// For one call of its model.
    pub call: Duration,
    /// To finish what it has when it is to end.
    pub grace: Duration,
}

/// How many replicas of a version there should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub version: VersionId,
    pub replicas: usize,
    pub limits: Limits,
}

/// What is seen of a replica.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub ready: bool,
    /// Since when its model has been at work on one call.
    pub busy_since: Option<Duration>,
    /// Since when it has only been finishing what it has, its model being no good for more.
    pub finishing_since: Option<Duration>,
    /// That its life is over, and why if it failed.
    pub ended: Option<Result<(), Arc<str>>>,
}

/// What to do with a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a life.
    Start(Number, VersionId),
    /// Let it finish what it has, and end.
    Drain(Number),
    /// Wait for it no longer, for this reason.
    GiveUp(Number, Arc<str>),
}

/// Where a replica is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It builds its model.
    Starting,
    Running,
    /// It finishes what it has.
    Stopping,
    /// It failed, and is started again then.
    Waiting {
        until: Duration,
    },
}

/// One replica.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub version: VersionId,
    pub stage: Stage,
    /// When that began.
    pub since: Duration,
    /// How often it was started again.
    pub restarts: usize,
    /// When and why it last failed.
    pub last_exit: Option<(Duration, Arc<str>)>,
    /// Failures that followed each other.
    failures: u32,
    limits: Limits,
}

/// The replicas of one deployment.
#[derive(Default)]
pub(crate) struct Fleet {
    members: BTreeMap<Number, Member>,
    next: Number,
    /// Of each version, how often one failed and why the last time.
    failures: BTreeMap<VersionId, (usize, Arc<str>)>,
}

impl Fleet {
    pub(crate) fn members(&self) -> &BTreeMap<Number, Member> {
        &self.members
    }

    /// Whether nothing is left of a version.
    pub(crate) fn is_gone(&self, version: VersionId) -> bool {
        self.members.values().all(|member| member.version != version)
    }

    /// The replicas of a version.
    pub(crate) fn count(&self, version: VersionId) -> Count {
        let mut count = Count::default();
        for member in self.members.values().filter(|member| member.version == version) {
            match member.stage {
                Stage::Starting => count.alive += 1,
                Stage::Running => {
                    count.alive += 1;
                    count.ready += 1;
                }
                Stage::Stopping => count.stopping += 1,
                Stage::Waiting { .. } => {}
            }
        }
        if let Some((failures, reason)) = self.failures.get(&version) {
            count.failures = *failures;
            count.reason = Some(Arc::clone(reason));
        }
        count
    }

    /// Forgets the failures of a version that has proved itself, or is gone.
    pub(crate) fn forgive(&mut self, version: VersionId) {
        self.failures.remove(&version);
    }

    /// Forgets all replicas.
    pub(crate) fn clear(&mut self) {
        self.members.clear();
    }

    /// Takes in what is seen of the replicas; says which of them to wait for no longer.
    pub(crate) fn look(&mut self, now: Duration, see: impl Fn(Number) -> Seen) -> Vec<Action> {
        let mut actions = Vec::new();
        let numbers: Vec<Number> = self.members.keys().copied().collect();
        for number in numbers {
            self.look_at(now, number, &see, &mut actions);
        }
        actions
    }

    /// Says what to do so that there are as many replicas as wanted. A version that is not wanted ends.
    pub(crate) fn fit(&mut self, now: Duration, wants: &[Want]) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut versions: Vec<VersionId> = self.members.values().map(|member| member.version).collect();
        versions.extend(wants.iter().map(|want| want.version));
        versions.sort_unstable();
        versions.dedup();
        for version in versions {
            let want = wants.iter().find(|want| want.version == version);
            self.fit_one(now, version, want, &mut actions);
        }
        actions
    }

    fn look_at(
        &mut self,
        now: Duration,
        number: Number,
        see: &impl Fn(Number) -> Seen,
        actions: &mut Vec<Action>,
    ) {
        let Some(member) = self.members.get_mut(&number) else { return };
        if matches!(member.stage, Stage::Waiting { .. }) {
            return;
        }
        let (seen, limits) = (see(number), member.limits);
        let stopping = member.stage == Stage::Stopping;
        let over = |since: Duration, limit: Duration| now.saturating_sub(since) > limit;
        let failure = match seen.ended {
            Some(Ok(())) => {
                self.members.remove(&number);
                return;
            }
            Some(Err(reason)) => Some(reason),
            None => {
                if member.stage == Stage::Starting && seen.ready {
                    member.stage = Stage::Running;
                    member.since = now;
                }
                let reason: Option<Arc<str>> = if member.stage == Stage::Starting
                    && over(member.since, limits.startup)
                {
                    Some(format!("it was not ready within {:?}", limits.startup).into())
                } else if seen.busy_since.is_some_and(|since| over(since, limits.call)) {
                    Some(format!("its model did not return within {:?}", limits.call).into())
                } else if (stopping && over(member.since, limits.grace))
                    || seen.finishing_since.is_some_and(|since| over(since, limits.grace))
                {
                    Some(format!("it had not finished {:?} after it was told to end", limits.grace).into())
                } else {
                    None
                };
                if let Some(reason) = &reason {
                    actions.push(Action::GiveUp(number, Arc::clone(reason)));
                }
                reason
            }
        };
        let Some(reason) = failure else { return };
        if stopping {
            self.members.remove(&number);
            return;
        }
        if member.stage == Stage::Running && over(member.since, STEADY) {
            member.failures = 0;
        }
        member.failures += 1;
        let delay = FIRST_DELAY.saturating_mul(1 << (member.failures - 1).min(16)).min(LONGEST_DELAY);
        member.stage = Stage::Waiting { until: now.saturating_add(delay) };
        member.since = now;
        member.last_exit = Some((now, Arc::clone(&reason)));
        let failures = self.failures.entry(member.version).or_insert((0, Arc::clone(&reason)));
        *failures = (failures.0 + 1, reason);
    }

    /// Starts or ends replicas of one version until there are as many as wanted.
    fn fit_one(&mut self, now: Duration, version: VersionId, want: Option<&Want>, actions: &mut Vec<Action>) {
        let wanted = want.map_or(0, |want| want.replicas);
        let stays = |member: &Member| member.version == version && member.stage != Stage::Stopping;
        let mut staying: Vec<Number> =
            self.members.iter().filter(|(_, member)| stays(member)).map(|(number, _)| *number).collect();
        // Those that cannot answer go first, and of the others the youngest.
        staying.sort_by_key(|number| {
            let rank = match self.members[number].stage {
                Stage::Running => 0,
                Stage::Starting => 1,
                _ => 2,
            };
            (rank, *number)
        });
        for number in staying.drain(wanted.min(staying.len())..) {
            let Some(member) = self.members.get_mut(&number) else { continue };
            if matches!(member.stage, Stage::Waiting { .. }) {
                self.members.remove(&number);
            } else {
                member.stage = Stage::Stopping;
                member.since = now;
                actions.push(Action::Drain(number));
            }
        }
        let Some(want) = want else { return };
        for number in &staying {
            let Some(member) = self.members.get_mut(number) else { continue };
            member.limits = want.limits;
            if matches!(member.stage, Stage::Waiting { until } if until <= now) {
                member.stage = Stage::Starting;
                member.since = now;
                member.restarts += 1;
                actions.push(Action::Start(*number, version));
            }
        }
        for _ in staying.len()..wanted {
            let number = self.next;
            self.next += 1;
            let member = Member {
                version,
                stage: Stage::Starting,
                since: now,
                restarts: 0,
                last_exit: None,
                failures: 0,
                limits: want.limits,
            };
            self.members.insert(number, member);
            actions.push(Action::Start(number, version));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        startup: Duration::from_mins(1),
        call: Duration::from_secs(5),
        grace: Duration::from_secs(20),
    };

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn want(version: VersionId, replicas: usize) -> Want {
        Want { version, replicas, limits: LIMITS }
    }

    fn ready() -> Seen {
        Seen { ready: true, ..Seen::default() }
    }

    fn failed(reason: &str) -> Seen {
        Seen { ended: Some(Err(reason.into())), ..Seen::default() }
    }

    impl Fleet {
        fn step(&mut self, now: Duration, see: impl Fn(Number) -> Seen, wants: &[Want]) -> Vec<Action> {
            let mut actions = self.look(now, see);
            actions.extend(self.fit(now, wants));
            actions
        }
    }

    #[test]
    fn replicas_come_and_the_youngest_go_first() {
        let mut fleet = Fleet::default();
        let started = fleet.step(s(0), |_| Seen::default(), &[want(1, 3)]);
        assert_eq!(started, [Action::Start(0, 1), Action::Start(1, 1), Action::Start(2, 1)]);
        assert_eq!(fleet.step(s(1), |_| ready(), &[want(1, 3)]), []);
        assert_eq!(fleet.count(1), Count { ready: 3, alive: 3, ..Count::default() });
        assert_eq!(fleet.step(s(2), |_| ready(), &[want(1, 1)]), [Action::Drain(1), Action::Drain(2)]);
        let ended =
            |number| if number == 0 { ready() } else { Seen { ended: Some(Ok(())), ..Seen::default() } };
        assert_eq!(fleet.step(s(3), ended, &[want(1, 2)]), [Action::Start(3, 1)]);
    }

    #[test]
    fn one_that_cannot_answer_goes_before_one_that_can() {
        let mut fleet = Fleet::default();
        fleet.step(s(0), |_| Seen::default(), &[want(1, 2)]);
        let second_is_ready = |number| if number == 1 { ready() } else { Seen::default() };
        assert_eq!(fleet.step(s(1), second_is_ready, &[want(1, 1)]), [Action::Drain(0)]);
    }

    #[test]
    fn a_failure_is_started_again_later_and_later_and_told() {
        let mut fleet = Fleet::default();
        fleet.step(s(0), |_| Seen::default(), &[want(1, 1)]);
        let mut delays = Vec::new();
        let mut now = s(0);
        for _ in 0..12 {
            assert_eq!(fleet.step(now, |_| failed("no weights"), &[want(1, 1)]), []);
            let Stage::Waiting { until } = fleet.members()[&0].stage else { panic!("{:?}", fleet.members()) };
            delays.push(until.saturating_sub(now).as_millis());
            now = until;
            assert_eq!(fleet.step(now, |_| Seen::default(), &[want(1, 1)]), [Action::Start(0, 1)]);
        }
        assert_eq!(delays, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_000, 10_000]);
        assert_eq!(fleet.members()[&0].restarts, 12);
        assert_eq!(fleet.members()[&0].last_exit.as_ref().unwrap().1.as_ref(), "no weights");
        let count = fleet.count(1);
        assert_eq!((count.failures, count.reason.as_deref()), (12, Some("no weights")));
        // After some time of health the next failure is a first one.
        fleet.step(now, |_| ready(), &[want(1, 1)]);
        now += s(11);
        fleet.step(now, |_| failed("bad luck"), &[want(1, 1)]);
        let Stage::Waiting { until } = fleet.members()[&0].stage else { panic!() };
        assert_eq!(until.saturating_sub(now).as_millis(), 10);
    }

    #[test]
    fn what_does_not_return_is_given_up_with_the_reason() {
        let mut fleet = Fleet::default();
        fleet.step(s(0), |_| Seen::default(), &[want(1, 1)]);
        let given_up = fleet.step(s(61), |_| Seen::default(), &[want(1, 1)]);
        assert_eq!(given_up, [Action::GiveUp(0, "it was not ready within 60s".into())]);
        fleet.step(s(62), |_| Seen::default(), &[want(1, 1)]);
        fleet.step(s(63), |_| ready(), &[want(1, 1)]);
        let busy = |since| move |_| Seen { busy_since: Some(s(since)), ..ready() };
        assert_eq!(fleet.step(s(70), busy(65), &[want(1, 1)]), []);
        let given_up = fleet.step(s(71), busy(65), &[want(1, 1)]);
        assert_eq!(given_up, [Action::GiveUp(0, "its model did not return within 5s".into())]);
        // A fresh life has begun; it is told to end and does not.
        fleet.step(s(72), |_| ready(), &[want(1, 1)]);
        assert_eq!(fleet.step(s(73), |_| ready(), &[]), [Action::Drain(0)]);
        assert_eq!(fleet.step(s(93), |_| ready(), &[]), []);
        let given_up = fleet.step(s(94), |_| ready(), &[]);
        assert_eq!(given_up, [Action::GiveUp(0, "it had not finished 20s after it was told to end".into())]);
        assert!(fleet.is_gone(1));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Ready(usize),
        Fail(usize),
        End(usize),
        Hang(usize),
        Pass(u64),
        Want(usize, usize),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => any::<usize>().prop_map(Event::Ready),
            1 => any::<usize>().prop_map(Event::Fail),
            2 => any::<usize>().prop_map(Event::End),
            1 => any::<usize>().prop_map(Event::Hang),
            3 => (1..20_000u64).prop_map(Event::Pass),
            2 => (0..6usize, 0..6usize).prop_map(|(old, new)| Event::Want(old, new)),
        ]
    }

    proptest! {
        /// Whatever happens: a replica has one life at a time, only a live one is drained or given up, numbers are not used twice, and
        /// there are as many replicas as wanted at every moment.
        #[test]
        fn there_are_as_many_as_wanted_and_each_lives_once(events in prop::collection::vec(event(), 0..120)) {
            let mut fleet = Fleet::default();
            let mut now = Duration::ZERO;
            let mut wants = [want(1, 1), want(2, 0)];
            let mut lives: BTreeMap<Number, Seen> = BTreeMap::new();
            let (mut drained, mut known) = (BTreeSet::new(), BTreeSet::new());
            for event in events {
                let nth = |n: usize| lives.keys().nth(n % lives.len().max(1)).copied();
                match event {
                    Event::Pass(ms) => now += Duration::from_millis(ms),
                    Event::Want(old, new) => {
                        wants[0].replicas = old;
                        wants[1].replicas = new;
                    }
                    Event::Ready(n) => if let Some(n) = nth(n) { lives.get_mut(&n).unwrap().ready = true },
                    Event::Fail(n) => if let Some(n) = nth(n) { lives.get_mut(&n).unwrap().ended = Some(Err("x".into())) },
                    Event::Hang(n) => if let Some(n) = nth(n) { lives.get_mut(&n).unwrap().busy_since = Some(now) },
                    Event::End(n) => if let Some(n) = nth(n).filter(|n| drained.contains(n)) {
                        lives.get_mut(&n).unwrap().ended = Some(Ok(()));
                    },
                }
                for action in fleet.step(now, |number| lives[&number].clone(), &wants) {
                    match action {
                        Action::Start(number, version) => {
                            let again = lives.insert(number, Seen::default());
                            prop_assert!(again.is_none_or(|life| life.ended.is_some()), "two lives of {number}");
                            prop_assert!(version == 1 || version == 2);
                            prop_assert!(known.insert(number) || fleet.members()[&number].restarts > 0);
                        }
                        Action::Drain(number) => {
                            prop_assert!(lives[&number].ended.is_none() && drained.insert(number));
                        }
                        Action::GiveUp(number, _) => {
                            prop_assert!(lives[&number].ended.is_none());
                            lives.remove(&number);
                        }
                    }
                }
                lives.retain(|number, life| life.ended.is_none() || fleet.members().contains_key(number));
                for want in wants {
                    let staying = fleet.members().values();
                    let staying = staying.filter(|m| m.version == want.version && m.stage != Stage::Stopping);
                    prop_assert_eq!(staying.count(), want.replicas);
                }
                for (number, member) in fleet.members() {
                    let alive = lives.get(number).is_some_and(|life| life.ended.is_none());
                    prop_assert_eq!(alive, !matches!(member.stage, Stage::Waiting { .. }));
                }
            }
        }
    }
}
