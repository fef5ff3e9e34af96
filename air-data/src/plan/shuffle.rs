//! [`Shuffle`]: all rows in a random order, in two passes over them.
//!
//! A row's place is that of its number, a 64-bit one that its index in the input and the seed tell ([`Mixer`]). The first pass deals rows to
//! buckets by the numbers' high bits, many rows at a time so that each bucket gets long runs of them; the second sorts one bucket after
//! the other by the whole numbers, which fits into the processor's caches. Buckets at rest go to disk past the memory budget.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{concat_batches, interleave_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use datafusion::common::{DataFusionError, Result, exec_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};

use super::node::{Job, Operator};
use super::numbered::Mixer;
use super::scatter::Deal;
use super::spread::{SPREAD_BYTES, Spread};
use super::worked;
use crate::blocks::{Blocks, BlocksBuilder};
use crate::exchange::Room;
use crate::memory::{Budget, batch_bytes};

/// Buckets of more rows than one chunk has, at most and at least; between them as many as the budget has this many bytes. Each takes some memory beside its
/// rows: a file that is written, and the headers of many small batches.
const BUCKETS: (usize, usize) = (64, 256);
const BUDGET_BYTES: usize = 256 << 10;

/// Rows that are dealt at a time, and bytes of them.
const CHUNK_ROWS: usize = 1 << 19;
const CHUNK_BYTES: usize = 64 << 20;

/// Buckets up to this are put together before their rows are: one column of more text may be longer than its offsets can tell.
const WHOLE_BYTES: usize = i32::MAX as usize;

/// All rows in a random order, as one block.
pub(crate) struct Shuffle {
    pub(crate) mixer: Mixer,
    pub(crate) room: Room,
}

impl fmt::Display for Shuffle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("random shuffle")
    }
}

impl Operator for Shuffle {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let [only] = inputs else { return internal_err!("one input") };
        Ok(only.clone())
    }

    fn partitions(&self, _: &[usize]) -> usize {
        1
    }

    fn needs(&self, output: &[usize], _: &[SchemaRef]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output.to_vec()])
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let input = job.rows(0, self.room);
        if job.schema.fields().is_empty() {
            // Rows without columns are all alike.
            return Ok(input);
        }
        let budget = usize::try_from(Budget::of(&job.context).limit_bytes()).unwrap_or(usize::MAX);
        let buckets = (budget / BUDGET_BYTES).clamp(BUCKETS.0, BUCKETS.1) as u16;
        let chunks = chunks(input, CHUNK_ROWS, (budget / 32).min(CHUNK_BYTES));
        let (mixer, context) = (self.mixer, job.context);
        let shuffled = async move {
            Ok::<_, DataFusionError>(gathered(dealt(chunks, mixer, buckets, &context).await?, context))
        };
        Ok(futures::stream::once(shuffled).try_flatten().boxed())
    }
}

/// Neighbouring batches.
struct Chunk {
    /// The index of its first row.
    first: u64,
    batches: Vec<RecordBatch>,
    bytes: usize,
}

fn chunks(
    input: BoxStream<'static, Result<RecordBatch>>,
    most_rows: usize,
    most_bytes: usize,
) -> impl Stream<Item = Result<Chunk>> + Send + 'static {
    futures::stream::try_unfold((input, 0_u64), move |(mut input, first)| async move {
        let mut chunk = Chunk { first, batches: Vec::new(), bytes: 0 };
        let mut rows = 0;
        while rows < most_rows && chunk.bytes < most_bytes {
            let Some(batch) = input.next().await.transpose()? else { break };
            rows += batch.num_rows();
            chunk.bytes += batch_bytes(&batch);
            chunk.batches.push(batch);
        }
        Ok((rows > 0).then(|| (chunk, (input, first + rows as u64))))
    })
}

