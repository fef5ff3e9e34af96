//! The losses of DQN against finite differences and definitions, and its parts one by one.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::env::space::Space;
use crate::train::learner::Settings as _;

fn task() -> Task {
    let observation_space = Space::bounded(&[-1.0; 3], &[1.0; 3]);
    Task { observation_space, action_space: Space::discrete(4), masked: false }
}

/// A learner whose buffer holds random transitions, and the mean loss of one batch as a function of the weights.
fn filled(config: DqnConfig) -> DqnLearner {
    let config =
        DqnConfig { envs: 4, steps: 32, hidden: vec![5], batch: 16, capacity: 200, tau: 0.0, ..config };
    let mut learner = DqnLearner::new(&config, &task(), Seed::new(1)).unwrap();
    let mut rollout = Rollout::new(4, 32, &task());
    let mut rng = Seed::new(2).rng();
    rollout.obs.iter_mut().chain(&mut rollout.last_obs).for_each(|x| *x = rng.random::<f32>() * 2.0 - 1.0);
    rollout.reward.iter_mut().for_each(|x| *x = rng.random::<f32>() * 2.0);
    rollout.action.choices.iter_mut().for_each(|x| *x = rng.random_range(0..4));
    rollout.terminated.iter_mut().for_each(|x| *x = rng.random::<f32>() < 0.1);
    let Priorities { tree, .. } =
        learner.priorities.get_or_insert(Priorities { tree: SumTree::new(200), highest: 1.0 });
    let mut given = 0.0;
    learner.replay.absorb(&rollout, |row| {
        given += 1.0;
        tree.set(row, 1.0 + given % 3.0);
    });
    if !learner.config.prioritized {
        learner.priorities = None;
    }
    learner
}

/// The loss of the batch drawn from one stream, at some weights of the online network.
fn loss_at(learner: &DqnLearner, params: &[f32]) -> f32 {
    let mut learner = learner.clone();
    let Some(noise) = &mut learner.noise else {
        learner.actor.net.params_mut().copy_from_slice(params);
        let mut stats = DqnStats::default();
        learner.learn(&mut Seed::new(3).rng(), &mut stats).unwrap();
        return stats.loss;
    };
    noise.mean.copy_from_slice(params);
    let mut stats = DqnStats::default();
    learner.learn(&mut Seed::new(3).rng(), &mut stats).unwrap();
    stats.loss
}

/// Every part at once and each alone: what `learn` hands to the optimiser is the gradient of what it reports.
#[test]
fn gradients_equal_finite_differences_whatever_the_parts() {
    let plain = DqnConfig { double: false, grad_clip: 0.0, ..DqnConfig::default() };
    let variants = [
        plain.clone(),
        DqnConfig { duelling: true, ..plain.clone() },
        DqnConfig { n_step: 3, ..plain.clone() },
        DqnConfig { prioritized: true, ..plain.clone() },
        DqnConfig { atoms: 7, v_max: 8.0, ..plain.clone() },
        DqnConfig { noisy: true, ..plain.clone() },
        DqnConfig {
            duelling: true,
            n_step: 3,
            prioritized: true,
            atoms: 7,
            v_max: 8.0,
            noisy: true,
            ..plain
        },
    ];
    for config in variants {
        let learner = filled(config.clone());
        let params = learner.noise.as_ref().map_or(learner.actor.net.params(), |noise| &noise.mean).to_vec();
        let mut stepped = learner.clone();
        stepped.learn(&mut Seed::new(3).rng(), &mut DqnStats::default()).unwrap();
        let grads = stepped.actor.net.grads().to_vec();
        let (mut compared, mut largest) = (0, 0.0_f32);
        for i in (0..params.len()).step_by(3) {
            let (mut up, mut down) = (params.clone(), params.clone());
            up[i] += 2e-3;
            down[i] -= 2e-3;
            let numeric = (loss_at(&learner, &up) - loss_at(&learner, &down)) / 4e-3;
            assert!(
                (grads[i] - numeric).abs() < 3e-3 + 0.02 * numeric.abs(),
                "{config:?} {i}: {} {numeric}",
                grads[i]
            );
            largest = largest.max(grads[i].abs());
            compared += 1;
        }
        assert!(compared > 10 && largest > 1e-2, "{config:?}: nothing was compared");
    }
}

#[test]
fn double_learning_values_the_online_choice_with_the_target() {
    for (double, expected) in [(true, 1.0 + 0.5 * 7.0), (false, 1.0 + 0.5 * 9.0)] {
        let config = DqnConfig { double, gamma: 0.5, n_step: 1, hidden: vec![], ..DqnConfig::default() };
        let mut learner = DqnLearner::new(&config, &task(), Seed::new(0)).unwrap();
        let biases = |net: &mut Mlp, values: [f32; 4]| {
            let bias = net.layers()[0].bias();
            net.params_mut().fill(0.0);
            net.params_mut()[bias].copy_from_slice(&values);
        };
        biases(&mut learner.actor.net, [0.0, 5.0, 1.0, 0.0]);
        biases(&mut learner.target, [9.0, 7.0, 0.0, 0.0]);
        let mut rollout = Rollout::new(8, 1, &task());
        rollout.reward.fill(1.0);
        learner.replay.absorb(&rollout, |_| {});
        learner.sample(&mut Seed::new(0).rng());
        learner.aim().unwrap();
        assert!(
            learner.buffers.targets.iter().all(|&t| t == expected),
            "{:?}",
            &learner.buffers.targets[..3]
        );
    }
}

