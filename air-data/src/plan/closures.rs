//! [`Closures`]: a chain of user functions over the batches of each block.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result, internal_err};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::metrics::Time;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};

use super::node::{Job, Node, Operator};
use super::op::{Block, FailureKind, Op, OpFailure, conform};
use super::origin::Origin;
use super::pieces::is_small_piece;
use crate::error::{DataError, Place};
use crate::session::{AbortOnDrop, panic_message};

/// A chain of user functions, over each block in order, several batches at once where there are not blocks enough for all cores. Neighbouring functions
/// share one operator, so that a row passes through all of them before the next is looked at.
pub(crate) struct Closures {
    ops: Vec<Arc<dyn Op>>,
}

impl Closures {
    /// Puts `op` on top of `input`, in the same operator where `input` is functions already.
    pub(crate) fn stack(input: LogicalPlan, op: Arc<dyn Op>) -> Result<LogicalPlan> {
        let (mut ops, below) = match Node::is::<Self>(&input) {
            Some((closures, below)) => (closures.ops.clone(), below.clone()),
            None => (Vec::new(), input),
        };
        ops.push(op);
        Node::over(Self { ops }, vec![below])
    }
}

impl fmt::Display for Closures {
    /// `map → filter`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.ops.iter().map(|op| op.name()).collect();
        f.write_str(&names.join(" → "))
    }
}

impl Operator for Closures {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let [only] = inputs else { return internal_err!("one input") };
        Ok(self.ops.iter().fold(only.clone(), |schema, op| op.schema(&schema)))
    }

    fn partitions(&self, inputs: &[usize]) -> usize {
        inputs.iter().sum()
    }

    /// A function over a struct reads the columns that its fields name: the others need not be read from the file.
    fn needs(&self, _: &[usize], inputs: &[SchemaRef]) -> Option<Vec<Vec<usize>>> {
        let fields = self.ops.first()?.reads()?;
        let [input] = inputs else { return None };
        let indices: Option<Vec<usize>> =
            fields.iter().map(|field| input.index_of(field.name()).ok()).collect();
        let mut indices = indices?;
        indices.sort_unstable();
        Some(vec![indices])
    }

    fn keeps_count(&self) -> bool {
        self.ops.iter().all(|op| op.keeps_count())
    }

    fn row_by_row(&self) -> bool {
        true
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let chain = Chain {
            ops: self.ops.clone(),
            schema: job.schema.clone(),
            partition: job.index,
            origin: Origin::of(&job.inputs[0], job.index),
        };
        let width = job.context.session_config().target_partitions();
        // Where other pieces keep the cores busy, a batch is worked on where it was made, while it is in the caches.
        let width = if is_small_piece(&job.inputs[0], job.index, width) { 1 } else { width };
        let input = job.input(0, job.index)?;
        Ok(run(input, Arc::new(chain), width, job.tally.busy()).boxed())
    }
}

/// Each batch is worked on as a task of its own, `width` of them at once, and comes out in its turn.
fn run(
    input: SendableRecordBatchStream,
    chain: Arc<Chain>,
    width: usize,
    busy: Time,
) -> impl Stream<Item = Result<RecordBatch>> {
    let mut seen = 0;
    input
        .map(move |batch| {
            let chain = chain.clone();
            let busy = busy.clone();
            let first = seen;
            seen += batch.as_ref().map_or(0, |batch| batch.num_rows() as u64);
            async move {
                let batch = batch?;
                if width < 2 {
                    let _timer = busy.timer();
                    return chain.apply(batch, first).map_err(DataFusionError::from);
                }
                let mut task = AbortOnDrop(tokio::spawn(async move {
                    let _timer = busy.timer();
                    chain.apply(batch, first)
                }));
                match (&mut task.0).await {
                    Ok(result) => result.map_err(DataFusionError::from),
                    Err(error) => Err(DataFusionError::ExecutionJoin(Box::new(error))),
                }
            }
        })
        .buffered(width.max(1))
        .filter(|batch| {
            // A filter that keeps nothing makes empty batches, which help nobody downstream.
            futures::future::ready(batch.as_ref().map_or(true, |batch| batch.num_rows() > 0))
        })
}

/// What every batch of one partition goes through.
struct Chain {
    ops: Vec<Arc<dyn Op>>,
    schema: arrow::datatypes::SchemaRef,
    partition: usize,
    origin: Option<Origin>,
}

impl Chain {
    fn apply(&self, batch: RecordBatch, first: u64) -> std::result::Result<RecordBatch, DataError> {
        let rows = batch.num_rows() as u64;
        // Row numbers are those of the chain's input; after a step that changes their count only the range is known.
        let mut exact = true;
        let place = |row: Option<usize>| {
            let first = first + self.origin.as_ref().map_or(0, Origin::first_row);
            Place {
                file: self.origin.as_ref().map(|origin| origin.file.clone()),
                partition: self.partition,
                rows: match row {
                    Some(row) => first + row as u64..first + row as u64 + 1,
                    None => first..first + rows,
                },
            }
        };
        let mut block = Block::Batch(batch);
        for op in &self.ops {
            block = match catch_unwind(AssertUnwindSafe(|| op.apply(block))) {
                Ok(Ok(block)) => block,
                Ok(Err(failure)) => {
                    return Err(describe(failure, op.name(), |row| place(row.filter(|_| exact))));
                }
                Err(panic) => {
                    let message = panic_message(&*panic);
                    return Err(DataError::Panicked {
                        op: op.name().to_owned(),
                        place: place(None),
                        message,
                    });
                }
            };
            exact &= op.keeps_count();
        }
        let last = self.ops.last().map_or("closures", |op| op.name());
        let batch = block.into_batch("rows").map_err(|failure| describe(failure, last, |_| place(None)))?;
        conform(batch, &self.schema).map_err(|source| {
            let op = last.to_owned();
            DataError::Row { op, type_name: "RecordBatch", place: place(None), source }
        })
    }
}

fn describe(failure: OpFailure, op: &str, place: impl Fn(Option<usize>) -> Place) -> DataError {
    let (op, place) = (op.to_owned(), place(failure.row));
    match failure.kind {
        FailureKind::User(source) => DataError::Closure { op, place, source },
        FailureKind::Rows { type_name, source } => DataError::Row { op, type_name, place, source },
    }
}