/// The rows in buckets, each with its number in a last column. What is all in one chunk is one bucket.
async fn dealt(
    chunks: impl Stream<Item = Result<Chunk>> + Send + 'static,
    mixer: Mixer,
    most: u16,
    context: &Arc<TaskContext>,
) -> Result<Vec<Blocks>> {
    let mut chunks = std::pin::pin!(chunks.peekable());
    let mut begin = Vec::new();
    begin.extend(chunks.as_mut().next().await.transpose()?);
    let buckets = if chunks.as_mut().peek().await.is_some() { most } else { 1 };
    let begin = futures::stream::iter(begin.into_iter().map(Ok));
    let width = context.session_config().target_partitions();
    let working = || MemoryConsumer::new("air-data shuffle").register(context.memory_pool());
    let dealing = begin.chain(chunks).map_ok(|chunk| {
        // The chunk, and the same rows in buckets.
        let memory = holding(working(), 2 * chunk.bytes);
        worked(move || Ok((deal(&chunk, mixer, buckets)?, memory)))
    });
    let mut dealing = std::pin::pin!(dealing.try_buffered(width));
    let mut filling: Vec<BlocksBuilder> = Vec::new();
    while let Some((parts, _memory)) = dealing.next().await.transpose()? {
        for (bucket, part) in parts.into_iter().enumerate() {
            if filling.len() == bucket {
                filling.push(BlocksBuilder::new(part.schema(), 1, context));
            }
            filling[bucket].push(0, part, context)?;
        }
    }
    filling.into_iter().map(BlocksBuilder::finish).collect()
}

/// A chunk's rows by bucket, with their numbers.
fn deal(chunk: &Chunk, mixer: Mixer, buckets: u16) -> Result<Vec<RecordBatch>> {
    let rows: usize = chunk.batches.iter().map(RecordBatch::num_rows).sum();
    let numbers: Vec<u64> = (chunk.first..chunk.first + rows as u64).map(|index| mixer.mix(index)).collect();
    // The high bits, for any number of buckets.
    let bucket = |number: &u64| ((u128::from(*number) * u128::from(buckets)) >> 64) as u16;
    let deal = Deal::new(usize::from(buckets), numbers.iter().map(bucket));
    let schema = numbered(&chunk.batches[0].schema());
    let parts = deal.columns(&chunk.batches)?.into_iter().zip(deal.numbers(numbers.into_iter()));
    let parts = parts.map(|(mut columns, numbers)| {
        columns.push(Arc::new(UInt64Array::from(numbers)) as ArrayRef);
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    });
    parts.collect()
}

fn numbered(schema: &SchemaRef) -> SchemaRef {
    // The name need not be free: nobody looks for it.
    let number = Arc::new(Field::new("number", DataType::UInt64, false));
    Arc::new(Schema::new(schema.fields().iter().cloned().chain([number]).collect::<Vec<_>>()))
}

/// The buckets' rows in the order of their numbers, some buckets at once.
fn gathered(
    buckets: Vec<Blocks>,
    context: Arc<TaskContext>,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let config = context.session_config();
    let (width, batch_rows) = (config.target_partitions(), config.batch_size());
    let buckets = futures::stream::iter(buckets).map(move |bucket| {
        let memory = MemoryConsumer::new("air-data shuffle").register(context.memory_pool());
        async move {
            let rows = 0..bucket.rows();
            let batches: Vec<RecordBatch> = Arc::new(bucket).read(rows).try_collect().await?;
            let bytes = batches.iter().map(batch_bytes).sum::<usize>();
            let memory = holding(memory, 2 * bytes);
            worked(move || {
                let gathered = gather(batches, batch_rows, [SPREAD_BYTES, WHOLE_BYTES])?;
                memory.shrink(bytes);
                Ok((gathered, memory))
            })
            .await
        }
    });
    buckets.buffered(width).map_ok(|(batches, memory)| handed_on(batches, memory)).try_flatten()
}

/// Batches one after the other, which are the shuffle's until they are taken.
fn handed_on(
    batches: Vec<RecordBatch>,
    memory: MemoryReservation,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    futures::stream::iter(batches).map(move |batch| {
        memory.shrink(batch_bytes(&batch).min(memory.size()));
        Ok(batch)
    })
}

