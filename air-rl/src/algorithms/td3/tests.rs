//! The steps of TD3 against finite differences of what they are steps on.
#![allow(clippy::unwrap_used)]

use rand::RngExt as _;

use super::*;
use crate::env::space::Space;
use crate::learn::replay::Replay;
use crate::play::rollout::Rollout;
use crate::train::learner::Settings as _;

fn task() -> Task {
    let observation_space = Space::bounded(&[-1.0; 3], &[1.0; 3]);
    Task { observation_space, action_space: Space::bounded(&[-2.0, 0.0], &[2.0, 3.0]), masked: false }
}

fn at_work(config: Td3Config) -> (Td3Step, Minibatch) {
    let config = Td3Config { envs: 2, steps: 20, hidden: vec![6], batch: 8, learning_starts: 1, ..config };
    let learner = Td3Step::new(&config, &task(), Seed::new(1)).unwrap();
    let mut rollout = Rollout::new(2, 20, &task());
    let mut rng = Seed::new(2).rng();
    let reals = rollout.obs.iter_mut().chain(&mut rollout.last_obs).chain(&mut rollout.action.reals);
    reals.for_each(|x| *x = rng.random::<f32>() * 2.0 - 1.0);
    let (mut replay, mut batch) = (Replay::new(&task(), 100, 2, 1, 0.99), Minibatch::default());
    replay.absorb(&rollout, |_| {});
    replay.sample(8, &mut rng, &mut batch);
    (learner, batch)
}

#[test]
fn the_policys_step_is_up_the_gradient_of_the_first_critic() {
    let (learner, batch) = at_work(Td3Config::default());
    let value = |params: &[f32]| {
        let mut it = learner.clone();
        it.actor.net.params_mut().copy_from_slice(params);
        let actions = it.actor.net.forward(&batch.obs, 8).unwrap().to_vec();
        it.critic.ascent(&batch.obs, &actions, 8, false, &mut Vec::new()).unwrap()
    };
    let mut stepped = learner.clone();
    stepped.improve(&batch).unwrap();
    let params = learner.actor.net.params();
    let mut largest = 0.0_f32;
    for i in (0..params.len()).step_by(2) {
        let (mut up, mut down) = (params.to_vec(), params.to_vec());
        up[i] += 2e-3;
        down[i] -= 2e-3;
        let (d, numeric) = (-stepped.actor.net.grads()[i], (value(&up) - value(&down)) / 4e-3);
        assert!((d - numeric).abs() < 1e-3 + 0.02 * numeric.abs(), "{i}: {d} {numeric}");
        largest = largest.max(d.abs());
    }
    assert!(largest > 1e-3);
    assert!(value(stepped.actor.net.params()) > value(params));
}

#[test]
fn policy_and_targets_move_only_when_it_is_their_turn() {
    let (mut learner, batch) = at_work(Td3Config { policy_delay: 3, ..Td3Config::default() });
    let weights = |l: &Td3Step| (l.actor.net.params().to_vec(), l.target.params().to_vec());
    let before = weights(&learner);
    let mut rng = Seed::new(4).rng();
    for _ in 0..2 {
        learner.learn(&batch, &mut rng).unwrap();
        assert!(weights(&learner) == before);
    }
    learner.learn(&batch, &mut rng).unwrap();
    let after = weights(&learner);
    assert!(after.0 != before.0 && after.1 != before.1 && after.0 != after.1);
}

#[test]
fn settings_and_spaces_that_cannot_work_are_named() {
    let config = Td3Config { explore_noise: -1.0, ..Td3Config::default() };
    assert_eq!(
        config.validate().unwrap_err().to_string(),
        "invalid config: explore_noise must not be negative"
    );
    assert!(Td3Config { policy_delay: 0, ..Td3Config::default() }.validate().is_err());
    let task = Task { action_space: Space::multi_discrete(&[2, 2]), ..task() };
    let error = Td3Step::new(&Td3Config::default(), &task, Seed::new(0)).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "action space MultiDiscrete([2, 2]) is not continuous, which TD3 needs");
}
