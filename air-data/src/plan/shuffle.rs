//! [`Shuffle`]: all rows in a random order, in two passes over them.
//!
//! A row's place is told by its index in the input and the seed ([`Cells`]). The first pass deals rows to buckets, each of which is one cell or a few,
//! many rows at a time so that each bucket gets long runs of them; the second puts the rows of one bucket after the other in their places, which
//! fits into the processor's caches. Buckets at rest go to disk past the memory budget.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt8Array, UInt32Array};
use arrow::compute::{concat_batches, interleave_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt8Type};
use datafusion::common::{DataFusionError, Result, exec_err, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};

use super::cells::{CELLS, Cells};
use super::node::{Job, Operator};
use super::numbered::Mixer;
use super::scatter::Deal;
use super::spread::{SPREAD_BYTES, Spread, inverse};
use super::worked;
use crate::blocks::{Blocks, BlocksBuilder};
use crate::exchange::Room;
use crate::memory::{Budget, batch_bytes};

/// Buckets of more rows than one chunk has, at least; up to one for each cell, as many as the budget has this many bytes. Each takes some memory beside
/// its rows: a file that is written, and the headers of many small batches.
const LEAST_BUCKETS: usize = 64;
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
        let buckets = (budget / BUDGET_BYTES).clamp(LEAST_BUCKETS, CELLS);
        // Each has as many cells as any other.
        let buckets = 1 << buckets.ilog2();
        let chunks = chunks(input, CHUNK_ROWS, (budget / 32).min(CHUNK_BYTES));
        let (cells, context) = (Cells::new(self.mixer), job.context);
        let shuffled = async move {
            Ok::<_, DataFusionError>(gathered(dealt(chunks, cells, buckets, &context).await?, cells, context))
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

/// The rows in buckets, each with its cell in a last column where a bucket has several. What is all in one chunk is one bucket.
async fn dealt(
    chunks: impl Stream<Item = Result<Chunk>> + Send + 'static,
    cells: Cells,
    most: usize,
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
        worked(move || Ok((deal(&chunk, cells, buckets)?, memory)))
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

/// A chunk's rows by bucket, with their cells where a bucket has several.
fn deal(chunk: &Chunk, cells: Cells, buckets: usize) -> Result<Vec<RecordBatch>> {
    let rows: usize = chunk.batches.iter().map(RecordBatch::num_rows).sum();
    let of: Vec<u8> = (chunk.first..chunk.first + rows as u64).map(|index| cells.of(index)).collect();
    let each = CELLS / buckets;
    let shift = each.ilog2();
    let deal = Deal::new(buckets, of.iter().map(|cell| u16::from(*cell) >> shift));
    let mut dealt = deal.columns(&chunk.batches)?;
    let mut schema = chunk.batches[0].schema();
    if each > 1 {
        // The name need not be free: nobody looks for it.
        let cell = Arc::new(Field::new("cell", DataType::UInt8, false));
        schema = Arc::new(Schema::new(schema.fields().iter().cloned().chain([cell]).collect::<Vec<_>>()));
        for (columns, cells) in dealt.iter_mut().zip(deal.numbers(&[&of])) {
            columns.push(Arc::new(UInt8Array::from(cells)) as ArrayRef);
        }
    }
    dealt.into_iter().map(|columns| Ok(RecordBatch::try_new(schema.clone(), columns)?)).collect()
}

/// The buckets' rows in their order, some buckets at once.
fn gathered(
    buckets: Vec<Blocks>,
    cells: Cells,
    context: Arc<TaskContext>,
) -> impl Stream<Item = Result<RecordBatch>> + Send {
    let config = context.session_config();
    let (width, batch_rows) = (config.target_partitions(), config.batch_size());
    let each = CELLS / buckets.len().max(1);
    let buckets = futures::stream::iter(buckets.into_iter().enumerate()).map(move |(index, bucket)| {
        // Of several the rows tell.
        let cell = (each == 1).then_some(index as u8);
        let memory = MemoryConsumer::new("air-data shuffle").register(context.memory_pool());
        async move {
            let rows = 0..bucket.rows();
            let batches: Vec<RecordBatch> = Arc::new(bucket).read(rows).try_collect().await?;
            let bytes = batches.iter().map(batch_bytes).sum::<usize>();
            let memory = holding(memory, 2 * bytes);
            worked(move || {
                let gathered = gather(batches, cells, cell, batch_rows, [SPREAD_BYTES, WHOLE_BYTES])?;
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

/// A bucket's rows in their order. All are of this cell, or else their cells are the last column, which is left out.
fn gather(
    bucket: Vec<RecordBatch>,
    cells: Cells,
    cell: Option<u8>,
    batch_rows: usize,
    [spread_bytes, whole_bytes]: [usize; 2],
) -> Result<Vec<RecordBatch>> {
    let Some(first) = bucket.first() else { return Ok(Vec::new()) };
    let rows: usize = bucket.iter().map(RecordBatch::num_rows).sum();
    let Ok(count) = u32::try_from(rows) else {
        return exec_err!("{rows} rows in one part of a shuffle, which is more than there may be");
    };
    let last = first.num_columns() - usize::from(cell.is_none());
    let columns: Vec<usize> = (0..last).collect();
    let schema = Arc::new(first.schema().project(&columns)?);
    let place = if let Some(cell) = cell {
        cells.places(cell, count)
    } else {
        let of = bucket.iter().map(|batch| batch.column(last).as_primitive::<UInt8Type>().values());
        cells.places_of(of.flat_map(|cells| cells.iter().copied()))
    };
    let bytes: usize = bucket.iter().map(batch_bytes).sum();
    if bytes <= spread_bytes {
        return Spread::by_place(place).batches(&bucket, schema, batch_rows);
    }
    let order = inverse(&place);
    drop(place);
    let orders = order.chunks(batch_rows.max(1));
    if bytes <= whole_bytes {
        let parts: Vec<RecordBatch> =
            bucket.into_iter().map(|batch| batch.project(&columns)).collect::<std::result::Result<_, _>>()?;
        let whole = concat_batches(&schema, &parts)?;
        drop(parts);
        let taken = orders.map(|order| Ok(take_record_batch(&whole, &UInt32Array::from(order.to_vec()))?));
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
            Ok(interleave_record_batch(&parts, &order.iter().map(|row| place(*row)).collect::<Vec<_>>())?)
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
    fn buckets_in_order_are_all_rows_in_their_places() {
        let cells = Cells::new(Mixer::new(5));
        let places = cells.places_of((0..1000).map(|index| cells.of(index)));
        let mut expected: Vec<i64> = (0..1000).collect();
        expected.sort_by_key(|id| places[*id as usize]);
        for buckets in [1, 2, 64, 256] {
            let first = deal(&chunk(0, &[300, 1, 99]), cells, buckets).unwrap();
            let second = deal(&chunk(400, &[600]), cells, buckets).unwrap();
            for most_bytes in [[SPREAD_BYTES, WHOLE_BYTES], [0, WHOLE_BYTES], [0, 0]] {
                let both = first.iter().cloned().zip(second.iter().cloned()).enumerate();
                let gathered = both.flat_map(|(index, (a, b))| {
                    let cell = (buckets == CELLS).then_some(index as u8);
                    gather(vec![a, b], cells, cell, 10, most_bytes).unwrap()
                });
                let all: Vec<RecordBatch> = gathered.collect();
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
