//! [`Places`]: the rows of a held table by their keys, which are whole numbers.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type};
use arrow::datatypes::{UInt16Type, UInt32Type, UInt64Type};
use datafusion::common::{Result, exec_err, internal_err};

use crate::plan::Mixer;

/// Keys are held densely where their range is no more than this many times as wide as there are rows.
const DENSE: usize = 4;

/// Keys as numbers of 64 bits: equal where the keys are, and in their order up to the end of the range, from which they go on at its beginning.
pub(super) struct Keys {
    values: ScalarBuffer<u64>,
    nulls: Option<NullBuffer>,
}

impl Keys {
    /// Whether keys of a type can be told as numbers.
    pub(super) fn are(kind: &DataType) -> bool {
        kind.is_integer()
    }

    pub(super) fn of(column: &ArrayRef) -> Result<Self> {
        let values = match column.data_type() {
            DataType::Int8 => numbers::<Int8Type>(column, |key| key as u64),
            DataType::Int16 => numbers::<Int16Type>(column, |key| key as u64),
            DataType::Int32 => numbers::<Int32Type>(column, |key| key as u64),
            DataType::Int64 => same_bits::<Int64Type>(column),
            DataType::UInt8 => numbers::<UInt8Type>(column, u64::from),
            DataType::UInt16 => numbers::<UInt16Type>(column, u64::from),
            DataType::UInt32 => numbers::<UInt32Type>(column, u64::from),
            DataType::UInt64 => same_bits::<UInt64Type>(column),
            other => return internal_err!("keys of the type {other} are no numbers"),
        };
        let nulls = column.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        Ok(Self { values, nulls })
    }

    /// The keys with their rows, without those that are null.
    fn known(&self) -> impl DoubleEndedIterator<Item = (usize, u64)> {
        let known = |row: usize| self.nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        self.values.iter().copied().enumerate().filter(move |(row, _)| known(*row))
    }
}

fn numbers<T: ArrowPrimitiveType>(column: &ArrayRef, number: impl Fn(T::Native) -> u64) -> ScalarBuffer<u64> {
    column.as_primitive::<T>().values().iter().map(|key| number(*key)).collect()
}

/// Numbers of 64 bits where they are.
fn same_bits<T: ArrowPrimitiveType>(column: &ArrayRef) -> ScalarBuffer<u64> {
    let column: &PrimitiveArray<T> = column.as_primitive();
    ScalarBuffer::new(column.values().inner().clone(), 0, column.len())
}

/// Where the rows of each key are. A place is a row's number and 1; 0 is none. A null has none.
pub(super) struct Places {
    first: First,
    /// The next place of the same key, by row; empty where each key has but one.
    next: Vec<u32>,
}

enum First {
    /// By the distance from the least key.
    Dense {
        least: u64,
        places: Vec<u32>,
    },
    Sparse(HashMap<u64, u32, Mixed>),
}

impl Places {
    /// The bytes that the places of `rows` rows take at most.
    pub(super) fn most_bytes(rows: usize) -> usize {
        // A sparse table is up to 16/7 as large as what is in it, of 16 bytes and one; a dense one has numbers of 4 bytes.
        rows.saturating_mul(4 + (17 * 16_usize).div_ceil(7).max(4 * DENSE))
    }

    pub(super) fn of(keys: &Keys) -> Result<Self> {
        let rows = keys.values.len();
        if u32::try_from(rows).is_ok_and(|rows| rows < u32::MAX) {
            let mut places = Self { first: First::room_for(keys), next: Vec::new() };
            places.fill(keys);
            return Ok(places);
        }
        exec_err!("a side of a join that is held has {rows} rows, and may have 4 294 967 294")
    }

    // From the last row to the first one, so that each key's rows are found from the first to the last.
    fn fill(&mut self, keys: &Keys) {
        for (row, key) in keys.known().rev() {
            let place = row as u32 + 1;
            let later = match &mut self.first {
                First::Dense { least, places } => {
                    std::mem::replace(&mut places[key.wrapping_sub(*least) as usize], place)
                }
                First::Sparse(places) => places.insert(key, place).unwrap_or(0),
            };
            if later != 0 {
                if self.next.is_empty() {
                    self.next = vec![0; keys.values.len()];
                }
                self.next[row] = later;
            }
        }
    }

    /// Whether no key has two rows.
    pub(super) fn are_single(&self) -> bool {
        self.next.is_empty()
    }

