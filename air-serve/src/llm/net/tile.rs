//! The kernel: two panels of weights times a few rows of inputs, in 32 bits, with the widest vectors of the machine.

use pulp::{Arch, Simd, WithSimd};

use super::matrix::{Line, PANEL, Width};

/// Most rows of inputs in a tile: as many as 32 vectors have room for sums of, beside weights before and after they are widened.
pub(super) const MOST: usize = 12;

/// Sums of a tile, a row of inputs each.
pub(super) type Sums = [[f32; 2 * PANEL]; MOST];

/// One tile.
pub(super) struct Tile<'a> {
    /// One panel or two.
    pub lines: &'a [Line],
    /// Lines of a panel.
    pub stride: usize,
    /// Numbers of 32 bits, of each row the first, then of each the second.
    pub x: &'a [f32],
    /// Rows of inputs.
    pub height: usize,
    pub sums: &'a mut Sums,
}

impl Tile<'_> {
    pub(super) fn run(self, width: Width) {
        match width {
            Width::F32 => Arch::new().dispatch(Wide::<_, 0>(self)),
            Width::Bf16 => Arch::new().dispatch(Wide::<_, 1>(self)),
            Width::F16 => Arch::new().dispatch(Wide::<_, 2>(self)),
        }
    }
}

/// Most rows of inputs in a tile on this machine: what is widened needs registers too.
pub(super) fn most(width: Width) -> usize {
    struct Most(bool);
    impl WithSimd for Most {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            match (S::F32_LANES, self.0) {
                (16, false) => MOST,
                (16, true) => 8,
                (8 | 4, false) => 6,
                (8 | 4, true) => 4,
                _ => 2,
            }
        }
    }
    Arch::new().dispatch(Most(width != Width::F32))
}

/// The kind is the width: 0 for F32, 1 for BF16, 2 for F16.
struct Wide<T, const KIND: u8>(T);

impl<const KIND: u8> WithSimd for Wide<Tile<'_>, KIND> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Tile { lines, stride, x, height, sums } = self.0;
        // `B` panels of `P` vectors a line, by how many rows there are.
        macro_rules! tiles {
            ($lines:expr, $at:expr, $b:literal, $p:expr, $($height:literal)*) => {
                match height {
                    $($height => tile::<S, KIND, $b, { $p }, $height>(simd, $lines, x, sums, $at),)*
                    _ => debug_assert!(false, "a tile of {height} rows"),
                }
            };
        }
        if S::F32_LANES == PANEL && lines.len() > stride {
            return tiles!(lines, 0, 2, 1, 1 2 3 4 5 6 7 8 9 10 11 12);
        }
        for (at, lines) in lines.chunks_exact(stride).enumerate() {
            match S::F32_LANES {
                16 => tiles!(lines, at, 1, 1, 1 2 3 4 5 6 7 8 9 10 11 12),
                8 => tiles!(lines, at, 1, 2, 1 2 3 4 5 6),
                4 => tiles!(lines, at, 1, 4, 1 2 3 4 5 6),
                _ => tiles!(lines, at, 1, PANEL, 1 2),
            }
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const KIND: u8, const B: usize, const P: usize, const M: usize>(
    simd: S,
    lines: &[Line],
    x: &[f32],
    to: &mut Sums,
    at: usize,
) {
    let steps = lines.len() / B;
    let mut panels: [&[[S::u32s; P]]; B] = [&[]; B];
    for (panel, lines) in panels.iter_mut().zip(lines.chunks_exact(steps)) {
        *panel = &S::as_simd_u32s(bytemuck::cast_slice(lines)).0.as_chunks::<P>().0[..steps];
    }
    let x = x.as_chunks::<M>().0;
    let mut sums = [[[simd.splat_f32s(0.0); P]; B]; M];
    if KIND == 0 {
        let x = &x[..steps];
        for i in 0..steps {
            let mut w = [[simd.splat_f32s(0.0); P]; B];
            for b in 0..B {
                for p in 0..P {
                    w[b][p] = simd.transmute_f32s_u32s(panels[b][i][p]);
                }
            }
            multiply_add(simd, &w, &x[i], &mut sums);
        }
    } else {
        let x = &x.as_chunks::<2>().0[..steps];
        for i in 0..steps {
            let mut low = [[simd.splat_f32s(0.0); P]; B];
            let mut high = low;
            for b in 0..B {
                for p in 0..P {
                    low[b][p] = lower::<S, KIND>(simd, panels[b][i][p]);
                    high[b][p] = upper::<S, KIND>(simd, panels[b][i][p]);
                }
            }
            multiply_add(simd, &low, &x[i][0], &mut sums);
            multiply_add(simd, &high, &x[i][1], &mut sums);
        }
    }
    for (to, sums) in to.iter_mut().zip(&sums) {
        let to = S::as_mut_simd_f32s(&mut to[at * PANEL..][..B * PANEL]).0;
        for (to, sum) in to.iter_mut().zip(sums.as_flattened()) {
            *to = *sum;
        }
    }
}

#[inline(always)]
fn multiply_add<S: Simd, const B: usize, const P: usize, const M: usize>(
    simd: S,
    w: &[[S::f32s; P]; B],
    x: &[f32; M],
    sums: &mut [[[S::f32s; P]; B]; M],
) {
    for m in 0..M {
        let x = simd.splat_f32s(x[m]);
        for b in 0..B {
            for p in 0..P {
                sums[m][b][p] = simd.mul_add_f32s(w[b][p], x, sums[m][b][p]);
            }
        }
    }
}

/// The weights in the lower halves of words.
#[inline(always)]
fn lower<S: Simd, const KIND: u8>(simd: S, words: S::u32s) -> S::f32s {
    let words = simd.wrapping_dyn_shl_u32s(words, simd.splat_u32s(16));
    if KIND == 1 { simd.transmute_f32s_u32s(words) } else { half(simd, words) }
}

/// The weights in the upper halves of words.
#[inline(always)]
fn upper<S: Simd, const KIND: u8>(simd: S, words: S::u32s) -> S::f32s {
    if KIND == 1 {
        simd.transmute_f32s_u32s(simd.and_u32s(words, simd.splat_u32s(0xffff_0000)))
    } else {
        half(simd, words)
    }
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
