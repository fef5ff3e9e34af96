//! [`Blocks`]: a whole dataset at rest, in memory as far as the budget goes and on disk after that.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::FileReader;
use arrow::ipc::writer::FileWriter;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err};
use datafusion::execution::{SpillFile, SpillWriter, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use futures::{Stream, StreamExt};

use crate::exchange::{Room, ordered};
use crate::memory::{Budget, Kept, Watch};
use crate::session::blocking;

/// The rows of a dataset in their order, to be read by any range. Dropping it frees the memory and removes the spill file.
pub(crate) struct Blocks {
    entries: Vec<Entry>,
    /// The row ranges of the partitions it was made from.
    partitions: Vec<Range<u64>>,
    rows: u64,
    /// Keeps the spill file in place.
    spill: Option<Arc<dyn SpillFile>>,
    _kept: Vec<Kept>,
}

impl std::fmt::Debug for Blocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocks")
            .field("rows", &self.rows)
            .field("spilled", &self.spill.is_some())
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Entry {
    rows: Range<u64>,
    at: At,
}

#[derive(Debug, Clone)]
enum At {
    Memory(RecordBatch),
    Disk { path: Arc<std::path::PathBuf>, index: usize },
}

impl Blocks {
    /// Runs every partition of `plan` to its end.
    pub(crate) async fn collect(
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
        room: Room,
        watch: Option<Arc<Watch>>,
    ) -> Result<Self> {
        let partitions =
            datafusion::physical_plan::ExecutionPlanProperties::output_partitioning(&plan).partition_count();
        let mut builder = BlocksBuilder::new(plan.schema(), partitions, &context);
        let mut stream = std::pin::pin!(ordered(plan, context.clone(), room, watch));
        while let Some(item) = stream.next().await {
            let (partition, batch) = item?;
            builder.push(partition, batch, &context)?;
        }
        builder.finish()
    }

    pub(crate) fn partitions(&self) -> &[Range<u64>] {
        &self.partitions
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// Part `index` of `count` parts of nearly equal size, the larger ones first.
    pub(crate) fn part(&self, index: usize, count: usize) -> Range<u64> {
        let (index, count) = (index as u64, count.max(1) as u64);
        let (each, extra) = (self.rows / count, self.rows % count);
        let start = index * each + index.min(extra);
        start..start + each + u64::from(index < extra)
    }

    /// The rows of a range, in batches.
    pub(crate) fn read(
        self: Arc<Self>,
        rows: Range<u64>,
    ) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
        let first = self.entries.partition_point(|entry| entry.rows.end <= rows.start);
        let state = (self, first, None::<FileReader<File>>);
        futures::stream::try_unfold(state, move |(blocks, index, mut reader)| {
            let rows = rows.clone();
            async move {
                let Some(entry) = blocks.entries.get(index).filter(|entry| entry.rows.start < rows.end)
                else {
                    return Ok(None);
                };
                let batch = match &entry.at {
                    At::Memory(batch) => batch.clone(),
                    At::Disk { path, index } => blocking(|| from_disk(&mut reader, path, *index))?,
                };
                let from = rows.start.max(entry.rows.start) - entry.rows.start;
                let to = rows.end.min(entry.rows.end) - entry.rows.start;
                let part = batch.slice(from as usize, (to - from) as usize);
                Ok(Some((part, (blocks, index + 1, reader))))
            }
        })
    }
}

fn from_disk(
    reader: &mut Option<FileReader<File>>,
    path: &std::path::Path,
    index: usize,
) -> Result<RecordBatch> {
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(FileReader::try_new(File::open(path)?, None)?),
    };
    reader.set_index(index)?;
    let batch = reader
        .next()
        .ok_or_else(|| internal_datafusion_err!("the spill file {} is short", path.display()))?;
    Ok(batch?)
}

/// Takes batches in, for [`Blocks`].
pub(crate) struct BlocksBuilder {
    schema: SchemaRef,
    entries: Vec<Entry>,
    partitions: Vec<Range<u64>>,
    rows: u64,
    budget: Budget,
    kept: Vec<Kept>,
    spill: Option<Spill>,
}

struct Spill {
    keep: Arc<dyn SpillFile>,
    path: Arc<std::path::PathBuf>,
    writer: FileWriter<Box<dyn SpillWriter>>,
    batches: usize,
}

impl BlocksBuilder {
    pub(crate) fn new(schema: SchemaRef, partitions: usize, context: &TaskContext) -> Self {
        let budget = Budget::of(context);
        let partitions = vec![0..0; partitions];
        Self { schema, entries: Vec::new(), partitions, rows: 0, budget, kept: Vec::new(), spill: None }
    }

    pub(crate) fn push(&mut self, partition: usize, batch: RecordBatch, context: &TaskContext) -> Result<()> {
        let count = batch.num_rows() as u64;
        if count == 0 {
            return Ok(());
        }
        let rows = self.rows..self.rows + count;
        self.rows = rows.end;
        match self.partitions.get_mut(partition) {
            Some(range) if range.is_empty() => *range = rows.clone(),
            Some(range) => range.end = rows.end,
            None => return Err(internal_datafusion_err!("no partition {partition}")),
        }
        // Once one batch went to disk all later ones do, so that the order on disk is the order of rows.
        let kept = if self.spill.is_none() { self.budget.keep(&batch) } else { None };
        let at = match kept {
            Some(kept) => {
                self.kept.push(kept);
                At::Memory(batch)
            }
            None => blocking(|| self.spill(&batch, context))?,
        };
        self.entries.push(Entry { rows, at });
        Ok(())
    }

    fn spill(&mut self, batch: &RecordBatch, context: &TaskContext) -> Result<At> {
        let spill = match &mut self.spill {
            Some(spill) => spill,
            none => {
                let file = context.runtime_env().disk_manager.create_tmp_file("air-data blocks")?;
                let path = file
                    .path()
                    .ok_or_else(|| internal_datafusion_err!("spill files must be local"))?
                    .to_path_buf();
                let writer = FileWriter::try_new(file.open_writer()?, &self.schema)?;
                none.insert(Spill { keep: file, path: Arc::new(path), writer, batches: 0 })
            }
        };
        spill.writer.write(batch)?;
        let index = spill.batches;
        spill.batches += 1;
        Ok(At::Disk { path: spill.path.clone(), index })
    }

    pub(crate) fn finish(mut self) -> Result<Blocks> {
        // Blocks without rows lie where the previous one ended.
        let mut end = 0;
        for range in &mut self.partitions {
            if range.is_empty() {
                *range = end..end;
            }
            end = range.end;
        }
        let spill = match self.spill.take() {
            Some(mut spill) => {
                blocking(|| spill.writer.finish().map_err(DataFusionError::from))?;
                Some(spill.keep)
            }
            None => None,
        };
        Ok(Blocks {
            entries: self.entries,
            partitions: self.partitions,
            rows: self.rows,
            spill,
            _kept: self.kept,
        })
    }
}
