//! Post-transforms of the `ai.onnx.ml` classifiers and regressors.

use crate::onnx::error::Reason;
use crate::onnx::node::Node;

/// How raw scores become the scores that are given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PostTransform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

impl PostTransform {
    pub(crate) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        Ok(match node.string("post_transform", "NONE")? {
            "NONE" => PostTransform::None,
            "SOFTMAX" => PostTransform::Softmax,
            "LOGISTIC" => PostTransform::Logistic,
            "SOFTMAX_ZERO" => PostTransform::SoftmaxZero,
            "PROBIT" => PostTransform::Probit,
            other => return Err(format!("unknown post_transform {other}")),
        })
    }

    /// The same, by the number that version 5 has for it.
    pub(crate) fn numbered(number: i64) -> Result<Self, Reason> {
        Ok(match number {
            0 => PostTransform::None,
            1 => PostTransform::Softmax,
            2 => PostTransform::Logistic,
            3 => PostTransform::SoftmaxZero,
            4 => PostTransform::Probit,
            other => return Err(format!("unknown post_transform {other}")),
        })
    }

    /// Transforms one row of scores in place.
    pub(crate) fn apply(self, scores: &mut [f64]) {
        match self {
            PostTransform::None => {}
            PostTransform::Softmax => softmax(scores),
            PostTransform::Logistic => each(scores, logistic),
            PostTransform::SoftmaxZero => softmax_zero(scores),
            PostTransform::Probit => each(scores, probit),
        }
    }
}

fn each(scores: &mut [f64], function: impl Fn(f64) -> f64) {
    for score in scores {
        *score = function(*score);
    }
}

/// `1 / (1 + e^-x)` without overflow.
pub(crate) fn logistic(x: f64) -> f64 {
    let v = 1.0 / (1.0 + (-x.abs()).exp());
    if x < 0.0 { 1.0 - v } else { v }
}

fn softmax(scores: &mut [f64]) {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        *score = (*score - max).exp();
        sum += *score;
    }
    each(scores, |score| score / sum);
}

/// Softmax over the scores that are not zero; a zero score stays zero.
fn softmax_zero(scores: &mut [f64]) {
    let zero = |score: f64| score.abs() <= 1e-7;
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if zero(*score) {
            *score *= (-max).exp();
        } else {
            *score = (*score - max).exp();
            sum += *score;
        }
    }
    if sum > 0.0 {
        each(scores, |score| score / sum);
    }
}

/// The inverse of the normal distribution, by the approximation that ONNX Runtime uses (relative error about 2e-3), so
/// that both give the same answer.
fn probit(p: f64) -> f64 {
    let x = 2.0 * p - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let v = 2.0 / (std::f64::consts::PI * 0.147) + 0.5 * log;
    let inverse = (-v + (v * v - log / 0.147).sqrt()).sqrt().copysign(x);
    std::f64::consts::SQRT_2 * inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(post: PostTransform, scores: &[f64]) -> Vec<f64> {
        let mut scores = scores.to_vec();
        post.apply(&mut scores);
        scores
    }

    #[test]
    fn softmax_sums_to_one_and_survives_large_scores() {
        let scores = applied(PostTransform::Softmax, &[1000.0, 999.0, -1000.0]);
        assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        assert!((scores[0] / scores[1] - std::f64::consts::E).abs() < 1e-9);
    }

    #[test]
    fn softmax_zero_keeps_zero() {
        let scores = applied(PostTransform::SoftmaxZero, &[0.0, 1.0, 1.0]);
        assert_eq!(scores[0], 0.0);
        assert!((scores[1] - 0.5).abs() < 1e-12);
        assert_eq!(applied(PostTransform::SoftmaxZero, &[0.0, 0.0]), [0.0, 0.0]);
    }

    #[test]
    fn logistic_is_symmetric() {
        for x in [0.0, 0.1, 3.0, 40.0, 800.0] {
            assert!((logistic(x) + logistic(-x) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn probit_inverts_the_normal_distribution() {
        assert!(probit(0.5).abs() < 1e-9);
        assert!((probit(0.975) - 1.96).abs() < 0.01);
        assert!((probit(0.025) + 1.96).abs() < 0.01);
    }
}
