//! The same kernel where the processor multiplies numbers of BF16 itself: inputs are rounded to it, products and sums have 32 bits.
//!
//! AVX-512 BF16 (Intel SDM, `VDPBF16PS`): each lane of a sum takes the products of two pairs, with numbers below the normal ones as zeros. That is
//! twice as many products an instruction as there are in 32 bits. `pulp` has no such instruction, hence the two uses of `unsafe` here: one that calls what is compiled
//! for it, and one that makes vectors of words and numbers of vectors.
#![allow(unsafe_code)]

/// Rounds to the nearest BF16, ties to even: its bits, in the upper half of a word.
#[inline(always)]
pub(super) fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    // What is not a number stays so, whatever bits of its fraction are lost.
    let nan = (bits & 0x7fff_ffff) > 0x7f80_0000;
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    (if nan { bits | 0x0040_0000 } else { nearest }) & 0xffff_0000
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps, _mm512_setzero_ps};

    use crate::llm::net::matrix::{Line, PANEL};
    use crate::llm::net::tile::Sums;

    /// Proof that this processor has the instructions.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::llm::net) struct Native(());

    impl Native {
        pub(in crate::llm::net) fn here() -> Option<Self> {
            let is_there =
                std::is_x86_feature_detected!("avx512f") && std::is_x86_feature_detected!("avx512bf16");
            is_there.then_some(Native(()))
        }

        /// One panel or two, of so many lines each, times rows of inputs: words of two inputs, of each row the first, then of each the second.
        // The proof is used by being there.
        #[allow(clippy::unused_self)]
        pub(in crate::llm::net) fn tile(
            self,
            lines: &[Line],
            stride: usize,
            x: &[u32],
            height: usize,
            to: &mut Sums,
        ) {
            macro_rules! tiles {
                ($panels:literal: $($height:literal)*) => {
                    match height {
                        // SAFETY: `self` is made only where the processor has what the function is compiled for.
                        $($height => unsafe { tile::<$panels, $height>(lines, x, to) },)*
                        _ => debug_assert!(false, "a tile of {height} rows"),
                    }
                };
            }
            if lines.len() > stride {
                tiles!(2: 1 2 3 4 5 6 7 8 9 10 11 12);
            } else {
                tiles!(1: 1 2 3 4 5 6 7 8 9 10 11 12);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn tile<const B: usize, const M: usize>(lines: &[Line], x: &[u32], to: &mut Sums) {
        let steps = lines.len() / B;
        let mut panels: [&[Line]; B] = [&[]; B];
        for (panel, lines) in panels.iter_mut().zip(lines.chunks_exact(steps)) {
            *panel = lines;
        }
        let x = &x.as_chunks::<M>().0[..steps];
        let mut sums = [[_mm512_setzero_ps(); B]; M];
        for i in 0..steps {
            for m in 0..M {
                let x = pairs([x[i][m]; PANEL]);
                for b in 0..B {
                    sums[m][b] = _mm512_dpbf16_ps(sums[m][b], pairs(panels[b][i].0), x);
                }
            }
        }
        for (to, sums) in to.iter_mut().zip(sums) {
            for (to, sum) in to.as_chunks_mut::<PANEL>().0.iter_mut().zip(sums) {
                *to = numbers(sum);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn pairs(words: [u32; PANEL]) -> __m512bh {
        // SAFETY: both are 64 bytes, and any bits are numbers.
        unsafe { std::mem::transmute(words) }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn numbers(vector: __m512) -> [f32; PANEL] {
        // SAFETY: both are sixteen numbers of 32 bits.
        unsafe { std::mem::transmute(vector) }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod other {
    use std::convert::Infallible;

    use crate::llm::net::matrix::Line;
    use crate::llm::net::tile::Sums;

    /// There is none.
    #[derive(Clone, Copy, Debug)]
    pub(in crate::llm::net) struct Native(Infallible);

    impl Native {
        pub(in crate::llm::net) fn here() -> Option<Self> {
            None
        }

        pub(in crate::llm::net) fn tile(self, _: &[Line], _: usize, _: &[u32], _: usize, _: &mut Sums) {
            match self.0 {}
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) use other::Native;
#[cfg(target_arch = "x86_64")]
pub(super) use x86::Native;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_as_half_rounds_them() {
        let some = (0..=u32::MAX).step_by(65_537 / 7);
        let ties = (0..=u16::MAX).map(|bits| u32::from(bits) << 16 | 0x8000);
        let odd = [0x7f80_0000, 0xff80_0000, 0x7f80_0001, 0xffff_ffff, 0x7f7f_ffff, 1, 0x8000_0000];
        for bits in some.chain(ties).chain(odd) {
            let x = f32::from_bits(bits);
            let expected = u32::from(half::bf16::from_f32(x).to_bits()) << 16;
            assert_eq!(rounded(x), expected, "{x} {bits:#010x}");
        }
    }
}
