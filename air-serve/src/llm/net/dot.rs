//! Rows of inputs times a matrix of weights: the one product that everything here is made of.
//!
//! `y[m, n] = Σ x[m, k]·w[n, k]`. Weights are read once for a tile of rows, so that a step of many sequences costs little more memory traffic
//! than a step of one; weights of 16 bits are widened in registers. The sum of an element runs over `k` in an order that depends on nothing but
//! `k` and the machine's vectors: not on how many rows there are, nor on which thread has it. So what a sequence gets does not depend on its company.

use std::array::from_fn;

use air_core::team::Team;
use pulp::{Arch, Simd, WithSimd};

use super::matrix::{Matrix, Width};

/// Rows of weights in a tile.
const R: usize = 4;
/// Bytes of inputs that are kept in the cache while weights pass by.
const CACHED: usize = 256 << 10;
/// Multiply-adds below which a product stays on one thread.
const WORTH_SHARING: usize = 1 << 17;

/// Inputs in the order in which the kernel reads them: where a word holds two weights, first those of the lower halves, then those of the upper.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    values: Vec<f32>,
}

impl Inputs {
    fn fill(&mut self, x: &[f32], matrix: &Matrix) -> usize {
        let (stride, parts) = (matrix.stride(), matrix.width.per_word());
        let len = stride * parts;
        self.values.clear();
        self.values.resize(x.len() / matrix.cols.max(1) * len, 0.0);
        for (to, from) in self.values.chunks_exact_mut(len).zip(x.chunks_exact(matrix.cols)) {
            if parts == 1 {
                to.copy_from_slice(from);
                continue;
            }
            let (low, high) = to.split_at_mut(stride);
            for ((low, high), pair) in low.iter_mut().zip(high).zip(from.chunks(2)) {
                *low = pair[0];
                *high = pair.get(1).copied().unwrap_or(0.0);
            }
        }
        len
    }
}

/// `y = x·wᵀ`: `x` is `[m, w.cols]`, `y` is `[m, w.rows]`, row by row.
pub(super) fn product(team: &Team, x: &[f32], w: &Matrix, y: &mut [f32], inputs: &mut Inputs) {
    if w.rows == 0 || x.is_empty() {
        return;
    }
    debug_assert_eq!(x.len() / w.cols * w.rows, y.len());
    let len = inputs.fill(x, w);
    let x = &inputs.values[..];
    let work = y.len() * w.cols;
    let pieces = if work < WORTH_SHARING { 1 } else { team.count() };
    let share = w.rows.div_ceil(pieces).next_multiple_of(R);
    // Each thread has some columns of every row of the output.
    let mut parts: Vec<Vec<&mut [f32]>> = Vec::new();
    parts.resize_with(w.rows.div_ceil(share), || Vec::with_capacity(y.len() / w.rows));
    for row in y.chunks_exact_mut(w.rows) {
        for (part, columns) in parts.iter_mut().zip(row.chunks_mut(share)) {
            part.push(columns);
        }
    }
    team.each(parts.into_iter().enumerate(), |(piece, mut y)| {
        let first = piece * share;
        let rows = w.rows(first..w.rows.min(first + share));
        let part = Part { rows, stride: w.stride(), x, len, y: &mut y };
        match w.width {
            Width::F32 => Arch::new().dispatch(Kernel::<_, 0> { part }),
            Width::Bf16 => Arch::new().dispatch(Kernel::<_, 1> { part }),
            Width::F16 => Arch::new().dispatch(Kernel::<_, 2> { part }),
        }
    });
}

/// What one thread does.
struct Part<'a, 'y> {
    /// The words of its rows of weights.
    rows: &'a [u32],
    stride: usize,
    x: &'a [f32],
    /// Values of a row of `x`.
    len: usize,
    y: &'a mut [&'y mut [f32]],
}

/// The kind is the width: 0 for F32, 1 for BF16, 2 for F16.
struct Kernel<P, const KIND: u8> {
    part: P,
}

impl<const KIND: u8> WithSimd for Kernel<Part<'_, '_>, KIND> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // As many rows of inputs as the register file has room for sums, beside weights before and after they are widened.
        match (S::REGISTER_COUNT >= 32, KIND) {
            (true, 0) => blocks::<S, KIND, 6>(simd, self.part),
            (true, _) => blocks::<S, KIND, 4>(simd, self.part),
            (false, _) => blocks::<S, KIND, 2>(simd, self.part),
        }
    }
}

#[inline(always)]
fn blocks<S: Simd, const KIND: u8, const M: usize>(simd: S, part: Part<'_, '_>) {
    let Part { rows, stride, x, len, y } = part;
    let block = (CACHED / 4 / len.max(1)).max(M) / M * M;
    for (x, y) in x.chunks(block * len).zip(y.chunks_mut(block)) {
        let mut words = rows.chunks_exact(R * stride);
        for (tile, words) in words.by_ref().enumerate() {
            columns::<S, KIND, M, R>(simd, words, x, len, y, tile * R);
        }
        let first = rows.len() / (R * stride) * R;
        for (row, words) in words.remainder().chunks_exact(stride).enumerate() {
            columns::<S, KIND, M, 1>(simd, words, x, len, y, first + row);
        }
    }
}

