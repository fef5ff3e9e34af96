//! PPO with a memory: it learns what no policy without one can, repeats, and comes back from checkpoints.

use air_core::checkpoint::{CheckpointStore, Retention};
use air_core::storage::Storage;
use air_rl::envs::{CartPole, Recall, RecallOptions};
use air_rl::{
    Action, Algorithm as _, BoxError, Env, EnvSpec, Policy, Ppo, PpoConfig, Reason, RecurrentPpo,
    RecurrentPpoConfig, RecurrentPpoLearner, Space, Step, Stop, TimeLimit, check_env,
};

use crate::promises::{allocates_nothing, does_not_depend_on_runners, reaches_its_goal, spec};

#[test]
fn the_cue_is_recalled_on_three_seeds() {
    check_env(&mut Recall::new(&RecallOptions::default())).unwrap();
    reaches_its_goal::<RecurrentPpoLearner>("Recall");
}

/// Right half of the time: nothing before the policy says what the cue was.
#[test]
fn a_policy_without_a_memory_does_not_recall() {
    let mut ppo = Ppo::new(PpoConfig::default(), spec("Recall"), 1).unwrap();
    let outcome = ppo.train_until(&Stop::at_return(0.6).or_steps(60_000)).unwrap();
    assert_eq!(outcome.reason, Reason::Steps, "{outcome:?}");
}

/// CartPole that shows where cart and pole are, but not how they move.
struct Still(TimeLimit<CartPole>, [f32; 4]);

impl Still {
    fn show(&self, obs: &mut [f32]) {
        (obs[0], obs[1]) = (self.1[0], self.1[2]);
    }
}

impl Env for Still {
    fn observation_space(&self) -> Space {
        Space::bounded(&[-5.0, -1.0], &[5.0, 1.0])
    }

    fn action_space(&self) -> Space {
        self.0.action_space()
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        self.0.reset(seed, &mut self.1)?;
        self.show(obs);
        Ok(())
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let step = self.0.step(action, &mut self.1)?;
        self.show(obs);
        Ok(step)
    }
}

#[test]
fn a_pole_is_balanced_without_seeing_velocities() {
    let env = EnvSpec::new("Still", || Still(TimeLimit::new(CartPole::new(), 500), [0.0; 4]));
    for seed in 1..=3 {
        let mut ppo = RecurrentPpo::new(RecurrentPpoConfig::default(), env.clone(), seed).unwrap();
        let outcome = ppo.train_until(&Stop::at_return(300.0).or_steps(400_000)).unwrap();
        assert_eq!(outcome.reason, Reason::MeanReturn, "seed {seed}: {:?}", outcome.last.mean_return);
    }
}

fn small() -> RecurrentPpoConfig {
    RecurrentPpoConfig { envs: 6, steps: 12, units: 8, hidden: vec![8], ..RecurrentPpoConfig::default() }
}

#[test]
fn runs_repeat_and_allocate_nothing() {
    let configs = [(1, false), (3, false), (2, true)].map(|(runners, parallel)| RecurrentPpoConfig {
        runners,
        parallel,
        ..small()
    });
    does_not_depend_on_runners::<RecurrentPpoLearner>("CartPole-v1", configs);
    allocates_nothing::<RecurrentPpoLearner>("CartPole-v1", small());
}

#[test]
fn a_loaded_policy_remembers_as_the_one_in_training_and_a_run_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let location = dir.path().to_str().unwrap();
    let mut ppo = RecurrentPpo::new(small(), spec("CartPole-v1"), 3).unwrap();
    ppo.train_until(&Stop::after_iterations(20)).unwrap();
    let store = CheckpointStore::open(Storage::open(location).unwrap(), Retention::default()).unwrap();
    ppo.save(&store).unwrap();

    let (trained, loaded) = (ppo.policy(), Policy::load(location).unwrap());
    assert!(loaded.remembers());
    let shown: Vec<[f32; 4]> = (0..40).map(|i| [0.0, 0.5, 1.0, 1.5].map(|j| (i as f32 + j).sin())).collect();
    let play = |policy: &Policy| -> Vec<_> { shown.iter().map(|obs| policy.act(obs).unwrap()).collect() };
    let first = play(&trained);
    assert_eq!(first, play(&loaded));
    trained.begin();
    assert_eq!(first, play(&trained), "what was shown before is not forgotten");
    let resume = || {
        let mut ppo = RecurrentPpo::load(location, spec("CartPole-v1")).unwrap();
        let last = ppo.train_until(&Stop::after_iterations(10)).unwrap().last;
        format!("{} {:?} {:?}", last.steps, last.mean_return, last.learner)
    };
    assert_eq!(resume(), resume());
}
