//! [`Layout`]: where a file of Parquet or CSV can be cut, so that its parts are read at the same time; and how much is in one of Parquet.

use std::sync::Arc;

use datafusion::catalog::Session;
use datafusion::common::Result;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion_datasource::PartitionedFile;
use object_store::{ObjectMeta, ObjectStore};
use parquet::file::metadata::RowGroupMetaData;

use crate::format::csv::Cuts;

/// Files below this are read in one piece.
pub(super) const WHOLE_BYTES: u64 = 8 << 20;

/// Row groups that are smaller than this when decoded are read together with the next.
const PIECE_BYTES: i64 = 8 << 20;

/// The pieces of a file, in order. It goes with a file through the engine's plan.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub(crate) pieces: Vec<Piece>,
}

/// Row groups that follow each other, or records.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// The bytes of the file that they begin in: what the engine tells row groups by.
    pub(crate) start: i64,
    pub(crate) end: i64,
    before: Before,
}

/// What tells the rows before a piece.
#[derive(Debug, Clone)]
enum Before {
    /// The footer.
    Rows(u64),
    /// Whoever opens it.
    Cuts(Arc<Cuts>, usize),
}

impl Piece {
    /// The rows before it, where they are known by now.
    pub(crate) fn first_row(&self) -> Option<u64> {
        match &self.before {
            Before::Rows(rows) => Some(*rows),
            Before::Cuts(cuts, index) => cuts.rows_before(*index),
        }
    }

    fn of_csv(&self) -> Option<(Arc<Cuts>, usize)> {
        match &self.before {
            Before::Rows(_) => None,
            Before::Cuts(cuts, index) => Some((cuts.clone(), *index)),
        }
    }
}

impl Layout {
    /// Of a file of CSV.
    pub(super) fn of_csv(cuts: &Arc<Cuts>) -> Self {
        let byte = |piece| i64::try_from(cuts.start(piece)).unwrap_or(i64::MAX);
        let piece = |index| Piece {
            start: byte(index),
            end: byte(index + 1),
            before: Before::Cuts(cuts.clone(), index),
        };
        Self { pieces: (0..cuts.len()).map(piece).collect() }
    }

    /// The pieces that begin in the bytes that a block has of a file.
    pub(crate) fn within<'a>(&'a self, file: &'a PartitionedFile) -> impl Iterator<Item = &'a Piece> {
        self.pieces.iter().filter(|piece| file.range.as_ref().is_none_or(|range| range.contains(piece.start)))
    }

    /// The pieces of CSV that a scan is to read of a file, if not all of it.
    pub(crate) fn pieces_of(file: &PartitionedFile) -> Option<Vec<(Arc<Cuts>, usize)>> {
        if let Some(piece) = file.extension::<Piece>() {
            return piece.of_csv().map(|piece| vec![piece]);
        }
        let layout = file.extension::<Self>().filter(|_| file.range.is_some())?;
        Some(layout.within(file).filter_map(Piece::of_csv).collect())
    }
}

/// What the footer of a Parquet file tells of it.
pub(super) struct Footer {
    pub(super) rows: usize,
    /// When decoded, about.
    pub(super) bytes: usize,
    /// Its pieces, where it has more than one.
    pub(super) layout: Option<Layout>,
}

impl Footer {
    pub(super) async fn of(file: &ObjectMeta, store: &dyn ObjectStore, state: &dyn Session) -> Result<Self> {
        // Whoever asked for the columns has read it before.
        let known = state.runtime_env().cache_manager.get_file_metadata_cache();
        let reader = DFParquetMetadata::new(store, file).with_file_metadata_cache(Some(known));
        let metadata = reader.fetch_metadata().await?;
        let groups = metadata.row_groups().iter().map(|group| Group {
            start: start(group),
            bytes: group.total_byte_size(),
            rows: u64::try_from(group.num_rows()).unwrap_or(0),
        });
        let pieces = match file.size {
            0..WHOLE_BYTES => Vec::new(),
            size => pieces(groups, i64::try_from(size).unwrap_or(i64::MAX)),
        };
        let sum = |of: fn(&RowGroupMetaData) -> i64| {
            metadata.row_groups().iter().map(|group| usize::try_from(of(group)).unwrap_or(0)).sum()
        };
        Ok(Self {
            rows: sum(RowGroupMetaData::num_rows),
            bytes: sum(RowGroupMetaData::total_byte_size),
            layout: (pieces.len() > 1).then_some(Layout { pieces }),
        })
    }
}

/// Where the engine says that a row group begins.
fn start(group: &RowGroupMetaData) -> i64 {
    group
        .columns()
        .first()
        .map_or(0, |column| column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset()))
}

struct Group {
    start: i64,
    bytes: i64,
    rows: u64,
}

fn pieces(groups: impl Iterator<Item = Group>, size: i64) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let (mut bytes, mut rows) = (PIECE_BYTES, 0);
    for group in groups {
        // A file that has its row groups in another order than its footer is read in one piece.
        if pieces.last().is_some_and(|last| group.start < last.start) {
            return Vec::new();
        }
        if bytes >= PIECE_BYTES {
            if let Some(last) = pieces.last_mut() {
                last.end = group.start;
            }
            pieces.push(Piece { start: group.start, end: size, before: Before::Rows(rows) });
            bytes = 0;
        }
        bytes = bytes.saturating_add(group.bytes);
        rows += group.rows;
    }
    if let Some(first) = pieces.first_mut() {
        first.start = 0;
    }
    pieces
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn cut(groups: &[(i64, i64, u64)]) -> Vec<(i64, i64, u64)> {
        let groups = groups.iter().map(|&(start, bytes, rows)| Group { start, bytes, rows });
        pieces(groups, 1000)
            .iter()
            .map(|piece| (piece.start, piece.end, piece.first_row().unwrap()))
            .collect()
    }

    #[test]
    fn every_row_group_begins_in_one_piece() {
        let large = PIECE_BYTES;
        assert_eq!(
            cut(&[(4, large, 10), (400, large, 20), (700, 1, 5)]),
            [(0, 400, 0), (400, 700, 10), (700, 1000, 30)]
        );
        // Small ones go together.
        let half = PIECE_BYTES / 2;
        assert_eq!(
            cut(&[(4, half, 1), (300, half, 2), (600, half, 4), (800, 1, 8)]),
            [(0, 600, 0), (600, 1000, 3)]
        );
        assert_eq!(cut(&[(4, half, 1)]), [(0, 1000, 0)]);
        assert_eq!(cut(&[]), []);
        assert_eq!(cut(&[(400, large, 1), (4, large, 2)]), []);
    }
}
