//! What must stop a run, with its name; and what a run must not do: allocate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use air_rl::envs::{Registry, SimpleCorridor};
use air_rl::{Action, Algorithm as _, BoxError, Env, EnvSpec, Ppo, PpoConfig, Reason, Space, Step, Stop};

/// Goes wrong at its 40th step in the way it is told.
#[derive(Clone, Copy)]
enum Wrong {
    NanObservation,
    NanReward,
    NanFinalObservation,
    Fails,
}

struct Trap(Wrong, u32);

impl Env for Trap {
    fn observation_space(&self) -> Space {
        Space::bounded(&[-1.0], &[1.0])
    }

    fn action_space(&self) -> Space {
        Space::discrete(3)
    }

    fn reset(&mut self, _seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        obs[0] = 0.0;
        Ok(())
    }

    fn step(&mut self, _action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        self.1 += 1;
        obs[0] = 0.5;
        let mut step = Step { reward: 1.0, ..Step::default() };
        if self.1 == 40 {
            match self.0 {
                Wrong::NanObservation => obs[0] = f32::NAN,
                Wrong::NanReward => step.reward = f64::NAN,
                Wrong::NanFinalObservation => (obs[0], step.truncated) = (f32::NAN, true),
                Wrong::Fails => return Err("the simulator hung up".into()),
            }
        }
        Ok(step)
    }
}

fn trained(wrong: Wrong, parallel: bool) -> String {
    let config = PpoConfig { envs: 3, runners: 2, parallel, ..PpoConfig::default() };
    let mut ppo = Ppo::new(config, EnvSpec::new("Trap", move || Trap(wrong, 0)), 0).unwrap();
    let error = ppo.train().unwrap_err();
    air_core::cli::Chain(&error).to_string()
}

#[test]
fn what_is_not_a_number_or_fails_is_named_with_its_environment() {
    for parallel in [false, true] {
        let not_finite = |what| format!("{what} of environment 0 is not finite at its step 40");
        assert_eq!(trained(Wrong::NanObservation, parallel), not_finite("observation"));
        assert_eq!(trained(Wrong::NanReward, parallel), not_finite("reward"));
        assert_eq!(trained(Wrong::NanFinalObservation, parallel), not_finite("observation"));
        let failed = "environment 0 failed in step\n  caused by: the simulator hung up";
        assert_eq!(trained(Wrong::Fails, parallel), failed);
    }
}

#[test]
fn a_learning_rate_that_explodes_ends_the_run_by_name() {
    let config = PpoConfig { lr: 1e38, grad_clip: 0.0, ..PpoConfig::default() };
    let mut ppo = Ppo::new(config, Registry::default().spec("CartPole-v1").unwrap(), 0).unwrap();
    let error = ppo.train_until(&Stop::after_iterations(50)).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("training diverged: ") || error.contains("not finite"), "{error}");
}

#[test]
fn a_warm_iteration_allocates_nothing() {
    for runners in [1, 2] {
        let config = PpoConfig { runners, ..PpoConfig::default() };
        let mut ppo = Ppo::new(config, Registry::default().spec("CartPole-v1").unwrap(), 1).unwrap();
        ppo.train_until(&Stop::after_iterations(30)).unwrap();
        let counted = allocation_counter::measure(|| {
            ppo.train_until(&Stop::after_iterations(30)).unwrap();
        });
        assert_eq!(counted.count_total, 0, "{runners} runners");
    }
}

/// Panics once in the life of the process, at the 500th step counted over all of them.
struct Fragile(SimpleCorridor, Arc<AtomicU32>);

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
        assert!(self.1.fetch_add(1, Ordering::Relaxed) != 500, "the environment broke");
        self.0.step(action, obs)
    }
}

#[test]
fn a_runner_that_dies_is_replaced_and_training_goes_on() {
    let steps = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&steps);
    let env = EnvSpec::new("Fragile", move || Fragile(SimpleCorridor::new(5), Arc::clone(&counter)));
    let mut ppo = Ppo::new(PpoConfig { runners: 2, parallel: true, ..PpoConfig::default() }, env, 0).unwrap();
    let outcome = ppo.train_until(&Stop::at_return(0.59).or_steps(100_000)).unwrap();
    assert_eq!(outcome.reason, Reason::MeanReturn, "{outcome:?}");
    // What the broken runner had played counts for nothing: more was stepped than was learned from.
    assert!(u64::from(steps.load(Ordering::Relaxed)) > outcome.last.steps);
}

/// Panics at every step.
#[test]
fn a_runner_that_always_dies_ends_the_run_with_its_cause() {
    struct Broken;
    impl Env for Broken {
        fn observation_space(&self) -> Space {
            Space::bounded(&[0.0], &[1.0])
        }
        fn action_space(&self) -> Space {
            Space::discrete(2)
        }
        fn reset(&mut self, _: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
            obs[0] = 0.0;
            Ok(())
        }
        fn step(&mut self, _: Action<'_>, _: &mut [f32]) -> Result<Step, BoxError> {
            panic!("no such simulator")
        }
    }
    let config = PpoConfig { parallel: true, ..PpoConfig::default() };
    let error = Ppo::new(config, EnvSpec::new("Broken", || Broken), 0).unwrap().train().unwrap_err();
    let chain = air_core::cli::Chain(&error).to_string();
    assert!(chain.contains("no such simulator"), "{chain}");
}
