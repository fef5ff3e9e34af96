//! What a supervisor decides, without a clock, a thread or a worker (A4).
//!
//! Strategies and restart intensity are Erlang/OTP's (`supervisor`, *Design Principles*): one-for-one, one-for-all, rest-for-one, and
//! at most so many restarts within a window before the supervisor gives up. The delay before a restart grows exponentially and is
//! jittered, so that workers that fail together do not come back together.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rand::RngExt;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

/// Which siblings share a failed worker's fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Strategy {
    /// Only the one that ended is restarted.
    #[default]
    OneForOne,
    /// All are stopped, then all are restarted.
    OneForAll,
    /// Those started after the one that ended are stopped, then it and they are restarted.
    RestForOne,
}

/// After which ends a worker is restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Restart {
    /// After every end but an asked-for stop.
    Always,
    /// After failures, not after a normal end.
    #[default]
    OnFailure,
    /// Never.
    Never,
}

/// How long to wait before a restart: `first · factor^(n-1)`, at most `max`, times a random number in `1 ± jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// The delay before the first restart within the window.
    pub first: Duration,
    /// What each further one is multiplied by.
    pub factor: f64,
    /// The longest delay.
    pub max: Duration,
    /// The share of the delay that is random, in 0..=1.
    pub jitter: f64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(10), factor: 2.0, max: Duration::from_secs(10), jitter: 0.2 }
    }
}

impl Backoff {
    /// No delay at all.
    pub const NONE: Self = Self { first: Duration::ZERO, factor: 1.0, max: Duration::ZERO, jitter: 0.0 };

    /// The delay before restart number `n` (from 1) in the window.
    pub(crate) fn delay(&self, n: usize, rng: &mut Pcg64) -> Duration {
        let exponent = i32::try_from(n.saturating_sub(1)).unwrap_or(i32::MAX);
        let grown = self.first.as_secs_f64() * self.factor.max(1.0).powi(exponent);
        let capped = grown.min(self.max.as_secs_f64());
        let jitter = self.jitter.clamp(0.0, 1.0);
        Duration::from_secs_f64(capped * (1.0 + jitter * rng.random_range(-1.0..=1.0)))
    }
}

/// A child's number under its supervisor, in order of start; never given twice.
pub(super) type ChildId = usize;

/// What the supervisor is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Stop this child after its current message; say [`Supervision::on_exit`] when it has ended.
    Stop(ChildId),
    /// Start a fresh one after the delay.
    Start { child: ChildId, after: Duration },
    /// The child is gone for good: close its mailbox.
    Close(ChildId),
    /// Too many restarts: end everything and tell the parent.
    Escalate { restarts: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Stopping,
    /// Ended, and waits for the others of its round.
    Down,
}

/// Decides for one supervisor.
#[derive(Debug)]
pub(super) struct Supervision {
    strategy: Strategy,
    intensity: usize,
    window: Duration,
    backoff: Backoff,
    rng: Pcg64,
    /// Those that may have further lives; one that is closed is forgotten.
    children: BTreeMap<ChildId, (State, Restart)>,
    next: ChildId,
    /// When the restarts within the window happened.
    restarts: VecDeque<Duration>,
    /// The delay of the restart that waits for siblings to stop.
    round: Option<Duration>,
}

impl Supervision {
    pub(super) fn new(
        strategy: Strategy,
        intensity: usize,
        window: Duration,
        backoff: Backoff,
        rng: Pcg64,
    ) -> Self {
        Self {
            strategy,
            intensity,
            window,
            backoff,
            rng,
            children: BTreeMap::new(),
            next: 0,
            restarts: VecDeque::new(),
            round: None,
        }
    }

    /// Adds a child, which the caller starts.
    pub(super) fn add(&mut self, restart: Restart) -> ChildId {
        let child = self.next;
        self.next += 1;
        self.children.insert(child, (State::Running, restart));
        child
    }

