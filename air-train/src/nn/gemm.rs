//! Matrix products for dense layers: explicit SIMD, chosen at run time, in safe Rust.
//!
//! One register-blocked kernel serves all three products of a dense layer (`X·W`, `D·Wᵀ`, `Xᵀ·D`): the right operand is
//! packed into panels that lie in the order the kernel reads them, the left one too where its rows are not contiguous, so
//! the loop reads a few streams without a bounds check. Narrow outputs use narrower panels, so a two-unit head does not pay for a
//! wide block. For one CPU and one shape the order of every sum is fixed: equal inputs give equal bits.

use std::array::from_fn;

use pulp::{Arch, Simd, WithSimd};

/// The longest slice of the inner dimension: a panel of `b`, three vectors wide, and one of `a` then share 48 KiB.
const DEPTH: usize = 200;

/// A matrix operand: `data` is row-major with `width` columns; `transposed` says the product uses its transpose.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    pub data: &'a [f32],
    pub width: usize,
    pub transposed: bool,
}

impl<'a> Operand<'a> {
    pub(super) fn rows(data: &'a [f32], width: usize) -> Self {
        Self { data, width, transposed: false }
    }

    pub(super) fn transposed(data: &'a [f32], width: usize) -> Self {
        Self { data, width, transposed: true }
    }
}

/// What the product is added to.
#[derive(Clone, Copy)]
pub(super) enum Start<'a> {
    /// Nothing: the output is overwritten.
    Zero,
    /// One row, repeated: the output is overwritten.
    Bias(&'a [f32]),
    /// The output's present contents.
    Output,
}

/// `c[m, n] = start + a[m, k] · b[k, n]`; `first_row` is the first row of the (possibly transposed) `a` that is used.
pub(super) struct Product<'a> {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub first_row: usize,
    pub a: Operand<'a>,
    pub b: Operand<'a>,
    pub start: Start<'a>,
}

impl Product<'_> {
    /// Writes the product into `c` (row-major, `m·n` values); `panel` is reusable working memory.
    pub(super) fn write(self, c: &mut [f32], panel: &mut Vec<f32>) {
        debug_assert_eq!(c.len(), self.m * self.n);
        Arch::new().dispatch(Kernel { product: self, c, panel });
    }
}

struct Kernel<'a, 'c> {
    product: Product<'a>,
    c: &'c mut [f32],
    panel: &'c mut Vec<f32>,
}

impl WithSimd for Kernel<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { product, c, panel } = self;
        // As many rows of accumulators, three vectors each, as the register file holds.
        match (product.m, S::REGISTER_COUNT >= 32) {
            (1, _) => blocks::<S, 1>(simd, &product, c, panel),
            (_, true) => blocks::<S, 8>(simd, &product, c, panel),
            (_, false) => blocks::<S, 4>(simd, &product, c, panel),
        }
    }
}

/// A slice of the inner dimension and of the output's columns.
#[derive(Clone, Copy)]
struct Block {
    p0: usize,
    depth: usize,
    j0: usize,
    cols: usize,
}

/// Cuts the product into blocks, `M` rows at a time.
#[inline(always)]
fn blocks<S: Simd, const M: usize>(simd: S, product: &Product<'_>, c: &mut [f32], panel: &mut Vec<f32>) {
    let lanes = S::F32_LANES;
    let slices = product.k.div_ceil(DEPTH).max(1);
    let slice = product.k.div_ceil(slices);
    let size_b = slice * 3 * lanes;
    let size = size_b + if product.a.transposed { product.m.next_multiple_of(M) * slice } else { 0 };
    if panel.len() < size {
        panel.resize(size, 0.0);
    }
    let (panel_b, panel_a) = panel.split_at_mut(size_b);
    for number in 0..slices {
        let p0 = number * slice;
        let depth = slice.min(product.k - p0);
        if product.a.transposed {
            pack_a::<M>(product, p0, depth, panel_a);
        }
        let mut j0 = 0;
        while j0 < product.n {
            let left = product.n - j0;
            let vectors = match left.div_ceil(lanes) {
                // Two and two keep more sums in flight than three and one.
                4 => 2,
                n => n.min(3),
            };
            let block = Block { p0, depth, j0, cols: left.min(vectors * lanes) };
            match vectors {
                1 => columns::<S, M, 1>(simd, product, c, panel_a, panel_b, block),
                2 => columns::<S, M, 2>(simd, product, c, panel_a, panel_b, block),
                _ => columns::<S, M, 3>(simd, product, c, panel_a, panel_b, block),
            }
            j0 += block.cols;
        }
    }
}

