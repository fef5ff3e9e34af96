//! The losses of PPO against finite differences, and its settings.

use proptest::prelude::*;

use super::*;
use crate::algorithms::ppo::PpoConfig;
use crate::train::learner::Settings as _;

fn policy(config: &PpoConfig) -> PolicyLoss {
    PolicyLoss { objective: Objective::Clipped(config.clip), entropy: config.entropy }
}

fn loss(config: &PpoConfig, logits: &[f32], action: usize, old: f32, advantage: f32) -> (f64, Vec<f32>) {
    let (mut scratch, mut d) = (vec![0.0; logits.len()], vec![0.0; logits.len()]);
    let (groups, taken) = ([logits.len() as u32], [action as u32]);
    let t = policy(config).categorical(&groups, logits, &[], &taken, old, advantage, &mut scratch, &mut d);
    (f64::from(t.surrogate) - f64::from(config.entropy) * f64::from(t.entropy), d)
}

/// The same loss in f64, written apart, so that differences are not drowned by rounding.
fn loss_f64(config: &PpoConfig, logits: &[f64], action: usize, old: f64, advantage: f64) -> f64 {
    let log_sum = logits.iter().map(|l| l.exp()).sum::<f64>().ln();
    let ratio = (logits[action] - log_sum - old).exp();
    let entropy: f64 = logits.iter().map(|l| -(l - log_sum).exp() * (l - log_sum)).sum();
    let clip = f64::from(config.clip);
    -(ratio * advantage).min(ratio.clamp(1.0 - clip, 1.0 + clip) * advantage)
        - f64::from(config.entropy) * entropy
}

