//! The contract of environments and of batches of them.

use air_rl::envs::{CartPole, Registry, SimpleCorridor};
use air_rl::{
    Action, Actions, BoxError, Env, RlError, Space, Step, TimeLimit, VecEnv, Vectorized, check_env,
};
use proptest::prelude::*;

/// Counts its steps; each episode ends by a script of (length, terminated, truncated). Observation: [episode, step].
#[derive(Clone)]
struct Scripted {
    script: Vec<(u32, bool, bool)>,
    episode: usize,
    step: u32,
}

impl Scripted {
    fn new(script: Vec<(u32, bool, bool)>) -> Self {
        Self { script, episode: usize::MAX, step: 0 }
    }
}

impl Env for Scripted {
    fn observation_space(&self) -> Space {
        Space::bounded(&[0.0, 0.0], &[f32::INFINITY, f32::INFINITY])
    }

    fn action_space(&self) -> Space {
        Space::discrete(2)
    }

    fn reset(&mut self, _seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        self.episode = self.episode.wrapping_add(1);
        self.step = 0;
        obs.copy_from_slice(&[self.episode as f32, 0.0]);
        Ok(())
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        self.step += 1;
        obs.copy_from_slice(&[self.episode as f32, self.step as f32]);
        let (length, terminated, truncated) = self.script[self.episode % self.script.len()];
        let end = self.step >= length;
        let reward = if action == Action::Discrete(1) { 1.0 } else { 0.0 };
        Ok(Step { reward, terminated: end && terminated, truncated: end && truncated })
    }
}

fn script() -> impl Strategy<Value = Vec<(u32, bool, bool)>> {
    let end = prop_oneof![Just((true, false)), Just((false, true)), Just((true, true))];
    proptest::collection::vec((1_u32..5, end).prop_map(|(n, (term, trunc))| (n, term, trunc)), 1..4)
}

proptest! {
    /// Against the plain loop one would write for a single environment.
    #[test]
    fn autoreset_keeps_final_obs_and_never_mixes_the_two_ends(
        scripts in proptest::collection::vec(script(), 1..4),
        actions in proptest::collection::vec(0_u32..2, 30),
    ) {
        let n = scripts.len();
        let mut batch = Vectorized::new(scripts.iter().cloned().map(Scripted::new).collect()).unwrap();
        batch.reset(&vec![0; n]).unwrap();
        let mut alone: Vec<_> = scripts.into_iter().map(Scripted::new).collect();
        let mut obs = vec![[0.0_f32; 2]; n];
        for (env, obs) in alone.iter_mut().zip(&mut obs) {
            env.reset(Some(0), obs).unwrap();
        }
        for action in actions {
            batch.step(Actions::Discrete(&vec![action; n])).unwrap();
            let b = batch.batch();
            for (i, (env, obs)) in alone.iter_mut().zip(&mut obs).enumerate() {
                let step = env.step(Action::Discrete(action), obs).unwrap();
                prop_assert_eq!((b.reward[i], b.terminated[i], b.truncated[i]), (step.reward, step.terminated, step.truncated));
                prop_assert_eq!(b.final_row(i), step.ended().then_some(&obs[..]));
                if step.ended() {
                    env.reset(None, obs).unwrap();
                }
                prop_assert_eq!(b.obs_row(i), &obs[..]);
            }
        }
    }

    #[test]
    fn a_time_limit_truncates_at_its_step_and_leaves_terminations(limit in 1_u32..6, length in 1_u32..8) {
        let mut env = TimeLimit::new(Scripted::new(vec![(length, true, false)]), limit);
        let mut obs = [0.0; 2];
        for _ in 0..2 {
            env.reset(None, &mut obs).unwrap();
            for at in 1..=length.min(limit) {
                let step = env.step(Action::Discrete(0), &mut obs).unwrap();
                prop_assert_eq!((step.terminated, step.truncated), (at == length, at == limit));
            }
        }
    }
}

