//! Whole files: a row for each.

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{ArrayRef, BinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::{FileBytes, Format, Want, batch};

/// What the offsets of a column of bytes can count.
const MAX_BYTES: u64 = i32::MAX as u64;

#[derive(Debug)]
pub(super) struct Binary;

impl Format for Binary {
    fn name(&self) -> &'static str {
        "binary"
    }

    fn look(&self, _: FileBytes) -> BoxFuture<'static, Result<Schema, BoxError>> {
        let field = Field::new("bytes", DataType::Binary, false);
        futures::future::ready(Ok(Schema::new(vec![field]))).boxed()
    }

    fn open(&self, file: FileBytes, want: Want) -> BoxStream<'static, Result<RecordBatch, BoxError>> {
        let row = async move {
            // A file whose bytes nobody wants is a row all the same.
            if want.columns.fields().is_empty() {
                return batch(want.columns, Vec::new(), 1);
            }
            if file.size() > MAX_BYTES {
                return Err(format!("{} bytes; a value has at most {MAX_BYTES}", file.size()).into());
            }
            let bytes = file.whole().await?;
            batch(want.columns, vec![Arc::new(BinaryArray::from_iter_values([bytes])) as ArrayRef], 1)
        };
        futures::stream::once(row).boxed()
    }
}