/// A bucket's rows in the order of their numbers, which are the last column and left out.
fn gather(
    bucket: Vec<RecordBatch>,
    batch_rows: usize,
    [spread_bytes, whole_bytes]: [usize; 2],
) -> Result<Vec<RecordBatch>> {
    let Some(first) = bucket.first() else { return Ok(Vec::new()) };
    let (schema, last) = (first.schema(), first.num_columns() - 1);
    let rows: usize = bucket.iter().map(RecordBatch::num_rows).sum();
    if u32::try_from(rows).is_err() {
        return exec_err!("{rows} rows in one part of a shuffle, which is more than there may be");
    }
    let bytes: usize = bucket.iter().map(batch_bytes).sum();
    if bytes <= spread_bytes {
        let numbers = |batch: &RecordBatch| batch.column(last).as_primitive::<UInt64Type>().values().clone();
        let numbers: Vec<_> = bucket.iter().map(numbers).collect();
        let spread = Spread::by_rank(&numbers.iter().map(|part| &part[..]).collect::<Vec<_>>());
        let schema = schema.project(&(0..last).collect::<Vec<_>>())?;
        return spread.batches(&bucket, Arc::new(schema), batch_rows);
    }
    let mut order: Vec<(u64, u32)> = Vec::with_capacity(rows);
    for batch in &bucket {
        let start = order.len() as u32;
        let numbers = batch.column(last).as_primitive::<UInt64Type>().values();
        order.extend(numbers.iter().zip(start..).map(|(number, row)| (*number, row)));
    }
    order.sort_unstable();
    let columns: Vec<usize> = (0..last).collect();
    let orders = order.chunks(batch_rows.max(1));
    if bytes <= whole_bytes {
        let whole = concat_batches(&schema, &bucket)?.project(&columns)?;
        drop(bucket);
        let taken = orders.map(|order| {
            let order = UInt32Array::from_iter_values(order.iter().map(|(_, row)| *row));
            Ok(take_record_batch(&whole, &order)?)
        });
        return taken.collect();
    }
    let mut ends = 0;
    let ends: Vec<usize> = bucket
        .iter()
        .map(|batch| {
            ends += batch.num_rows();
            ends
        })
        .collect();
    let parts: Vec<RecordBatch> =
        bucket.iter().map(|batch| batch.project(&columns)).collect::<std::result::Result<_, _>>()?;
    let parts: Vec<&RecordBatch> = parts.iter().collect();
    let place = |row: u32| {
        let batch = ends.partition_point(|end| *end <= row as usize);
        (batch, row as usize + parts[batch].num_rows() - ends[batch])
    };
    orders
        .map(|order| {
            Ok(interleave_record_batch(
                &parts,
                &order.iter().map(|(_, row)| place(*row)).collect::<Vec<_>>(),
            )?)
        })
        .collect()
}

/// What a step holds while it is at it.
fn holding(memory: MemoryReservation, bytes: usize) -> MemoryReservation {
    memory.grow(bytes);
    memory
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use arrow::array::Int64Array;
    use arrow::datatypes::Int64Type;

    fn chunk(first: i64, sizes: &[i64]) -> Chunk {
        let mut at = first;
        let batches = sizes.iter().map(|rows| {
            let column: ArrayRef = Arc::new(Int64Array::from_iter_values(at..at + rows));
            at += rows;
            RecordBatch::try_from_iter([("id", column)]).unwrap()
        });
        Chunk { first: first as u64, batches: batches.collect(), bytes: 0 }
    }

    fn ids(batches: &[RecordBatch]) -> Vec<i64> {
        let columns =
            batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec());
        columns.flatten().collect()
    }

    #[test]
    fn buckets_in_order_are_all_rows_in_the_order_of_their_numbers() {
        let mixer = Mixer::new(5);
        let mut expected: Vec<i64> = (0..1000).collect();
        expected.sort_by_key(|id| mixer.mix(*id as u64));
        for buckets in [1, 2, 7, 64] {
            let first = deal(&chunk(0, &[300, 1, 99]), mixer, buckets).unwrap();
            let second = deal(&chunk(400, &[600]), mixer, buckets).unwrap();
            for most_bytes in [[SPREAD_BYTES, WHOLE_BYTES], [0, WHOLE_BYTES], [0, 0]] {
                let both = first.iter().cloned().zip(second.iter().cloned());
                let all: Vec<RecordBatch> =
                    both.flat_map(|(a, b)| gather(vec![a, b], 10, most_bytes).unwrap()).collect();
                assert!(all.iter().all(|batch| batch.num_columns() == 1 && batch.num_rows() <= 10));
                assert_eq!(ids(&all), expected, "{buckets} buckets");
            }
        }
    }

    #[tokio::test]
    async fn chunks_are_cut_by_rows_and_by_bytes() {
        let batch = |rows| Ok(chunk(0, &[rows]).batches.remove(0));
        let input = || futures::stream::iter([batch(5), batch(5), batch(3), batch(1)]).boxed();
        let sizes = async |rows, bytes| {
            let chunks: Vec<Chunk> = chunks(input(), rows, bytes).try_collect().await.unwrap();
            chunks.iter().map(|chunk| (chunk.first, ids(&chunk.batches).len())).collect::<Vec<_>>()
        };
        assert_eq!(sizes(10, usize::MAX).await, [(0, 10), (10, 4)]);
        assert_eq!(sizes(100, usize::MAX).await, [(0, 14)]);
        assert_eq!(sizes(100, 41).await, [(0, 10), (10, 4)]);
    }
}
