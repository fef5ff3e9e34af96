//! The rows of a [`Query`]: each part a connection of its own, in one state of the database for all parts of a run.

use std::pin::Pin;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio_postgres::CopyOutStream;

use super::super::ranges::Ranges;
use super::database::Connection;
use super::decode::Decoder;
use super::query::Query;
use super::snapshot::Snapshot;
use super::told::{Within, told};
use crate::source::{ReadRequest, Source, SourceBatches, SourcePart};

/// A batch is closed when it has so many bytes.
const BATCH_BYTES: usize = 32 << 20;

/// A query as a source.
#[derive(Debug, Clone)]
pub(super) struct Rows {
    query: Arc<Query>,
    snapshot: Arc<Snapshot>,
}

impl Rows {
    pub(super) fn of(query: Query) -> Self {
        Self { query: Arc::new(query), snapshot: Arc::default() }
    }
}

impl Source for Rows {
    fn name(&self) -> String {
        self.query.database.name().to_owned()
    }

    fn schema(&self) -> SchemaRef {
        self.query.schema.clone()
    }

    fn parts(&self) -> Result<Vec<SourcePart>, BoxError> {
        Ok(self.query.ranges.as_ref().map_or_else(|| vec![SourcePart::new("the query")], Ranges::parts))
    }

    fn for_run(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(Self { query: self.query.clone(), snapshot: Arc::default() }))
    }

    fn open(&self, part: usize, request: &ReadRequest) -> Result<SourceBatches, BoxError> {
        let (copy, within) = self.query.copy(part, request)?;
        let schema = Arc::new(request.schema(&self.query.schema)?);
        let decoder = Decoder::new(schema, self.query.kinds(request));
        let (this, batch_rows) = (self.clone(), request.batch_rows.max(1));
        let begin = async move {
            let parts = this.query.ranges.as_ref().map_or(1, |ranges| ranges.parts().len());
            let snapshot = if parts > 1 { Some(&*this.snapshot) } else { None };
            let connection = super::snapshot::begin(&this.query.database, snapshot).await?;
            let rows = connection.client.copy_out(&copy).await.map_err(|error| told(&error, within))?;
            let copying = Copying {
                connection: Some(connection),
                rows: Box::pin(rows),
                decoder,
                batch_rows,
                within,
                failure: None,
                _run: this,
            };
            Ok::<_, BoxError>(copying.batches())
        };
        Ok(SourceBatches::stream(stream::once(begin).try_flatten()))
    }
}

/// A part while it is read.
struct Copying {
    /// None when all is read.
    connection: Option<Connection>,
    rows: Pin<Box<CopyOutStream>>,
    decoder: Decoder,
    batch_rows: usize,
    within: Within,
    /// What went wrong behind the rows that are decoded.
    failure: Option<BoxError>,
    /// Keeps the state of the database for the other parts.
    _run: Rows,
}

impl Copying {
    fn batches(self) -> impl Stream<Item = Result<RecordBatch, BoxError>> + Send {
        stream::try_unfold(self, |mut this| async move { Ok(this.next().await?.map(|batch| (batch, this))) })
    }

    async fn next(&mut self) -> Result<Option<RecordBatch>, BoxError> {
        while self.connection.is_some() && self.failure.is_none() {
            if let Err(error) = self.fill().await {
                self.failure = Some(error);
            }
            if self.decoder.rows() >= self.batch_rows || self.decoder.bytes() >= BATCH_BYTES {
                break;
            }
        }
        if self.decoder.rows() > 0 {
            return self.decoder.take().map(Some);
        }
        self.failure.take().map_or(Ok(None), Err)
    }

    /// Decodes what comes next.
    async fn fill(&mut self) -> Result<(), BoxError> {
        match self.rows.next().await {
            Some(Ok(bytes)) => self.decoder.feed(&bytes),
            Some(Err(error)) => Err(told(&error, self.within).into()),
            None => {
                self.decoder.end()?;
                if let Some(connection) = self.connection.take() {
                    connection.close().await;
                }
                Ok(())
            }
        }
    }
}
