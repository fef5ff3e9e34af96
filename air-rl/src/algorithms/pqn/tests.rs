//! The step of PQN against finite differences, its returns, and its settings.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::env::space::Space;
use crate::train::learner::Settings as _;

fn task() -> Task {
    let observation_space = Space::bounded(&[-1.0; 2], &[1.0; 2]);
    Task { observation_space, action_space: Space::discrete(3), masked: true }
}

fn at_work() -> (PqnLearner, Rollout) {
    let config = PqnConfig { envs: 2, steps: 4, hidden: vec![6], grad_clip: 0.0, ..PqnConfig::default() };
    let learner = PqnLearner::new(&config, &task(), Seed::new(1)).unwrap();
    let mut rollout = Rollout::new(2, 4, &task());
    let mut rng = Seed::new(2).rng();
    let reals = rollout.obs.iter_mut().chain(&mut rollout.last_obs).chain(&mut rollout.reward);
    reals.for_each(|x| *x = rng.random::<f32>() * 2.0 - 1.0);
    rollout.action.choices = (0..8).map(|i| i % 3).collect();
    rollout.terminated[2] = true;
    rollout.truncated[5] = true;
    rollout.cut_rows.push(5);
    rollout.cut_obs.extend([0.3, -0.7]);
    (learner, rollout)
}

#[test]
fn the_step_is_down_the_gradient_of_the_squared_error() {
    let (mut learner, rollout) = at_work();
    learner.estimate(&rollout).unwrap();
    let rows = [6, 1, 3];
    let loss = |params: &[f32]| {
        let mut it = learner.clone();
        it.actor.net.params_mut().copy_from_slice(params);
        let mut stats = PqnStats::default();
        it.minibatch(&rollout, &rows, &mut stats).unwrap();
        stats.loss / 3.0
    };
    let mut stepped = learner.clone();
    stepped.minibatch(&rollout, &rows, &mut PqnStats::default()).unwrap();
    let params = learner.actor.net.params();
    let mut largest = 0.0_f32;
    for (i, d) in stepped.actor.net.grads().iter().enumerate() {
        let at = |by: f32| {
            let mut params = params.to_vec();
            params[i] += by;
            loss(&params)
        };
        let (near, far) = ((at(2e-3) - at(-2e-3)) / 4e-3, (at(4e-3) - at(-4e-3)) / 8e-3);
        // Where a ReLU turns within the step the two slopes differ, and neither is the derivative.
        if (near - far).abs() < 1e-3 {
            assert!((d - near).abs() < 2e-3 + 0.02 * near.abs(), "{i}: {d} {near}");
        }
        largest = largest.max(d.abs());
    }
    assert!(largest > 1e-2);
}

#[test]
fn returns_mix_what_was_paid_with_the_best_that_is_allowed() {
    let (mut learner, mut rollout) = at_work();
    let best = |learner: &PqnLearner, obs: &[f32], allowed: &[usize]| {
        let mut scratch = Scratch::default();
        let row = learner.actor.net.infer(obs, 1, &mut scratch).unwrap();
        allowed.iter().map(|&i| row[i]).fold(f32::NEG_INFINITY, f32::max)
    };
    // At the fourth step of the first environment only the first choice is allowed, after its last only the others.
    rollout.mask[9..12].copy_from_slice(&[true, false, false]);
    rollout.last_mask[..3].copy_from_slice(&[false, true, true]);
    learner.estimate(&rollout).unwrap();
    let (gamma, lambda) = (learner.config.gamma, learner.config.lambda);
    let all = [0, 1, 2];
    let (r, got) = (&rollout.reward, &learner.buffers.estimate.returns);
    let close = |a: f32, b: f32| assert!((a - b).abs() < 1e-5, "{a} {b}");
    close(got[3], r[3] + gamma * best(&learner, &rollout.last_obs[..2], &[1, 2]));
    close(got[2], r[2]);
    let next = best(&learner, rollout.obs_row(2), &all);
    close(got[1], r[1] + gamma * ((1.0 - lambda) * next + lambda * got[2]));
    close(got[5], r[5] + gamma * best(&learner, &rollout.cut_obs, &all));
    close(learner.buffers.estimate.values[3], best(&learner, rollout.obs_row(3), &[0]));
}

#[test]
fn settings_and_spaces_that_cannot_work_are_named() {
    let bad = PqnConfig { epsilon_end: 1.5, ..PqnConfig::default() }.validate().unwrap_err().to_string();
    assert_eq!(bad, "invalid config: epsilon_end must be between 0 and 1");
    let task = Task { action_space: Space::multi_discrete(&[2, 2]), ..task() };
    let error = PqnLearner::new(&PqnConfig::default(), &task, Seed::new(0)).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "action space MultiDiscrete([2, 2]) is not discrete, which PQN needs");
}
