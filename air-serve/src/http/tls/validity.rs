//! From when until when a certificate is valid: the two times in its DER. Pure.
//!
//! rustls presents whatever certificate it is given; that one has expired only its clients would find out.

/// From and until, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub from: i64,
    pub until: i64,
}

/// Reads it from a certificate (RFC 5280, section 4.1); `None` where that is not one.
pub(crate) fn validity(certificate: &[u8]) -> Option<Validity> {
    const SEQUENCE: u8 = 0x30;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    (fields, _) = element(fields, SEQUENCE)?;
    // Version (there is none in the first), serial number, algorithm, issuer.
    fields = element(fields, 0xa0).map_or(fields, |(_, rest)| rest);
    for tag in [0x02, SEQUENCE, SEQUENCE] {
        (_, fields) = element(fields, tag)?;
    }
    let (times, _) = element(fields, SEQUENCE)?;
    let (from, times) = time(times)?;
    let (until, _) = time(times)?;
    Some(Validity { from, until })
}

/// The content of the element at the start, if it has this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // The length in up to three bytes; no certificate needs more.
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// A time with two digits of the year, or with four; always in UTC, to the second.
fn time(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (text, rest) = element(bytes, 0x17).or_else(|| element(bytes, 0x18))?;
    let (digits, b"Z") = text.split_at_checked(text.len().checked_sub(1)?)? else { return None };
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    let number = |[a, b]: [u8; 2]| {
        let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
        Some(10 * digit(a)? + digit(b)?)
    };
    let numbers: Option<Vec<i64>> = pairs.iter().copied().map(number).collect();
    let (year, rest_of_it) = match *numbers?.as_slice() {
        [year, ref rest @ ..] if rest.len() == 5 => {
            (if year < 50 { 2000 + year } else { 1900 + year }, rest.to_vec())
        }
        [century, year, ref rest @ ..] if rest.len() == 5 => (100 * century + year, rest.to_vec()),
        _ => return None,
    };
    let [month, day, hour, minute, second] = rest_of_it.try_into().ok()?;
    let sane =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    sane.then(|| (days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second, rest))
}

/// Days from 1970-01-01 to a date of the Gregorian calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_of_both_kinds() {
        let read = |tag: u8, text: &str| {
            let element = [&[tag, text.len() as u8], text.as_bytes()].concat();
            time(&element).map(|(time, _)| time)
        };
        assert_eq!(read(0x17, "700101000000Z"), Some(0));
        assert_eq!(read(0x17, "240229120001Z"), Some(1_709_208_001));
        assert_eq!(read(0x17, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(read(0x17, "500101000000Z"), Some(-631_152_000));
        assert_eq!(read(0x18, "20500101000000Z"), Some(2_524_608_000));
        assert_eq!(read(0x18, "99991231235959Z"), Some(253_402_300_799));
        for bad in ["", "Z", "7001010000Z", "700101000000", "70010100000aZ", "701301000000Z", "700101240000Z"]
        {
            assert_eq!(read(0x17, bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            validity(&bytes);
            validity(&[&[0x30, 0x82, 0x01, 0x00, 0x30, 0x81, 0xf0], &bytes[..]].concat());
        }
    }
}
