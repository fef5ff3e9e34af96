//! The messages in a record, as far as they are needed: `Example { features: map<string, Feature> }`, where a `Feature` is a list of bytes, of floats or of
//! integers. They are read where they lie: `prost` would make a map and a vector of each value's own.

use std::fmt;

use air_core::BoxError;

/// What a feature has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bytes,
    Floats,
    Ints,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Floats => "floats",
            Self::Ints => "integers",
        })
    }
}

/// A field's value on the wire.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Wire<'a> {
    Varint(u64),
    Fixed64,
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

/// The fields of a message.
struct Fields<'a> {
    rest: &'a [u8],
}

fn varint(rest: &mut &[u8]) -> Result<u64, BoxError> {
    let mut value = 0;
    for (index, byte) in rest.iter().enumerate().take(10) {
        // The tenth byte has room for one bit.
        if index == 9 && *byte > 1 {
            break;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            *rest = &rest[index + 1..];
            return Ok(value);
        }
    }
    Err(if rest.len() < 10 { "an integer is cut short" } else { "an integer has more than 64 bits" }.into())
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Wire<'a>), BoxError> {
        let tag = varint(&mut self.rest)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(varint(&mut self.rest)?),
            1 => self.cut(8).map(|_| Wire::Fixed64)?,
            2 => {
                let length = varint(&mut self.rest)?;
                Wire::Bytes(self.cut(length)?)
            }
            5 => Wire::Fixed32(self.cut(4)?.try_into()?),
            other => return Err(format!("no Example message: a field of wire type {other}").into()),
        };
        Ok((tag >> 3, wire))
    }

    fn cut(&mut self, bytes: u64) -> Result<&'a [u8], BoxError> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let (cut, rest) =
            self.rest.split_at_checked(bytes).ok_or("no Example message: a field is cut short")?;
        self.rest = rest;
        Ok(cut)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Wire<'a>), BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// A feature of an example.
#[derive(Debug, Clone, Copy)]
pub(super) struct Feature<'a> {
    pub(super) name: &'a str,
    /// Which kind of list it has, and the list's message; none for a feature without values.
    pub(super) list: Option<(Kind, &'a [u8])>,
}

/// The features of an example, in the order they are in.
pub(super) fn features(record: &[u8]) -> impl Iterator<Item = Result<Feature<'_>, BoxError>> {
    let messages = Fields { rest: record }.filter_map(|field| match field {
        Ok((1, Wire::Bytes(features))) => Some(Ok(features)),
        // It has the context's features where an example has its own, and would lose the rest.
        Ok((2, Wire::Bytes(_))) => {
            Some(Err("a SequenceExample, of which the lists of features are not read".into()))
        }
        Ok((1, _)) => Some(Err("no Example message: its features are no message".into())),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    messages.flat_map(|features| {
        let (features, error) = match features {
            Ok(features) => (features, None),
            Err(error) => (&[][..], Some(Err(error))),
        };
        let entries = Fields { rest: features }.filter_map(|field| match field {
            Ok((1, Wire::Bytes(entry))) => Some(entry_of(entry)),
            Ok((1, _)) => Some(Err("no Example message: a feature is no message".into())),
            Ok(_) => None,
            Err(error) => Some(Err(error)),
        });
        error.into_iter().chain(entries)
    })
}

/// An entry of the map from names to features. Of a field that comes twice the last counts.
fn entry_of(entry: &[u8]) -> Result<Feature<'_>, BoxError> {
    let (mut name, mut feature): (&[u8], &[u8]) = (&[], &[]);
    for field in (Fields { rest: entry }) {
        match field? {
            (1, Wire::Bytes(bytes)) => name = bytes,
            (2, Wire::Bytes(bytes)) => feature = bytes,
            _ => {}
        }
    }
    let name = std::str::from_utf8(name).map_err(|_| "a feature's name is not UTF-8")?;
    let mut list = None;
    for field in (Fields { rest: feature }) {
        match field? {
            (1, Wire::Bytes(bytes)) => list = Some((Kind::Bytes, bytes)),
            (2, Wire::Bytes(bytes)) => list = Some((Kind::Floats, bytes)),
            (3, Wire::Bytes(bytes)) => list = Some((Kind::Ints, bytes)),
            _ => {}
        }
    }
    Ok(Feature { name, list })
}