/// `N` rows of weights, all rows of inputs.
#[inline(always)]
fn columns<S: Simd, const KIND: u8, const M: usize, const N: usize>(
    simd: S,
    words: &[u32],
    x: &[f32],
    len: usize,
    y: &mut [&mut [f32]],
    column: usize,
) {
    let stride = words.len() / N;
    let rows: [&[u32]; N] = from_fn(|r| &words[r * stride..][..stride]);
    let mut tiles = x.chunks_exact(M * len);
    let mut at = 0;
    for x in tiles.by_ref() {
        tile::<S, KIND, M, N>(simd, rows, from_fn(|m| &x[m * len..][..len]), &mut y[at..at + M], column);
        at += M;
    }
    for x in tiles.remainder().chunks_exact(len) {
        tile::<S, KIND, 1, N>(simd, rows, [x], &mut y[at..=at], column);
        at += 1;
    }
}

/// The kernel: `N` rows of weights times `M` rows of inputs.
#[inline(always)]
fn tile<S: Simd, const KIND: u8, const M: usize, const N: usize>(
    simd: S,
    rows: [&[u32]; N],
    x: [&[f32]; M],
    y: &mut [&mut [f32]],
    column: usize,
) {
    let words = rows[0].len();
    let whole = words / S::F32_LANES;
    let vectors: [&[S::u32s]; N] = from_fn(|r| &S::as_simd_u32s(rows[r]).0[..whole]);
    let low: [&[S::f32s]; M] = from_fn(|m| &S::as_simd_f32s(&x[m][..words]).0[..whole]);
    let mut sums = [[simd.splat_f32s(0.0); M]; N];
    if KIND == 0 {
        for i in 0..whole {
            let w = from_fn(|r| simd.transmute_f32s_u32s(vectors[r][i]));
            multiply_add(simd, &w, from_fn(|m| low[m][i]), &mut sums);
        }
    } else {
        let high: [&[S::f32s]; M] = from_fn(|m| &S::as_simd_f32s(&x[m][words..]).0[..whole]);
        for i in 0..whole {
            let w = from_fn(|r| vectors[r][i]);
            multiply_add(simd, &lower::<S, KIND, N>(simd, &w), from_fn(|m| low[m][i]), &mut sums);
            multiply_add(simd, &upper::<S, KIND, N>(simd, &w), from_fn(|m| high[m][i]), &mut sums);
        }
    }
    let tail = whole * S::F32_LANES;
    if tail < words {
        let rest: [S::u32s; N] = from_fn(|r| simd.partial_load_u32s(&rows[r][tail..]));
        let inputs = |from: usize| from_fn(|m| simd.partial_load_f32s(&x[m][from + tail..from + words]));
        if KIND == 0 {
            multiply_add(simd, &from_fn(|r| simd.transmute_f32s_u32s(rest[r])), inputs(0), &mut sums);
        } else {
            multiply_add(simd, &lower::<S, KIND, N>(simd, &rest), inputs(0), &mut sums);
            multiply_add(simd, &upper::<S, KIND, N>(simd, &rest), inputs(words), &mut sums);
        }
    }
    for (m, y) in y.iter_mut().enumerate() {
        for (r, sums) in sums.iter().enumerate() {
            y[column + r] = simd.reduce_sum_f32s(sums[m]);
        }
    }
}

#[inline(always)]
fn multiply_add<S: Simd, const M: usize, const N: usize>(
    simd: S,
    w: &[S::f32s; N],
    x: [S::f32s; M],
    sums: &mut [[S::f32s; M]; N],
) {
    for m in 0..M {
        for r in 0..N {
            sums[r][m] = simd.mul_add_f32s(w[r], x[m], sums[r][m]);
        }
    }
}

/// The weights in the lower halves of words. A loop and no closure: one that is too large to be inlined loses its instructions.
#[inline(always)]
fn lower<S: Simd, const KIND: u8, const N: usize>(simd: S, words: &[S::u32s; N]) -> [S::f32s; N] {
    let mut widened = [simd.splat_f32s(0.0); N];
    for (to, word) in widened.iter_mut().zip(words) {
        let word = simd.wrapping_dyn_shl_u32s(*word, simd.splat_u32s(16));
        *to = if KIND == 1 { simd.transmute_f32s_u32s(word) } else { half(simd, word) };
    }
    widened
}

