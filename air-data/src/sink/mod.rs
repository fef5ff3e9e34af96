//! Where rows go: a [`Sink`], and [`write`], which runs a plan into one.

mod contract;
mod files;

pub use contract::{Sink, SinkPart, SinkWrite};
pub(crate) use files::{FileSink, Target, check};
pub use files::{WriteMode, WriteOptions};

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use air_core::BoxError;
use datafusion::common::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;

use crate::error::{DataError, Result};
use crate::session::AbortOnDrop;
use crate::stats::Progress;

/// Writes every partition of `plan` as a part, several at once, and commits all of them, or none when anything fails.
pub(crate) async fn write<S: Sink>(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    sink: S,
    progress: Progress,
) -> Result<Vec<String>> {
    let name: Arc<str> = sink.name().into();
    let whole = |what: &str, error| failed(&name, what, 0, error);
    let parts = plan.output_partitioning().partition_count();
    let begun = sink.begin(&plan.schema(), parts).await.map_err(|error| whole("the beginning", error))?;
    let begun = Arc::new(begun);
    let width = context.session_config().target_partitions();
    let over = Arc::new(AtomicBool::new(false));
    let written = futures::stream::iter(0..parts)
        .map(|part| {
            let writing = Writing {
                name: name.clone(),
                begun: begun.clone(),
                plan: plan.clone(),
                context: context.clone(),
                progress: progress.clone(),
                over: over.clone(),
            };
            let over = over.clone();
            async move {
                let mut task = AbortOnDrop(tokio::spawn(writing.part(part)));
                let done = (&mut task.0).await.unwrap_or_else(|error| {
                    Err(DataError::Engine(Box::new(DataFusionError::ExecutionJoin(Box::new(error)))))
                });
                over.fetch_or(done.is_err(), Ordering::Relaxed);
                done
            }
        })
        .buffered(width.max(1))
        .collect::<Vec<_>>()
        .await;
    let mut finished = Vec::with_capacity(written.len());
    let mut failure = None;
    for part in written {
        match part {
            Ok(part) => finished.extend(part),
            // The first error is the one to tell.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    if let Some(error) = failure {
        begun.abort(finished).await;
        return Err(error);
    }
    begun.commit(finished).await.map_err(|error| whole("the commit", error))
}

/// What a part is written with.
struct Writing<W> {
    name: Arc<str>,
    begun: Arc<W>,
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
    progress: Progress,
    /// Set once a part has failed: the others need not go on.
    over: Arc<AtomicBool>,
}

impl<W: SinkWrite> Writing<W> {
    /// Writes a part; nothing comes of one that another's failure has made useless.
    async fn part(self, number: usize) -> Result<Option<<W::Part as SinkPart>::Finished>> {
        if self.over.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if let Some(finished) = self.begun.resumed(number) {
            return Ok(Some(finished));
        }
        let said = |row, error| failed(&self.name, &format!("part {number}"), row, error);
        let mut part = self.begun.open(number).await.map_err(|error| said(0, error))?;
        let mut row = 0;
        match self.fill(number, &mut part, &mut row).await {
            Ok(()) => part.finish().await.map(Some).map_err(|error| said(row, error)),
            Err(trouble) => {
                part.abort().await;
                match trouble {
                    Trouble::Rows(error) => Err(error),
                    Trouble::Sink(error) => Err(said(row, error)),
                    Trouble::Over => Ok(None),
                }
            }
        }
    }

    async fn fill(
        &self,
        number: usize,
        part: &mut W::Part,
        row: &mut u64,
    ) -> std::result::Result<(), Trouble> {
        let rows = |error: DataFusionError| Trouble::Rows(error.into());
        let mut batches = self.plan.execute(number, self.context.clone()).map_err(rows)?;
        while let Some(batch) = batches.next().await.transpose().map_err(rows)? {
            if self.over.load(Ordering::Relaxed) {
                return Err(Trouble::Over);
            }
            if batch.num_rows() > 0 {
                part.write(&batch).await.map_err(Trouble::Sink)?;
                *row += batch.num_rows() as u64;
                self.progress.add(batch.num_rows());
            }
        }
        Ok(())
    }
}

/// Why a part is not written: no more rows come, the sink does not take them, or another part has failed.
enum Trouble {
    Rows(DataError),
    Sink(BoxError),
    Over,
}

/// What a sink says, with the place; our own sinks say it all themselves.
fn failed(name: &str, part: &str, row: u64, error: BoxError) -> DataError {
    match error.downcast::<DataError>() {
        Ok(ours) => *ours,
        Err(source) => DataError::Sink { name: name.to_owned(), part: part.to_owned(), row, source },
    }
}
