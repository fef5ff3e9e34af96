//! The losses of PPO against finite differences, and its settings.

use proptest::prelude::*;

use super::*;

fn loss(config: &PpoConfig, logits: &[f32], action: usize, old: f32, advantage: f32) -> (f64, Vec<f32>) {
    let (mut scratch, mut d) = (vec![0.0; logits.len()], vec![0.0; logits.len()]);
    let t = policy_loss(config, logits, action, old, advantage, &mut scratch, &mut d);
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
