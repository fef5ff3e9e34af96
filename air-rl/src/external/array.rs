//! Numbers in rows, however a client writes them: nested arrays, an array of NumPy as `msgpack_numpy` packs it, or one of RLlib's buffers.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// Arrays in arrays, at most.
const DEPTH: usize = 8;

/// Numbers one after another, and where each row of them ends.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Array {
    pub numbers: Vec<f32>,
    pub ends: Vec<usize>,
}

impl Array {
    /// The rows there are.
    pub(super) fn rows(&self) -> usize {
        self.ends.len()
    }

    /// One row.
    pub(super) fn row(&self, i: usize) -> &[f32] {
        let begin = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.numbers[begin..self.ends[i]]
    }

    fn forget(&mut self, rows: usize) {
        let rows = rows.min(self.ends.len());
        let numbers = if rows == 0 { 0 } else { self.ends[rows - 1] };
        self.numbers.drain(..numbers);
        self.ends.drain(..rows);
        self.ends.iter_mut().for_each(|end| *end -= numbers);
    }
}

impl<'de> Deserialize<'de> for Array {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut array = Self::default();
        Rows { array: &mut array, depth: 0 }.deserialize(deserializer)?;
        Ok(array)
    }
}

/// Reads a value into an array. At depth 0 it is the array of rows, below it is part of a row.
struct Rows<'a> {
    array: &'a mut Array,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers, arrays of them, or an array of NumPy")
    }

    fn visit_bool<E>(self, x: bool) -> Result<(), E> {
        self.array.numbers.push(f32::from(u8::from(x)));
        Ok(())
    }

    fn visit_f64<E>(self, x: f64) -> Result<(), E> {
        self.array.numbers.push(x as f32);
        Ok(())
    }

    fn visit_i64<E>(self, x: i64) -> Result<(), E> {
        self.array.numbers.push(x as f32);
        Ok(())
    }

    fn visit_u64<E>(self, x: u64) -> Result<(), E> {
        self.array.numbers.push(x as f32);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        if self.depth == DEPTH {
            return Err(A::Error::custom(format!("arrays in arrays, more than {DEPTH} deep")));
        }
        while items.next_element_seed(Rows { array: &mut *self.array, depth: self.depth + 1 })?.is_some() {
            if self.depth == 0 {
                self.array.ends.push(self.array.numbers.len());
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.depth == DEPTH {
            return Err(A::Error::custom(format!("arrays in arrays, more than {DEPTH} deep")));
        }
        let (mut numpy, mut kind, mut shape, mut lookback) = (None, None, None, 0);
        let (mut bytes, before) = (None, self.array.numbers.len());
        while let Some(Name(name)) = map.next_key()? {
            match name.as_str() {
                "nd" => numpy = Some(map.next_value::<bool>()?),
                "type" => kind = Some(map.next_value::<Name>()?.0),
                "shape" => shape = Some(map.next_value::<Vec<usize>>()?),
                "lookback" => lookback = map.next_value()?,
                "data" if numpy.is_some() => bytes = Some(map.next_value::<Bytes>()?.0),
                "data" => map.next_value_seed(Rows { array: &mut *self.array, depth: self.depth })?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if let (Some(_), Some(bytes)) = (numpy, &bytes) {
            unpack(kind.as_deref().unwrap_or_default(), bytes, &mut self.array.numbers)
                .map_err(A::Error::custom)?;
            let count = self.array.numbers.len() - before;
            let shape = shape.unwrap_or_default();
            let items = shape.iter().try_fold(1_usize, |n, &extent| n.checked_mul(extent));
            if items != Some(count) {
                return Err(A::Error::custom(format!(
                    "an array of the shape {shape:?} with {count} numbers"
                )));
            }
            if let (Some(&rows @ 1..), 0) = (shape.first(), self.depth) {
                self.array.ends.extend((1..=rows).map(|row| before + row * (count / rows)));
            }
        } else if numpy.is_some() {
            return Err(A::Error::custom("an array of NumPy without data"));
        }
        if self.depth == 0 {
            self.array.forget(lookback);
        }
        Ok(())
    }
}

/// Numbers as they lie in the memory of NumPy.
fn unpack(kind: &str, bytes: &[u8], to: &mut Vec<f32>) -> Result<(), String> {
    macro_rules! numbers {
        ($type:ty, $read:ident) => {{
            const SIZE: usize = size_of::<$type>();
            let (numbers, rest) = bytes.as_chunks::<SIZE>();
            if !rest.is_empty() {
                return Err(format!("{} bytes of numbers of the type `{kind}`", bytes.len()));
            }
            to.extend(numbers.iter().map(|number| <$type>::$read(*number) as f32));
        }};
    }
    match kind {
        "<f4" => numbers!(f32, from_le_bytes),
        "<f8" => numbers!(f64, from_le_bytes),
        ">f4" => numbers!(f32, from_be_bytes),
        ">f8" => numbers!(f64, from_be_bytes),
        "|i1" => numbers!(i8, from_le_bytes),
        "|u1" | "|b1" => numbers!(u8, from_le_bytes),
        "<i2" => numbers!(i16, from_le_bytes),
        "<u2" => numbers!(u16, from_le_bytes),
        "<i4" => numbers!(i32, from_le_bytes),
        "<u4" => numbers!(u32, from_le_bytes),
        "<i8" => numbers!(i64, from_le_bytes),
        "<u8" => numbers!(u64, from_le_bytes),
        other => {
            return Err(format!(
                "numbers of the type `{other}`: only reals of 4 or 8 bytes, whole numbers and truth values are read"
            ));
        }
    }
    Ok(())
}

/// A word, in text or in bytes.
struct Name(String);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Bytes(bytes) = Bytes::deserialize(deserializer)?;
        Ok(Self(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl Visitor<'_> for Any {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text or bytes")
            }

            fn visit_str<E>(self, text: &str) -> Result<Bytes, E> {
                Ok(Bytes(text.as_bytes().to_vec()))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
        }

        deserializer.deserialize_any(Any)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn json(text: &str) -> Result<Array, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    fn rows(array: &Array) -> Vec<&[f32]> {
        (0..array.rows()).map(|i| array.row(i)).collect()
    }

    /// `{b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [2, 2], b"data": …}`, as `msgpack_numpy` packs it.
    fn numpy(kind: &str, shape: &[u8], data: &[u8]) -> Vec<u8> {
        let mut out = vec![0x85, 0xc4, 2, b'n', b'd', 0xc3, 0xc4, 4];
        out.extend(b"type");
        out.push(0xa0 + kind.len() as u8);
        out.extend(kind.as_bytes());
        out.extend([0xc4, 4]);
        out.extend(b"kind");
        out.extend([0xc4, 0, 0xc4, 5]);
        out.extend(b"shape");
        out.push(0x90 + shape.len() as u8);
        out.extend(shape);
        out.extend([0xc4, 4]);
        out.extend(b"data");
        out.extend([0xc4, data.len() as u8]);
        out.extend(data);
        out
    }

    #[test]
    fn rows_are_what_stands_in_the_outermost_array() {
        assert_eq!(
            rows(&json("[[[1, 2], [3, 4.5]], [5, 6, 7, 8]]").unwrap()),
            [&[1.0, 2.0, 3.0, 4.5][..], &[5.0, 6.0, 7.0, 8.0]]
        );
        assert_eq!(rows(&json("[1, true, -2]").unwrap()), [[1.0], [1.0], [-2.0]]);
        assert_eq!(json("[]").unwrap().rows(), 0);
        assert_eq!(json("7").unwrap().rows(), 0);
    }

    #[test]
    fn arrays_of_numpy_are_read_whole_or_row_by_row() {
        let floats: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0].iter().flat_map(|x| x.to_le_bytes()).collect();
        let read = |bytes: &[u8]| rmp_serde::from_slice::<Array>(bytes).map_err(|e| e.to_string());
        assert_eq!(rows(&read(&numpy("<f4", &[2, 2], &floats)).unwrap()), [[1.0, 2.0], [3.0, 4.0]]);
        // An array of two of them, the second a number.
        let list =
            [vec![0x92], numpy("<f4", &[4], &floats), numpy("<i8", &[], &3_i64.to_le_bytes())].concat();
        assert_eq!(rows(&read(&list).unwrap()), [&[1.0, 2.0, 3.0, 4.0][..], &[3.0]]);
        assert!(read(&numpy("<f4", &[3], &floats)).unwrap_err().contains("of the shape [3] with 4 numbers"));
        assert!(
            read(&numpy("<f8", &[1], &floats[..7]))
                .unwrap_err()
                .contains("7 bytes of numbers of the type `<f8`")
        );
        assert!(read(&numpy("<c8", &[2], &floats)).unwrap_err().contains("numbers of the type `<c8`"));
    }

    #[test]
    fn a_buffer_of_rllib_is_read_without_what_it_looks_back_on() {
        let buffer = r#"{"data": [[9, 9], [1, 2], [3, 4]], "lookback": 1, "finalized": false, "space": {"space": "box"}}"#;
        assert_eq!(rows(&json(buffer).unwrap()), [[1.0, 2.0], [3.0, 4.0]]);
    }

    #[test]
    fn depth_has_a_limit_and_text_is_no_number() {
        let deep = format!("{}1{}", "[".repeat(9), "]".repeat(9));
        assert!(json(&deep).unwrap_err().contains("more than 8 deep"));
        let maps = format!("{}1{}", r#"{"data": "#.repeat(200), "}".repeat(200));
        assert!(json(&maps).is_err());
        assert!(
            json(r#"["a"]"#).unwrap_err().contains("expected numbers, arrays of them, or an array of NumPy")
        );
        assert!(json(r#"{"nd": true, "type": "<f4"}"#).unwrap_err().contains("without data"));
    }
}
