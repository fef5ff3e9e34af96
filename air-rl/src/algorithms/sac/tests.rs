//! The steps of SAC against finite differences of what they are steps on.
#![allow(clippy::unwrap_used)]

use rand::RngExt as _;

use super::*;
use crate::env::space::Space;
use crate::learn::replay::Replay;
use crate::play::rollout::Rollout;
use crate::train::learner::Settings as _;
use air_train::nn::Module as _;

fn task() -> Task {
    let observation_space = Space::bounded(&[-1.0; 3], &[1.0; 3]);
    Task { observation_space, action_space: Space::bounded(&[-2.0, 0.0], &[2.0, 3.0]), masked: false }
}

/// A learner with a batch in its hands.
fn at_work(config: SacConfig) -> (SacStep, Minibatch) {
    let config = SacConfig { envs: 2, steps: 20, hidden: vec![6], batch: 8, learning_starts: 1, ..config };
    let learner = SacStep::new(&config, &task(), Seed::new(1)).unwrap();
    let mut rollout = Rollout::new(2, 20, &task());
    let mut rng = Seed::new(2).rng();
    let reals = rollout.obs.iter_mut().chain(&mut rollout.last_obs).chain(&mut rollout.action.reals);
    reals.for_each(|x| *x = rng.random::<f32>() * 2.0 - 1.0);
    rollout.reward.iter_mut().for_each(|x| *x = rng.random());
    rollout.terminated[7] = true;
    let (mut replay, mut batch) = (Replay::new(&task(), 100, 2, 1, 0.99), Minibatch::default());
    replay.absorb(&rollout, |_| {});
    replay.sample(8, &mut rng, &mut batch);
    (learner, batch)
}

#[test]
fn the_policys_step_is_down_the_gradient_of_its_objective() {
    let (learner, batch) = at_work(SacConfig { alpha: 0.3, ..SacConfig::default() });
    // mean (α log π(a|s) − min Q(s, a)), a drawn with fixed noise.
    let objective = |params: &[f32]| {
        let mut it = learner.clone();
        it.actor.net.params_mut().copy_from_slice(params);
        let outputs = it.actor.net.forward(&batch.obs, 8).unwrap().to_vec();
        it.buffers.present.draw(&outputs, 2, &mut Seed::new(3).rng());
        let (b, mut unused) = (&it.buffers, Vec::new());
        let q = it.critic.ascent(&batch.obs, &b.present.action, 8, true, &mut unused).unwrap();
        0.3 * b.present.log_prob.iter().sum::<f32>() / 8.0 - q
    };
    let mut stepped = learner.clone();
    stepped.improve(&batch, &mut Seed::new(3).rng()).unwrap();
    let params = learner.actor.net.params();
    let mut largest = 0.0_f32;
    for i in (0..params.len()).step_by(3) {
        let (mut up, mut down) = (params.to_vec(), params.to_vec());
        up[i] += 2e-3;
        down[i] -= 2e-3;
        let (d, numeric) = (stepped.actor.net.grads()[i], (objective(&up) - objective(&down)) / 4e-3);
        assert!((d - numeric).abs() < 2e-3 + 0.02 * numeric.abs(), "{i}: {d} {numeric}");
        largest = largest.max(d.abs());
    }
    assert!(largest > 1e-2);
    // And against it: a small step along lowers the objective.
    assert!(objective(stepped.actor.net.params()) < objective(params));
}

#[test]
fn the_critics_step_is_down_the_gradient_of_their_squared_error() {
    let (learner, batch) = at_work(SacConfig::default());
    let b = &batch;
    let targets = [0.5, -0.3, 1.0, 0.2, 0.0, 2.0, -1.0, 0.1];
    for which in [0, 1] {
        let loss = |params: &[f32]| {
            let mut it = learner.critic.clone();
            it.online[which].params_mut().copy_from_slice(params);
            // The mean over both critics, so twice for the share of one.
            2.0 * it.fit(&b.obs, &b.action, &targets).unwrap().0
        };
        let mut stepped = learner.critic.clone();
        stepped.fit(&b.obs, &b.action, &targets).unwrap();
        let params = learner.critic.online[which].params();
        for i in (0..params.len()).step_by(4) {
            let (mut up, mut down) = (params.to_vec(), params.to_vec());
            up[i] += 2e-3;
            down[i] -= 2e-3;
            let (d, numeric) = (stepped.online[which].grads()[i], (loss(&up) - loss(&down)) / 4e-3);
            assert!((d - numeric).abs() < 2e-3 + 0.02 * numeric.abs(), "{which} {i}: {d} {numeric}");
        }
    }
}

#[test]
fn the_temperature_falls_while_the_policy_is_more_random_than_its_target() {
    for (target_entropy, falls) in [(-20.0, true), (20.0, false)] {
        let (mut learner, batch) =
            at_work(SacConfig { target_entropy: Some(target_entropy), alpha: 0.5, ..SacConfig::default() });
        learner.learn(&batch, &mut Seed::new(4).rng()).unwrap();
        assert_eq!(learner.log_alpha[0].exp() < 0.5, falls, "{target_entropy}");
    }
    let (mut fixed, batch) = at_work(SacConfig { alpha_lr: 0.0, ..SacConfig::default() });
    fixed.learn(&batch, &mut Seed::new(4).rng()).unwrap();
    assert_eq!(fixed.log_alpha, [0.0]);
}

#[test]
fn settings_and_spaces_that_cannot_work_are_named() {
    let bad = |change: fn(&mut SacConfig)| {
        let mut config = SacConfig::default();
        change(&mut config);
        config.validate().map_err(|e| e.to_string())
    };
    assert_eq!(bad(|_| ()), Ok(()));
    assert_eq!(bad(|c| c.alpha = 0.0), Err("invalid config: alpha must be positive".into()));
    assert!(bad(|c| c.policy_delay = 0).is_err_and(|e| e.contains("policy_delay")));
    assert!(bad(|c| c.batch = 0).is_err_and(|e| e.contains("batch")));
    let refused = |action_space| {
        let task = Task { action_space, ..task() };
        SacStep::new(&SacConfig::default(), &task, Seed::new(0)).map(|_| ()).unwrap_err().to_string()
    };
    let infinite = refused(Space::bounded(&[f32::NEG_INFINITY], &[1.0]));
    assert_eq!(infinite, "action space Box(-inf, 1, [1]) has an infinite bound, which SAC cannot use");
    assert_eq!(refused(Space::discrete(2)), "action space Discrete(2) is not continuous, which SAC needs");
}
