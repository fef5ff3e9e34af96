//! The elements of a tensor as JSON: a flat list, or lists nested as the shape says.

use bytes::BytesMut;
use half::{bf16, f16};
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};

use super::datatype::DataType;
use super::signature::shortened;
use super::tensor::{Element, Tensor, count, put_string};

/// Reads the `data` of a tensor of that type and shape into its binary form. The JSON is known to be well-formed.
pub(crate) fn read(json: &str, datatype: DataType, shape: &[usize]) -> Result<BytesMut, String> {
    let wanted = count(shape)?;
    // An element takes two characters at least, so a large shape alone allocates nothing.
    let room = wanted.min(json.len() / 2 + 1).saturating_mul(datatype.size().unwrap_or(8));
    let mut reader =
        Reader { datatype, shape, wanted, found: 0, data: BytesMut::with_capacity(room), fault: None };
    let parsed =
        List { reader: &mut reader, depth: 0 }.deserialize(&mut serde_json::Deserializer::from_str(json));
    match (reader.fault, parsed) {
        (Some(fault), _) => Err(fault),
        (None, Err(error)) => Err(format!("its data cannot be read: {error}")),
        (None, Ok(_)) if reader.found != wanted => {
            Err(format!("its shape {shape:?} has {wanted} elements, its data {}", reader.found))
        }
        (None, Ok(_)) => Ok(reader.data),
    }
}

struct Reader<'a> {
    datatype: DataType,
    shape: &'a [usize],
    wanted: usize,
    found: usize,
    data: BytesMut,
    /// What is wrong, in words without a position in the JSON.
    fault: Option<String>,
}

impl Reader<'_> {
    fn fail<E: serde::de::Error>(&mut self, fault: String) -> E {
        self.fault.get_or_insert(fault);
        E::custom("")
    }

    fn put<E: serde::de::Error>(&mut self, scalar: Scalar<'_>) -> Result<(), E> {
        if self.found == self.wanted {
            let fault = format!("its shape {:?} has {} elements, its data has more", self.shape, self.wanted);
            return Err(self.fail(fault));
        }
        if scalar.write(self.datatype, &mut self.data).is_none() {
            let fault = format!("its element {} is {scalar}, which is no {}", self.found, self.datatype);
            return Err(self.fail(fault));
        }
        self.found += 1;
        Ok(())
    }
}

/// One element as JSON has it.
enum Scalar<'a> {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a str),
    Null,
}

impl Scalar<'_> {
    fn write(&self, datatype: DataType, to: &mut BytesMut) -> Option<()> {
        fn int<T: Element + TryFrom<i128>>(scalar: &Scalar<'_>, to: &mut BytesMut) -> Option<()> {
            let Scalar::Int(x) = *scalar else { return None };
            T::try_from(x).ok()?.put(to);
            Some(())
        }
        fn float<T: Element>(
            scalar: &Scalar<'_>,
            to: &mut BytesMut,
            from: fn(f64) -> T,
            finite: fn(T) -> bool,
        ) -> Option<()> {
            let x = match *scalar {
                Scalar::Int(x) => x as f64,
                Scalar::Float(x) => x,
                // A missing value.
                Scalar::Null => f64::NAN,
                Scalar::Bool(_) | Scalar::Text(_) => return None,
            };
            let element = from(x);
            (x.is_nan() || finite(element)).then(|| element.put(to))
        }
        match datatype {
            DataType::Bool => {
                let Scalar::Bool(x) = *self else { return None };
                x.put(to);
                Some(())
            }
            DataType::Uint8 => int::<u8>(self, to),
            DataType::Uint16 => int::<u16>(self, to),
            DataType::Uint32 => int::<u32>(self, to),
            DataType::Uint64 => int::<u64>(self, to),
            DataType::Int8 => int::<i8>(self, to),
            DataType::Int16 => int::<i16>(self, to),
            DataType::Int32 => int::<i32>(self, to),
            DataType::Int64 => int::<i64>(self, to),
            DataType::Fp16 => float(self, to, f16::from_f64, f16::is_finite),
            DataType::Bf16 => float(self, to, bf16::from_f64, bf16::is_finite),
            DataType::Fp32 => float(self, to, |x| x as f32, f32::is_finite),
            DataType::Fp64 => float(self, to, |x| x, f64::is_finite),
            DataType::Bytes => {
                let Scalar::Text(text) = *self else { return None };
                put_string(text.as_bytes(), to);
                Some(())
            }
        }
    }
}

impl std::fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scalar::Bool(x) => write!(f, "{x}"),
            Scalar::Int(x) => write!(f, "{x}"),
            Scalar::Float(x) => write!(f, "{x:?}"),
            Scalar::Text(text) => write!(f, "{:?}", shortened(text)),
            Scalar::Null => f.write_str("null"),
        }
    }
}

