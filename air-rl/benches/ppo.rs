//! PPO: one update on a rollout of the default size, and one whole iteration, items are environment steps.
#![allow(missing_docs, clippy::unwrap_used)]

use air_core::seed::Seed;
use air_rl::envs::Registry;
use air_rl::rollout::Rollout;
use air_rl::runner::EnvRunner;
use air_rl::{Algorithm as _, Learner as _, Ppo, PpoConfig, PpoLearner};
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

/// `[32, 32]` is the default, `[64, 64]` what CleanRL and Stable-Baselines3 take.
#[divan::bench(args = [32, 64])]
fn update(bencher: Bencher<'_, '_>, width: usize) {
    let config = PpoConfig { hidden: vec![width; 2], ..PpoConfig::default() };
    let env = Registry::default().spec("CartPole-v1").unwrap();
    let mut runner = EnvRunner::new(&env, 0, config.envs, Seed::new(1), 0).unwrap();
    let mut learner = PpoLearner::new(&config, &runner.task(), Seed::new(0)).unwrap();
    let mut rollout = Rollout::new(config.envs, config.steps, &runner.task());
    runner.collect(learner.actor(), 0, &mut rollout).unwrap();
    bencher.counter(ItemsCount::new(rollout.rows())).bench_local(|| learner.update(&mut rollout).unwrap().kl);
}

#[divan::bench]
fn iteration(bencher: Bencher<'_, '_>) {
    let config = PpoConfig::default();
    let steps = config.envs * config.steps;
    let mut ppo = Ppo::new(config, Registry::default().spec("CartPole-v1").unwrap(), 0).unwrap();
    bencher.counter(ItemsCount::new(steps)).bench_local(|| ppo.train().unwrap().steps);
}