proptest! {
    #[test]
    fn policy_gradient_equals_finite_differences(
        logits in proptest::collection::vec(-2.0_f32..2.0, 2..6),
        action in 0_usize..6,
        moved in -0.6_f32..0.6,
        advantage in -2.0_f32..2.0,
        entropy in 0.0_f32..0.3,
    ) {
        let config = PpoConfig { entropy, ..PpoConfig::default() };
        let action = action % logits.len();
        let mut log_probs = vec![0.0; logits.len()];
        categorical::log_softmax(&logits, &mut log_probs);
        let old = log_probs[action] - moved;
        // At the corners of the clip the loss has no derivative.
        let ratio = moved.exp();
        prop_assume!((ratio - 0.8).abs() > 1e-3 && (ratio - 1.2).abs() > 1e-3);

        let (value, gradient) = loss(&config, &logits, action, old, advantage);
        let wide: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
        let at = |z: &[f64]| loss_f64(&config, z, action, f64::from(old), f64::from(advantage));
        prop_assert!((value - at(&wide)).abs() < 1e-5);
        for j in 0..logits.len() {
            let (mut up, mut down) = (wide.clone(), wide.clone());
            up[j] += 1e-5;
            down[j] -= 1e-5;
            let numeric = (at(&up) - at(&down)) / 2e-5;
            prop_assert!((f64::from(gradient[j]) - numeric).abs() < 1e-4, "{j}: {} {numeric}", gradient[j]);
        }
    }

    #[test]
    fn the_gradient_over_several_masked_decisions_equals_finite_differences(
        logits in proptest::collection::vec(-2.0_f32..2.0, 5),
        mut mask in proptest::collection::vec(proptest::bool::ANY, 5),
        taken in (0_u32..3, 0_u32..2),
        moved in -0.6_f32..0.6,
        advantage in -2.0_f32..2.0,
        entropy in 0.0_f32..0.3,
    ) {
        prop_assume!((moved.exp() - 0.8).abs() > 1e-3 && (moved.exp() - 1.2).abs() > 1e-3);
        let (config, groups, taken) = (PpoConfig { entropy, ..PpoConfig::default() }, [3, 2], [taken.0, taken.1]);
        mask[taken[0] as usize] = true;
        mask[3 + taken[1] as usize] = true;
        // The definition in f64: probabilities over what is allowed, decisions independent.
        let at = |z: &[f64], old: f64| {
            let (mut log_prob, mut h) = (0.0, 0.0);
            for (group, action) in [(0..3, taken[0] as usize), (3..5, 3 + taken[1] as usize)] {
                let sum: f64 = group.clone().filter(|&j| mask[j]).map(|j| z[j].exp()).sum();
                let log_p = |j: usize| z[j] - sum.ln();
                log_prob += log_p(action);
                h -= group.filter(|&j| mask[j]).map(|j| log_p(j).exp() * log_p(j)).sum::<f64>();
            }
            let ratio = (log_prob - old).exp();
            let (a, c) = (f64::from(advantage), f64::from(config.clip));
            (log_prob, -(ratio * a).min(ratio.clamp(1.0 - c, 1.0 + c) * a) - f64::from(entropy) * h)
        };
        let wide: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
        let old = at(&wide, 0.0).0 - f64::from(moved);
        let (mut log_probs, mut d) = ([0.0; 5], [0.0; 5]);
        policy(&config).categorical(&groups, &logits, &mask, &taken, old as f32, advantage, &mut log_probs, &mut d);
        for j in 0..5 {
            let (mut up, mut down) = (wide.clone(), wide.clone());
            up[j] += 1e-5;
            down[j] -= 1e-5;
            let numeric = (at(&up, old).1 - at(&down, old).1) / 2e-5;
            prop_assert!((f64::from(d[j]) - numeric).abs() < 1e-4, "{j}: {} {numeric}", d[j]);
        }
    }

    #[test]
    fn the_gradient_of_normal_policies_equals_finite_differences(
        mean in proptest::collection::vec(-1.0_f32..1.0, 2),
        log_std in proptest::collection::vec(-1.0_f32..0.5, 2),
        z in proptest::collection::vec(-2.0_f32..2.0, 2),
        moved in -0.6_f32..0.6,
        advantage in -2.0_f32..2.0,
        entropy in 0.0_f32..0.3,
    ) {
        prop_assume!((moved.exp() - 0.8).abs() > 1e-2 && (moved.exp() - 1.2).abs() > 1e-2);
        let config = PpoConfig { entropy, ..PpoConfig::default() };
        let drawn: Vec<f32> = (0..2).map(|i| mean[i] + log_std[i].exp() * z[i]).collect();
        let log_prob = |p: &[f64]| -> f64 {
            (0..2)
                .map(|i| {
                    let z = (f64::from(drawn[i]) - p[i]) / p[2 + i].exp();
                    -0.5 * z * z - p[2 + i] - 0.5 * std::f64::consts::TAU.ln()
                })
                .sum()
        };
        let wide: Vec<f64> = mean.iter().chain(&log_std).map(|&x| f64::from(x)).collect();
        let old = log_prob(&wide) - f64::from(moved);
        let at = |p: &[f64]| {
            let ratio = (log_prob(p) - old).exp();
            let (a, c) = (f64::from(advantage), f64::from(config.clip));
            let h: f64 = p[2..].iter().map(|s| s + 0.5 * (std::f64::consts::TAU * std::f64::consts::E).ln()).sum();
            -(ratio * a).min(ratio.clamp(1.0 - c, 1.0 + c) * a) - f64::from(entropy) * h
        };
        let (mut d_mean, mut d_log_std) = ([0.0; 2], [0.0; 2]);
        policy(&config).gaussian(&mean, &log_std, &drawn, old as f32, advantage, &mut d_mean, &mut d_log_std);
        for (j, d) in d_mean.iter().chain(&d_log_std).enumerate() {
            let (mut up, mut down) = (wide.clone(), wide.clone());
            up[j] += 1e-5;
            down[j] -= 1e-5;
            let numeric = (at(&up) - at(&down)) / 2e-5;
            prop_assert!((f64::from(*d) - numeric).abs() < 2e-3 * (1.0 + numeric.abs()), "{j}: {d} {numeric}");
        }
    }

    #[test]
    fn value_gradient_equals_finite_differences(
        value in -5.0_f32..5.0,
        old in -5.0_f32..5.0,
        target in -5.0_f32..5.0,
        clip in proptest::option::of(0.1_f32..2.0),
    ) {
        let at = |v: f64| {
            let free = (v - f64::from(target)).powi(2) / 2.0;
            clip.map_or(free, |c| {
                let (old, c) = (f64::from(old), f64::from(c));
                free.max((v.clamp(old - c, old + c) - f64::from(target)).powi(2) / 2.0)
            })
        };
        let v = f64::from(value);
        let (loss, d) = value_loss(clip, value, old, target);
        prop_assert!((f64::from(loss) - at(v)).abs() < 1e-4);
        let (below, above) = ((at(v) - at(v - 1e-5)) / 1e-5, (at(v + 1e-5) - at(v)) / 1e-5);
        prop_assume!((below - above).abs() < 1e-3); // a corner has no derivative
        prop_assert!((f64::from(d) - above).abs() < 1e-2, "{d} {above}");
    }
}

#[test]
fn a_gain_beyond_the_clip_has_no_gradient_but_a_loss_has() {
    let config = PpoConfig::default();
    let (_, gained) = loss(&config, &[0.5, 0.0], 0, -2.0, 1.0);
    assert_eq!(gained, [0.0, 0.0]);
    let (_, lost) = loss(&config, &[0.5, 0.0], 0, -2.0, -1.0);
    assert!(lost[0] > 0.0 && lost[1] < 0.0, "{lost:?}");
}

#[test]
fn settings_out_of_range_are_named() {
    let bad = |change: fn(&mut PpoConfig)| {
        let mut config = PpoConfig::default();
        change(&mut config);
        config.validate().map_err(|e| e.to_string())
    };
    assert_eq!(bad(|_| ()), Ok(()));
    assert_eq!(bad(|c| c.gamma = 1.5), Err("invalid config: gamma must be between 0 and 1".into()));
    assert!(bad(|c| c.lr = f32::NAN).is_err_and(|e| e.contains("lr")));
    assert!(bad(|c| c.runners = 9).is_err_and(|e| e.contains("runners")));
    assert!(bad(|c| c.hidden = vec![0]).is_err_and(|e| e.contains("hidden")));
    assert!(bad(|c| c.envs = usize::MAX).is_err_and(|e| e.contains("envs")));
}
