//! [`RangeSort`]: all rows in the order of keys; and the rule that puts it where DataFusion would sort a whole table.
//!
//! DataFusion sorts each batch by itself and merges them, one row after the other, in the end on one core. Here rows are dealt to buckets by
//! ranges of the keys first, whose bounds a sample of them tells, and then bucket after bucket is sorted, in the processor's caches and on all
//! cores; nothing is left to merge (a sample sort, Frazer and McKellar 1970). It needs all rows in memory at once: where they take too much of the
//! budget, what is there already and what is still to come go DataFusion's way, through the disk.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, concat, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, Result, exec_err, internal_err};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;

use super::node::{Job, NodeExec, Operator};
use super::numbered::Mixer;
use super::scatter::Deal;
use super::spread::{SPREAD_BYTES, Spread};
use super::worked;
use crate::memory::batch_bytes;
use crate::session::AbortOnDrop;

/// Bytes of a bucket, about, and how many there are at most.
const BUCKET_BYTES: usize = 4 << 20;
const MOST_BUCKETS: usize = 1024;

/// Rows of the sample for each bucket: with so many, few buckets are much larger than others.
const SAMPLED: usize = 64;

/// Bytes that are dealt at a time.
const CHUNK_BYTES: usize = 32 << 20;

/// All rows in the order of keys, as one block.
pub(super) struct RangeSort {
    keys: LexOrdering,
    /// What may be in memory at once.
    most_bytes: usize,
}

impl fmt::Display for RangeSort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sort by ranges, keys=[{}], at most {} bytes", self.keys, self.most_bytes)
    }
}

impl Operator for RangeSort {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let [only] = inputs else { return internal_err!("one input") };
        Ok(only.clone())
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn sorts(&self) -> Option<&LexOrdering> {
        Some(&self.keys)
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let blocks = job.inputs[0].output_partitioning().partition_count();
        let inputs = (0..blocks).map(|block| job.input(0, block)).collect::<Result<Vec<_>>>()?;
        let (keys, most, schema, context) = (self.keys.clone(), self.most_bytes, job.schema, job.context);
        let sorted = async move {
            let memory = MemoryConsumer::new("air-data sort").register(context.memory_pool());
            let parts = held(inputs, memory, most).await?;
            if parts.iter().all(|part| part.rest.is_none()) {
                let batches = parts.into_iter().map(|part| (part.batches, part.memory));
                return in_memory(batches.collect(), schema, keys, &context).await;
            }
            on_disk(parts, schema, keys, context)
        };
        Ok(futures::stream::once(sorted).try_flatten().boxed())
    }
}

/// A block of the input as far as it was read.
struct Part {
    batches: Vec<RecordBatch>,
    memory: MemoryReservation,
    /// What was not read for want of memory.
    rest: Option<SendableRecordBatchStream>,
}

/// Reads all blocks at once, until they have ended or take more than there is.
async fn held(
    inputs: Vec<SendableRecordBatchStream>,
    memory: MemoryReservation,
    most_bytes: usize,
) -> Result<Vec<Part>> {
    let full = Arc::new(AtomicBool::new(false));
    let share = most_bytes / inputs.len().max(1);
    let tasks: Vec<_> = inputs
        .into_iter()
        .map(|mut input| {
            let (full, memory) = (full.clone(), memory.new_empty());
            AbortOnDrop(tokio::spawn(async move {
                let mut part = Part { batches: Vec::new(), memory, rest: None };
                while !full.load(Ordering::Relaxed) {
                    let Some(batch) = input.next().await.transpose()? else { return Ok(part) };
                    let bytes = batch_bytes(&batch);
                    part.batches.push(batch);
                    if part.memory.size() + bytes > share || part.memory.try_grow(bytes).is_err() {
                        full.store(true, Ordering::Relaxed);
                    }
                }
                part.rest = Some(input);
                Ok::<_, DataFusionError>(part)
            }))
        })
        .collect();
    let mut parts = Vec::with_capacity(tasks.len());
    for mut task in tasks {
        parts.push((&mut task.0).await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??);
    }
    Ok(parts)
}

