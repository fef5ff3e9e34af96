//! Matrix products for dense layers: explicit SIMD, chosen at run time, in safe Rust.
//!
//! One register-blocked kernel serves all three products of a dense layer (`X·W`, `D·Wᵀ`, `Xᵀ·D`). The right operand is read where it
//! is if its rows are as wide as a block, and otherwise packed into panels that lie in the order the kernel reads them, the left one too where
//! its rows are not contiguous, so the loop reads a few streams without a bounds check. Narrow outputs use narrower panels, so a
//! two-unit head does not pay for a wide block; the narrowest have ways of their own ([`narrow`]). For one CPU and one shape the order of
//! every sum is fixed: equal inputs give equal bits, and a row's do not depend on which rows are computed with it.

use pulp::{Arch, Simd, WithSimd};

mod narrow;
mod pack;

/// The longest slice of the inner dimension: a panel of `b`, four vectors wide, and one of `a` then share 56 KiB.
const DEPTH: usize = 200;

/// The widest rows of a transposed `a` that are read where they are; with wider ones a panel's rows are far apart.
const NEAR: usize = 64;

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

    /// Working memory that [`product`] needs.
    fn room(&self, lanes: usize) -> usize {
        let depth = self.k.min(DEPTH);
        let a = if self.a.transposed { (self.m + 8) * depth } else { 0 };
        a + depth * 4 * lanes
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
        let Self { product: wanted, c, panel } = self;
        let lanes = S::F32_LANES;
        if narrow::is_narrow(&wanted, lanes) {
            return narrow::dots(simd, &wanted, c, panel);
        }
        if !narrow::is_tall(&wanted, lanes) {
            return product(simd, &wanted, c, at_least(panel, wanted.room(lanes)));
        }
        let other = narrow::swapped(&wanted);
        let (out, panel) = at_least(panel, c.len() + other.room(lanes)).split_at_mut(c.len());
        product(simd, &other, out, panel);
        narrow::turn(&wanted, out, c);
    }
}

/// At least so much of `panel`, which grows if it must.
fn at_least(panel: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if panel.len() < len {
        panel.resize(len, 0.0);
    }
    panel
}