#[test]
fn weights_of_prioritised_rows_undo_how_often_they_are_drawn() {
    let config = DqnConfig { prioritized: true, priority_beta: 1.0, ..DqnConfig::default() };
    let mut learner = filled(config);
    let (mut drawn, mut weighted) =
        (vec![0.0_f64; learner.replay.len()], vec![0.0_f64; learner.replay.len()]);
    let mut rng = Seed::new(5).rng();
    for _ in 0..20_000 {
        learner.sample(&mut rng);
        for (&row, &weight) in learner.buffers.rows.iter().zip(&learner.buffers.weights) {
            drawn[row] += 1.0;
            weighted[row] += f64::from(weight);
        }
    }
    let spread = |x: &[f64]| {
        let (low, high) = x.iter().fold((f64::MAX, 0.0_f64), |(l, h), &x| (l.min(x), h.max(x)));
        high / low
    };
    assert!(spread(&drawn) > 2.5, "priorities have no effect: {}", spread(&drawn));
    assert!(spread(&weighted) < 1.35, "weights do not make up for it: {}", spread(&weighted));
}

proptest! {
    /// Mass stays, and so does the mean as long as nothing is beyond the ends.
    #[test]
    fn projecting_keeps_mass_and_mean(
        logits in proptest::collection::vec(-3.0_f32..3.0, 11),
        reward in -2.0_f32..2.0,
        discount in 0.0_f32..0.5,
    ) {
        let support = Support { atoms: 11, low: -10.0, high: 10.0 };
        let (mut log_probs, mut to) = ([0.0; 11], [0.0; 11]);
        categorical::log_softmax(&logits, &mut log_probs);
        project(&support, &log_probs, reward, discount, &mut to);
        let mean = |p: &dyn Fn(usize) -> f32| (0..11).map(|i| p(i) * support.at(i)).sum::<f32>();
        prop_assert!((to.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        let expected = reward + discount * mean(&|i| log_probs[i].exp());
        prop_assert!((mean(&|i| to[i]) - expected).abs() < 1e-4, "{} {expected}", mean(&|i| to[i]));
    }
}

#[test]
fn mass_beyond_the_support_goes_to_its_ends() {
    let support = Support { atoms: 3, low: 0.0, high: 2.0 };
    let mut to = [0.0; 3];
    project(&support, &[0.5_f32.ln(), f32::NEG_INFINITY, 0.5_f32.ln()], 5.0, 1.0, &mut to);
    assert_eq!(to, [0.0, 0.0, 1.0]);
    let mut to = [0.0; 3];
    project(&support, &[0.0, f32::NEG_INFINITY, f32::NEG_INFINITY], 0.25, 0.0, &mut to);
    assert_eq!(to, [0.75, 0.25, 0.0]);
}

#[test]
fn noise_moves_every_weight_and_the_policy_is_without_it() {
    let learner = filled(DqnConfig { noisy: true, ..DqnConfig::default() });
    let noise = learner.noise.as_ref().unwrap();
    let moved = learner.actor.net.params().iter().zip(&noise.mean).filter(|(w, mean)| w != mean).count();
    assert_eq!(moved, noise.mean.len());
    assert_eq!(learner.policy().net.params(), noise.mean);
    // The deviation is that of the noise: σ₀/√inputs times a product of two factors of unit variance's square root.
    let sigma = 0.5 / 3.0_f32.sqrt();
    assert_eq!(noise.sigma[0], sigma);
}

#[test]
fn settings_and_spaces_that_cannot_work_are_named() {
    let bad = |change: fn(&mut DqnConfig)| {
        let mut config = DqnConfig::default();
        change(&mut config);
        config.validate().map_err(|e| e.to_string())
    };
    assert_eq!(bad(|_| ()), Ok(()));
    assert_eq!(bad(|c| c.atoms = 1), Err("invalid config: atoms must be 0 or between 2 and 4096".into()));
    assert!(bad(|c| c.v_max = -1.0).is_err_and(|e| e.contains("v_max must be above v_min")));
    assert!(bad(|c| c.learning_starts = 1 << 20).is_err_and(|e| e.contains("learning_starts")));
    assert!(bad(|c| c.n_step = 0).is_err_and(|e| e.contains("n_step")));
    assert!(bad(|c| c.tau = 1.5).is_err_and(|e| e.contains("tau")));
    let continuous = Task { action_space: Space::bounded(&[-1.0], &[1.0]), ..task() };
    let error = DqnLearner::new(&DqnConfig::default(), &continuous, Seed::new(0)).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "action space Box(-1, 1, [1]) is not discrete, which DQN needs");
}