/// The rows in their order: dealt to buckets, which are sorted some at once.
async fn in_memory(
    parts: Vec<(Vec<RecordBatch>, MemoryReservation)>,
    schema: SchemaRef,
    keys: LexOrdering,
    context: &Arc<TaskContext>,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let (mut batches, mut memories) = (Vec::new(), Vec::new());
    for (part, memory) in parts {
        batches.extend(part);
        memories.push(memory);
    }
    let config = context.session_config();
    let (width, batch_rows) = (config.target_partitions(), config.batch_size());
    let bytes: usize = batches.iter().map(batch_bytes).sum();
    let buckets = (bytes / BUCKET_BYTES).clamp(1, MOST_BUCKETS);
    let keys = Arc::new(keys);
    let bounds = Arc::new(Bounds::sampled(&batches, &keys, &schema, buckets)?);
    let working = || MemoryConsumer::new("air-data sort").register(context.memory_pool());

    let dealing = futures::stream::iter(chunks(batches)).map(|(chunk, bytes)| {
        let (bounds, keys, memory) = (bounds.clone(), keys.clone(), working());
        worked(move || {
            memory.grow(bytes);
            bounds.deal(&chunk, &keys)
        })
    });
    let mut dealing = std::pin::pin!(dealing.buffered(width));
    let mut filled: Vec<Vec<RecordBatch>> = (0..bounds.buckets()).map(|_| Vec::new()).collect();
    while let Some(parts) = dealing.next().await.transpose()? {
        for (bucket, columns) in filled.iter_mut().zip(parts) {
            let part = RecordBatch::try_new(schema.clone(), columns)?;
            if part.num_rows() > 0 {
                bucket.push(part);
            }
        }
    }

    // Their memory goes with them.
    let memories = Arc::new(Mutex::new(memories));
    let free = move |mut bytes: usize| {
        for memory in memories.lock().iter() {
            let some = bytes.min(memory.size());
            memory.shrink(some);
            bytes -= some;
        }
    };
    let pool = context.memory_pool().clone();
    let keys = keys.clone();
    let sorting = futures::stream::iter(filled).map(move |bucket| {
        let memory = MemoryConsumer::new("air-data sort").register(&pool);
        let (schema, keys, free) = (schema.clone(), keys.clone(), free.clone());
        worked(move || {
            let bytes = bucket.iter().map(batch_bytes).sum();
            memory.grow(bytes);
            let sorted = sorted(bucket, &schema, &keys, batch_rows)?;
            free(bytes);
            Ok(sorted)
        })
    });
    let sorted = sorting.buffered(width).map_ok(|batches| futures::stream::iter(batches.into_iter().map(Ok)));
    Ok(sorted.try_flatten().boxed())
}

/// Neighbouring batches, and their bytes.
fn chunks(batches: Vec<RecordBatch>) -> Vec<(Vec<RecordBatch>, usize)> {
    let mut chunks: Vec<(Vec<RecordBatch>, usize)> = Vec::new();
    for batch in batches {
        let bytes = batch_bytes(&batch);
        match chunks.last_mut() {
            Some((chunk, sum)) if *sum < CHUNK_BYTES => {
                chunk.push(batch);
                *sum += bytes;
            }
            _ => chunks.push((vec![batch], bytes)),
        }
    }
    chunks
}

/// The keys that buckets begin with, but for the first one, in a form whose bytes are in the keys' order.
struct Bounds {
    converter: RowConverter,
    starts: Vec<OwnedRow>,
}

impl Bounds {
    /// Bounds of so many buckets, or of fewer, if many rows have one key.
    fn sampled(
        batches: &[RecordBatch],
        keys: &LexOrdering,
        schema: &SchemaRef,
        buckets: usize,
    ) -> Result<Self> {
        let fields =
            keys.iter().map(|key| Ok(SortField::new_with_options(key.expr.data_type(schema)?, key.options)));
        let converter = RowConverter::new(fields.collect::<Result<_>>()?)?;
        let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
        if buckets == 1 {
            return Ok(Self { converter, starts: Vec::new() });
        }
        // One of each so many rows, anywhere among them: keys that come round and round must not always meet the same one.
        let step = (rows / (buckets * SAMPLED)).max(1);
        let mixer = Mixer::new(0);
        let mut picks =
            (0..).map(|pick| pick * step + (mixer.mix(pick as u64) % step as u64) as usize).peekable();
        let mut sample = Vec::with_capacity(rows / step + 1);
        let mut first = 0;
        for batch in batches {
            let mut picked = Vec::new();
            while let Some(row) = picks.next_if(|row| *row < first + batch.num_rows()) {
                picked.push((row - first) as u32);
            }
            first += batch.num_rows();
            let picked = take_record_batch(batch, &UInt32Array::from(picked))?;
            let rows = converter.convert_columns(&values(&picked, keys)?)?;
            sample.extend(rows.iter().map(|row| row.owned()));
        }
        sample.sort_unstable();
        let mut starts: Vec<OwnedRow> =
            (1..buckets).map(|bucket| sample[bucket * sample.len() / buckets].clone()).collect();
        starts.dedup();
        Ok(Self { converter, starts })
    }

    fn buckets(&self) -> usize {
        self.starts.len() + 1
    }

    /// The columns of each bucket.
    fn deal(&self, batches: &[RecordBatch], keys: &LexOrdering) -> Result<Vec<Vec<ArrayRef>>> {
        let rows = batches.iter().map(|batch| Ok(self.converter.convert_columns(&values(batch, keys)?)?));
        let rows: Vec<Rows> = rows.collect::<Result<_>>()?;
        let bucket = |row| self.starts.partition_point(|start| start.row() <= row) as u16;
        Deal::new(self.buckets(), rows.iter().flat_map(Rows::iter).map(bucket)).columns(batches)
    }
}

fn columns(batch: &RecordBatch, keys: &LexOrdering) -> Result<Vec<SortColumn>> {
    keys.iter().map(|key| key.evaluate_to_sort_column(batch)).collect()
}

