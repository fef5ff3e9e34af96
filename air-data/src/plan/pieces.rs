//! [`Pieces`]: the parts of a block's files, read at the same time and given out in order; and the rule that puts it over scans.
//!
//! A block of a table of files is a run of files. The engine reads it from one end to the other, so that a consumer of one block after the
//! other would keep one core busy. Below this operator each file, and each piece of a large one, is a partition of its own. What is done
//! to each row by itself (projections, filters, closures) goes below, too, and so runs on as many cores.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, internal_err};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion_datasource::PartitionedFile;
use datafusion_datasource::file_groups::FileGroup;
use datafusion_datasource::file_scan_config::{FileScanConfig, FileScanConfigBuilder};
use datafusion_datasource::source::DataSourceExec;
use futures::stream::BoxStream;

use super::node::{Job, NodeExec, Operator};
use super::origin::Origin;
use crate::exchange::Room;
use crate::source::{Layout, Piece};

/// Of so many pieces for each core one that takes long at the end does not matter.
const PIECES_PER_CORE: usize = 4;

/// A piece of so many bytes in its file is small.
const SMALL_BYTES: u64 = 16 << 20;

/// Blocks out of the partitions of its input, some of which make a block.
pub(super) struct Pieces {
    blocks: Vec<Range<usize>>,
    /// Of each block, where it is one file.
    origins: Vec<Option<Origin>>,
    pub(super) room: Room,
}

impl fmt::Display for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pieces = self.blocks.last().map_or(0, |block| block.end);
        let at_first = if self.room.cautious { ", one at first" } else { "" };
        write!(f, "read {pieces} pieces, {} at once{at_first}", self.room.window)
    }
}

impl Operator for Pieces {
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef> {
        let [only] = inputs else { return internal_err!("one input") };
        Ok(only.clone())
    }

    fn partitions(&self, _: &[usize]) -> usize {
        self.blocks.len()
    }

    fn origin(&self, block: usize) -> Option<Origin> {
        self.origins[block].clone()
    }

    fn run(&self, job: Job<'_>) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        Ok(job.rows_of(0, self.blocks[job.index].clone(), self.room))
    }
}

/// Puts [`Pieces`] over scans that have more files or pieces than blocks.
#[derive(Debug)]
pub(crate) struct ReadInPieces {
    /// Pieces of a block that are under way at once.
    pub(crate) window: usize,
    /// Bytes of their batches that may wait.
    pub(crate) bytes: usize,
}

impl PhysicalOptimizerRule for ReadInPieces {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        self.walk(plan, false)
    }

    fn name(&self) -> &'static str {
        "read_in_pieces"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl ReadInPieces {
    /// `cautious`: somebody above hopes to stop early.
    fn walk(&self, plan: Arc<dyn ExecutionPlan>, cautious: bool) -> Result<Arc<dyn ExecutionPlan>> {
        if let Some(scan) = scan_below(&plan) {
            let Some(cut) = Cut::of(scan) else { return Ok(plan) };
            let pieces = over(&plan, &cut.config)?;
            let room = Room { window: self.window, bytes: self.bytes, cautious, stage: 2, any_order: false };
            let operator: Arc<dyn Operator> =
                Arc::new(Pieces { blocks: cut.blocks, origins: cut.origins, room });
            return Ok(Arc::new(NodeExec::new(&operator, vec![pieces])?));
        }
        let cautious = match &plan {
            limit if limit.is::<GlobalLimitExec>() || limit.is::<LocalLimitExec>() => true,
            // It reads everything before its first row.
            sort if sort.is::<SortExec>() => false,
            sort if sort.downcast_ref::<NodeExec>().is_some_and(|node| node.operator().sorts().is_some()) => {
                false
            }
            other => cautious || other.fetch().is_some(),
        };
        let children = plan.children().into_iter().map(|child| self.walk(child.clone(), cautious));
        with_children(plan.clone(), children.collect::<Result<_>>()?)
    }
}

fn with_children(
    plan: Arc<dyn ExecutionPlan>,
    children: Vec<Arc<dyn ExecutionPlan>>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let same = plan.children().iter().zip(&children).all(|(old, new)| Arc::ptr_eq(old, new));
    if same {
        return Ok(plan);
    }
    plan.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}

/// The scan of files that lies below `plan`, if all between the two works row by row.
fn scan_below(plan: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    if let Some(scan) = plan.downcast_ref::<DataSourceExec>() {
        return scan.data_source().downcast_ref::<FileScanConfig>();
    }
    let row_by_row = plan.is::<ProjectionExec>()
        || plan.is::<CooperativeExec>()
        || plan.is::<FilterExec>() && plan.fetch().is_none()
        || plan.downcast_ref::<NodeExec>().is_some_and(|node| node.operator().row_by_row());
    let children = plan.children();
    let [child] = &children[..] else { return None };
    if row_by_row { scan_below(child) } else { None }
}

/// Whether a block of `plan` is a piece of a file, and all of it may wait at once ahead of a consumer that takes others first; and there are some of them
/// for each of `cores`. Then each core has one to work on at any time.
pub(super) fn is_small_piece(plan: &Arc<dyn ExecutionPlan>, block: usize, cores: usize) -> bool {
    let bytes = |file: &PartitionedFile| match &file.range {
        Some(range) => u64::try_from(range.end - range.start).unwrap_or(u64::MAX),
        None => file.object_meta.size,
    };
    scan_below(plan).is_some_and(|scan| {
        let pieces = &scan.file_groups;
        let files = pieces.get(block).map_or(&[][..], FileGroup::files);
        pieces.len() >= PIECES_PER_CORE * cores && files.iter().map(bytes).sum::<u64>() <= SMALL_BYTES
    })
}

/// The same operators over another scan.
fn over(plan: &Arc<dyn ExecutionPlan>, config: &FileScanConfig) -> Result<Arc<dyn ExecutionPlan>> {
    if plan.is::<DataSourceExec>() {
        return Ok(DataSourceExec::from_data_source(config.clone()));
    }
    let children = plan.children().into_iter().map(|child| over(child, config));
    with_children(plan.clone(), children.collect::<Result<_>>()?)
}

/// A scan whose partitions are pieces.
struct Cut {
    config: FileScanConfig,
    blocks: Vec<Range<usize>>,
    origins: Vec<Option<Origin>>,
}

impl Cut {
    /// `None` where there is nothing to cut.
    fn of(scan: &FileScanConfig) -> Option<Self> {
        // A limit counts the rows of a block.
        if scan.limit.is_some() {
            return None;
        }
        let (mut pieces, mut blocks, mut origins) = (Vec::new(), Vec::new(), Vec::new());
        for block in &scan.file_groups {
            let first = pieces.len();
            let files: Vec<PartitionedFile> = block.files().iter().flat_map(cut).collect();
            origins.push(Origin::of_files(&files));
            pieces.extend(files.into_iter().map(|piece| FileGroup::new(vec![piece])));
            blocks.push(first..pieces.len());
        }
        if blocks.iter().all(|block: &Range<usize>| block.len() == 1) {
            return None;
        }
        let config = FileScanConfigBuilder::from(scan.clone()).with_file_groups(pieces).build();
        Some(Self { config, blocks, origins })
    }
}

/// A file's pieces, or those that begin in its range, which other blocks have the rest of.
fn cut(file: &PartitionedFile) -> Vec<PartitionedFile> {
    let Some(layout) = file.extension::<Layout>() else { return vec![file.clone()] };
    let piece = |piece: &Piece| file.clone().with_range(piece.start, piece.end).with_extension(piece.clone());
    layout.within(file).map(piece).collect()
}