/// The weights in the upper halves of words.
#[inline(always)]
fn upper<S: Simd, const KIND: u8, const N: usize>(simd: S, words: &[S::u32s; N]) -> [S::f32s; N] {
    let mut widened = [simd.splat_f32s(0.0); N];
    for (to, word) in widened.iter_mut().zip(words) {
        *to = if KIND == 1 {
            simd.transmute_f32s_u32s(simd.and_u32s(*word, simd.splat_u32s(0xffff_0000)))
        } else {
            half(simd, *word)
        };
    }
    widened
}

/// Widens numbers of IEEE's 16 bits in the upper halves of words: exponent and fraction are moved to where those of 32 bits lie, and a multiplication
/// makes up for the different bias. Exact for all but infinities and what is not a number.
#[inline(always)]
fn half<S: Simd>(simd: S, words: S::u32s) -> S::f32s {
    let sign = simd.and_u32s(words, simd.splat_u32s(0x8000_0000));
    let size = simd.and_u32s(words, simd.splat_u32s(0x7fff_0000));
    let bits = simd.or_u32s(sign, simd.wrapping_dyn_shr_u32s(size, simd.splat_u32s(3)));
    simd.mul_f32s(simd.transmute_f32s_u32s(bits), simd.splat_f32s(f32::from_bits((127 + 112) << 23)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::*;

    /// Numbers in -1..1 that every width holds exactly.
    pub(in crate::llm) fn fill(len: usize, salt: u32) -> Vec<f32> {
        let number =
            |i: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(salt.wrapping_mul(40_503)) >> 17) % 200;
        (0..len as u32).map(|i| number(i) as f32 / 128.0 - 0.75).collect()
    }

    pub(in crate::llm) fn matrix(width: Width, rows: usize, cols: usize, values: &[f32]) -> Matrix {
        let mut matrix = Matrix::zeros(width, rows, cols);
        let stride = matrix.stride();
        for (i, value) in values.iter().enumerate() {
            let (row, col) = (i / cols, i % cols);
            let word = &mut matrix.words[row * stride + col / width.per_word()];
            match width {
                Width::F32 => *word = value.to_bits(),
                Width::Bf16 => *word |= u32::from(half::bf16::from_f32(*value).to_bits()) << (16 * (col % 2)),
                Width::F16 => *word |= u32::from(half::f16::from_f32(*value).to_bits()) << (16 * (col % 2)),
            }
        }
        matrix
    }

    /// Against the definition, in f64, over shapes that meet every tile and tail, in every width.
    #[test]
    fn equals_the_definition() {
        for width in [Width::F32, Width::Bf16, Width::F16] {
            for (m, n, k) in [(1, 1, 1), (1, 9, 64), (2, 5, 33), (7, 12, 100), (13, 6, 257), (30, 17, 64)] {
                let (x, values) = (fill(m * k, 1), fill(n * k, 2));
                let w = matrix(width, n, k, &values);
                let mut y = vec![0.0; m * n];
                product(&Team::new(2).unwrap(), &x, &w, &mut y, &mut Inputs::default());
                for i in 0..m {
                    for j in 0..n {
                        let dot: f64 =
                            (0..k).map(|p| f64::from(x[i * k + p]) * f64::from(values[j * k + p])).sum();
                        let got = f64::from(y[i * n + j]);
                        assert!((got - dot).abs() < 1e-4, "{width:?} {m}x{n}x{k} [{i},{j}]: {got} {dot}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_its_company_nor_on_the_number_of_threads() {
        let (n, k) = (301, 515);
        for width in [Width::F32, Width::Bf16, Width::F16] {
            let w = matrix(width, n, k, &fill(n * k, 3));
            let x = fill(23 * k, 4);
            let mut together = vec![0.0; 23 * n];
            product(&Team::new(3).unwrap(), &x, &w, &mut together, &mut Inputs::default());
            for (x, y) in x.chunks_exact(k).zip(together.chunks_exact(n)) {
                let mut alone = vec![0.0; n];
                product(&Team::new(1).unwrap(), x, &w, &mut alone, &mut Inputs::default());
                assert_eq!(alone, y);
            }
        }
    }

    #[test]
    fn every_finite_half_is_widened_exactly() {
        for width in [Width::Bf16, Width::F16] {
            let finite = |bits: u16| match width {
                Width::F16 => half::f16::from_bits(bits).is_finite(),
                _ => half::bf16::from_bits(bits).is_finite(),
            };
            let all: Vec<u16> = (0..=u16::MAX).filter(|bits| finite(*bits)).collect();
            let mut w = Matrix::zeros(width, all.len(), 1);
            for (word, bits) in w.words.iter_mut().zip(&all) {
                *word = u32::from(*bits);
            }
            let mut y = vec![0.0; all.len()];
            product(&Team::new(1).unwrap(), &[1.0], &w, &mut y, &mut Inputs::default());
            let mut expected = [0.0];
            for (row, got) in y.iter().enumerate() {
                w.widen_row(row, &mut expected);
                assert_eq!(*got, expected[0], "{width:?} {:#06x}", all[row]);
            }
        }
    }
}