#[test]
fn stepping_allocates_nothing() {
    let mut envs = Registry::default().spec("CartPole-v1").unwrap().make(16).unwrap();
    envs.reset(&[5; 16]).unwrap();
    let actions = [[0; 16], [1; 16]];
    let counted = allocation_counter::measure(|| {
        for i in 0..2000 {
            envs.step(Actions::Discrete(&actions[i % 2])).unwrap();
        }
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn our_environments_keep_their_contract() {
    check_env(&mut CartPole::new()).unwrap();
    check_env(&mut TimeLimit::new(CartPole::new(), 500)).unwrap();
    check_env(&mut SimpleCorridor::new(3)).unwrap();
}

#[test]
fn the_corridor_pays_its_optimum_and_walls_hold() {
    for (length, best) in [(20, -0.9), (10, 0.1), (1, 1.0)] {
        let mut env = SimpleCorridor::new(length);
        let mut obs = [9.0];
        env.reset(None, &mut obs).unwrap();
        assert_eq!(
            env.step(Action::Discrete(0), &mut obs).unwrap(),
            Step { reward: -0.1, ..Step::default() }
        );
        assert_eq!(obs, [0.0]);
        env.reset(None, &mut obs).unwrap();
        let steps: Vec<Step> =
            (0..length).map(|_| env.step(Action::Discrete(1), &mut obs).unwrap()).collect();
        assert!(steps.last().unwrap().terminated && steps.iter().filter(|s| s.ended()).count() == 1);
        let total: f64 = steps.iter().map(|s| s.reward).sum();
        assert!((total - best).abs() < 1e-9 && (env.best_return() - best).abs() < 1e-9);
    }
}

#[test]
fn actions_of_the_wrong_range_number_or_kind_are_errors_that_say_so() {
    let mut envs = Registry::default().spec("CartPole-v1").unwrap().make(3).unwrap();
    let message = |e: RlError| e.to_string();
    assert_eq!(message(envs.reset(&[1]).unwrap_err()), "seeds has length 1, expected 3");
    envs.reset(&[1, 2, 3]).unwrap();
    let before = envs.batch().obs.clone();
    let step = |envs: &mut Box<dyn VecEnv>, actions: Actions<'_>| message(envs.step(actions).unwrap_err());
    assert_eq!(
        step(&mut envs, Actions::Discrete(&[0, 1, 2])),
        "action 2 of environment 2 is outside Discrete(2)"
    );
    assert_eq!(step(&mut envs, Actions::Discrete(&[0])), "actions has length 1, expected 3");
    assert!(step(&mut envs, Actions::Continuous(&[0.0; 3])).contains("another kind"));
    assert_eq!(envs.batch().obs, before, "a refused batch must not have been played in part");

    let mut obs = [0.0; 3];
    let wrong_row = CartPole::new().reset(None, &mut obs).unwrap_err().to_string();
    assert_eq!(wrong_row, "observation row has length 3, expected 4");
    let wrong_action =
        CartPole::new().step(Action::Continuous(&[1.0]), &mut [0.0; 4]).unwrap_err().to_string();
    assert!(wrong_action.contains("outside Discrete(2)"), "{wrong_action}");
}

#[test]
fn names_and_options_that_are_not_known_are_errors_that_name_the_known() {
    let registry = Registry::default();
    let unknown = registry.spec("CartPole").unwrap_err().to_string();
    assert!(
        unknown.starts_with("unknown environment `CartPole`; known: Acrobot-v1, AirAsterix-v0, "),
        "{unknown}"
    );
    let with = |json: &str| registry.spec_with("SimpleCorridor", serde_json::from_str(json).unwrap());
    assert_eq!(
        with(r#"{"length": 7}"#).unwrap().make(1).unwrap().observation_space(),
        &Space::bounded(&[0.0], &[7.0])
    );
    for bad in [r#"{"lenght": 7}"#, r#"{"length": "x"}"#, r#"{"length": 0}"#] {
        assert!(matches!(with(bad), Err(RlError::EnvOptions { .. })), "{bad}");
    }
    assert!(registry.spec("SimpleCorridor").unwrap().make(0).is_err());
}

/// Breaks one rule at a time.
#[derive(Clone, Copy)]
enum Fault {
    UnwrittenObservation,
    OutsideSpace,
    NanReward,
    Forgetful,
}

struct Faulty(Fault, u32);

impl Env for Faulty {
    fn observation_space(&self) -> Space {
        Space::bounded(&[0.0, 0.0], &[1.0, 1.0])
    }

    fn action_space(&self) -> Space {
        Space::discrete(2)
    }

    fn reset(&mut self, _seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        obs.fill(0.5);
        Ok(())
    }

    fn step(&mut self, _action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        self.1 += 1;
        obs.fill(0.5);
        let mut step = Step::default();
        match self.0 {
            Fault::UnwrittenObservation if self.1 == 5 => obs[1] = f32::NAN,
            Fault::OutsideSpace if self.1 == 5 => obs[0] = 2.0,
            Fault::NanReward => step.reward = f64::NAN,
            Fault::Forgetful => step.reward = f64::from(self.1),
            _ => {}
        }
        Ok(step)
    }
}

#[test]
fn check_env_names_what_is_broken() {
    let says = |fault| check_env(&mut Faulty(fault, 0)).unwrap_err().to_string();
    assert!(says(Fault::UnwrittenObservation).contains("item 1 of the observation after 4 steps is NaN"));
    assert!(says(Fault::OutsideSpace).contains("after 4 steps is outside Box(0, 1, [2])"));
    assert_eq!(says(Fault::NanReward), "reward of environment 0 is not finite at its step 0");
    assert!(says(Fault::Forgetful).contains("two runs from one seed differ after 1 steps"));
}

#[test]
fn environments_that_differ_do_not_share_a_batch() {
    let error =
        Vectorized::new(vec![SimpleCorridor::new(2), SimpleCorridor::new(3)]).unwrap_err().to_string();
    assert!(error.contains("Box(0, 3, [1]) and Box(0, 2, [1])"), "{error}");
}
