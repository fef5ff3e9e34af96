//! [`Origin`]: which file the rows of a block are from, for errors that name it.

use std::sync::Arc;

use datafusion::physical_plan::ExecutionPlan;
use datafusion_datasource::PartitionedFile;
use datafusion_datasource::file_scan_config::FileScanConfig;
use datafusion_datasource::source::DataSourceExec;

use super::node::NodeExec;
use crate::source::Piece;

/// A file, and where in it a block begins.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) file: String,
    /// `None` for its beginning.
    piece: Option<Piece>,
}

impl Origin {
    /// Of a block of `plan`, where it is known and is one.
    pub(crate) fn of(plan: &Arc<dyn ExecutionPlan>, block: usize) -> Option<Self> {
        if let Some(node) = plan.downcast_ref::<NodeExec>() {
            return node.operator().origin(block);
        }
        let scan = plan.downcast_ref::<DataSourceExec>()?;
        let config = scan.data_source().downcast_ref::<FileScanConfig>()?;
        Self::of_files(config.file_groups.get(block)?.files())
    }

    /// Of a block that is these files, or pieces.
    pub(super) fn of_files(files: &[PartitionedFile]) -> Option<Self> {
        let first = files.first()?;
        let path = &first.object_meta.location;
        if files.iter().any(|file| file.object_meta.location != *path) {
            return None;
        }
        let piece = first.extension::<Piece>().cloned();
        if piece.is_none() && first.range.as_ref().is_some_and(|range| range.start > 0) {
            return None;
        }
        Some(Self { file: path.to_string(), piece })
    }

    /// The row of the file that the block begins with, once its first row has been read.
    pub(crate) fn first_row(&self) -> u64 {
        self.piece.as_ref().and_then(Piece::first_row).unwrap_or(0)
    }
}
