//! Attention of one token's heads over the pages of its past (Vaswani et al., 2017), a group of query heads for each head of keys and values
//! (Ainslie et al., 2023).
//!
//! Every token is computed by itself, its past in order, so what it sees does not depend on how a prompt was cut into pieces.

use pulp::{Arch, Simd, WithSimd};

use super::math::softmax;
use super::pages::TOKENS;

/// One head of keys and values, and the query heads of one token that look at it.
pub(super) struct Attention<'a, P> {
    /// `[group, head_dim]`.
    pub queries: &'a [f32],
    pub head_dim: usize,
    /// Keys as `[head_dim, TOKENS]` and values as `[TOKENS, head_dim]`.
    pub pages: P,
    /// Tokens of the past, with this one.
    pub len: usize,
    pub scale: f32,
    /// `[group, head_dim]`.
    pub to: &'a mut [f32],
    /// Working memory.
    pub scores: &'a mut Vec<f32>,
}

impl<'a, P: Iterator<Item = (&'a [f32], &'a [f32])> + Clone> Attention<'a, P> {
    pub(super) fn run(self) {
        Arch::new().dispatch(self);
    }
}

impl<'a, P: Iterator<Item = (&'a [f32], &'a [f32])> + Clone> WithSimd for Attention<'a, P> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // A page is as many vectors as it takes for its tokens.
        match S::F32_LANES {
            16 => attend::<S, 1, P>(simd, self),
            8 => attend::<S, 2, P>(simd, self),
            4 => attend::<S, 4, P>(simd, self),
            _ => attend::<S, TOKENS, P>(simd, self),
        }
    }
}

#[inline(always)]
fn attend<'a, S: Simd, const V: usize, P: Iterator<Item = (&'a [f32], &'a [f32])> + Clone>(
    simd: S,
    attention: Attention<'a, P>,
) {
    let Attention { queries, head_dim, pages, len, scale, to, scores } = attention;
    let stride = len.next_multiple_of(TOKENS);
    scores.clear();
    scores.resize(queries.len() / head_dim * stride, 0.0);
    for (page, (keys, _)) in pages.clone().take(stride / TOKENS).enumerate() {
        let keys = S::as_simd_f32s(keys).0.as_chunks::<V>().0;
        for (query, scores) in queries.chunks_exact(head_dim).zip(scores.chunks_exact_mut(stride)) {
            // Two sums, so that one can be added to while the other is not ready.
            let mut sums = [[simd.splat_f32s(0.0); V]; 2];
            let (pairs, last) = query.as_chunks::<2>();
            let (key_pairs, last_key) = keys.as_chunks::<2>();
            for (pair, keys) in pairs.iter().zip(key_pairs) {
                for i in 0..2 {
                    multiply_add(simd, pair[i], &keys[i], &mut sums[i]);
                }
            }
            for (q, keys) in last.iter().zip(last_key) {
                multiply_add(simd, *q, keys, &mut sums[0]);
            }
            let to = S::as_mut_simd_f32s(&mut scores[page * TOKENS..][..TOKENS]).0;
            let scale = simd.splat_f32s(scale);
            for (v, to) in to.iter_mut().enumerate() {
                *to = simd.mul_f32s(simd.add_f32s(sums[0][v], sums[1][v]), scale);
            }
        }
    }
    to.fill(0.0);
    for scores in scores.chunks_exact_mut(stride) {
        softmax(&mut scores[..len]);
    }
    for (page, (_, values)) in pages.take(stride / TOKENS).enumerate() {
        for (to, scores) in to.chunks_exact_mut(head_dim).zip(scores.chunks_exact(stride)) {
            let there = TOKENS.min(len - page * TOKENS);
            let scores = &scores[page * TOKENS..][..there];
            weighted(simd, scores, values, to);
        }
    }
}

#[inline(always)]
fn multiply_add<S: Simd, const V: usize>(simd: S, x: f32, y: &[S::f32s; V], sums: &mut [S::f32s; V]) {
    let x = simd.splat_f32s(x);
    for (y, sum) in y.iter().zip(sums) {
        *sum = simd.mul_add_f32s(x, *y, *sum);
    }
}

/// Adds rows of values, each times its score.
#[inline(always)]
fn weighted<S: Simd>(simd: S, scores: &[f32], values: &[f32], to: &mut [f32]) {
    let head_dim = to.len();
    let (vectors, rest) = S::as_mut_simd_f32s(to);
    for (v, to) in vectors.iter_mut().enumerate() {
        let mut sum = *to;
        for (score, values) in scores.iter().zip(values.chunks_exact(head_dim)) {
            let values = S::as_simd_f32s(&values[v * S::F32_LANES..][..S::F32_LANES]).0[0];
            sum = simd.mul_add_f32s(simd.splat_f32s(*score), values, sum);
        }
        *to = sum;
    }
    let first = head_dim - rest.len();
    for (i, to) in rest.iter_mut().enumerate() {
        for (score, values) in scores.iter().zip(values.chunks_exact(head_dim)) {
            *to += score * values[first + i];
        }
    }
}
