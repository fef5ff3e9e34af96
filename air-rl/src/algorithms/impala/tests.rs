//! The steps of IMPALA and APPO against finite differences of what they are steps on.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::env::space::Space;
use crate::train::learner::Settings as _;

fn task() -> Task {
    let observation_space = Space::bounded(&[-1.0; 2], &[1.0; 2]);
    Task { observation_space, action_space: Space::discrete(3), masked: false }
}

/// A learner whose networks are far from nought, and a rollout of a policy that was another.
fn at_work<C: Traced>(config: &C) -> (TracedLearner<C>, Rollout) {
    let mut learner = TracedLearner::new(config, &task(), Seed::new(1)).unwrap();
    let mut rng = Seed::new(2).rng();
    let mut uniform = || rng.random::<f32>() * 2.0 - 1.0;
    learner.actor.net.params_mut().iter_mut().for_each(|w| *w = uniform());
    let mut rollout = Rollout::new(2, 6, &task());
    let reals = rollout.obs.iter_mut().chain(&mut rollout.last_obs).chain(&mut rollout.reward);
    reals.for_each(|x| *x = uniform());
    rollout.log_prob.iter_mut().for_each(|x| *x = -1.1 + 0.5 * uniform());
    rollout.action.choices = (0..12).map(|i| i % 3).collect();
    rollout.terminated[2] = true;
    (learner, rollout)
}

/// `loss` of the policy's weights must have the gradient that a step on all rows follows.
fn check<C: Traced>(config: &C, loss: impl Fn(&TracedLearner<C>, &Rollout, &[f32]) -> f64) {
    let (mut learner, rollout) = at_work(config);
    let terms = config.terms();
    learner.buffers.trace.follow(&rollout, &learner.actor, &learner.critic, terms.vtrace).unwrap();
    let rows: Vec<u32> = (0..12).collect();
    let mut stepped = learner.clone();
    stepped.minibatch(&rollout, &rows, &mut Sums::default()).unwrap();
    let params = learner.actor.net.params();
    let mut largest = 0.0_f32;
    for (i, d) in stepped.actor.net.grads().iter().enumerate() {
        let at = |by: f32| {
            let mut params = params.to_vec();
            params[i] += by;
            loss(&learner, &rollout, &params)
        };
        let numeric = ((at(5e-3) - at(-5e-3)) / 1e-2) as f32;
        assert!((d - numeric).abs() < 2e-3 + 0.02 * numeric.abs(), "{i}: {d} {numeric}");
        largest = largest.max(d.abs());
    }
    assert!(largest > 1e-2);
}

/// log π of what was taken and the entropy, of every row, in f64.
fn of_policy(net: &Mlp, params: &[f32], rollout: &Rollout) -> Vec<(f64, f64)> {
    let (mut net, taken) = (net.clone(), &rollout.action.choices);
    net.params_mut().copy_from_slice(params);
    let outputs = net.forward(&rollout.obs, rollout.rows()).unwrap();
    let row = |(logits, &taken): (&[f32], &u32)| {
        let z: Vec<f64> = logits.iter().map(|x| f64::from(*x)).collect();
        let sum = z.iter().map(|z| z.exp()).sum::<f64>().ln();
        (z[taken as usize] - sum, z.iter().map(|z| -(z - sum).exp() * (z - sum)).sum())
    };
    outputs.chunks(3).zip(taken).map(row).collect()
}

#[test]
fn impala_follows_the_weighed_gradient_of_log_probabilities() {
    let config = ImpalaConfig {
        envs: 2,
        steps: 6,
        hidden: vec![5],
        entropy: 0.1,
        grad_clip: 0.0,
        rho_bar: 1.1,
        ..ImpalaConfig::default()
    };
    check(&config, |learner, rollout, params| {
        let now = of_policy(&learner.actor.net, learner.actor.net.params(), rollout);
        let moved = of_policy(&learner.actor.net, params, rollout);
        (0..12)
            .map(|i| {
                let rho = (now[i].0 - f64::from(rollout.log_prob[i])).exp().min(1.1);
                let advantage = f64::from(learner.buffers.trace.advantages()[i]);
                (-rho * advantage * moved[i].0 - 0.1 * moved[i].1) / 12.0
            })
            .sum()
    });
}

#[test]
fn appo_follows_the_gradient_of_the_clipped_surrogate() {
    // A clip so wide that no corner is near.
    let config = AppoConfig {
        envs: 2,
        steps: 6,
        hidden: vec![5],
        entropy: 0.1,
        grad_clip: 0.0,
        clip: 50.0,
        ..AppoConfig::default()
    };
    check(&config, |learner, rollout, params| {
        let mut advantages = learner.buffers.trace.advantages().to_vec();
        normalize(&mut advantages);
        let moved = of_policy(&learner.actor.net, params, rollout);
        (0..12)
            .map(|i| {
                let ratio = (moved[i].0 - f64::from(rollout.log_prob[i])).exp();
                (-ratio * f64::from(advantages[i]) - 0.1 * moved[i].1) / 12.0
            })
            .sum()
    });
}

#[test]
fn an_update_says_how_old_the_policy_was_that_played() {
    let (mut learner, mut rollout) = at_work(&ImpalaConfig { envs: 2, steps: 6, ..ImpalaConfig::default() });
    assert_eq!(learner.update(&mut rollout).unwrap().lag, 0);
    assert_eq!(learner.update(&mut rollout).unwrap().lag, 1);
    rollout.version = 1;
    assert_eq!(learner.update(&mut rollout).unwrap().lag, 1);
}

#[test]
fn settings_out_of_range_are_named() {
    let bad = ImpalaConfig { rho_bar: 0.0, ..ImpalaConfig::default() }.validate().unwrap_err().to_string();
    assert_eq!(bad, "invalid config: rho_bar must be positive");
    let bad = AppoConfig { epochs: 0, ..AppoConfig::default() }.validate().unwrap_err().to_string();
    assert_eq!(bad, "invalid config: epochs must be at least 1");
    assert!(ImpalaConfig::default().validate().is_ok() && AppoConfig::default().validate().is_ok());
}