/// All rows of one block of columns: pack the panel of `b` once, then run down the rows.
#[inline(always)]
fn columns<S: Simd, const M: usize, const V: usize>(
    simd: S,
    product: &Product<'_>,
    c: &mut [f32],
    panel_a: &[f32],
    panel_b: &mut [f32],
    block: Block,
) {
    let width = V * S::F32_LANES;
    let Block { p0, depth, j0, cols } = block;
    let b = product.b;
    // A single row reads `b` once: where a block is whole, packing it would only add work.
    if M == 1 && !product.a.transposed && !b.transposed && cols == width {
        let rows = b.data[p0 * b.width..(p0 + depth) * b.width].chunks_exact(b.width.max(1));
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        for (x, row) in product.a.data[product.first_row * product.a.width + p0..][..depth].iter().zip(rows) {
            multiply_add(simd, &[*x; M], S::as_simd_f32s(&row[j0..j0 + width]).0, &mut sums);
        }
        return store::<S, M, V>(simd, product, c, block, 0, sums);
    }
    let panel_b = &mut panel_b[..depth * width];
    pack_b::<S, V>(b, block, width, panel_b);
    let (vectors, _) = S::as_simd_f32s(panel_b).0.as_chunks::<V>();
    for i0 in (0..product.m).step_by(M) {
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        if product.a.transposed {
            let (rows, _) = panel_a[i0 * depth..(i0 + M) * depth].as_chunks::<M>();
            for (x, b) in rows.iter().zip(vectors) {
                multiply_add(simd, x, b, &mut sums);
            }
        } else {
            rows_in_place(simd, product, i0, p0, vectors, &mut sums);
        }
        store::<S, M, V>(simd, product, c, block, i0, sums);
    }
}

/// The sums of `M` rows of `a` that lie contiguous: read where they are, a few steps at a time.
#[inline(always)]
fn rows_in_place<S: Simd, const M: usize, const V: usize>(
    simd: S,
    product: &Product<'_>,
    i0: usize,
    p0: usize,
    vectors: &[[S::f32s; V]],
    sums: &mut [[S::f32s; V]; M],
) {
    const STEPS: usize = 8;
    let a = product.a;
    // Below the last row it is read again; those sums are not stored.
    let rows: [&[f32]; M] = from_fn(|i| {
        let row = product.first_row + (i0 + i).min(product.m - 1);
        &a.data[row * a.width + p0..][..vectors.len()]
    });
    let chunks: [&[[f32; STEPS]]; M] = from_fn(|i| rows[i].as_chunks::<STEPS>().0);
    let (groups, rest) = vectors.as_chunks::<STEPS>();
    for (number, group) in groups.iter().enumerate() {
        let x: [&[f32; STEPS]; M] = from_fn(|i| &chunks[i][number]);
        for (p, b) in group.iter().enumerate() {
            multiply_add(simd, &from_fn(|i| x[i][p]), b, sums);
        }
    }
    for (p, b) in rest.iter().enumerate() {
        multiply_add(simd, &from_fn(|i| rows[i][groups.len() * STEPS + p]), b, sums);
    }
}

