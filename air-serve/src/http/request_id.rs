//! Request ids: taken from the caller where it sent one, made otherwise.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries the id in both directions.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longer ids are replaced by ours: they go into logs.
const LONGEST: usize = 128;

/// The caller's id if it is short and printable, else a fresh one.
pub(crate) fn take_or_make(headers: &HeaderMap) -> HeaderValue {
    match headers.get(&X_REQUEST_ID) {
        Some(id) if printable(id.as_bytes()) => id.clone(),
        _ => make(),
    }
}

fn printable(id: &[u8]) -> bool {
    !id.is_empty() && id.len() <= LONGEST && id.iter().all(u8::is_ascii_graphic)
}

/// 32 hexadecimal digits: half random for each thread, half counted.
fn make() -> HeaderValue {
    thread_local! {
        static NEXT: Cell<(u64, u64)> = Cell::new((RandomState::new().hash_one(0u8), RandomState::new().hash_one(1u8)));
    }
    let (thread, count) = NEXT.get();
    NEXT.set((thread, count.wrapping_add(1)));
    let mut id = [0u8; 32];
    let digits = b"0123456789abcdef";
    let value = (u128::from(thread) << 64) | u128::from(count);
    for (index, digit) in id.iter_mut().enumerate() {
        *digit = digits[(value >> (124 - 4 * index)) as usize & 15];
    }
    HeaderValue::from_bytes(&id).unwrap_or_else(|_| HeaderValue::from_static("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_id_is_kept_and_any_other_replaced() {
        let with = |id: &'static str| HeaderMap::from_iter([(X_REQUEST_ID, HeaderValue::from_static(id))]);
        assert_eq!(take_or_make(&with("abc-1")), "abc-1");
        assert_eq!(take_or_make(&with("with space")).len(), 32);
        assert_eq!(take_or_make(&HeaderMap::new()).len(), 32);
        assert_ne!(take_or_make(&HeaderMap::new()), take_or_make(&HeaderMap::new()));
    }
}