/// A list inside `depth` others.
struct List<'r, 'a> {
    reader: &'r mut Reader<'a>,
    depth: usize,
}

/// An item of a list inside `depth` lists: an element, or a list again.
struct Item<'r, 'a> {
    reader: &'r mut Reader<'a>,
    depth: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Element,
    List,
}

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = Kind;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = Kind;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Kind, A::Error> {
        let List { reader, depth } = self;
        let rank = reader.shape.len();
        let mut first = None;
        let mut length = 0usize;
        while let Some(kind) = list.next_element_seed(Item { reader, depth: depth + 1 })? {
            if *first.get_or_insert(kind) != kind {
                return Err(reader.fail("its data mixes elements and lists".to_owned()));
            }
            length += 1;
        }
        // A flat list of all elements is counted at the end.
        let is_flat = depth == 0 && first != Some(Kind::List);
        if !is_flat && reader.shape.get(depth) != Some(&length) {
            let fault = match reader.shape.get(depth) {
                Some(dim) => format!(
                    "a list at depth {depth} of its data has {length} items, its shape {:?} says {dim}",
                    reader.shape
                ),
                None => format!("its data is nested deeper than its shape {:?}", reader.shape),
            };
            return Err(reader.fail(fault));
        }
        if !is_flat && first == Some(Kind::Element) && depth + 1 != rank {
            let fault =
                format!("its data is nested {} deep, its shape {:?} says {rank}", depth + 1, reader.shape);
            return Err(reader.fail(fault));
        }
        Ok(Kind::List)
    }
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = Kind;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Item<'_, '_> {
    type Value = Kind;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an element or a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Kind, A::Error> {
        if self.depth >= self.reader.shape.len() {
            let fault = format!("its data is nested deeper than its shape {:?}", self.reader.shape);
            return Err(self.reader.fail(fault));
        }
        List { reader: self.reader, depth: self.depth }.visit_seq(list)
    }

    fn visit_bool<E: serde::de::Error>(self, x: bool) -> Result<Kind, E> {
        self.reader.put(Scalar::Bool(x)).map(|()| Kind::Element)
    }

    fn visit_i64<E: serde::de::Error>(self, x: i64) -> Result<Kind, E> {
        self.reader.put(Scalar::Int(x.into())).map(|()| Kind::Element)
    }

    fn visit_u64<E: serde::de::Error>(self, x: u64) -> Result<Kind, E> {
        self.reader.put(Scalar::Int(x.into())).map(|()| Kind::Element)
    }

    fn visit_f64<E: serde::de::Error>(self, x: f64) -> Result<Kind, E> {
        self.reader.put(Scalar::Float(x)).map(|()| Kind::Element)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Kind, E> {
        self.reader.put(Scalar::Text(text)).map(|()| Kind::Element)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Kind, E> {
        self.reader.put(Scalar::Null).map(|()| Kind::Element)
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, _: A) -> Result<Kind, A::Error> {
        Err(A::Error::custom("an object is no element"))
    }
}

/// Writes the elements of a tensor as a flat list. What JSON has no number for becomes `null`.
pub(crate) struct Flat<'a>(pub &'a Tensor);

impl Serialize for Flat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        fn all<T: Element, U: Serialize, S: Serializer>(
            data: &[u8],
            serializer: S,
            as_json: fn(T) -> U,
        ) -> Result<S::Ok, S::Error> {
            let size = T::DATATYPE.size().unwrap_or(1);
            serializer.collect_seq(data.chunks_exact(size).map(|bytes| as_json(T::read(bytes))))
        }
        let data = &self.0.bytes()[..];
        match self.0.datatype() {
            DataType::Bool => all::<bool, _, _>(data, serializer, |x| x),
            DataType::Uint8 => all::<u8, _, _>(data, serializer, |x| x),
            DataType::Uint16 => all::<u16, _, _>(data, serializer, |x| x),
            DataType::Uint32 => all::<u32, _, _>(data, serializer, |x| x),
            DataType::Uint64 => all::<u64, _, _>(data, serializer, |x| x),
            DataType::Int8 => all::<i8, _, _>(data, serializer, |x| x),
            DataType::Int16 => all::<i16, _, _>(data, serializer, |x| x),
            DataType::Int32 => all::<i32, _, _>(data, serializer, |x| x),
            DataType::Int64 => all::<i64, _, _>(data, serializer, |x| x),
            DataType::Fp16 => all::<f16, _, _>(data, serializer, f16::to_f32),
            DataType::Bf16 => all::<bf16, _, _>(data, serializer, bf16::to_f32),
            DataType::Fp32 => all::<f32, _, _>(data, serializer, |x| x),
            DataType::Fp64 => all::<f64, _, _>(data, serializer, |x| x),
            DataType::Bytes => {
                let strings = self.0.strings().map_err(S::Error::custom)?;
                let texts: Result<Vec<&str>, _> =
                    strings.iter().map(|bytes| std::str::from_utf8(bytes)).collect();
                match texts {
                    Ok(texts) => serializer.collect_seq(texts),
                    Err(_) => {
                        Err(S::Error::custom("it holds bytes that are not UTF-8: ask for it as binary data"))
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn tensor(json: &str, datatype: DataType, shape: &[usize]) -> Tensor {
        let data = read(json, datatype, shape).unwrap().freeze();
        Tensor::from_bytes("x", datatype, shape, data).unwrap()
    }

    #[test]
    fn flat_and_nested_lists_are_the_same_tensor() {
        let flat = tensor("[1, 2, 3, 4, 5, 6]", DataType::Fp32, &[2, 3]);
        assert_eq!(tensor("[[1.0, 2, 3], [4, 5, 6e0]]", DataType::Fp32, &[2, 3]), flat);
        assert_eq!(flat.elements::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(tensor("[[], []]", DataType::Int8, &[2, 0]), tensor("[]", DataType::Int8, &[2, 0]));
        assert_eq!(tensor("[7]", DataType::Int8, &[]).elements::<i8>().unwrap(), [7]);
    }

    #[test]
    fn every_type_is_written_as_it_was_read() {
        for (datatype, json) in [
            (DataType::Bool, "[true,false]"),
            (DataType::Uint8, "[0,255]"),
            (DataType::Uint16, "[0,65535]"),
            (DataType::Uint32, "[0,4294967295]"),
            (DataType::Uint64, "[0,18446744073709551615]"),
            (DataType::Int8, "[-128,127]"),
            (DataType::Int16, "[-32768,32767]"),
            (DataType::Int32, "[-2147483648,2147483647]"),
            (DataType::Int64, "[-9223372036854775808,9223372036854775807]"),
            (DataType::Fp16, "[0.5,-65504.0]"),
            (DataType::Bf16, "[0.5,-256.0]"),
            (DataType::Fp32, "[0.1,null]"),
            (DataType::Fp64, "[0.1,-1e+300]"),
            (DataType::Bytes, r#"["ä\n",""]"#),
        ] {
            let written = serde_json::to_string(&Flat(&tensor(json, datatype, &[2]))).unwrap();
            assert_eq!(written, json, "{datatype}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for (json, datatype, shape, says) in [
            ("[1, 300]", DataType::Uint8, &[2][..], "element 1 is 300, which is no UINT8"),
            ("[1.5]", DataType::Int32, &[1], "element 0 is 1.5, which is no INT32"),
            ("[null]", DataType::Int32, &[1], "element 0 is null"),
            ("[1]", DataType::Bool, &[1], "element 0 is 1, which is no BOOL"),
            ("[true]", DataType::Fp32, &[1], "element 0 is true"),
            ("[\"a\"]", DataType::Fp32, &[1], "element 0 is \"a\", which is no FP32"),
            ("[1e39]", DataType::Fp32, &[1], "element 0 is 1e39"),
            ("[65520]", DataType::Fp16, &[1], "element 0 is 65520"),
            ("[1]", DataType::Bytes, &[1], "element 0 is 1, which is no BYTES"),
            ("[1, 2]", DataType::Fp32, &[3], "has 3 elements, its data 2"),
            ("[1, 2, 3]", DataType::Fp32, &[2], "has 2 elements, its data has more"),
            ("[[1, 2], [3]]", DataType::Fp32, &[2, 2], "depth 1 of its data has 1 items"),
            ("[[1, 2, 3, 4]]", DataType::Fp32, &[2, 2], "depth 1 of its data has 4 items"),
            ("[[1], 2]", DataType::Fp32, &[2, 1], "mixes elements and lists"),
            ("[[1, 2]]", DataType::Fp32, &[2], "nested deeper"),
            ("[[1, 2]]", DataType::Fp32, &[1, 2, 1], "nested 2 deep"),
            ("[[[[[]]]]]", DataType::Fp32, &[2, 2], "nested deeper"),
            ("{}", DataType::Fp32, &[1], "a list"),
            ("[{}]", DataType::Fp32, &[1], "object"),
            ("[1]", DataType::Fp32, &[usize::MAX, usize::MAX], "too many elements"),
        ] {
            let fault = read(json, datatype, shape).unwrap_err();
            assert!(fault.contains(says), "{json} {datatype} {shape:?}: {fault}");
        }
    }

    #[test]
    fn bytes_that_are_not_text_cannot_be_json() {
        let tensor = Tensor::of_strings("x", [1], [[0xff]]).unwrap();
        let error = serde_json::to_string(&Flat(&tensor)).unwrap_err();
        assert!(error.to_string().contains("ask for it as binary data"), "{error}");
    }
}
