//! The distribution over discrete actions that a row of logits stands for.

/// Writes the log-probabilities of `logits` into `out` (same length).
#[inline]
pub fn log_softmax(logits: &[f32], out: &mut [f32]) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = logits.iter().map(|l| (l - max).exp()).sum();
    let log_sum = sum.ln();
    for (o, l) in out.iter_mut().zip(logits) {
        *o = (l - max) - log_sum;
    }
}

/// [`log_softmax`] over the choices that `mask` allows; the others get −∞. An empty mask allows all.
#[inline]
pub fn masked_log_softmax(logits: &[f32], mask: &[bool], out: &mut [f32]) {
    if mask.is_empty() {
        return log_softmax(logits, out);
    }
    let allowed = || logits.iter().zip(mask).filter(|(_, allowed)| **allowed).map(|(l, _)| *l);
    let max = allowed().fold(f32::NEG_INFINITY, f32::max);
    let log_sum = allowed().map(|l| (l - max).exp()).sum::<f32>().ln();
    for ((o, l), allowed) in out.iter_mut().zip(logits).zip(mask) {
        *o = if *allowed { (l - max) - log_sum } else { f32::NEG_INFINITY };
    }
}

/// The action that a uniform draw `u` in [0, 1) stands for, by inverting the cumulative distribution.
#[inline]
pub fn sample(log_probs: &[f32], u: f32) -> usize {
    let mut left = u;
    for (action, log_prob) in log_probs.iter().enumerate() {
        left -= log_prob.exp();
        if left < 0.0 {
            return action;
        }
    }
    // Rounding: the probabilities may sum to a little under `u`.
    log_probs.iter().rposition(|l| *l > f32::NEG_INFINITY).unwrap_or(log_probs.len() - 1)
}

/// The likeliest action; the first of equals.
#[inline]
pub fn mode(logits: &[f32]) -> usize {
    let mut best = 0;
    for (action, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = action;
        }
    }
    best
}

/// The likeliest action that `mask` allows; the first of equals. An empty mask allows all.
#[inline]
pub fn masked_mode(logits: &[f32], mask: &[bool]) -> usize {
    if mask.is_empty() {
        return mode(logits);
    }
    let mut best: Option<usize> = None;
    for (action, (logit, allowed)) in logits.iter().zip(mask).enumerate() {
        if *allowed && best.is_none_or(|best| *logit > logits[best]) {
            best = Some(action);
        }
    }
    best.unwrap_or(0)
}

/// Entropy in nats.
#[inline]
pub fn entropy(log_probs: &[f32]) -> f32 {
    -log_probs.iter().map(|l| if *l > f32::NEG_INFINITY { l.exp() * l } else { 0.0 }).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn log_probs(logits: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; logits.len()];
        log_softmax(logits, &mut out);
        out
    }

    #[test]
    fn huge_logits_do_not_overflow() {
        assert_eq!(log_probs(&[1e4, 1e4]), [0.5_f32.ln(); 2]);
        assert_eq!(sample(&log_probs(&[-1e30, 1e30]), 0.999), 1);
        assert_eq!(entropy(&log_probs(&[0.0, f32::NEG_INFINITY])), 0.0);
    }

    #[test]
    fn what_is_masked_is_never_taken_and_the_rest_is_renormalised() {
        let (logits, mask) = ([1.0, 50.0, 1.0, 80.0], [true, false, true, false]);
        let mut out = [0.0; 4];
        masked_log_softmax(&logits, &mask, &mut out);
        assert_eq!(out, [0.5_f32.ln(), f32::NEG_INFINITY, 0.5_f32.ln(), f32::NEG_INFINITY]);
        assert_eq!([0.0, 0.49, 0.51, 1.0].map(|u| sample(&out, u)), [0, 0, 2, 2]);
        assert_eq!((masked_mode(&logits, &mask), masked_mode(&logits, &[])), (0, 3));
    }

    proptest! {
        #[test]
        fn frequencies_follow_the_probabilities(logits in proptest::collection::vec(-4.0_f32..4.0, 1..6)) {
            let log_probs = log_probs(&logits);
            let draws = 4000;
            let mut seen = vec![0; logits.len()];
            for i in 0..draws {
                seen[sample(&log_probs, i as f32 / draws as f32)] += 1;
            }
            for (count, log_prob) in seen.iter().zip(&log_probs) {
                prop_assert!((*count as f32 / draws as f32 - log_prob.exp()).abs() < 2e-3);
            }
            prop_assert!(log_probs.iter().all(|l| *l <= log_probs[mode(&logits)]));
            prop_assert!((0.0..=(logits.len() as f32).ln() + 1e-5).contains(&entropy(&log_probs).max(0.0)));
        }
    }
}
