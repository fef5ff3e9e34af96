//! Hashing: [`FeatureHasher`], and the places of names in vectors of a fixed length.

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use serde::{Deserialize, Serialize};

use super::tokens::text;
use super::vectors::{vectors, width};
use super::{Fitted, Preprocessor, appended, checked, column, floats};
use crate::dataset::Dataset;
use crate::error::Result;

const OP: &str = "FeatureHasher";

/// The place and the sign of a name in a vector of `width` numbers, scikit-learn's (Weinberger et al., "Feature hashing for large scale multitask learning", 2009).
pub(super) fn place(name: &str, width: usize) -> (usize, f64) {
    let hash = murmur3(name.as_bytes()) as i32;
    (hash.unsigned_abs() as usize % width, if hash >= 0 { 1.0 } else { -1.0 })
}

/// MurmurHash3 of 32 bits, seed 0 (Austin Appleby, public domain).
fn murmur3(bytes: &[u8]) -> u32 {
    let scrambled = |word: u32| word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let (words, rest) = bytes.as_chunks::<4>();
    let mut hash = words.iter().fold(0_u32, |hash, word| {
        (hash ^ scrambled(u32::from_le_bytes(*word)))
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64)
    });
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    hash ^= scrambled(u32::from_le_bytes(last)) ^ bytes.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

/// Columns become one of vectors of `f32`, after the others, in which each value has a place by the hash of its name: numbers and booleans at the column's name, text with 1 at `name=text`. Every
/// second place or so counts negative, so that values which share one do not add up on average. Nothing is learnt; nulls and NaN have no place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureHasher {
    /// The columns, which are there no more afterwards.
    pub columns: Vec<String>,
    /// Numbers in a vector, at most 4096.
    pub features: usize,
    /// The new column.
    pub output: String,
}

impl FeatureHasher {
    /// These columns as `hashed`.
    pub fn new<C: Into<String>>(columns: impl IntoIterator<Item = C>, features: usize) -> Self {
        let columns = columns.into_iter().map(Into::into).collect();
        Self { columns, features, output: "hashed".to_owned() }
    }

    /// With another name for the new column.
    pub fn output(self, name: impl Into<String>) -> Self {
        Self { output: name.into(), ..self }
    }

    pub(super) fn apply(&self, batch: &RecordBatch) -> Result<RecordBatch> {
        let (width, rows) = (width(OP, &self.output, self.features)?, batch.num_rows());
        let mut sums = vec![0.0_f64; rows * width];
        let mut used = Vec::with_capacity(self.columns.len());
        for name in &self.columns {
            let (index, values) = column(batch, name)?;
            used.push(index);
            if values.data_type().is_numeric() || values.data_type() == &DataType::Boolean {
                let values = match values.data_type() {
                    DataType::Boolean => cast(values, &DataType::Float64)?,
                    _ => floats(OP, values, name)?,
                };
                let (place, sign) = place(name, width);
                for (row, value) in values.as_primitive::<Float64Type>().iter().enumerate() {
                    sums[row * width + place] += value.filter(|x| !x.is_nan()).unwrap_or(0.0) * sign;
                }
            } else {
                let texts = text(OP, name, values)?;
                for (row, text) in texts.as_string::<i32>().iter().enumerate() {
                    if let Some(text) = text {
                        let (place, sign) = place(&format!("{name}={text}"), width);
                        sums[row * width + place] += sign;
                    }
                }
            }
        }
        let sums = sums.into_iter().map(|sum| sum as f32).collect();
        appended(OP, batch, &used, &self.output, vectors::<Float32Type>(sums, width, rows)?)
    }
}

impl Preprocessor for FeatureHasher {
    fn fit(&self, dataset: &Dataset) -> Result<Fitted> {
        checked(Fitted::Hashed(self.clone()), dataset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The reference implementation's values.
    #[test]
    fn hashes_of_every_length_of_the_rest() {
        assert_eq!(murmur3(b""), 0);
        assert_eq!(murmur3(b"test"), 0xba6b_d213);
        assert_eq!(murmur3(b"Hello, world!"), 0xc036_3e43);
        assert_eq!(murmur3(b"The quick brown fox jumps over the lazy dog"), 0x2e4f_f723);
    }
}