    /// The first place of each key.
    pub(super) fn find(&self, keys: &Keys) -> Vec<u32> {
        let mut found: Vec<u32> = match &self.first {
            First::Dense { least, places } => {
                let place = |key: &u64| places.get(key.wrapping_sub(*least) as usize).copied().unwrap_or(0);
                keys.values.iter().map(place).collect()
            }
            First::Sparse(places) => {
                keys.values.iter().map(|key| places.get(key).copied().unwrap_or(0)).collect()
            }
        };
        if let Some(nulls) = &keys.nulls {
            for (place, valid) in found.iter_mut().zip(nulls) {
                *place *= u32::from(valid);
            }
        }
        found
    }

    /// The place after this one of the same key.
    pub(super) fn after(&self, place: u32) -> u32 {
        self.next.get(place as usize - 1).copied().unwrap_or(0)
    }
}

impl First {
    fn room_for(keys: &Keys) -> Self {
        // Numbers with a sign and without one are two orders of the same bits; in one of them the range may be the narrower one.
        let range = |order: fn(u64) -> u64| {
            let (least, most) = keys
                .known()
                .map(|(_, key)| order(key))
                .fold((u64::MAX, 0), |(least, most), key| (least.min(key), most.max(key)));
            (order(least), most.saturating_sub(least))
        };
        let (least, width) = [range(|key| key), range(|key| key ^ 1 << 63)]
            .into_iter()
            .min_by_key(|(_, width)| *width)
            .unwrap_or((0, 0));
        let dense = keys.values.len().saturating_mul(DENSE);
        match usize::try_from(width) {
            Ok(width) if width < dense => Self::Dense { least, places: vec![0; width + 1] },
            _ => Self::Sparse(HashMap::with_capacity_and_hasher(keys.values.len(), Mixed)),
        }
    }
}

/// Spreads numbers over all bits.
struct Mixed;

impl BuildHasher for Mixed {
    type Hasher = Spread;

    fn build_hasher(&self) -> Spread {
        Spread(0)
    }
}

struct Spread(u64);

impl Hasher for Spread {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = Mixer::new(self.0).mix(number);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{Int8Array, Int64Array, UInt64Array};

    use super::*;

    fn rows(places: &Places, key: ArrayRef) -> Vec<u32> {
        let mut rows = Vec::new();
        let mut place = places.find(&Keys::of(&key).unwrap())[0];
        while place != 0 {
            rows.push(place - 1);
            place = places.after(place);
        }
        rows
    }

    fn places(column: impl Array + 'static) -> Places {
        Places::of(&Keys::of(&(Arc::new(column) as ArrayRef)).unwrap()).unwrap()
    }

    #[test]
    fn the_rows_of_a_key_come_in_their_order_however_far_keys_are_apart() {
        for scale in [1, 1 << 50] {
            let keys = [Some(5), None, Some(-3), Some(5), Some(0), Some(-3), Some(5)];
            let held = places(Int64Array::from_iter(keys.map(|key| key.map(|key: i64| key * scale))));
            assert_eq!(matches!(held.first, First::Dense { .. }), scale == 1);
            assert!(!held.are_single());
            let at = |key: Option<i64>| rows(&held, Arc::new(Int64Array::from(vec![key.map(|k| k * scale)])));
            assert_eq!(at(Some(5)), [0, 3, 6]);
            assert_eq!(at(Some(-3)), [2, 5]);
            assert_eq!(at(Some(0)), [4]);
            for absent in [Some(1), Some(6), Some(-4), None] {
                assert!(at(absent).is_empty(), "{absent:?}");
            }
        }
    }

    #[test]
    fn single_keys_are_told_and_the_ends_of_the_range_are_keys() {
        let held = places(UInt64Array::from(vec![u64::MAX, 0, 1 << 63]));
        assert!(held.are_single());
        for (row, key) in [(0, u64::MAX), (1, 0), (2, 1 << 63)] {
            assert_eq!(rows(&held, Arc::new(UInt64Array::from(vec![key]))), [row]);
        }
        let held = places(Int8Array::from(vec![-128, 127, -1, 0]));
        for (row, key) in [(0, -128), (1, 127), (2, -1), (3, 0)] {
            assert_eq!(rows(&held, Arc::new(Int8Array::from(vec![key]))), [row]);
        }
        let held = places(Int64Array::from(vec![i64::MAX, i64::MIN]));
        assert_eq!(rows(&held, Arc::new(Int64Array::from(vec![i64::MIN]))), [1]);
    }

    #[test]
    fn nothing_is_found_where_nothing_is_held() {
        for held in [places(Int64Array::from(vec![0; 0])), places(Int64Array::from(vec![None, None]))] {
            assert!(held.are_single());
            assert!(rows(&held, Arc::new(Int64Array::from(vec![Some(0)]))).is_empty());
            assert!(rows(&held, Arc::new(Int64Array::from(vec![None]))).is_empty());
        }
    }
}
