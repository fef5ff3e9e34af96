//! Matrix products for dense layers: explicit SIMD, chosen at run time, in safe Rust.
//!
//! One register-blocked kernel serves all three products of a dense layer (`X·W`, `D·Wᵀ`, `Xᵀ·D`). The right operand is
//! packed one panel at a time (it then stays in the first-level cache for every row block), the left operand is read in
//! place. Narrow outputs use narrower panels, so a two-unit head does not pay for a 48-wide block. For one CPU and one
//! shape the order of every sum is fixed: equal inputs give equal bits.

use std::array::from_fn;

use pulp::{Arch, Simd, WithSimd};

/// Rows of the left operand per panel pass; with three 16-lane columns a panel is 48 KiB at most.
const DEPTH: usize = 256;

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
        let lanes = S::F32_LANES;
        let Self { product, c, panel } = self;
        // The widest block the register file holds: rows × columns of accumulators, one row of `b`, one broadcast.
        let wide = if S::REGISTER_COUNT >= 32 { 3 } else { 2 };
        panel.resize(DEPTH * wide * lanes, 0.0);
        let mut p0 = 0;
        loop {
            let depth = DEPTH.min(product.k - p0);
            let mut j0 = 0;
            while j0 < product.n {
                let left = product.n - j0;
                let vectors = left.div_ceil(lanes).min(wide);
                let cols = left.min(vectors * lanes);
                let block = Block { p0, depth, j0, cols };
                match (vectors, S::REGISTER_COUNT >= 32) {
                    (1, _) => block_column::<S, 8, 1>(simd, &product, c, panel, block),
                    (2, true) => block_column::<S, 8, 2>(simd, &product, c, panel, block),
                    (2, false) => block_column::<S, 6, 2>(simd, &product, c, panel, block),
                    _ => block_column::<S, 8, 3>(simd, &product, c, panel, block),
                }
                j0 += cols;
            }
            p0 += depth;
            if p0 >= product.k {
                break;
            }
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

/// All rows of one block of columns: pack the panel once, then run down the rows.
#[inline(always)]
fn block_column<S: Simd, const M: usize, const V: usize>(
    simd: S,
    product: &Product<'_>,
    c: &mut [f32],
    panel: &mut [f32],
    block: Block,
) {
    let width = V * S::F32_LANES;
    let Block { p0, depth, j0, cols } = block;
    let b = product.b;
    // A few rows do not repay packing; a full-width block can be read where it lies.
    let in_place = !b.transposed && cols == width && (product.m <= M || b.width == width);
    let (b, stride, offset) = if in_place {
        (&b.data[p0 * b.width..(p0 + depth) * b.width], b.width, j0)
    } else {
        pack(b, block, width, &mut panel[..depth * width]);
        (&panel[..depth * width], width, 0)
    };
    let mut i0 = 0;
    while i0 < product.m {
        let rows = M.min(product.m - i0);
        let tile = Tile { product, block, b, stride, offset, i0 };
        if rows == M {
            tile.run::<S, M, V>(simd, c);
        } else {
            match rows {
                1 => tile.run::<S, 1, V>(simd, c),
                2 => tile.run::<S, 2, V>(simd, c),
                3 => tile.run::<S, 3, V>(simd, c),
                4 => tile.run::<S, 4, V>(simd, c),
                5 => tile.run::<S, 5, V>(simd, c),
                6 => tile.run::<S, 6, V>(simd, c),
                _ => tile.run::<S, 7, V>(simd, c),
            }
        }
        i0 += rows;
    }
}

/// Copies `b[p0.., j0..]` to `panel[depth, width]`, with zeros right of the last column.
#[inline(always)]
fn pack(b: Operand<'_>, block: Block, width: usize, panel: &mut [f32]) {
    let Block { p0, depth, j0, cols } = block;
    if !b.transposed {
        for (p, row) in panel.chunks_exact_mut(width).enumerate() {
            let from = (p0 + p) * b.width + j0;
            row[..cols].copy_from_slice(&b.data[from..from + cols]);
            row[cols..].fill(0.0);
        }
        return;
    }
    const SQUARE: usize = 8;
    let mut p = 0;
    while p < depth {
        let high = SQUARE.min(depth - p);
        let mut j = 0;
        while j < width {
            let wide = SQUARE.min(width - j);
            if high == SQUARE && wide == SQUARE && j + SQUARE <= cols {
                let rows: [[f32; SQUARE]; SQUARE] = from_fn(|r| {
                    let from = (j0 + j + r) * b.width + p0 + p;
                    let row = &b.data[from..from + SQUARE];
                    from_fn(|i| row[i])
                });
                for i in 0..SQUARE {
                    let to = &mut panel[(p + i) * width + j..][..SQUARE];
                    for r in 0..SQUARE {
                        to[r] = rows[r][i];
                    }
                }
            } else {
                for i in 0..high {
                    for r in 0..wide {
                        let value =
                            if j + r < cols { b.data[(j0 + j + r) * b.width + p0 + p + i] } else { 0.0 };
                        panel[(p + i) * width + j + r] = value;
                    }
                }
            }
            j += wide;
        }
        p += high;
    }
}

/// `M` rows by `V` vectors of the output, held in registers over the whole depth of the block.
struct Tile<'a> {
    product: &'a Product<'a>,
    block: Block,
    b: &'a [f32],
    stride: usize,
    offset: usize,
    i0: usize,
}