/// `sums += xᵀ·b`, one step of the inner dimension.
#[inline(always)]
fn multiply_add<S: Simd, const M: usize, const V: usize>(
    simd: S,
    x: &[f32; M],
    b: &[S::f32s],
    sums: &mut [[S::f32s; V]; M],
) {
    let b: [S::f32s; V] = from_fn(|v| b[v]);
    for (x, sums) in x.iter().zip(sums) {
        let x = simd.splat_f32s(*x);
        for (b, sum) in b.iter().zip(sums) {
            *sum = simd.mul_add_e_f32s(x, *b, *sum);
        }
    }
}

/// Writes `M` rows by `V` vectors of sums, less what lies below or right of the output.
#[inline(always)]
fn store<S: Simd, const M: usize, const V: usize>(
    simd: S,
    product: &Product<'_>,
    c: &mut [f32],
    block: Block,
    i0: usize,
    sums: [[S::f32s; V]; M],
) {
    let lanes = S::F32_LANES;
    let Block { p0, j0, cols, .. } = block;
    // Later slices of the inner dimension add to what the first one wrote.
    let start = if p0 > 0 { Start::Output } else { product.start };
    for (i, sums) in sums.iter().enumerate() {
        if i0 + i >= product.m {
            return;
        }
        let out = &mut c[(i0 + i) * product.n + j0..][..cols];
        for (v, sum) in sums.iter().enumerate() {
            let from = v * lanes;
            let to = cols.min(from + lanes);
            let whole = to - from == lanes;
            let load = |values: &[f32]| {
                if whole { S::as_simd_f32s(values).0[0] } else { simd.partial_load_f32s(values) }
            };
            let sum = match start {
                Start::Zero => *sum,
                Start::Bias(bias) => simd.add_f32s(load(&bias[j0 + from..j0 + to]), *sum),
                Start::Output => simd.add_f32s(load(&out[from..to]), *sum),
            };
            if whole {
                S::as_mut_simd_f32s(&mut out[from..to]).0[0] = sum;
            } else {
                simd.partial_store_f32s(&mut out[from..to], sum);
            }
        }
    }
}

/// Copies a slice of a transposed `a` into panels of `M` rows, each `[depth, M]`, with zeros below the last row.
#[inline(always)]
fn pack_a<const M: usize>(product: &Product<'_>, p0: usize, depth: usize, panels: &mut [f32]) {
    let a = product.a;
    let panels = &mut panels[..product.m.next_multiple_of(M) * depth];
    for (number, panel) in panels.chunks_exact_mut(M * depth.max(1)).enumerate() {
        let i0 = number * M;
        let rows = M.min(product.m - i0);
        let first = product.first_row + i0;
        for (p, to) in panel.as_chunks_mut::<M>().0.iter_mut().enumerate() {
            let from = &a.data[(p0 + p) * a.width + first..];
            if let Some(whole) = from.first_chunk::<M>() {
                // What lies right of the last row is another row's, and its sums are not stored.
                *to = *whole;
            } else {
                to[..rows].copy_from_slice(&from[..rows]);
                to[rows..].fill(0.0);
            }
        }
    }
}

/// Copies a block of `b` into `panel[depth, width]`, with zeros right of the last column.
#[inline(always)]
fn pack_b<S: Simd, const V: usize>(b: Operand<'_>, block: Block, width: usize, panel: &mut [f32]) {
    let Block { p0, depth, j0, cols } = block;
    if depth == 0 {
        return;
    }
    if !b.transposed {
        let rows = b.data[p0 * b.width + j0..].chunks(b.width);
        if cols == width {
            // Whole vectors are moved as such: a call to copy so few bytes would cost as much as the copy.
            let (to, _) = S::as_mut_simd_f32s(panel).0.as_chunks_mut::<V>();
            for (to, from) in to.iter_mut().zip(rows) {
                to.copy_from_slice(S::as_simd_f32s(&from[..width]).0);
            }
        } else {
            for (row, from) in panel.chunks_exact_mut(width).zip(rows) {
                row[..cols].copy_from_slice(&from[..cols]);
                row[cols..].fill(0.0);
            }
        }
        return;
    }
    const SQUARE: usize = 8;
    let row = |j: usize| &b.data[(j0 + j) * b.width + p0..][..depth];
    let whole = cols / SQUARE * SQUARE;
    for j in (0..whole).step_by(SQUARE) {
        transpose::<SQUARE>(from_fn(|r| row(j + r)), &mut panel[j..], width);
    }
    for j in whole..width {
        let to = panel.iter_mut().skip(j).step_by(width);
        if j < cols {
            to.zip(row(j)).for_each(|(to, from)| *to = *from);
        } else {
            to.for_each(|to| *to = 0.0);
        }
    }
}

