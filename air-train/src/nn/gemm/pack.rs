//! Copies of operands in the order the kernel reads them.

use pulp::Simd;

use super::{Block, Operand, Product};

/// Copies a slice of a transposed `a` into panels of `M` rows, each `[depth, M]`, with zeros below the last row.
#[inline(always)]
pub(super) fn pack_a<const M: usize>(product: &Product<'_>, p0: usize, depth: usize, panels: &mut [f32]) {
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
pub(super) fn pack_b<S: Simd, const V: usize>(b: Operand<'_>, block: Block, width: usize, panel: &mut [f32]) {
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
    let row = |j: usize| &b.data[(j0 + j) * b.width + p0..][..depth];
    let whole = cols / SQUARE * SQUARE;
    for j in (0..whole).step_by(SQUARE) {
        let mut rows: [&[f32]; SQUARE] = [&[]; SQUARE];
        for (r, to) in rows.iter_mut().enumerate() {
            *to = row(j + r);
        }
        transpose(rows, &mut panel[j..], width);
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

/// Rows and columns of what is transposed at once.
const SQUARE: usize = 8;

/// `to[p·stride + r] = from[r][p]`, in squares where there are registers for one.
#[inline(always)]
fn transpose(from: [&[f32]; SQUARE], to: &mut [f32], stride: usize) {
    let depth = from[0].len();
    let mut p = 0;
    #[cfg(target_arch = "x86_64")]
    if let Some(v3) = pulp::x86::V3::try_new() {
        while p + SQUARE <= depth {
            let mut square = [[0.0; SQUARE]; SQUARE];
            for (to, from) in square.iter_mut().zip(&from) {
                to.copy_from_slice(&from[p..p + SQUARE]);
            }
            for row in turned(v3, &square) {
                to[p * stride..][..SQUARE].copy_from_slice(&row);
                p += 1;
            }
        }
    }
    for p in p..depth {
        for r in 0..SQUARE {
            to[p * stride + r] = from[r][p];
        }
    }
}

/// The transpose of eight rows of eight, by shuffles of registers.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn turned(v3: pulp::x86::V3, square: &[[f32; SQUARE]; SQUARE]) -> [[f32; SQUARE]; SQUARE] {
    let avx = v3.avx;
    let [a, b, c, d, e, f, g, h]: [std::arch::x86_64::__m256; SQUARE] = pulp::cast(*square);
    // Pairs of rows, item by item; then fours; then the two halves.
    let (ab, ab2) = (avx._mm256_unpacklo_ps(a, b), avx._mm256_unpackhi_ps(a, b));
    let (cd, cd2) = (avx._mm256_unpacklo_ps(c, d), avx._mm256_unpackhi_ps(c, d));
    let (ef, ef2) = (avx._mm256_unpacklo_ps(e, f), avx._mm256_unpackhi_ps(e, f));
    let (gh, gh2) = (avx._mm256_unpacklo_ps(g, h), avx._mm256_unpackhi_ps(g, h));
    let fours =
        |low, high| (avx._mm256_shuffle_ps::<0x44>(low, high), avx._mm256_shuffle_ps::<0xee>(low, high));
    let ((x0, x1), (x2, x3)) = (fours(ab, cd), fours(ab2, cd2));
    let ((y0, y1), (y2, y3)) = (fours(ef, gh), fours(ef2, gh2));
    let low = |x, y| avx._mm256_permute2f128_ps::<0x20>(x, y);
    let high = |x, y| avx._mm256_permute2f128_ps::<0x31>(x, y);
    pulp::cast([
        low(x0, y0),
        low(x1, y1),
        low(x2, y2),
        low(x3, y3),
        high(x0, y0),
        high(x1, y1),
        high(x2, y2),
        high(x3, y3),
    ])
}
