//! PPO learns: on several seeds, to the figures the quick start and the docs promise.

use air_rl::envs::{Registry, SimpleCorridor};
use air_rl::{Algorithm as _, EnvSpec, Ppo, PpoConfig, Reason, Stop};

#[test]
fn cartpole_reaches_475_on_three_seeds() {
    for seed in 1..=3 {
        let env = Registry::default().spec("CartPole-v1").unwrap();
        let mut ppo = Ppo::new(PpoConfig::default(), env.clone(), seed).unwrap();
        let outcome = ppo.train_until(&Stop::at_return(475.0).or_steps(300_000)).unwrap();
        assert_eq!(outcome.reason, Reason::MeanReturn, "seed {seed}: {outcome:?}");

        let played = ppo.policy().evaluate(&env, 20, seed, 500).unwrap();
        let mean = played.iter().map(|p| p.total).sum::<f64>() / 20.0;
        assert!(mean >= 475.0, "seed {seed}: the policy without exploration has {mean}");
    }
}

/// Quick start 5: a corridor of 20, three runners, five iterations; then the policy walks one of 10 straight.
#[test]
fn the_corridor_is_learned_in_five_iterations_on_every_seed() {
    for seed in 0..12 {
        let config = PpoConfig { runners: 3, envs: 12, steps: 334, lambda: 1.0, ..PpoConfig::default() };
        let env = EnvSpec::new("SimpleCorridor", || SimpleCorridor::new(20));
        let mut ppo = Ppo::new(config, env, seed).unwrap();
        let means: Vec<f64> = (0..5).map(|_| ppo.train().unwrap().mean_return.unwrap_or(f64::NAN)).collect();
        let played = ppo.policy().play(SimpleCorridor::new(10), 0, 1000).unwrap();
        assert!(
            (played.total - 0.1).abs() < 1e-9 && played.length == 10,
            "seed {seed}: {played:?} {means:?}"
        );
        let trained_on = ppo.policy().play(SimpleCorridor::new(20), 0, 1000).unwrap();
        assert!((trained_on.total + 0.9).abs() < 1e-9, "seed {seed}: {trained_on:?}");
    }
}
