//! [`encode`] and [`decode`]: how a value becomes bytes that may cross to another process, and back (invariant A8).
//!
//! This is the only module that names bincode. Bytes from elsewhere are hostile until decoded: a message is never
//! larger than the caller's limit nor than [`MAX_BYTES`], and a length written in it never makes the decoder
//! reserve more than a fixed multiple of what really arrived, or 1 MiB for each level of the type. Bulk data (tensors, Arrow blocks) does not travel
//! this way: it has a fixed header and its bytes as they are.
//!
//! Types for the wire are finite: no recursion (`Box<Self>`), and no collections of `()`.

use bincode::config;
use bincode::enc::write::Writer;
use bincode::error::{DecodeError, EncodeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Result;

/// No message is larger than this, whatever the caller allows: 64 MiB.
pub const MAX_BYTES: usize = 64 << 20;

/// A value that cannot cross to another process.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// The message is larger than allowed.
    #[error("a message of {size_bytes} bytes is over the limit of {limit_bytes}")]
    TooLarge {
        /// How large the message is, or at least is.
        size_bytes: usize,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// The bytes are not a value of that type.
    #[error("{size_bytes} bytes are not a valid {type_name}: {reason}")]
    Malformed {
        /// How many bytes there were.
        size_bytes: usize,
        /// The Rust type that was expected.
        type_name: &'static str,
        /// What is wrong with them.
        reason: String,
    },
    /// The value has no encoding.
    #[error("a {type_name} cannot be encoded: {reason}")]
    Unencodable {
        /// The value's Rust type.
        type_name: &'static str,
        /// Why not.
        reason: String,
    },
}

/// The value as bytes; at most [`MAX_BYTES`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    let mut writer = LimitedWriter { bytes: Vec::new(), over: 0 };
    let encoded = bincode::serde::encode_into_writer(value, &mut writer, config::standard());
    if writer.over > 0 {
        return Err(WireError::TooLarge { size_bytes: writer.over, limit_bytes: MAX_BYTES }.into());
    }
    let type_name = std::any::type_name::<T>();
    encoded.map_err(|error| WireError::Unencodable { type_name, reason: error.to_string() })?;
    Ok(writer.bytes)
}

/// The value that `bytes` encode, all of them; more than `limit_bytes` (or [`MAX_BYTES`]) are refused unread.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit_bytes: usize) -> Result<T> {
    let limit_bytes = limit_bytes.min(MAX_BYTES);
    if bytes.len() > limit_bytes {
        return Err(WireError::TooLarge { size_bytes: bytes.len(), limit_bytes }.into());
    }
    let malformed = |reason: String| WireError::Malformed {
        size_bytes: bytes.len(),
        type_name: std::any::type_name::<T>(),
        reason,
    };
    let (value, used) = decode_bounded(bytes).map_err(|error| malformed(error.to_string()))?;
    if used < bytes.len() {
        return Err(malformed(format!("{} bytes are left over", bytes.len() - used)).into());
    }
    Ok(value)
}

/// Decodes under a bound on what the bytes may claim. bincode wants the bound as a constant, and counts an integer at
/// its size in memory, up to eight times its size in the message: hence three steps, each eight times what it serves.
fn decode_bounded<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), DecodeError> {
    const SMALL: usize = 1 << 20;
    const MIDDLE: usize = 32 << 20;
    const LARGE: usize = 8 * MAX_BYTES;
    match bytes.len().saturating_mul(8) {
        claimed if claimed <= SMALL => {
            bincode::serde::decode_from_slice(bytes, config::standard().with_limit::<SMALL>())
        }
        claimed if claimed <= MIDDLE => {
            bincode::serde::decode_from_slice(bytes, config::standard().with_limit::<MIDDLE>())
        }
        _ => bincode::serde::decode_from_slice(bytes, config::standard().with_limit::<LARGE>()),
    }
}

/// A vector that stops growing at [`MAX_BYTES`].
struct LimitedWriter {
    bytes: Vec<u8>,
    /// The size at which it refused, or zero.
    over: usize,
}