fn values(batch: &RecordBatch, keys: &LexOrdering) -> Result<Vec<ArrayRef>> {
    Ok(columns(batch, keys)?.into_iter().map(|column| column.values).collect())
}

/// A bucket's rows in their order.
fn sorted(
    bucket: Vec<RecordBatch>,
    schema: &SchemaRef,
    keys: &LexOrdering,
    batch_rows: usize,
) -> Result<Vec<RecordBatch>> {
    if bucket.iter().map(batch_bytes).sum::<usize>() <= SPREAD_BYTES {
        let key = |key: &PhysicalSortExpr| {
            let parts = bucket.iter().map(|batch| Ok(key.evaluate_to_sort_column(batch)?.values));
            let parts = parts.collect::<Result<Vec<_>>>()?;
            let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
            Ok(SortColumn { values: concat(&parts)?, options: Some(key.options) })
        };
        if bucket.is_empty() {
            return Ok(Vec::new());
        }
        let order = lexsort_to_indices(&keys.iter().map(key).collect::<Result<Vec<_>>>()?, None)?;
        return Spread::by_order(order.values()).batches(&bucket, schema.clone(), batch_rows);
    }
    let whole = concat_batches(schema, &bucket)?;
    drop(bucket);
    if u32::try_from(whole.num_rows()).is_err() {
        return exec_err!("{} rows with neighbouring keys are more than can be sorted", whole.num_rows());
    }
    let order = lexsort_to_indices(&columns(&whole, keys)?, None)?;
    let step = batch_rows.max(1);
    let starts = (0..order.len()).step_by(step);
    starts
        .map(|start| Ok(take_record_batch(&whole, &order.slice(start, step.min(order.len() - start)))?))
        .collect()
}

/// DataFusion's sort, of what is in memory and what is still to come.
fn on_disk(
    parts: Vec<Part>,
    schema: SchemaRef,
    keys: LexOrdering,
    context: Arc<TaskContext>,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let blocks = parts.into_iter().map(|part| {
        Arc::new(Continued { schema: schema.clone(), part: Mutex::new(Some(part)) })
            as Arc<dyn PartitionStream>
    });
    let input = StreamingTableExec::try_new(schema.clone(), blocks.collect(), None, [], false, None)?;
    let sort = SortExec::new(keys.clone(), Arc::new(input)).with_preserve_partitioning(true);
    Ok(SortPreservingMergeExec::new(keys, Arc::new(sort)).execute(0, context)?.boxed())
}

/// A part of the input, from its beginning. It is read once.
struct Continued {
    schema: SchemaRef,
    part: Mutex<Option<Part>>,
}

impl fmt::Debug for Continued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Continued").finish_non_exhaustive()
    }
}

impl PartitionStream for Continued {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let Some(Part { batches, memory, rest }) = self.part.lock().take() else {
            let again =
                futures::stream::once(async { internal_err!("a part of a sort is read a second time") });
            return Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), again));
        };
        // Who takes a batch counts it.
        let batches = batches.into_iter().map(move |batch| {
            memory.shrink(batch_bytes(&batch).min(memory.size()));
            Ok(batch)
        });
        let all = futures::stream::iter(batches).chain(futures::stream::iter(rest).flatten());
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), all))
    }
}

/// Puts [`RangeSort`] in the place of sorts of whole tables.
#[derive(Debug)]
pub(crate) struct RangeSorts {
    /// What a sort may hold in memory.
    pub(crate) most_bytes: usize,
}

impl PhysicalOptimizerRule for RangeSorts {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| {
            let Some((keys, input)) = whole_sort(&node) else { return Ok(Transformed::no(node)) };
            let operator: Arc<dyn Operator> = Arc::new(RangeSort { keys, most_bytes: self.most_bytes });
            Ok(Transformed::yes(Arc::new(NodeExec::new(&operator, vec![input])?)))
        })
        .data()
    }

    fn name(&self) -> &'static str {
        "range_sorts"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The keys and the input of a sort that gives out all rows as one block.
fn whole_sort(node: &Arc<dyn ExecutionPlan>) -> Option<(LexOrdering, Arc<dyn ExecutionPlan>)> {
    let sort = match node.downcast_ref::<SortPreservingMergeExec>() {
        Some(merge) if merge.fetch().is_none() => merge.input().downcast_ref::<SortExec>()?,
        Some(_) => return None,
        None => {
            node.downcast_ref::<SortExec>().filter(|_| node.output_partitioning().partition_count() == 1)?
        }
    };
    let schema = sort.input().schema();
    let plain = |kind: DataType| {
        kind.is_primitive()
            || matches!(
                kind,
                DataType::Boolean
                    | DataType::Utf8
                    | DataType::LargeUtf8
                    | DataType::Binary
                    | DataType::LargeBinary
            )
    };
    let all = sort.expr().iter().all(|key| key.expr.data_type(&schema).is_ok_and(plain));
    (sort.fetch().is_none() && all).then(|| (sort.expr().clone(), sort.input().clone()))
}

#[cfg(test)]
mod tests;