    /// A child ended by itself, was stopped on request, or failed to start.
    ///
    /// `asked` tells an end that the user asked for, after which nothing is restarted.
    pub(super) fn on_exit(
        &mut self,
        now: Duration,
        child: ChildId,
        failure: bool,
        asked: bool,
    ) -> Vec<Action> {
        let Some((state, restart)) = self.children.get_mut(&child) else { return Vec::new() };
        match state {
            State::Down => return Vec::new(),
            // Stopped for a sibling's sake (or failed while stopping): it comes back with the round.
            State::Stopping => {
                *state = State::Down;
                let mut actions = if asked { self.close(child) } else { Vec::new() };
                actions.extend(self.finish_round());
                return actions;
            }
            State::Running => {}
        }
        let again = !asked
            && match restart {
                Restart::Always => true,
                Restart::OnFailure => failure,
                Restart::Never => false,
            };
        if !again {
            return self.close(child);
        }
        while self.restarts.front().is_some_and(|at| now.saturating_sub(*at) > self.window) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= self.intensity {
            return vec![Action::Escalate { restarts: self.restarts.len() }];
        }
        self.restarts.push_back(now);
        let delay = self.backoff.delay(self.restarts.len(), &mut self.rng);
        if self.strategy == Strategy::OneForOne {
            // It is a round of its own, whatever the number of its siblings.
            return vec![Action::Start { child, after: delay }];
        }
        self.round = Some(self.round.map_or(delay, |earlier| earlier.max(delay)));
        let mut actions = Vec::new();
        for (&id, (state, _)) in &mut self.children {
            if id == child {
                *state = State::Down;
            } else if *state == State::Running && (self.strategy == Strategy::OneForAll || id > child) {
                *state = State::Stopping;
                actions.push(Action::Stop(id));
            }
        }
        actions.extend(self.finish_round());
        actions
    }

    /// There will be no further life of it.
    fn close(&mut self, child: ChildId) -> Vec<Action> {
        self.children.remove(&child);
        vec![Action::Close(child)]
    }

    /// The supervisor starts again with its parent: everyone that was not closed runs, and old restarts are forgiven.
    pub(super) fn revive(&mut self) {
        self.restarts.clear();
        self.round = None;
        self.children.values_mut().for_each(|(state, _)| *state = State::Running);
    }

