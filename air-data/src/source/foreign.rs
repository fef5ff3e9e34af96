//! [`Foreign`]: batches that another library makes, over Arrow's C stream interface.

use std::panic::{AssertUnwindSafe, catch_unwind};

use air_core::BoxError;
use arrow::array::RecordBatchReader;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ffi_stream::{ArrowArrayStreamReader, FFI_ArrowArrayStream};
use datafusion::common::DataFusionError;
use parking_lot::Mutex;

use super::contract::{ReadRequest, Source, SourceBatches, SourcePart};
use crate::error::{DataError, Result};
use crate::session::panic_message;

/// A stream of another library, which can be read once.
#[derive(Debug)]
pub(crate) struct Foreign {
    schema: SchemaRef,
    reader: Mutex<Option<ArrowArrayStreamReader>>,
}

impl Foreign {
    /// Asks the stream for its columns.
    pub(crate) fn open(stream: FFI_ArrowArrayStream) -> Result<Self> {
        // Arrow's implementation does not expect that a stream breaks the interface.
        let reader = guarded(|| ArrowArrayStreamReader::try_new(stream))?;
        Ok(Self { schema: reader.schema(), reader: Mutex::new(Some(reader)) })
    }
}

impl Source for Foreign {
    fn name(&self) -> String {
        "the C stream".to_owned()
    }

    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn parts(&self) -> std::result::Result<Vec<SourcePart>, BoxError> {
        Ok(vec![SourcePart::new("all of it")])
    }

    /// The other side may take its time, or wait for a lock of its own. Large batches are cut to the engine's size: slices, not copies.
    fn open(&self, _: usize, request: &ReadRequest) -> std::result::Result<SourceBatches, BoxError> {
        let step = request.batch_rows.max(1);
        let mut reader = self.reader.lock().take().ok_or_else(|| carried(DataError::CStreamSpent))?;
        // At the end and after an error the reader goes, which releases the stream.
        Ok(SourceBatches::blocking_with(move |put| {
            while let Some(batch) = guarded(|| reader.next().transpose()).map_err(carried)? {
                let rows = batch.num_rows();
                for start in (0..rows).step_by(step) {
                    if !put(batch.slice(start, step.min(rows - start))) {
                        return Ok(());
                    }
                }
            }
            Ok(())
        }))
    }
}

/// An error that says already what was read.
fn carried(error: DataError) -> BoxError {
    Box::new(DataFusionError::from(error))
}

fn guarded<T>(read: impl FnOnce() -> std::result::Result<T, ArrowError>) -> Result<T> {
    let source = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(ArrowError::CDataInterface(text))) => text.into(),
        Ok(Err(error)) => error.into(),
        Err(panic) => format!("it breaks the interface: {}", panic_message(&*panic)).into(),
    };
    Err(DataError::CStream { source })
}
