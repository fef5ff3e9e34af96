//! PQN: it learns, repeats, and comes back from checkpoints.

use air_rl::{PqnConfig, PqnLearner};

use crate::promises::{allocates_nothing, comes_back, does_not_depend_on_runners, reaches_its_goal};

#[test]
fn pqn_reaches_475_on_cartpole_on_three_seeds() {
    reaches_its_goal::<PqnLearner>("CartPole-v1");
}

fn small() -> PqnConfig {
    PqnConfig { envs: 6, steps: 16, hidden: vec![16], ..PqnConfig::default() }
}

#[test]
fn runs_repeat_come_back_and_allocate_nothing() {
    let configs = [(1, false), (3, false), (2, true)].map(|(runners, parallel)| PqnConfig {
        runners,
        parallel,
        ..small()
    });
    does_not_depend_on_runners::<PqnLearner>("CartPole-v1", configs);
    let observations: Vec<Vec<f32>> =
        (0..20).map(|i| (0..4).map(|j| ((i * 7 + j * 3) as f32).sin()).collect()).collect();
    comes_back::<PqnLearner>("CartPole-v1", small(), &observations);
    allocates_nothing::<PqnLearner>("CartPole-v1", small());
}
