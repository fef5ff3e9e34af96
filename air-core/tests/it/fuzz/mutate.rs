//! [`Mutator`]: inputs that are nearly valid, the same in every run.

use air_core::seed::Seed;
use rand::RngExt;
use rand_pcg::Pcg64;

/// No input is longer: lies cost no more when they are long.
const MAX_BYTES: usize = 4096;

/// What length fields lie with.
const LIES: [u64; 10] = [0, 1, 127, 250, 255, 1 << 16, u32::MAX as u64, 1 << 40, i64::MAX as u64, u64::MAX];

/// Spoils valid inputs.
pub struct Mutator {
    seeds: Vec<Vec<u8>>,
    rng: Pcg64,
}

impl Mutator {
    pub fn new(name: &str, seeds: Vec<Vec<u8>>) -> Self {
        assert!(!seeds.is_empty());
        Self { seeds, rng: Seed::new(0).child(name, 0).rng() }
    }

    /// One of the valid inputs, spoilt in one to four ways.
    pub fn next(&mut self) -> Vec<u8> {
        let mut bytes = self.any_seed().clone();
        for _ in 0..self.rng.random_range(1..=4) {
            self.spoil(&mut bytes);
        }
        bytes.truncate(MAX_BYTES);
        bytes
    }

    fn any_seed(&mut self) -> &Vec<u8> {
        let at = self.rng.random_range(0..self.seeds.len());
        &self.seeds[at]
    }

    /// A place in the bytes, or right behind them.
    fn place(&mut self, bytes: &[u8]) -> usize {
        self.rng.random_range(0..=bytes.len())
    }

    fn spoil(&mut self, bytes: &mut Vec<u8>) {
        let at = self.place(bytes);
        match self.rng.random_range(0..7) {
            // A flipped bit.
            0 | 1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.rng.random_range(0..8);
                }
            }
            // Any byte.
            2 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = self.rng.random_range(0..=255);
                }
            }
            // Cut short.
            3 => bytes.truncate(at),
            // A piece of another input, in place of one of this.
            4 => {
                let end = self.rng.random_range(at..=bytes.len());
                let other = self.any_seed().clone();
                let from = self.place(&other);
                let until = self.rng.random_range(from..=other.len());
                bytes.splice(at..end, other[from..until].iter().copied());
            }
            // The same piece again.
            5 => {
                let end = self.rng.random_range(at..=bytes.len());
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => self.lie(bytes, at),
        }
    }

    /// A length that is not there: as a little-endian word, as bincode writes one, or as digits.
    fn lie(&mut self, bytes: &mut Vec<u8>, at: usize) {
        let word = LIES[self.rng.random_range(0..LIES.len())].to_le_bytes();
        let text = match self.rng.random_range(0..3) {
            0 => word[..1 << self.rng.random_range(0..4)].to_vec(),
            1 => {
                let (mark, width) = [(251, 2), (252, 4), (253, 8)][self.rng.random_range(0..3)];
                [&[mark], &word[..width]].concat()
            }
            _ => {
                let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let digits_now = u64::from_le_bytes(word).to_string();
                bytes.splice(at..at + digits, digits_now.into_bytes());
                return;
            }
        };
        let end = bytes.len().min(at + text.len());
        bytes.splice(at..end, text);
    }
}