/// As many rows of accumulators as the register file holds beside what is multiplied.
#[inline(always)]
fn product<S: Simd>(simd: S, product: &Product<'_>, c: &mut [f32], panel: &mut [f32]) {
    let many = S::REGISTER_COUNT >= 32;
    match product.m {
        1 => blocks::<S, 1, 3>(simd, product, c, panel),
        _ if !many => blocks::<S, 4, 3>(simd, product, c, panel),
        2..=4 => blocks::<S, 4, 4>(simd, product, c, panel),
        _ if product.n > 2 * S::F32_LANES => blocks::<S, 6, 4>(simd, product, c, panel),
        _ => blocks::<S, 8, 2>(simd, product, c, panel),
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

/// Cuts the product into blocks, `M` rows and up to `W` vectors at a time.
#[inline(always)]
fn blocks<S: Simd, const M: usize, const W: usize>(
    simd: S,
    product: &Product<'_>,
    c: &mut [f32],
    panel: &mut [f32],
) {
    let lanes = S::F32_LANES;
    let slices = product.k.div_ceil(DEPTH).max(1);
    let slice = product.k.div_ceil(slices);
    let (panel_b, panel_a) = panel.split_at_mut(slice * W * lanes);
    for number in 0..slices {
        let p0 = number * slice;
        let depth = slice.min(product.k - p0);
        if product.a.transposed && product.a.width > NEAR {
            pack::pack_a::<M>(product, p0, depth, panel_a);
        }
        let mut j0 = 0;
        while j0 < product.n {
            let left = product.n - j0;
            let vectors = match left.div_ceil(lanes) {
                // Two halves keep more sums in flight than a wide block and one vector.
                over if over == W + 1 => over.div_ceil(2),
                n => n.min(W),
            };
            let block = Block { p0, depth, j0, cols: left.min(vectors * lanes) };
            match vectors {
                1 => columns::<S, M, 1>(simd, product, c, panel_a, panel_b, block),
                2 => columns::<S, M, 2>(simd, product, c, panel_a, panel_b, block),
                3 if W >= 3 => columns::<S, M, 3>(simd, product, c, panel_a, panel_b, block),
                _ if W >= 4 => columns::<S, M, 4>(simd, product, c, panel_a, panel_b, block),
                _ => {}
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
    let (a, b) = (product.a, product.b);
    let whole = !b.transposed && cols == width;
    // A single row reads `b` once: where a block is whole, packing it would only add work.
    if M == 1 && !a.transposed && whole {
        let rows = b.data[p0 * b.width..(p0 + depth) * b.width].chunks_exact(b.width.max(1));
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        for (x, row) in a.data[product.first_row * a.width + p0..][..depth].iter().zip(rows) {
            if let Some(b) = S::as_simd_f32s(&row[j0..j0 + width]).0.first_chunk() {
                multiply_add(simd, &[*x; M], b, &mut sums);
            }
        }
        return store::<S, M, V>(simd, product, c, block, 0, sums);
    }
    let panel_b = if whole && b.width == width {
        // It lies there as it would be packed.
        &b.data[p0 * width..(p0 + depth) * width]
    } else {
        let panel_b = &mut panel_b[..depth * width];
        pack::pack_b::<S, V>(b, block, width, panel_b);
        panel_b
    };
    let (vectors, _) = S::as_simd_f32s(panel_b).0.as_chunks::<V>();
    for i0 in (0..product.m).step_by(M) {
        // Where half of the rows are left, half of the rows are computed.
        if M > 4 && product.m - i0 <= 4 {
            rows::<S, 4, M, V>(simd, product, c, panel_a, vectors, block, i0);
        } else {
            rows::<S, M, M, V>(simd, product, c, panel_a, vectors, block, i0);
        }
    }
}

/// `M` rows of one block of columns; where `a` is packed, its panels are `P` wide.
#[inline(always)]
fn rows<S: Simd, const M: usize, const P: usize, const V: usize>(
    simd: S,
    product: &Product<'_>,
    c: &mut [f32],
    panel_a: &[f32],
    vectors: &[[S::f32s; V]],
    block: Block,
    i0: usize,
) {
    let mut sums = [[simd.splat_f32s(0.0); V]; M];
    let a = product.a;
    if !a.transposed {
        rows_in_place(simd, product, i0, block.p0, vectors, &mut sums);
    } else if a.width > NEAR {
        let (rows, _) = panel_a[i0 * block.depth..(i0 + P) * block.depth].as_chunks::<P>();
        for (x, b) in rows.iter().zip(vectors) {
            multiply_add(simd, x.first_chunk().unwrap_or(&[0.0; M]), b, &mut sums);
        }
    } else {
        let first = product.first_row + i0;
        let rows = a.data[block.p0 * a.width..].chunks(a.width);
        let last = M.min(product.m - i0) - 1;
        for (row, b) in rows.zip(vectors) {
            let row = &row[first..];
            // Beyond the last row it is read again; those sums are not stored.
            let mut x = [0.0; M];
            if let Some(whole) = row.first_chunk() {
                x = *whole;
            } else {
                for (i, x) in x.iter_mut().enumerate() {
                    *x = row[i.min(last)];
                }
            }
            multiply_add(simd, &x, b, &mut sums);
        }
    }
    store::<S, M, V>(simd, product, c, block, i0, sums);
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
    let mut rows: [&[f32]; M] = [&[]; M];
    let mut chunks: [&[[f32; STEPS]]; M] = [&[]; M];
    for i in 0..M {
        let row = product.first_row + (i0 + i).min(product.m - 1);
        rows[i] = &a.data[row * a.width + p0..][..vectors.len()];
        chunks[i] = rows[i].as_chunks().0;
    }
    let (groups, rest) = vectors.as_chunks::<STEPS>();
    for (number, group) in groups.iter().enumerate() {
        let mut chunk: [&[f32; STEPS]; M] = [&[0.0; STEPS]; M];
        for i in 0..M {
            chunk[i] = &chunks[i][number];
        }
        for (p, b) in group.iter().enumerate() {
            let mut x = [0.0; M];
            for i in 0..M {
                x[i] = chunk[i][p];
            }
            multiply_add(simd, &x, b, sums);
        }
    }
    for (p, b) in rest.iter().enumerate() {
        let mut x = [0.0; M];
        for i in 0..M {
            x[i] = rows[i][groups.len() * STEPS + p];
        }
        multiply_add(simd, &x, b, sums);
    }
}

/// `sums += xᵀ·b`, one step of the inner dimension.
#[inline(always)]
fn multiply_add<S: Simd, const M: usize, const V: usize>(
    simd: S,
    x: &[f32; M],
    b: &[S::f32s; V],
    sums: &mut [[S::f32s; V]; M],
) {
    // In registers before the sums are touched.
    let b = *b;
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
            (100, 64, 64),
            (6, 130, 20),
            (70, 1, 100),
            (40, 3, 41),
            (5, 4, 200),
            (66, 2, 7),
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
