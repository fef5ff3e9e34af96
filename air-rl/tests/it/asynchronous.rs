//! IMPALA and APPO: runners play on while the learner learns; what is lost is replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use air_rl::envs::SimpleCorridor;
use air_rl::{
    Action, Algorithm as _, AppoConfig, AppoLearner, BoxError, Env, EnvSpec, Impala, ImpalaConfig,
    ImpalaLearner, Reason, Space, Step, Stop,
};

use crate::promises::{allocates_nothing, comes_back, reaches_its_goal_with, spec, told};

// On the calling thread, where a run is the same each time.
#[test]
fn impala_reaches_475_on_cartpole_on_three_seeds() {
    reaches_its_goal_with::<ImpalaLearner>("CartPole-v1", |config| ImpalaConfig {
        parallel: false,
        ..config
    });
}

#[test]
fn appo_reaches_475_on_cartpole_on_three_seeds() {
    reaches_its_goal_with::<AppoLearner>("CartPole-v1", |config| AppoConfig { parallel: false, ..config });
}

/// A runner has two rollouts: it begins one when the last but one has been learned from, and then only the last comes between.
#[test]
fn what_one_runner_plays_is_at_most_one_update_old() {
    let config = ImpalaConfig { runners: 1, ..ImpalaConfig::default() };
    let mut impala = Impala::new(config, spec("CartPole-v1"), 1).unwrap();
    let lags: Vec<u64> = (0..200).map(|_| impala.train().unwrap().learner.lag).collect();
    assert!(lags[0] == 0 && lags.iter().all(|lag| *lag <= 1), "{lags:?}");
}

#[test]
fn on_the_calling_thread_runs_repeat_come_back_and_allocate_nothing() {
    let impala =
        ImpalaConfig { envs: 6, steps: 16, hidden: vec![16], parallel: false, ..ImpalaConfig::default() };
    let appo = AppoConfig { envs: 6, steps: 16, hidden: vec![16], parallel: false, ..AppoConfig::default() };
    let run = |runners| {
        let config = ImpalaConfig { runners, ..impala.clone() };
        told(&mut Impala::new(config, spec("CartPole-v1"), 5).unwrap(), 40)
    };
    assert_eq!(run(1), run(3));
    let observations: Vec<Vec<f32>> =
        (0..20).map(|i| (0..4).map(|j| ((i * 7 + j * 3) as f32).sin()).collect()).collect();
    comes_back::<ImpalaLearner>("CartPole-v1", impala.clone(), &observations);
    comes_back::<AppoLearner>("CartPole-v1", appo.clone(), &observations);
    allocates_nothing::<ImpalaLearner>("CartPole-v1", impala);
    allocates_nothing::<AppoLearner>("CartPole-v1", appo);
}

/// Panics at each step for which `breaks` holds, counted over the life of the process.
struct Fragile(SimpleCorridor, Arc<AtomicU32>, fn(u32) -> bool);

impl Env for Fragile {
    fn observation_space(&self) -> Space {
        self.0.observation_space()
    }

    fn action_space(&self) -> Space {
        self.0.action_space()
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        self.0.reset(seed, obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        assert!(!self.2(self.1.fetch_add(1, Ordering::Relaxed)), "the environment broke");
        self.0.step(action, obs)
    }
}

fn fragile(breaks: fn(u32) -> bool) -> (Impala, Arc<AtomicU32>) {
    let steps = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&steps);
    let env = EnvSpec::new("Fragile", move || Fragile(SimpleCorridor::new(5), Arc::clone(&counter), breaks));
    (Impala::new(ImpalaConfig { entropy: 0.0, ..ImpalaConfig::default() }, env, 0).unwrap(), steps)
}

#[test]
fn runners_that_die_are_replaced_and_training_goes_on() {
    let (mut impala, steps) = fragile(|step| step == 200 || step == 450);
    let outcome = impala.train_until(&Stop::at_return(0.55).or_steps(200_000)).unwrap();
    assert_eq!(outcome.reason, Reason::MeanReturn, "{outcome:?}");
    // A hundred episodes of five steps: both have died by then.
    assert!(outcome.last.steps >= 500 && steps.load(Ordering::Relaxed) > 500);
}

#[test]
fn a_runner_that_always_dies_ends_the_run_with_its_cause() {
    let (mut impala, _) = fragile(|_| true);
    let error = impala.train().unwrap_err();
    let chain = air_core::cli::Chain(&error).to_string();
    assert!(chain.contains("the environment broke"), "{chain}");
}
