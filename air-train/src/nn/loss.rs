//! Losses: each returns its mean and writes the gradient of its input.

use super::{expect, math};
use crate::{Result, TrainError};

/// Mean squared error over all values; `d_pred` receives its gradient.
pub fn mse(pred: &[f32], target: &[f32], d_pred: &mut [f32]) -> Result<f32> {
    expect("targets of the mean squared error", pred.len(), target.len())?;
    expect("gradient values of the mean squared error", pred.len(), d_pred.len())?;
    let scale = 2.0 / pred.len().max(1) as f32;
    let mut sum = 0.0_f64;
    for ((p, t), d) in pred.iter().zip(target).zip(d_pred) {
        let e = p - t;
        *d = scale * e;
        sum += f64::from(e) * f64::from(e);
    }
    Ok((sum / pred.len().max(1) as f64) as f32)
}

/// Mean cross-entropy of `softmax(logits[batch, classes])` against one class index a row; `d_logits` receives its gradient.
pub fn softmax_cross_entropy(
    logits: &[f32],
    labels: &[u32],
    classes: usize,
    d_logits: &mut [f32],
) -> Result<f32> {
    expect("logits of the cross-entropy", labels.len().saturating_mul(classes), logits.len())?;
    expect("gradient values of the cross-entropy", logits.len(), d_logits.len())?;
    if let Some((row, label)) = labels.iter().enumerate().find(|(_, label)| **label as usize >= classes) {
        return Err(TrainError::Label { row, label: *label, classes });
    }
    if labels.is_empty() {
        return Ok(0.0);
    }
    let scale = 1.0 / labels.len() as f32;
    let mut sum = 0.0_f64;
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for ((z, d), label) in
                logits.chunks_exact(classes).zip(d_logits.chunks_exact_mut(classes)).zip(labels)
            {
                let (max, total) = exponentials(z, d);
                let label = *label as usize;
                sum += f64::from(total.ln() + max - z[label]);
                let scale_row = scale / total;
                for d in &mut *d {
                    *d *= scale_row;
                }
                d[label] -= scale;
            }
        },
    );
    Ok((sum / labels.len() as f64) as f32)
}

/// The softmax of each row of `logits[batch, classes]`, in place.
pub fn softmax(logits: &mut [f32], classes: usize) -> Result<()> {
    let classes = classes.max(1);
    expect("logits of the softmax", logits.len() / classes * classes, logits.len())?;
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for z in logits.chunks_exact_mut(classes) {
                let (mut max, mut total) = (f32::NEG_INFINITY, 0.0);
                for z in &*z {
                    max = max.max(*z);
                }
                for z in &mut *z {
                    *z = math::exp(*z - max);
                    total += *z;
                }
                for z in z {
                    *z /= total;
                }
            }
        },
    );
    Ok(())
}

/// The share of rows of `scores[batch, classes]` whose largest score stands at the row's label.
pub fn accuracy(scores: &[f32], labels: &[u32], classes: usize) -> Result<f32> {
    expect("scores of the accuracy", labels.len().saturating_mul(classes), scores.len())?;
    let right = scores
        .chunks_exact(classes.max(1))
        .zip(labels)
        .filter(|(row, label)| {
            let best = (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
            best == **label as usize
        })
        .count();
    Ok(right as f32 / labels.len().max(1) as f32)
}

/// Writes `e^(z - max)`; returns the maximum and the sum.
// Plain loops: a closure handed to an adapter may be compiled apart, without the vector instructions of the caller.
#[inline(always)]
fn exponentials(z: &[f32], out: &mut [f32]) -> (f32, f32) {
    let (mut max, mut total) = (f32::NEG_INFINITY, 0.0);
    for z in z {
        max = max.max(*z);
    }
    for (out, z) in out.iter_mut().zip(z) {
        *out = math::exp(z - max);
    }
    for out in out {
        total += *out;
    }
    (max, total)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_by_hand() {
        // softmax of (0, ln 3) is (1/4, 3/4).
        let mut d = [0.0; 4];
        let z = [0.0, 3.0_f32.ln(), 0.0, 3.0_f32.ln()];
        let loss = softmax_cross_entropy(&z, &[0, 1], 2, &mut d).unwrap();
        assert!((loss - f32::midpoint(4.0_f32.ln(), (4.0_f32 / 3.0).ln())).abs() < 1e-6);
        for (d, want) in d.iter().zip([-0.375, 0.375, 0.125, -0.125]) {
            assert!((d - want).abs() < 1e-6);
        }
        assert_eq!(accuracy(&z, &[0, 1], 2).unwrap(), 0.5);
    }

    #[test]
    fn gradients_match_finite_differences() {
        let z: Vec<f32> = (0..15).map(|i| (i * 7 % 11) as f32 * 0.3 - 1.0).collect();
        let target: Vec<f32> = (0..15).map(|i| (i * 5 % 7) as f32 * 0.2).collect();
        type Loss<'a> = &'a dyn Fn(&[f32], &mut [f32]) -> f32;
        let cross: Loss<'_> = &|z, d| softmax_cross_entropy(z, &[0, 2, 4], 5, d).unwrap();
        let square: Loss<'_> = &|z, d| mse(z, &target, d).unwrap();
        for loss in [cross, square] {
            let (mut d, mut unused) = (vec![0.0; 15], vec![0.0; 15]);
            loss(&z, &mut d);
            for i in 0..15 {
                let mut moved = z.clone();
                moved[i] += 1e-2;
                let high = loss(&moved, &mut unused);
                moved[i] -= 2e-2;
                let low = loss(&moved, &mut unused);
                assert!((d[i] - (high - low) / 2e-2).abs() < 1e-3, "{i}: {} {}", d[i], (high - low) / 2e-2);
            }
        }
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let mut d = [0.0; 2];
        let loss = softmax_cross_entropy(&[1000.0, -1000.0], &[1], 2, &mut d).unwrap();
        assert!((loss - 2000.0).abs() < 1e-3 && d.iter().all(|d| d.is_finite()));
        let mut p = [1000.0, -1000.0];
        softmax(&mut p, 2).unwrap();
        assert_eq!(p, [1.0, 0.0]);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut d = [0.0; 4];
        let error = softmax_cross_entropy(&[0.0; 4], &[0, 2], 2, &mut d).unwrap_err();
        assert_eq!(error.to_string(), "label 2 in row 1 is not below the number of classes, 2");
        let error = mse(&[0.0; 4], &[0.0; 3], &mut d).unwrap_err();
        assert_eq!(error.to_string(), "targets of the mean squared error: expected 4, got 3");
        assert!(softmax_cross_entropy(&[0.0; 3], &[0, 1], 2, &mut d).is_err());
        assert!(softmax(&mut [0.0; 3], 2).is_err());
    }
}
