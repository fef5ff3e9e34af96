//! Suites that every [`Source`](crate::Source) and every [`Sink`](crate::Sink) passes; run them on your own. The traits' examples do.

mod sink;
mod source;

pub use sink::sink;
pub use source::source;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;

use crate::plan::conform;
use crate::session::{Session, SessionConfig};

/// An engine without a progress bar.
fn session(threads: usize) -> Session {
    let config = SessionConfig { parallelism: threads, progress: false, ..SessionConfig::default() };
    Session::new(config).unwrap_or_else(|error| panic!("no engine: {}", told(&error)))
}

/// An error with its causes.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    air_core::cli::Chain(error).to_string()
}

/// Batches as one under `schema`, which they must have.
fn one(schema: &SchemaRef, batches: Vec<RecordBatch>, what: &str) -> RecordBatch {
    let conform = |batch| conform(batch, schema).unwrap_or_else(|error| panic!("{what}: {error}"));
    let batches: Vec<RecordBatch> = batches.into_iter().map(conform).collect();
    concat_batches(schema, &batches).unwrap_or_else(|error| panic!("{what}: {error}"))
}