/// `to[p·stride + r] = from[r][p]`, in squares that the compiler turns into register shuffles.
#[inline(always)]
fn transpose<const M: usize>(from: [&[f32]; M], to: &mut [f32], stride: usize) {
    let depth = from[0].len();
    let whole = depth / M * M;
    for p in (0..whole).step_by(M) {
        let square: [[f32; M]; M] = from_fn(|r| {
            let row = &from[r][p..p + M];
            from_fn(|i| row[i])
        });
        for i in 0..M {
            let to = &mut to[(p + i) * stride..][..M];
            for r in 0..M {
                to[r] = square[r][i];
            }
        }
    }
    for p in whole..depth {
        for r in 0..M {
            to[p * stride + r] = from[r][p];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(len: usize, salt: u32) -> Vec<f32> {
        (0..len as u32)
            .map(|i| ((i.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 16) % 200) as f32 / 100.0 - 1.0)
            .collect()
    }

    /// Against the definition, in f64, over shapes that meet every block, tail and layout.
    #[test]
    fn equals_the_definition() {
        let mut panel = Vec::new();
        for (m, n, k) in [
            (1, 1, 1),
            (1, 64, 4),
            (3, 2, 64),
            (7, 17, 5),
            (8, 48, 300),
            (13, 50, 257),
            (64, 64, 64),
            (9, 33, 0),
            (30, 10, 513),
        ] {
            for a_t in [false, true] {
                for b_t in [false, true] {
                    let (a, b, bias, before) = (fill(m * k, 1), fill(k * n, 2), fill(n, 3), fill(m * n, 4));
                    for case in 0..3 {
                        let start = [Start::Zero, Start::Bias(&bias), Start::Output][case];
                        let mut c = before.clone();
                        let a = Operand { data: &a, width: if a_t { m } else { k }, transposed: a_t };
                        let b = Operand { data: &b, width: if b_t { k } else { n }, transposed: b_t };
                        Product { m, n, k, first_row: 0, a, b, start }.write(&mut c, &mut panel);
                        for i in 0..m {
                            for j in 0..n {
                                let at = |x: Operand<'_>, r: usize, s: usize| {
                                    f64::from(
                                        x.data[if x.transposed { s * x.width + r } else { r * x.width + s }],
                                    )
                                };
                                let dot: f64 = (0..k).map(|p| at(a, i, p) * at(b, p, j)).sum();
                                let from = [0.0, f64::from(bias[j]), f64::from(before[i * n + j])][case];
                                let got = f64::from(c[i * n + j]);
                                assert!(
                                    (got - dot - from).abs() < 1e-4,
                                    "{m}x{n}x{k} [{i},{j}] {got} {}",
                                    dot + from
                                );
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn starts_at_a_row_of_the_left_operand() {
        let (a, b) = (fill(10 * 6, 1), fill(6 * 5, 2));
        let (mut all, mut part) = (vec![0.0; 50], vec![0.0; 15]);
        let mut panel = Vec::new();
        let product = |m, first_row| Product {
            m,
            n: 5,
            k: 6,
            first_row,
            a: Operand::rows(&a, 6),
            b: Operand::rows(&b, 5),
            start: Start::Zero,
        };
        product(10, 0).write(&mut all, &mut panel);
        product(3, 4).write(&mut part, &mut panel);
        assert_eq!(part, all[20..35]);
    }
}
