//! The steps of recurrent PPO against finite differences of what they are steps on.
#![allow(clippy::unwrap_used)]

use rand::RngExt as _;

use super::*;
use crate::env::space::Space;
use crate::train::learner::Settings as _;

fn task() -> Task {
    let observation_space = Space::bounded(&[-1.0; 2], &[1.0; 2]);
    Task { observation_space, action_space: Space::discrete(3), masked: false }
}

/// A learner whose networks are far from nought, and a rollout with episodes that begin within it.
fn at_work() -> (RecurrentPpoLearner, Rollout) {
    let config = RecurrentPpoConfig {
        envs: 3,
        steps: 5,
        units: 4,
        hidden: vec![3],
        clip: 100.0,
        entropy: 0.1,
        grad_clip: 0.0,
        ..RecurrentPpoConfig::default()
    };
    let mut learner = RecurrentPpoLearner::new(&config, &task(), Seed::new(1)).unwrap();
    let mut rng = Seed::new(2).rng();
    let mut uniform = || rng.random::<f32>() * 2.0 - 1.0;
    learner.actor.net.params_mut().iter_mut().for_each(|w| *w = uniform());
    let mut rollout = Rollout::new(3, 5, &task());
    rollout
        .obs
        .iter_mut()
        .chain(&mut rollout.last_obs)
        .chain(&mut rollout.reward)
        .for_each(|x| *x = uniform());
    rollout.state = (0..12).map(|_| uniform()).collect();
    learner.critic_state.iter_mut().for_each(|x| *x = uniform());
    rollout.log_prob.fill(-1.1);
    rollout.action.choices = (0..15).map(|i| i % 3).collect();
    for (row, terminated) in [(2, true), (8, false)] {
        (rollout.terminated[row], rollout.truncated[row]) = (terminated, !terminated);
        rollout.begins[row + 1] = true;
    }
    rollout.cut_rows.push(8);
    rollout.cut_obs.extend([0.3, -0.7]);
    (learner, rollout)
}

#[test]
fn both_steps_are_down_the_gradients_of_their_losses_through_time() {
    let (mut learner, rollout) = at_work();
    learner.estimate(&rollout, &[0, 1, 2]).unwrap();
    let envs = [2, 0];
    // The mean losses over the sequences, as functions of the four buffers of weights.
    let losses = |weights: &[Vec<f32>; 4]| {
        let mut it = learner.clone();
        let memory = it.actor.memory.as_mut().unwrap();
        let buffers = [
            memory.params_mut(),
            it.actor.net.params_mut(),
            it.critic.memory.params_mut(),
            it.critic.net.params_mut(),
        ];
        for (to, from) in buffers.into_iter().zip(weights) {
            to.copy_from_slice(from);
        }
        let mut sums = Sums::default();
        it.minibatch(&rollout, &envs, &mut sums).unwrap();
        let stats = sums.stats(1, 0.0);
        (stats.policy_loss - 0.1 * stats.entropy, stats.value_loss)
    };
    let mut stepped = learner.clone();
    stepped.minibatch(&rollout, &envs, &mut Sums::default()).unwrap();
    let memory = learner.actor.memory.as_ref().unwrap();
    let weights = [
        memory.params().to_vec(),
        learner.actor.net.params().to_vec(),
        learner.critic.memory.params().to_vec(),
        learner.critic.net.params().to_vec(),
    ];
    let memory = stepped.actor.memory.as_ref().unwrap();
    let grads = [
        memory.grads(),
        stepped.actor.net.grads(),
        stepped.critic.memory.grads(),
        stepped.critic.net.grads(),
    ];
    for (part, grads) in grads.into_iter().enumerate() {
        let mut largest = 0.0_f32;
        for (i, d) in grads.iter().enumerate() {
            let at = |by: f32| {
                let mut weights = weights.clone();
                weights[part][i] += by;
                let (policy, value) = losses(&weights);
                if part < 2 { policy } else { value }
            };
            let numeric = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((d - numeric).abs() < 2e-3 + 0.02 * numeric.abs(), "{part} {i}: {d} {numeric}");
            largest = largest.max(d.abs());
        }
        assert!(largest > 1e-2, "{part}: {largest}");
    }
}

#[test]
fn the_critic_remembers_from_rollout_to_rollout_and_forgets_at_ends() {
    let (mut learner, mut rollout) = at_work();
    learner.estimate(&rollout, &[0, 1, 2]).unwrap();
    let first = learner.buffers.estimate.values.clone();
    let after = learner.critic_state.clone();
    // Another past: it shows in what goes on, up to the first beginning, and in nothing after.
    let mut other = at_work().0;
    other.critic_state.fill(0.0);
    other.estimate(&rollout, &[0, 1, 2]).unwrap();
    let differ: Vec<bool> = other.buffers.estimate.values.iter().zip(&first).map(|(a, b)| a != b).collect();
    let before_an_end = |row: usize| !(3..=4).contains(&row) && row != 9;
    assert_eq!(differ, (0..15).map(before_an_end).collect::<Vec<_>>());
    // Environment 0 ended at its third step, 1 at its fourth; 2 went on all the time.
    let same = |env: usize| other.critic_state[env * 4..env * 4 + 4] == after[env * 4..env * 4 + 4];
    assert!(same(0) && same(1) && !same(2));
    rollout.begins[0] = true;
    learner.estimate(&rollout, &[0, 1, 2]).unwrap();
    assert_eq!(learner.buffers.critic_before, after);
}

#[test]
fn settings_out_of_range_are_named() {
    let bad = |config: RecurrentPpoConfig| config.validate().unwrap_err().to_string();
    assert!(RecurrentPpoConfig::default().validate().is_ok());
    let default = RecurrentPpoConfig::default;
    assert_eq!(
        bad(RecurrentPpoConfig { units: 0, ..default() }),
        "invalid config: units must be between 1 and 8192"
    );
    assert!(bad(RecurrentPpoConfig { sequences: 0, ..default() }).contains("sequences"));
    assert!(bad(RecurrentPpoConfig { clip: f32::NAN, ..default() }).contains("clip"));
}
