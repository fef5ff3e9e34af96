//! NumPy's random streams, so that an environment seeded here starts where Gymnasium's would.
//!
//! `numpy.random.default_rng(seed)` is PCG64 (XSL-RR 128/64, [O'Neill 2014]) whose state and stream come out of a
//! `SeedSequence`; [`NumpyRng`] is the same generator with the draws Gymnasium's environments use. Bits are equal, not
//! only distributions. It is for environments; everything else in this crate draws from [`air_core::seed::Seed`].
//!
//! [O'Neill 2014]: https://www.pcg-random.org/paper.html

use rand::Rng as _;
use rand_pcg::Pcg64;

/// The stream of `numpy.random.default_rng(seed)`.
///
/// ```
/// let mut rng = air_rl::rng::NumpyRng::new(0);
/// assert_eq!(rng.random(), 0.6369616873214543); // numpy.random.default_rng(0).random()
/// ```
#[derive(Clone, Debug)]
pub struct NumpyRng {
    pcg: Pcg64,
    /// NumPy draws 32-bit integers as halves of a 64-bit one and keeps the upper half for the next.
    half: Option<u32>,
}

impl NumpyRng {
    /// Seeds as `numpy.random.default_rng(seed)` does.
    pub fn new(seed: u64) -> Self {
        let [s0, s1, i0, i1] = seed_sequence(seed);
        let wide = |high: u64, low: u64| (u128::from(high) << 64) | u128::from(low);
        Self { pcg: Pcg64::new(wide(s0, s1), wide(i0, i1)), half: None }
    }

    /// 64 random bits.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        self.pcg.next_u64()
    }

    /// 32 random bits, two draws to one of [`next_u64`](Self::next_u64).
    pub fn next_u32(&mut self) -> u32 {
        if let Some(high) = self.half.take() {
            return high;
        }
        let both = self.next_u64();
        self.half = Some((both >> 32) as u32);
        both as u32
    }

    /// `Generator.random()`: uniform in [0, 1), 53 bits.
    #[inline]
    pub fn random(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// `Generator.uniform(low, high)`.
    #[inline]
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.random()
    }

    /// `Generator.integers(low, high)` as one `int64`: uniform in [low, high), by Lemire's method (arXiv:1805.10941).
    /// An empty range yields `low`.
    pub fn integers(&mut self, low: i64, high: i64) -> i64 {
        let last = if high > low { (high.wrapping_sub(low) as u64) - 1 } else { 0 };
        let offset = match u32::try_from(last) {
            Ok(0) => 0,
            Ok(u32::MAX) => u64::from(self.next_u32()),
            Ok(last) => u64::from(self.below_u32(last)),
            Err(_) => self.below_u64(last),
        };
        low.wrapping_add(offset as i64)
    }

    /// Uniform in [0, last] for `last` < 2³² − 1.
    fn below_u32(&mut self, last: u32) -> u32 {
        let count = last + 1;
        let mut product = u64::from(self.next_u32()) * u64::from(count);
        if (product as u32) < count {
            let threshold = (u32::MAX - last) % count;
            while (product as u32) < threshold {
                product = u64::from(self.next_u32()) * u64::from(count);
            }
        }
        (product >> 32) as u32
    }

    /// Uniform in [0, last] for `last` < 2⁶⁴ − 1.
    fn below_u64(&mut self, last: u64) -> u64 {
        let count = last + 1;
        let mut product = u128::from(self.next_u64()) * u128::from(count);
        if (product as u64) < count {
            let threshold = (u64::MAX - last) % count;
            while (product as u64) < threshold {
                product = u128::from(self.next_u64()) * u128::from(count);
            }
        }
        (product >> 64) as u64
    }
}

/// `SeedSequence(seed).generate_state(4, uint64)`: the seed's 32-bit words hashed into a pool of four, each mixed with
/// each, then hashed out again (numpy/random/bit_generator.pyx, after O'Neill's `seed_seq_fe`).
fn seed_sequence(seed: u64) -> [u64; 4] {
    const XSHIFT: u32 = 16;
    let mut hash_const = 0x43b0_d7e5_u32;
    let mut hash = |value: u32| {
        let value = value ^ hash_const;
        hash_const = hash_const.wrapping_mul(0x931e_8875);
        let value = value.wrapping_mul(hash_const);
        value ^ (value >> XSHIFT)
    };
    let mix = |x: u32, y: u32| {
        let value = x.wrapping_mul(0xca01_f9dd).wrapping_sub(y.wrapping_mul(0x4973_f715));
        value ^ (value >> XSHIFT)
    };

    // A seed below 2³² is one word; absent words hash as zero, so the two cases are one.
    let mut pool = [seed as u32, (seed >> 32) as u32, 0, 0].map(&mut hash);
    for from in 0..4 {
        for to in 0..4 {
            if from != to {
                pool[to] = mix(pool[to], hash(pool[from]));
            }
        }
    }

    let mut out_const = 0x8b51_f9dd_u32;
    let mut word = |i: usize| {
        let value = pool[i % 4] ^ out_const;
        out_const = out_const.wrapping_mul(0x58f3_8ded);
        let value = value.wrapping_mul(out_const);
        u64::from(value ^ (value >> XSHIFT))
    };
    [0, 2, 4, 6].map(|i| {
        let low = word(i);
        low | (word(i + 1) << 32)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_range_yields_its_start_and_the_widest_does_not_overflow() {
        let mut rng = NumpyRng::new(3);
        assert_eq!(rng.integers(5, 5), 5);
        assert_eq!(rng.integers(i64::MAX, i64::MAX), i64::MAX);
        let draws: Vec<i64> = (0..64).map(|_| rng.integers(i64::MIN, i64::MAX)).collect();
        assert!(draws.iter().any(|&d| d < 0) && draws.iter().any(|&d| d > 0));
    }

    #[test]
    fn integers_stay_in_their_range_and_reach_its_ends() {
        let mut rng = NumpyRng::new(9);
        let mut seen = [0_u32; 7];
        for _ in 0..7000 {
            seen[(rng.integers(-3, 4) + 3) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1150).contains(&n)), "{seen:?}");
    }
}
