//! Between Arrow batches and Rust values: any serde type is a row.
//!
//! A struct maps to columns by its fields' (serde) names. A plain value, such as `i64` or `String`, stands for the one
//! column of a single-column dataset. A [`Row`], a map or a `serde_json::Value` takes whatever columns there are.

mod dynamic;
mod read;
mod shape;
mod write;

pub use dynamic::Row;
pub(crate) use read::Reader;
pub(crate) use shape::{ITEM, Shape, infer};
pub(crate) use write::Writer;