impl Writer for LimitedWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let size = self.bytes.len().saturating_add(bytes.len());
        if size > MAX_BYTES {
            self.over = size;
            return Err(EncodeError::Other("over the limit"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Empty,
        Tuple(i32, bool),
        Struct { text: String, bytes: Vec<u8> },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Message {
        id: u128,
        small: i64,
        ratio: f32,
        letter: char,
        kinds: Vec<Kind>,
        map: BTreeMap<String, Option<u64>>,
    }

    fn messages() -> impl Strategy<Value = Message> {
        let kind = prop_oneof![
            Just(Kind::Empty),
            any::<(i32, bool)>().prop_map(|(a, b)| Kind::Tuple(a, b)),
            any::<(String, Vec<u8>)>().prop_map(|(text, bytes)| Kind::Struct { text, bytes }),
        ];
        let map = prop::collection::btree_map(any::<String>(), any::<Option<u64>>(), 0..5);
        (any::<(u128, i64, char)>(), -1e30_f32..1e30, prop::collection::vec(kind, 0..5), map).prop_map(
            |((id, small, letter), ratio, kinds, map)| Message { id, small, ratio, letter, kinds, map },
        )
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(message in messages()) {
            let bytes = encode(&message).unwrap();
            prop_assert_eq!(decode::<Message>(&bytes, bytes.len()).unwrap(), message);
        }

        #[test]
        fn a_message_cut_short_is_refused(message in messages(), cut: prop::sample::Index) {
            let bytes = encode(&message).unwrap();
            prop_assert!(decode::<Message>(&bytes[..cut.index(bytes.len())], MAX_BYTES).is_err());
        }

        #[test]
        fn invariant_a8_garbage_is_an_error_or_a_value_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode::<Message>(&bytes, MAX_BYTES);
            let _ = decode::<Vec<String>>(&bytes, MAX_BYTES);
            let _ = decode::<BTreeMap<u64, Vec<u64>>>(&bytes, MAX_BYTES);
        }
    }

    #[test]
    fn invariant_a8_more_than_the_limit_is_refused_unread() {
        let bytes = encode(&vec![7_u8; 100]).unwrap();
        let error = decode::<Vec<u8>>(&bytes, 100).unwrap_err();
        assert_eq!(error.to_string(), "a message of 101 bytes is over the limit of 100");
        assert!(decode::<Vec<u8>>(&bytes, 101).is_ok());
        let huge = " ".repeat(MAX_BYTES + 1);
        assert_eq!(
            decode::<String>(huge.as_bytes(), usize::MAX).unwrap_err().to_string(),
            "a message of 67108865 bytes is over the limit of 67108864"
        );
        assert!(encode(&huge).unwrap_err().to_string().contains("is over the limit of 67108864"));
    }

    #[test]
    fn invariant_a8_a_claimed_length_reserves_nothing() {
        // Nine bytes that announce a text of 2⁶³ bytes.
        let mut bytes = vec![253];
        bytes.extend((1_u64 << 63).to_le_bytes());
        for error in [
            decode::<String>(&bytes, MAX_BYTES).unwrap_err(),
            decode::<Vec<u64>>(&bytes, MAX_BYTES).unwrap_err(),
        ] {
            assert!(error.to_string().starts_with("9 bytes are not a valid "), "{error}");
        }
    }

    #[test]
    fn bytes_left_over_are_an_error() {
        let error = decode::<u8>(&[1, 2, 3], 10).unwrap_err();
        assert_eq!(error.to_string(), "3 bytes are not a valid u8: 2 bytes are left over");
    }

    #[test]
    fn messages_of_every_size_pass() {
        // One for each step of the bound, of the kind that claims most for its bytes.
        for count in [10, 200_000] {
            let ones = vec![1_u64; count];
            assert_eq!(decode::<Vec<u64>>(&encode(&ones).unwrap(), MAX_BYTES).unwrap(), ones);
        }
        let text = " ".repeat(MAX_BYTES - 16);
        assert!(decode::<String>(&encode(&text).unwrap(), MAX_BYTES).unwrap() == text);
    }
}