    /// Once nobody is still stopping, everyone that is down starts, in order.
    fn finish_round(&mut self) -> Vec<Action> {
        if self.children.values().any(|(state, _)| *state == State::Stopping) {
            return Vec::new();
        }
        let Some(after) = self.round.take() else { return Vec::new() };
        let mut actions = Vec::new();
        for (&child, (state, _)) in &mut self.children {
            if *state == State::Down {
                *state = State::Running;
                actions.push(Action::Start { child, after });
            }
        }
        actions
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::{Just, any, prop, prop_assert, prop_oneof, proptest};

    const SECOND: Duration = Duration::from_secs(1);

    fn policy(strategy: Strategy, intensity: usize, children: usize) -> Supervision {
        let mut policy = Supervision::new(strategy, intensity, SECOND * 5, Backoff::NONE, Pcg64::new(1, 1));
        for _ in 0..children {
            policy.add(Restart::OnFailure);
        }
        policy
    }

    fn start(child: ChildId) -> Action {
        Action::Start { child, after: Duration::ZERO }
    }

    #[test]
    fn one_for_one_restarts_only_the_failed_child() {
        let mut policy = policy(Strategy::OneForOne, 3, 3);
        assert_eq!(policy.on_exit(SECOND, 1, true, false), [start(1)]);
    }

    #[test]
    fn one_for_all_waits_until_every_sibling_has_stopped() {
        let mut policy = policy(Strategy::OneForAll, 3, 3);
        assert_eq!(policy.on_exit(SECOND, 1, true, false), [Action::Stop(0), Action::Stop(2)]);
        assert_eq!(policy.on_exit(SECOND, 2, false, false), []);
        assert_eq!(policy.on_exit(SECOND, 0, true, false), [start(0), start(1), start(2)]);
    }

    #[test]
    fn rest_for_one_spares_those_started_before() {
        let mut policy = policy(Strategy::RestForOne, 3, 3);
        assert_eq!(policy.on_exit(SECOND, 1, true, false), [Action::Stop(2)]);
        assert_eq!(policy.on_exit(SECOND, 2, false, false), [start(1), start(2)]);
    }

    #[test]
    fn intensity_counts_within_the_window_only() {
        let mut policy = policy(Strategy::OneForOne, 2, 1);
        assert_eq!(policy.on_exit(SECOND, 0, true, false), [start(0)]);
        assert_eq!(policy.on_exit(SECOND * 2, 0, true, false), [start(0)]);
        assert_eq!(
            policy.on_exit(SECOND * 7, 0, true, false),
            [start(0)],
            "the first restart is six seconds ago"
        );
        assert_eq!(policy.on_exit(SECOND * 7, 0, true, false), [Action::Escalate { restarts: 2 }]);
    }

    #[test]
    fn a_normal_end_closes_and_an_asked_for_stop_is_never_restarted() {
        let mut policy = policy(Strategy::OneForAll, 3, 2);
        assert_eq!(policy.on_exit(SECOND, 0, false, false), [Action::Close(0)]);
        assert_eq!(policy.on_exit(SECOND, 0, true, false), [], "a closed child says nothing more");
        let mut always = Supervision::new(Strategy::OneForOne, 3, SECOND, Backoff::NONE, Pcg64::new(1, 1));
        let child = always.add(Restart::Always);
        assert_eq!(always.on_exit(SECOND, child, false, false), [start(child)]);
        assert_eq!(always.on_exit(SECOND, child, false, true), [Action::Close(child)]);
    }

    #[test]
    fn a_child_asked_to_stop_during_a_round_stays_closed() {
        let mut policy = policy(Strategy::OneForAll, 3, 3);
        policy.on_exit(SECOND, 0, true, false);
        assert_eq!(policy.on_exit(SECOND, 1, false, true), [Action::Close(1)]);
        assert_eq!(policy.on_exit(SECOND, 2, false, false), [start(0), start(2)]);
    }

    #[test]
    fn who_is_closed_is_forgotten() {
        for strategy in [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne] {
            let mut policy = policy(strategy, 3, 1);
            let used = allocation_counter::measure(|| {
                for n in 1..=10_000 {
                    let child = policy.add(Restart::OnFailure);
                    assert_eq!(child, n, "a number is never given twice");
                    assert_eq!(policy.on_exit(SECOND, child, false, true), [Action::Close(child)]);
                    assert_eq!(policy.on_exit(SECOND, child, true, false), []);
                }
            });
            assert_eq!(policy.children.len(), 1);
            assert!(used.bytes_current <= 1024, "{strategy:?}: {} bytes are kept", used.bytes_current);
        }
    }

    #[test]
    fn delays_double_up_to_the_limit() {
        let backoff = Backoff { first: SECOND, factor: 2.0, max: SECOND * 5, jitter: 0.0 };
        let mut rng = Pcg64::new(1, 1);
        let delays: Vec<_> = (1..=5).map(|n| backoff.delay(n, &mut rng).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 5, 5]);
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_share(n in 1_usize..100, jitter in 0.0_f64..=1.0, seed: u64) {
            let backoff = Backoff { first: SECOND, factor: 3.0, max: SECOND * 60, jitter };
            let exact = Backoff { jitter: 0.0, ..backoff }.delay(n, &mut Pcg64::new(1, 1)).as_secs_f64();
            let delay = backoff.delay(n, &mut Pcg64::new(seed.into(), 1)).as_secs_f64();
            prop_assert!((delay - exact).abs() <= exact * jitter + 1e-9);
        }

        /// Whatever ends in whatever order: never more restarts within a window than allowed, nothing is both stopped and started, and
        /// when nobody is stopping any more, everybody not closed is running.
        #[test]
        fn any_sequence_keeps_the_rules(
            strategy in prop_oneof![Just(Strategy::OneForOne), Just(Strategy::OneForAll), Just(Strategy::RestForOne)],
            events in prop::collection::vec((0_usize..4, any::<bool>(), any::<bool>(), 0_u64..3), 1..60),
        ) {
            let mut policy = policy(strategy, 3, 4);
            let mut now = Duration::ZERO;
            let mut rounds = VecDeque::new();
            for (child, failure, asked, pause) in events {
                now += SECOND * u32::try_from(pause).unwrap();
                let before = policy.children.get(&child).map(|(state, _)| *state);
                let actions = policy.on_exit(now, child, failure, asked);
                if actions.iter().any(|a| matches!(a, Action::Escalate { .. })) {
                    prop_assert!(rounds.iter().filter(|at| now.saturating_sub(**at) <= SECOND * 5).count() >= 3);
                    return Ok(());
                }
                if before == Some(State::Running) && failure && !asked {
                    rounds.push_back(now);
                    prop_assert!(rounds.iter().filter(|at| now.saturating_sub(**at) <= SECOND * 5).count() <= 3);
                }
                for action in &actions {
                    if let Action::Start { child, .. } = action {
                        prop_assert!(!actions.contains(&Action::Stop(*child)));
                    }
                }
                let mut states = policy.children.values().map(|(state, _)| *state);
                if states.clone().all(|state| state != State::Stopping) {
                    prop_assert!(states.all(|state| state == State::Running));
                }
            }
        }
    }
}
