//! A fresh key, and the hash that is kept of one.
//!
//! A key is 256 random bits, so one round of SHA-256 is enough: there is nothing to guess.

use std::fmt;
use std::io;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What keys begin with, so that scanners for leaked secrets know them.
const PREFIX: &str = "air_";

/// A new key, from the operating system's randomness.
pub(crate) fn fresh() -> io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(format!("{PREFIX}{}", KeyHash(bytes)))
}

/// The SHA-256 of a key; 64 hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Of a key.
    pub fn of(key: &[u8]) -> Self {
        KeyHash(Sha256::digest(key).into())
    }

    /// Compares in a time that does not depend on where they differ.
    pub(crate) fn same(&self, other: &KeyHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let digits = text.as_bytes().as_chunks::<2>();
        let (pairs, []) = digits else { return None };
        if pairs.len() != bytes.len() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            *byte = (digit(*high)? << 4 | digit(*low)?) as u8;
        }
        Some(KeyHash(bytes))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for KeyHash {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        // The text is not repeated: it may be a key that was put there by mistake.
        KeyHash::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(
                "this is not a SHA-256 in 64 hexadecimal digits; `air-serve key new` prints a key and its hash",
            )
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sha_256_and_reads_back_from_its_text() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let digest = KeyHash::of(b"abc");
        assert_eq!(digest.to_string(), abc);
        assert!(KeyHash::parse(abc).unwrap().same(&digest));
        assert!(KeyHash::parse(&abc.to_uppercase()).unwrap().same(&digest));
        assert!(!KeyHash::of(b"abd").same(&digest));
        for bad in ["", &abc[1..], &abc[2..], &abc.replace('b', "g"), &format!("{abc}00"), &"é".repeat(32)] {
            assert!(KeyHash::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn fresh_keys_differ_and_are_long() {
        let (a, b) = (fresh().unwrap(), fresh().unwrap());
        assert_ne!(a, b);
        assert!(a.starts_with(PREFIX) && a.len() == PREFIX.len() + 64, "{a}");
    }

    #[test]
    fn a_key_in_place_of_its_hash_is_not_repeated() {
        let error = serde_json::from_str::<KeyHash>("\"air_secret\"").unwrap_err().to_string();
        assert!(error.contains("64 hexadecimal") && !error.contains("secret"), "{error}");
    }
}
