//! What Arrow's extension types say of a column of tensors, in the metadata of its field.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field};
use serde::{Deserialize, Serialize};

const NAME: &str = "ARROW:extension:name";
const METADATA: &str = "ARROW:extension:metadata";
const FIXED: &str = "arrow.fixed_shape_tensor";
const VARIABLE: &str = "arrow.variable_shape_tensor";

/// The metadata of a column of tensors of one shape. Unlike `arrow_schema`'s, it calls the order of axes as the specification does.
#[derive(Debug, Serialize, Deserialize)]
struct Fixed {
    shape: Vec<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    permutation: Option<Vec<usize>>,
}

/// The shape of each row of a column, axis by axis as they lie in memory, and the order in which they are meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RowShape {
    pub(super) shape: Vec<usize>,
    pub(super) permutation: Option<Vec<usize>>,
}

/// The shape of a column's rows: what its metadata says, else the lengths of its lists.
pub(super) fn row_shape(field: &Field) -> Result<RowShape, String> {
    let (lengths, _) = lengths(field.data_type());
    if field.metadata().get(NAME).is_none_or(|name| name != FIXED) {
        return Ok(RowShape { shape: lengths, permutation: None });
    }
    let text = field.metadata().get(METADATA).map_or("", String::as_str);
    let said: Fixed = serde_json::from_str(text).map_err(|e| format!("the metadata of a {FIXED}: {e}"))?;
    let values = |shape: &[usize]| shape.iter().try_fold(1_usize, |all, axis| all.checked_mul(*axis));
    if values(&said.shape) != values(&lengths) {
        return Err(format!("a {FIXED} of shape {:?} over lists of {lengths:?} values", said.shape));
    }
    if let Some(order) = &said.permutation {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if sorted.into_iter().ne(0..said.shape.len()) {
            return Err(format!("the permutation {order:?} of the shape {:?}", said.shape));
        }
    }
    Ok(RowShape { shape: said.shape, permutation: said.permutation })
}

/// The lengths of nested lists of one length, outermost first, and the type of their values.
pub(super) fn lengths(kind: &DataType) -> (Vec<usize>, &DataType) {
    let (mut lengths, mut kind) = (Vec::new(), kind);
    while let DataType::FixedSizeList(item, length) = kind {
        lengths.push(usize::try_from(*length).unwrap_or(0));
        kind = item.data_type();
    }
    (lengths, kind)
}

/// A field with the mark of a column of tensors of one shape.
pub(super) fn fixed(field: Field, shape: &[usize]) -> Field {
    let said = Fixed { shape: shape.to_vec(), permutation: None };
    marked(field, FIXED, serde_json::to_string(&said).unwrap_or_default())
}

/// A field with the mark of a column of tensors of any shape.
pub(super) fn variable(field: Field) -> Field {
    marked(field, VARIABLE, String::new())
}

fn marked(field: Field, name: &str, metadata: String) -> Field {
    field.with_metadata(HashMap::from([(NAME.to_owned(), name.to_owned()), (METADATA.to_owned(), metadata)]))
}

/// A field with the mark of tensors where it holds vectors: lists of one length of numbers that are all there.
pub(crate) fn described(field: Field) -> Field {
    match field.data_type() {
        DataType::FixedSizeList(item, length) if item.data_type().is_numeric() && !item.is_nullable() => {
            let shape = [usize::try_from(*length).unwrap_or(0)];
            fixed(field, &shape)
        }
        _ => field,
    }
}

/// Which of Arrow's extension types a field is of, and its parameters.
pub(crate) fn mark(field: &Field) -> [Option<&String>; 2] {
    [NAME, METADATA].map(|key| field.metadata().get(key))
}

/// Whether a key of a field's metadata says which type it is of.
pub(crate) fn is_mark(key: &str) -> bool {
    [NAME, METADATA].contains(&key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::sync::Arc;

    fn list(of: DataType, length: i32) -> DataType {
        DataType::FixedSizeList(Arc::new(Field::new("item", of, true)), length)
    }

    fn said(kind: DataType, metadata: &str) -> Result<RowShape, String> {
        row_shape(&marked(Field::new("x", kind, false), FIXED, metadata.to_owned()))
    }

    #[test]
    fn shapes_are_what_the_metadata_says_or_what_the_lists_are() {
        let nested = list(list(DataType::Float32, 3), 2);
        let plain = row_shape(&Field::new("x", nested.clone(), false)).unwrap();
        assert_eq!(plain, RowShape { shape: vec![2, 3], permutation: None });
        assert_eq!(row_shape(&Field::new("x", DataType::Int8, false)).unwrap().shape, [0_usize; 0]);
        // As pyarrow writes it.
        let text = r#"{"shape":[3,2],"dim_names":["H","W"],"permutation":[1,0]}"#;
        let shape = RowShape { shape: vec![3, 2], permutation: Some(vec![1, 0]) };
        assert_eq!(said(list(DataType::Float32, 6), text).unwrap(), shape);
        let ours = fixed(Field::new("x", list(DataType::Float32, 6), false), &[3, 2]);
        assert_eq!(ours.metadata()[METADATA], r#"{"shape":[3,2]}"#);
    }

    #[test]
    fn metadata_that_does_not_fit_is_told() {
        let six = || list(DataType::Float32, 6);
        assert!(said(six(), "").unwrap_err().starts_with("the metadata of a arrow.fixed_shape_tensor"));
        assert!(said(six(), r#"{"shape":[4,2]}"#).unwrap_err().contains("shape [4, 2] over lists of [6]"));
        assert!(said(six(), r#"{"shape":[6,4294967296,4294967296]}"#).is_err(), "it does not overflow");
        let twice = said(six(), r#"{"shape":[3,2],"permutation":[1,1]}"#).unwrap_err();
        assert_eq!(twice, "the permutation [1, 1] of the shape [3, 2]");
    }
}
