//! `numeric` on the wire: the number of its digits of four decimal places, how many of them stand before the point less one, a sign, the decimal places after
//! the point that are shown, and the digits; 16 bits each.

use air_core::BoxError;
use bytes::{Buf, BufMut, BytesMut};

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xc000;
const INFINITE: u16 = 0xd000;
const MINUS_INFINITE: u16 = 0xf000;

/// What a digit goes up to.
const BASE: i128 = 10_000;

/// Decimal places of a digit.
const PLACES: i32 = 4;

/// A number as a decimal of so many digits, `scale` of them after the point.
pub(super) fn decode(mut bytes: &[u8], precision: u8, scale: i8) -> Result<i128, BoxError> {
    if bytes.len() < 8 {
        return Err("has a number that is cut short".into());
    }
    let (digits, weight, sign) = (bytes.get_u16(), bytes.get_i16(), bytes.get_u16());
    bytes.advance(2);
    let odd = match sign {
        0 | NEGATIVE => None,
        NAN => Some("NaN"),
        INFINITE => Some("infinity"),
        MINUS_INFINITE => Some("-infinity"),
        _ => return Err(format!("has a number with the sign {sign:#x}").into()),
    };
    if let Some(odd) = odd {
        return Err(format!(
            "has {odd}, which Decimal128 does not hold; cast it in the query, such as to float8"
        )
        .into());
    }
    if bytes.len() != 2 * digits as usize {
        return Err(format!("has a number of {digits} digits in {} bytes", bytes.len()).into());
    }
    let large = || format!("has a number that Decimal128({precision}, {scale}) does not hold");
    let mut value = 0_i128;
    for place in 0..i32::from(digits) {
        let digit = i128::from(bytes.get_u16());
        if digit >= BASE {
            return Err(format!("has a number with the digit {digit}").into());
        }
        if digit == 0 {
            continue;
        }
        // The power of ten that it stands for, among those that the decimal has.
        let power = PLACES * (i32::from(weight) - place) + i32::from(scale);
        let part = match power {
            0.. => 10_i128.checked_pow(power.unsigned_abs()).and_then(|ten| digit.checked_mul(ten)),
            -3..0 => {
                let ten = 10_i128.pow(power.unsigned_abs());
                (digit % ten == 0).then_some(digit / ten)
            }
            _ => None,
        };
        value = part.and_then(|part| value.checked_add(part)).ok_or_else(large)?;
    }
    if value >= 10_i128.checked_pow(precision.into()).ok_or_else(large)? {
        return Err(large().into());
    }
    Ok(if sign == NEGATIVE { -value } else { value })
}

/// A decimal with `scale` digits after the point, of which there are none fewer.
pub(super) fn encode(value: i128, scale: i8, to: &mut BytesMut) {
    let mut left = value.unsigned_abs();
    let scale = i32::from(scale);
    // Behind the point are whole digits, too: the last may need zeros.
    let behind = (scale + PLACES - 1) / PLACES;
    let missing = (behind * PLACES - scale).unsigned_abs();
    let mut digits = Vec::with_capacity(12);
    if missing > 0 {
        let ten = 10_u128.pow(PLACES.unsigned_abs() - missing);
        digits.push((left % ten) as u16 * 10_u16.pow(missing));
        left /= ten;
    }
    while left > 0 {
        digits.push((left % BASE.unsigned_abs()) as u16);
        left /= BASE.unsigned_abs();
    }
    let weight = digits.len() as i32 - behind - 1;
    to.put_u16(digits.len() as u16);
    to.put_i16(weight as i16);
    to.put_u16(if value < 0 { NEGATIVE } else { 0 });
    to.put_i16(scale as i16);
    for digit in digits.iter().rev() {
        to.put_u16(*digit);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn wire(digits: &[u16], weight: i16, sign: u16, scale: u16) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        bytes.put_u16(digits.len() as u16);
        bytes.put_i16(weight);
        bytes.put_u16(sign);
        bytes.put_u16(scale);
        for digit in digits {
            bytes.put_u16(*digit);
        }
        bytes.to_vec()
    }

    #[test]
    fn digits_of_four_places() {
        for (digits, weight, sign, scale, value) in [
            (&[1_u16, 2345, 6700][..], 1, 0, 2, 1_234_567_i128),
            (&[12, 3400], 0, NEGATIVE, 2, -1234),
            (&[], 0, 0, 2, 0),
            (&[500], -1, 0, 2, 5),
            (&[5], 2, 0, 0, 500_000_000),
            (&[1], -3, 0, 12, 1),
        ] {
            assert_eq!(decode(&wire(digits, weight, sign, 0), 38, scale).unwrap(), value, "{digits:?}");
        }
        for (bytes, what) in [
            (wire(&[], 0, NAN, 0), "has NaN"),
            (wire(&[], 0, INFINITE, 0), "has infinity"),
            (wire(&[], 0, MINUS_INFINITE, 0), "has -infinity"),
            (wire(&[1], 0, 7, 0), "the sign 0x7"),
            (wire(&[10_000], 0, 0, 0), "the digit 10000"),
            (wire(&[1], 32_767, 0, 0), "does not hold"),
            (wire(&[1], -32_768, 0, 0), "does not hold"),
            (wire(&[1000], 0, 0, 0), "Decimal128(5, 2) does not hold"),
            (wire(&[1], -1, 0, 0), "does not hold"),
            (wire(&[1, 2], 0, 0, 0)[..11].to_vec(), "2 digits in 3 bytes"),
            (vec![0; 7], "cut short"),
        ] {
            let error = decode(&bytes, 5, 2).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    proptest! {
        #[test]
        fn there_and_back(value: i128, scale in 0_i8..=38) {
            let value = value % 10_i128.pow(38);
            let mut bytes = BytesMut::new();
            encode(value, scale, &mut bytes);
            prop_assert_eq!(decode(&bytes, 38, scale).unwrap(), value);
        }

        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64), precision in 1_u8..=38) {
            if let Ok(value) = decode(&bytes, precision, 2) {
                prop_assert!(value.unsigned_abs() < 10_u128.pow(precision.into()));
            }
        }
    }
}
