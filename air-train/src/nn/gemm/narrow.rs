//! Products of one or a few columns, or few rows of a transposed operand: a wide block would work for columns that are not there.

use pulp::Simd;

use super::{Operand, Product, Start};

/// The most columns for which sums over whole rows, added up across lanes at the end, may be less work than a column of lanes.
const MOST: usize = 4;

/// Is `c = a·b` better taken as dot products of rows? It depends on what a row of the output is made of, not on how many there are, so
/// a row's bits do not depend on which rows are computed with it.
pub(super) fn is_narrow(product: &Product<'_>, lanes: usize) -> bool {
    // Adding up the lanes of a vector takes about as long as eight multiplications of vectors.
    !product.a.transposed && product.n <= MOST && product.n * (product.k / lanes + 8) <= product.k
}

/// `c = start + a·b` for a `b` of up to four columns.
#[inline(always)]
pub(super) fn dots<S: Simd>(simd: S, product: &Product<'_>, c: &mut [f32], columns: &mut Vec<f32>) {
    match product.n {
        1 => of_columns::<S, 1>(simd, product, c, columns),
        2 => of_columns::<S, 2>(simd, product, c, columns),
        3 => of_columns::<S, 3>(simd, product, c, columns),
        _ => of_columns::<S, 4>(simd, product, c, columns),
    }
}

#[inline(always)]
fn of_columns<S: Simd, const N: usize>(
    simd: S,
    product: &Product<'_>,
    c: &mut [f32],
    columns: &mut Vec<f32>,
) {
    let Product { m, k, first_row, a, b, .. } = *product;
    let (c, _) = c.as_chunks_mut::<N>();
    if !b.transposed && N > 1 {
        columns.clear();
        (0..N).for_each(|j| columns.extend(b.data.iter().skip(j).step_by(b.width).take(k)));
    }
    let mut start = [0.0; N];
    let mut of_b: [(&[S::f32s], &[f32]); N] = [(&[], &[]); N];
    for j in 0..N {
        let column =
            if b.transposed || N == 1 { &b.data[j * b.width..][..k] } else { &columns[j * k..][..k] };
        of_b[j] = S::as_simd_f32s(column);
        if let Start::Bias(bias) = product.start {
            start[j] = bias[j];
        }
    }
    let adds = matches!(product.start, Start::Output);
    for (row, out) in a.data[first_row * a.width..].chunks_exact(a.width).take(m).zip(c) {
        let (row, rest) = S::as_simd_f32s(&row[..k]);
        let mut sums = [simd.splat_f32s(0.0); N];
        for (p, x) in row.iter().enumerate() {
            for j in 0..N {
                sums[j] = simd.mul_add_e_f32s(*x, of_b[j].0[p], sums[j]);
            }
        }
        for j in 0..N {
            let mut sum = simd.reduce_sum_f32s(sums[j]);
            for (x, y) in rest.iter().zip(of_b[j].1) {
                sum = x.mul_add(*y, sum);
            }
            out[j] = if adds { out[j] + sum } else { start[j] + sum };
        }
    }
}

/// Is `c = aᵀ·b` better taken as the transpose of `bᵀ·a`? The order of each sum is the same.
pub(super) fn is_tall(product: &Product<'_>, lanes: usize) -> bool {
    product.a.transposed && !product.b.transposed && product.n * 4 <= lanes && product.n * 2 <= product.m
}

/// The other product, whose output is to be transposed, for the rows of `c` that are asked for.
pub(super) fn swapped<'a>(product: &Product<'a>) -> Product<'a> {
    let Product { m, n, k, first_row, a, b, .. } = *product;
    let columns = &a.data[first_row.min(a.data.len())..];
    Product {
        m: n,
        n: m,
        k,
        first_row: 0,
        a: Operand { transposed: true, ..b },
        b: Operand { data: columns, transposed: false, ..a },
        start: Start::Zero,
    }
}

/// Writes `start + outᵀ` into `c`.
pub(super) fn turn(product: &Product<'_>, out: &[f32], c: &mut [f32]) {
    for (i, row) in c.chunks_exact_mut(product.n).enumerate() {
        for (j, to) in row.iter_mut().enumerate() {
            let sum = out[j * product.m + i];
            *to = match product.start {
                Start::Zero => sum,
                Start::Bias(bias) => bias[j] + sum,
                Start::Output => *to + sum,
            };
        }
    }
}