impl Tile<'_> {
    #[inline(always)]
    fn run<S: Simd, const M: usize, const V: usize>(&self, simd: S, c: &mut [f32]) {
        let lanes = S::F32_LANES;
        let Block { p0, depth, .. } = self.block;
        let a = self.product.a;
        let row = self.product.first_row + self.i0;
        let b_row = |p: usize| -> [S::f32s; V] {
            let from = p * self.stride + self.offset;
            let vectors = S::as_simd_f32s(&self.b[from..from + V * lanes]).0;
            from_fn(|v| vectors[v])
        };
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        if a.transposed {
            for p in 0..depth {
                let x = &a.data[(p0 + p) * a.width + row..][..M];
                let b = b_row(p);
                for i in 0..M {
                    let x = simd.splat_f32s(x[i]);
                    for v in 0..V {
                        sums[i][v] = simd.mul_add_e_f32s(x, b[v], sums[i][v]);
                    }
                }
            }
        } else {
            let x: [&[f32]; M] = from_fn(|i| &a.data[(row + i) * a.width + p0..][..depth]);
            for p in 0..depth {
                let b = b_row(p);
                for i in 0..M {
                    let x = simd.splat_f32s(x[i][p]);
                    for v in 0..V {
                        sums[i][v] = simd.mul_add_e_f32s(x, b[v], sums[i][v]);
                    }
                }
            }
        }
        self.store(simd, c, sums);
    }

    #[inline(always)]
    fn store<S: Simd, const M: usize, const V: usize>(
        &self,
        simd: S,
        c: &mut [f32],
        sums: [[S::f32s; V]; M],
    ) {
        let lanes = S::F32_LANES;
        let Block { p0, j0, cols, .. } = self.block;
        let n = self.product.n;
        // Later slices of the inner dimension add to what the first one wrote.
        let start = if p0 > 0 { Start::Output } else { self.product.start };
        for i in 0..M {
            let out = &mut c[(self.i0 + i) * n + j0..][..cols];
            for v in 0..V {
                let from = v * lanes;
                if from >= cols {
                    break;
                }
                let to = cols.min(from + lanes);
                let whole = to - from == lanes;
                let load = |values: &[f32]| {
                    if whole { S::as_simd_f32s(values).0[0] } else { simd.partial_load_f32s(values) }
                };
                let sum = match start {
                    Start::Zero => sums[i][v],
                    Start::Bias(bias) => simd.add_f32s(load(&bias[j0 + from..j0 + to]), sums[i][v]),
                    Start::Output => simd.add_f32s(load(&out[from..to]), sums[i][v]),
                };
                if whole {
                    S::as_mut_simd_f32s(&mut out[from..to]).0[0] = sum;
                } else {
                    simd.partial_store_f32s(&mut out[from..to], sum);
                }
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
