//! Avro's object container files, read and written by arrow-avro.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{ArrayRef, RecordBatch, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::Schema;
use arrow_avro::reader::ReaderBuilder;
use arrow_avro::writer::AvroWriter;
use bytes::{Buf, Bytes};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::{FileBytes, Format, Want, batch};
use crate::source::SourceBatches;

#[derive(Debug)]
pub(super) struct Avro;

impl Format for Avro {
    fn name(&self) -> &'static str {
        "avro"
    }

    fn look(&self, file: FileBytes) -> BoxFuture<'static, Result<Schema, BoxError>> {
        let looked = tokio::task::spawn_blocking(move || columns(file));
        looked.map(|schema| schema.unwrap_or_else(|panic| Err(panic.into()))).boxed()
    }

    fn open(&self, file: FileBytes, want: Want) -> BoxStream<'static, Result<RecordBatch, BoxError>> {
        let batches = SourceBatches::blocking_with(move |put| {
            // A file has the columns it has: which of those that are wanted, and where, only it tells.
            let has = columns(file.clone())?;
            let places: Vec<Option<usize>> =
                want.columns.fields().iter().map(|field| has.index_of(field.name()).ok()).collect();
            let mut read: Vec<usize> = places.iter().flatten().copied().collect();
            if read.is_empty() && !has.fields().is_empty() {
                // Rows are counted by any of their columns.
                read.push(0);
            }
            let reader = ReaderBuilder::new().with_batch_size(want.rows).with_projection(read);
            let walk = Arc::new(Mutex::new(Walk::default()));
            let reader =
                reader.build(Blocking { walk: Some(walk.clone()), ..Blocking::new(file.chunks()) })?;
            walk.lock().begin();
            let mut row = 0_u64;
            for found in reader {
                let found = found.map_err(|error| format!("after {row} rows: {error}"))?;
                row += found.num_rows() as u64;
                if !put(shaped(&found, &want)?) {
                    return Ok(());
                }
            }
            if walk.lock().whole() {
                Ok(())
            } else {
                Err(format!("after {row} rows: cut short within a block").into())
            }
        });
        batches.into_stream()
    }
}

/// The columns that the file's header tells.
fn columns(file: FileBytes) -> Result<Schema, BoxError> {
    let reader = ReaderBuilder::new().build(Blocking::new(file.looked()))?;
    // What the header says beyond names and types is the file's own.
    let schema = reader.schema();
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_metadata([].into()));
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}

/// The columns that are wanted: null where the file has none of the name, cast where it has another type.
fn shaped(found: &RecordBatch, want: &Want) -> Result<RecordBatch, BoxError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns = want.columns.fields().iter().map(|field| -> Result<ArrayRef, BoxError> {
        match found.column_by_name(field.name()) {
            Some(column) if column.data_type() == field.data_type() => Ok(column.clone()),
            Some(column) => cast_with_options(column, field.data_type(), &strict)
                .map_err(|error| format!("column '{}': {error}", field.name()).into()),
            None => Ok(new_null_array(field.data_type(), found.num_rows())),
        }
    });
    batch(want.columns.clone(), columns.collect::<Result<_, _>>()?, found.num_rows())
}

/// Chunks as a blocking reader, on a thread that may wait.
struct Blocking {
    chunks: BoxStream<'static, Result<Bytes, BoxError>>,
    chunk: Bytes,
    runtime: Handle,
    walk: Option<Arc<Mutex<Walk>>>,
}

impl Blocking {
    fn new(chunks: BoxStream<'static, Result<Bytes, BoxError>>) -> Self {
        Self { chunks, chunk: Bytes::new(), runtime: Handle::current(), walk: None }
    }
}

impl BufRead for Blocking {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.is_empty()
            && let Some(chunk) = self.runtime.block_on(self.chunks.try_next()).map_err(io::Error::other)?
        {
            self.chunk = chunk;
        }
        Ok(&self.chunk)
    }

    fn consume(&mut self, bytes: usize) {
        if let Some(walk) = &self.walk {
            walk.lock().go(&self.chunk[..bytes]);
        }
        self.chunk.advance(bytes);
    }
}

impl Read for Blocking {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?.len().min(into.len());
        into[..bytes].copy_from_slice(&self.chunk[..bytes]);
        self.consume(bytes);
        Ok(bytes)
    }
}

/// Goes along with the blocks behind the header: how many rows, how many bytes, the bytes, a marker of 16. The reader takes a file that ends within one for
/// a file that ends before it.
#[derive(Debug, Default)]
struct Walk {
    begun: bool,
    step: Step,
    number: u64,
    digits: u32,
}

#[derive(Debug, Default, PartialEq)]
enum Step {
    #[default]
    Rows,
    Bytes,
    Content(u64),
}

impl Walk {
    fn begin(&mut self) {
        *self = Self { begun: true, ..Self::default() };
    }

    fn go(&mut self, mut bytes: &[u8]) {
        while self.begun && !bytes.is_empty() {
            if let Step::Content(left) = &mut self.step {
                let here = (*left).min(bytes.len() as u64);
                *left -= here;
                bytes = &bytes[here as usize..];
                if *left == 0 {
                    self.step = Step::Rows;
                }
                continue;
            }
            let byte = bytes[0];
            bytes = &bytes[1..];
            self.number |= u64::from(byte & 0x7f).checked_shl(7 * self.digits).unwrap_or(0);
            self.digits += 1;
            if byte & 0x80 == 0 {
                // Zigzag, and never negative in a file that was read so far.
                let number = std::mem::take(&mut self.number) >> 1;
                self.digits = 0;
                self.step = match self.step {
                    Step::Rows => Step::Bytes,
                    _ => Step::Content(number.saturating_add(16)),
                };
            }
        }
    }

    /// Whether the file ends where a block does.
    fn whole(&self) -> bool {
        self.step == Step::Rows && self.digits == 0
    }
}

/// Batches as the blocks of a file.
pub(crate) struct Blocks {
    writer: AvroWriter<Written>,
    written: Written,
}

/// What the writer wrote and nobody took.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Blocks {
    pub(crate) fn new(schema: &Schema) -> Result<Self, BoxError> {
        for name in schema.fields().iter().map(|field| field.name()) {
            let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !letters || name.is_empty() || name.as_bytes()[0].is_ascii_digit() {
                return Err(format!("'{name}' is no name in Avro, which has letters, digits and _; rename it with rename_columns").into());
            }
        }
        let written = Written::default();
        Ok(Self { writer: AvroWriter::new(written.clone(), schema.clone())?, written })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), BoxError> {
        Ok(self.writer.write(batch)?)
    }

    pub(crate) fn finish(&mut self) -> Result<(), BoxError> {
        Ok(self.writer.finish()?)
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut *self.written.0.lock())
    }
}