/// The values of a list of bytes.
pub(super) fn each_bytes<'a>(
    list: &'a [u8],
    mut put: impl FnMut(&'a [u8]) -> Result<(), BoxError>,
) -> Result<(), BoxError> {
    for field in (Fields { rest: list }) {
        if let (1, Wire::Bytes(value)) = field? {
            put(value)?;
        }
    }
    Ok(())
}

/// The values of a list of floats, packed or one by one.
pub(super) fn each_floats(list: &[u8], mut put: impl FnMut(f32)) -> Result<(), BoxError> {
    for field in (Fields { rest: list }) {
        match field? {
            (1, Wire::Bytes(packed)) => {
                let (values, rest) = packed.as_chunks::<4>();
                if !rest.is_empty() {
                    return Err(format!("{} bytes of floats", packed.len()).into());
                }
                for value in values {
                    put(f32::from_le_bytes(*value));
                }
            }
            (1, Wire::Fixed32(value)) => put(f32::from_le_bytes(value)),
            _ => {}
        }
    }
    Ok(())
}

/// The values of a list of integers, packed or one by one.
pub(super) fn each_ints(list: &[u8], mut put: impl FnMut(i64)) -> Result<(), BoxError> {
    for field in (Fields { rest: list }) {
        match field? {
            (1, Wire::Bytes(mut packed)) => {
                while !packed.is_empty() {
                    put(varint(&mut packed)? as i64);
                }
            }
            (1, Wire::Varint(value)) => put(value as i64),
            _ => {}
        }
    }
    Ok(())
}

impl Feature<'_> {
    /// What it has, and how many of it.
    pub(super) fn count(&self) -> Result<Option<(Kind, usize)>, BoxError> {
        let Some((kind, list)) = self.list else { return Ok(None) };
        let mut values = 0;
        let counted = match kind {
            Kind::Bytes => each_bytes(list, |_| {
                values += 1;
                Ok(())
            }),
            Kind::Floats => each_floats(list, |_| values += 1),
            Kind::Ints => each_ints(list, |_| values += 1),
        };
        counted.map_err(|error| format!("feature '{}': {error}", self.name))?;
        Ok(Some((kind, values)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn integers_of_any_length() {
        let read = |mut bytes: &[u8]| varint(&mut bytes).map_err(|error| error.to_string());
        assert_eq!(read(&[0]), Ok(0));
        assert_eq!(read(&[0xac, 0x02, 9]), Ok(300));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), Ok(u64::MAX));
        assert!(read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]).is_err());
        assert!(read(&[0x80]).is_err());
        assert!(read(&[]).is_err());
    }

    #[test]
    fn lists_packed_and_one_by_one() {
        let mut ints = Vec::new();
        // Field 1: packed [1, -1], then the single value 5.
        let list = [&[0x0a, 11, 1][..], &[0xff; 9], &[1, 0x08, 5]].concat();
        each_ints(&list, |value| ints.push(value)).unwrap();
        assert_eq!(ints, [1, -1, 5]);
        let mut floats = Vec::new();
        let list = [
            &[0x0a, 8][..],
            &1.5_f32.to_le_bytes(),
            &(-2.0_f32).to_le_bytes(),
            &[0x0d],
            &0.25_f32.to_le_bytes(),
        ]
        .concat();
        each_floats(&list, |value| floats.push(value)).unwrap();
        assert_eq!(floats, [1.5, -2.0, 0.25]);
        assert!(each_floats(&[0x0a, 3, 0, 0, 0], |_| ()).is_err());
    }
}
