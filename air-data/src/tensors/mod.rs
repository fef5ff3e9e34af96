//! Tensors in columns, without copying, and datasets as batches of tensors.
//!
//! A column of tensors of one shape is [`arrow.fixed_shape_tensor`](https://arrow.apache.org/docs/format/CanonicalExtensions.html#fixed-shape-tensor) (lists of one
//! length, the shape in the field's metadata), one of tensors of any shape is [`arrow.variable_shape_tensor`](https://arrow.apache.org/docs/format/CanonicalExtensions.html#variable-shape-tensor)
//! (lists of values beside lists of lengths). Parquet, Arrow files and the C interface keep both, and pyarrow knows them. [`TensorColumns`] reads them as
//! air-core's [`Tensor`](air_core::tensor::Tensor)s over the very memory of the batch, which ndarray views:
//!
//! ```
//! # fn main() -> Result<(), air_data::DataError> {
//! use air_core::tensor::Tensor;
//! use air_data::TensorColumns;
//! use ndarray::Axis;
//!
//! // Eight pictures of 4 × 4 points, and the mean of each.
//! let pictures = air_data::range(8)?.map_batches(|batch| {
//!     let points: Vec<f32> = (0..batch.num_rows() * 16).map(|point| point as f32).collect();
//!     let points = Tensor::from_vec(points, &[batch.num_rows(), 4, 4])?;
//!     Ok(batch.with_tensor("picture", &points)?)
//! });
//! let means = pictures.map_batches(|batch| {
//!     let pictures = batch.tensor("picture")?; // no copy: shape [rows, 4, 4]
//!     let means = pictures.view::<f32>()?.map_axis(Axis(2), |row| row.sum()).sum_axis(Axis(1)) / 16.0;
//!     Ok(batch.with_tensor("mean", &Tensor::from_ndarray(means)?)?)
//! });
//! assert_eq!(means.select(["mean"]).take::<f32>(3)?, [7.5, 23.5, 39.5]);
//! # Ok(())
//! # }
//! ```

mod column;
mod create;
mod extension;
mod placed;
mod ragged;
mod source;

pub use column::TensorColumns;
pub(crate) use extension::{described, is_mark, mark};
pub use ragged::Ragged;
pub use source::{TensorBatches, TensorSpec};
