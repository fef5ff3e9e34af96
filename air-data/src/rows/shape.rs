//! What a Rust type looks like as columns.

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_arrow::schema::{SchemaLike, TracingOptions};
use serde_arrow::utils::{Item, Items};
use std::sync::Arc;

use crate::error::{DataError, Result};

/// The column that plain values land in when no column gave them a name.
pub(crate) const ITEM: &str = "item";

/// What a Rust type looks like as columns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// One column.
    Plain(FieldRef),
    /// One column for each field.
    Struct(Fields),
    /// Whatever the data has: maps and JSON values.
    Dynamic,
}

impl Shape {
    /// The shape of `T`, from its `Deserialize` implementation alone.
    pub(crate) fn of<T: DeserializeOwned>() -> Self {
        match Vec::<FieldRef>::from_type::<Item<T>>(options()) {
            Ok(fields) => Self::of_item(&fields),
            Err(_) => Self::Dynamic,
        }
    }

    fn of_item(fields: &[FieldRef]) -> Self {
        match fields {
            [item] => match item.data_type() {
                DataType::Struct(inner) if !item.is_nullable() => Self::Struct(inner.clone()),
                DataType::Map(..) | DataType::Null | DataType::Struct(_) => Self::Dynamic,
                _ => Self::Plain(item.clone()),
            },
            _ => Self::Dynamic,
        }
    }

    /// The columns that rows of this shape make; a plain value's column is called `name`.
    pub(crate) fn schema(&self, name: &str) -> Option<SchemaRef> {
        match self {
            Self::Plain(field) => {
                let field = Field::new(name, field.data_type().clone(), field.is_nullable());
                Some(Arc::new(Schema::new(vec![field])))
            }
            Self::Struct(fields) => Some(Arc::new(Schema::new(fields.clone()))),
            Self::Dynamic => None,
        }
    }
}

/// The shape of actual values, for types that can only be told from what they hold.
pub(crate) fn infer<T: Serialize>(items: &[T]) -> Result<Shape> {
    let fields = Vec::<FieldRef>::from_samples(Items(items), options().allow_null_fields(true))
        .map_err(|e| DataError::SchemaUnknown { op: "from_items".to_owned(), reason: e.to_string() })?;
    Ok(Shape::of_item(&fields))
}

fn options() -> TracingOptions {
    TracingOptions::new()
        .strings_as_large_utf8(false)
        .bytes_as_large_binary(false)
        .sequence_as_large_list(false)
        .enums_without_data_as_strings(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Serialize, Deserialize)]
    struct Flower {
        #[serde(rename = "sepal.length")]
        sepal_length: f64,
        variety: Option<String>,
    }

    #[test]
    fn a_struct_has_a_column_for_each_field() {
        let Shape::Struct(fields) = Shape::of::<Flower>() else { panic!("not a struct") };
        assert_eq!(fields.len(), 2);
        assert_eq!(fields[0].name(), "sepal.length");
        assert_eq!(fields[0].data_type(), &DataType::Float64);
        assert!(!fields[0].is_nullable() && fields[1].is_nullable());
        assert_eq!(fields[1].data_type(), &DataType::Utf8);
    }

    #[test]
    fn a_number_is_plain_and_json_is_dynamic() {
        assert!(matches!(Shape::of::<i64>(), Shape::Plain(f) if f.data_type() == &DataType::Int64));
        assert!(matches!(Shape::of::<Option<String>>(), Shape::Plain(f) if f.is_nullable()));
        assert_eq!(Shape::of::<serde_json::Value>(), Shape::Dynamic);
        assert_eq!(Shape::of::<super::super::Row>(), Shape::Dynamic);
    }

    #[test]
    fn values_show_their_shape() {
        let flower =
            |variety: Option<&str>| Flower { sepal_length: 1.0, variety: variety.map(str::to_owned) };
        let Ok(Shape::Struct(fields)) = infer(&[flower(None), flower(Some("a"))]) else {
            panic!("not a struct")
        };
        assert_eq!(fields[1].data_type(), &DataType::Utf8);
        assert!(matches!(infer(&[1.5_f64]), Ok(Shape::Plain(_))));
    }
}
