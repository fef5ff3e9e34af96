//! [`MapGroups`]: a user function over all rows of a group at once.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{concat_batches, partition};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::expressions::col;
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_plan::ExecutionPlan;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::conform;
use super::node::{Job, Operator};
use crate::error::{DataError, Place};
use crate::memory::batch_bytes;
use crate::session::{AbortOnDrop, panic_message};

/// What the user gives to be done with a group.
pub(crate) type GroupFn =
    Arc<dyn Fn(RecordBatch) -> std::result::Result<RecordBatch, BoxError> + Send + Sync>;

/// Calls a function with each group, several at once; what it returns comes out in the order of the keys, as one block.
#[derive(Clone)]
pub(crate) struct MapGroups {
    pub(crate) keys: Vec<String>,
    pub(crate) f: GroupFn,
    pub(crate) schema: SchemaRef,
}

impl fmt::Display for MapGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "map_groups by {}", self.keys.join(", "))
    }
}

impl Operator for MapGroups {
    fn schema(&self, _: &[SchemaRef]) -> Result<SchemaRef> {
        Ok(self.schema.clone())
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn order(&self, input: &Arc<dyn ExecutionPlan>) -> Result<Option<LexOrdering>> {
        let options = arrow::compute::SortOptions { descending: false, nulls_first: false };
        let keys =
            self.keys.iter().map(|key| Ok(PhysicalSortExpr { expr: col(key, &input.schema())?, options }));
        Ok(LexOrdering::new(keys.collect::<Result<Vec<_>>>()?))
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let width = job.context.session_config().target_partitions();
        let cutter = GroupCutter::new(&self.keys, &job.inputs[0].schema(), &job.context)?;
        let sorted = job.input(0, 0)?;
        let groups = futures::stream::try_unfold((sorted, cutter), |(mut sorted, mut cutter)| async move {
            loop {
                if let Some(group) = cutter.ready.pop() {
                    return Ok(Some((group, (sorted, cutter))));
                }
                match sorted.next().await.transpose()? {
                    Some(batch) => cutter.push(batch)?,
                    None => return Ok(cutter.last.take().map(|group| (group, (sorted, cutter)))),
                }
            }
        });
        let this = Arc::new(self.clone());
        let mapped = groups.map_ok(move |group: Group| {
            let this = this.clone();
            async move {
                let mut task = AbortOnDrop(tokio::spawn(async move { this.call(group) }));
                match (&mut task.0).await {
                    Ok(result) => result.map_err(DataFusionError::from),
                    Err(error) => Err(DataFusionError::ExecutionJoin(Box::new(error))),
                }
            }
        });
        let mapped = mapped.try_buffered(width.max(1));
        Ok(mapped.try_filter(|batch| futures::future::ready(batch.num_rows() > 0)).boxed())
    }
}

impl MapGroups {
    fn call(&self, group: Group) -> std::result::Result<RecordBatch, DataError> {
        let rows = group.first..group.first + group.rows as u64;
        let name = group.name(&self.keys);
        let batch = concat_batches(&group.batches[0].schema(), &group.batches)?;
        let op = || format!("map_groups of the group {name}");
        let place = || Place { rows: rows.clone(), ..Place::default() };
        let made = match catch_unwind(AssertUnwindSafe(|| (self.f)(batch))) {
            Ok(Ok(made)) => made,
            Ok(Err(source)) => return Err(DataError::Closure { op: op(), place: place(), source }),
            Err(panic) => {
                let message = panic_message(&*panic);
                return Err(DataError::Panicked { op: op(), place: place(), message });
            }
        };
        conform(made, &self.schema).map_err(|source| DataError::Row {
            op: op(),
            type_name: "RecordBatch",
            place: place(),
            source,
        })
    }
}

/// The rows of one group, in pieces.
#[derive(Debug)]
struct Group {
    key: OwnedRow,
    key_values: Vec<ArrayRef>,
    batches: Vec<RecordBatch>,
    first: u64,
    rows: usize,
    memory: MemoryReservation,
}

impl Group {
    /// `a=1, b=x`.
    fn name(&self, keys: &[String]) -> String {
        let values = keys.iter().zip(&self.key_values).map(|(key, value)| {
            let value = if value.is_null(0) {
                "null".to_owned()
            } else {
                array_value_to_string(value, 0).unwrap_or_default()
            };
            format!("{key}={value}")
        });
        values.collect::<Vec<_>>().join(", ")
    }
}

/// Cuts sorted batches where the key changes.
struct GroupCutter {
    keys: Vec<String>,
    columns: Vec<usize>,
    converter: RowConverter,
    context: Arc<TaskContext>,
    seen: u64,
    /// Groups that are complete, the last one first.
    ready: Vec<Group>,
    /// The group that may go on in the next batch.
    last: Option<Group>,
}

impl GroupCutter {
    fn new(keys: &[String], schema: &SchemaRef, context: &Arc<TaskContext>) -> Result<Self> {
        let columns: Vec<usize> = keys.iter().map(|key| Ok(schema.index_of(key)?)).collect::<Result<_>>()?;
        let types: Vec<DataType> =
            columns.iter().map(|column| schema.field(*column).data_type().clone()).collect();
        let converter = RowConverter::new(types.into_iter().map(SortField::new).collect())?;
        Ok(Self {
            keys: keys.to_vec(),
            columns,
            converter,
            context: context.clone(),
            seen: 0,
            ready: Vec::new(),
            last: None,
        })
    }

    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let keys: Vec<ArrayRef> = self.columns.iter().map(|column| batch.column(*column).clone()).collect();
        let mut complete = Vec::new();
        for range in partition(&keys)?.ranges() {
            let piece = batch.slice(range.start, range.len());
            let first: Vec<ArrayRef> = keys.iter().map(|key| key.slice(range.start, 1)).collect();
            let key = self.converter.convert_columns(&first)?.row(0).owned();
            let group = match self.last.take() {
                Some(group) if group.key == key => group,
                before => {
                    complete.extend(before);
                    let memory =
                        MemoryConsumer::new("air-data map_groups").register(self.context.memory_pool());
                    let first_row = self.seen + range.start as u64;
                    Group { key, key_values: first, batches: Vec::new(), first: first_row, rows: 0, memory }
                }
            };
            self.last = Some(grown(group, piece, &self.keys)?);
        }
        self.seen += batch.num_rows() as u64;
        complete.reverse();
        self.ready = complete;
        Ok(())
    }
}

fn grown(mut group: Group, piece: RecordBatch, keys: &[String]) -> Result<Group> {
    // Once as it comes and once in one piece.
    if let Err(error) = group.memory.try_grow(2 * batch_bytes(&piece)) {
        let group = group.name(keys);
        return Err(DataError::GroupTooLarge { group, source: error.into() }.into());
    }
    group.rows += piece.num_rows();
    group.batches.push(piece);
    Ok(group)
}
