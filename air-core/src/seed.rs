//! [`Seed`]: a tree of seeds, so that two runs with one seed are equal to the bit.
//!
//! A program has one root seed. Whoever needs randomness takes a child of it, named for what it is
//! (`seed.child("env", 3)`), and makes a generator from that. The stream a part gets then depends on its
//! name and index only: never on which thread asked first, nor on how many siblings there are.
//!
//! A seed is 128 bits. A child's bits are SipHash-2-4-128, keyed with its parent's bits, over its name and
//! index; so distinct children have unrelated streams, and the chance that any two of a million seeds
//! coincide is below 10⁻²⁶. SipHash is a fixed, published function: the values never change with the
//! version of Rust or of this crate, and a test pins them.

use std::fmt;
use std::hash::Hasher as _;
use std::str::FromStr;

use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128, SipHasher24};

/// One node of the tree of seeds. Cheap to copy; written as 32 hexadecimal digits.
///
/// ```
/// use air_core::seed::Seed;
///
/// let root = Seed::new(42);
/// let third_env = root.child("env", 3);
/// assert_eq!(third_env, Seed::new(42).child("env", 3));
/// assert_ne!(third_env, root.child("env", 4));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Seed {
    key: (u64, u64),
}

/// A text that is not a seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a seed: expected 32 hexadecimal digits")]
pub struct ParseSeedError {
    /// What was given, cut to 64 characters.
    pub text: String,
}

impl Seed {
    /// The root of a tree.
    pub fn new(root: u64) -> Self {
        Self { key: hash((0, 0), "root", root) }
    }

    /// The child of this seed with that name and index. It depends on nothing else.
    pub fn child(&self, name: &str, index: u64) -> Self {
        Self { key: hash(self.key, name, index) }
    }

    /// A generator that starts at the beginning of this seed's stream.
    pub fn rng(&self) -> Pcg64 {
        let (low, high) = hash(self.key, "air.rng.state", 0);
        let (stream_low, stream_high) = hash(self.key, "air.rng.stream", 0);
        Pcg64::new(join(low, high), join(stream_low, stream_high))
    }

    /// 64 bits of this seed, for a generator of someone else's.
    pub fn value(&self) -> u64 {
        hash(self.key, "air.value", 0).0
    }
}

fn hash(key: (u64, u64), name: &str, index: u64) -> (u64, u64) {
    let mut hasher = SipHasher24::new_with_keys(key.0, key.1);
    // The index has a fixed width and comes first, so no two (index, name) pairs give the same bytes.
    hasher.write(&index.to_le_bytes());
    hasher.write(name.as_bytes());
    hasher.finish128().as_u64()
}

fn join(low: u64, high: u64) -> u128 {
    u128::from(low) | u128::from(high) << 64
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", join(self.key.0, self.key.1))
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seed({self})")
    }
}

impl FromStr for Seed {
    type Err = ParseSeedError;

    fn from_str(text: &str) -> Result<Self, ParseSeedError> {
        let wrong = || ParseSeedError { text: text.chars().take(64).collect() };
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let bits = u128::from_str_radix(text, 16).map_err(|_| wrong())?;
        Ok(Self { key: (bits as u64, (bits >> 64) as u64) })
    }
}

impl From<Seed> for String {
    fn from(seed: Seed) -> Self {
        seed.to_string()
    }
}

impl TryFrom<String> for Seed {
    type Error = ParseSeedError;

    fn try_from(text: String) -> Result<Self, ParseSeedError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// These values are a promise: a run written down with its seed can be repeated by any later version.
    #[test]
    fn values_never_change() {
        let seed = Seed::new(42);
        let env = seed.child("env", 3);
        let draws: [u64; 2] = env.rng().random();
        let got = format!("{seed} {env} {:016x} {:016x} {:016x}", env.value(), draws[0], draws[1]);
        assert_eq!(
            got,
            "cbc266e1e734e9e4db81f0f0800024e3 647be636e2be8e01b81c5f9b386ac9a9 \
             96928e1d02cb0ea3 dd6417a25fd582e1 dcc5333835cfdad1"
        );
    }

    #[test]
    fn a_seed_survives_being_written_down() {
        let seed = Seed::new(7).child("worker", 1);
        let text = serde_json::to_string(&seed).unwrap();
        assert_eq!(text.len(), 34);
        assert_eq!(serde_json::from_str::<Seed>(&text).unwrap(), seed);
        assert_eq!(seed.to_string().parse::<Seed>().unwrap(), seed);
    }

    #[test]
    fn text_that_is_no_seed_is_refused() {
        for text in ["", "42", &"g".repeat(32), "+0000000000000000000000000000000", &"0".repeat(33)] {
            let error = text.parse::<Seed>().unwrap_err();
            assert_eq!(error.text, text);
            assert_eq!(error.to_string(), format!("`{text}` is not a seed: expected 32 hexadecimal digits"));
        }
    }

    #[test]
    fn a_name_cannot_imitate_a_longer_path() {
        let root = Seed::new(1);
        assert_ne!(root.child("a", 0).child("b", 0), root.child("ab", 0));
        assert_ne!(root.child("a", 1), root.child("a1", 0));
        assert_ne!(root.child("", 0), root);
    }

    proptest! {
        #[test]
        fn distinct_children_have_distinct_streams(
            root: u64, a in ("[a-z]{0,8}", 0u64..1000), b in ("[a-z]{0,8}", 0u64..1000),
        ) {
            prop_assume!(a != b);
            let root = Seed::new(root);
            let (one, two) = (root.child(&a.0, a.1), root.child(&b.0, b.1));
            prop_assert_ne!(one, two);
            prop_assert_ne!(one.value(), two.value());
            prop_assert_ne!(one.rng().random::<[u64; 4]>(), two.rng().random::<[u64; 4]>());
        }

        #[test]
        fn asking_again_gives_the_same(root: u64, name in "\\PC{0,16}", index: u64) {
            let ask = || Seed::new(root).child(&name, index);
            prop_assert_eq!(ask(), ask());
            prop_assert_eq!(ask().rng().random::<u64>(), ask().rng().random::<u64>());
        }
    }
}
