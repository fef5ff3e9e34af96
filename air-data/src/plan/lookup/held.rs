//! [`Held`]: a table at hand, and what it adds to the rows of another one.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::compute::{FilterBuilder, concat_batches, take};
use arrow::datatypes::SchemaRef;
use datafusion::common::{JoinSide, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::ColumnIndex;
use futures::StreamExt;

use super::Kind;
use super::places::{Keys, Places};
use crate::memory::batch_bytes;

/// All rows of one side of a join, which are found by their keys.
pub(super) struct Held {
    rows: RecordBatch,
    places: Places,
    _memory: MemoryReservation,
}

impl Held {
    /// Reads a side to its end; its keys, too.
    pub(super) async fn read(
        side: Arc<dyn ExecutionPlan>,
        key: Arc<dyn PhysicalExpr>,
        context: Arc<TaskContext>,
    ) -> Result<(Self, ArrayRef)> {
        let memory = MemoryConsumer::new("air-data join").register(context.memory_pool());
        let mut side = side.execute(0, context)?;
        let mut batches = Vec::new();
        while let Some(batch) = side.next().await.transpose()? {
            // Twice, as it is there while the batches become one.
            memory.try_grow(2 * batch_bytes(&batch) + Places::most_bytes(batch.num_rows()))?;
            batches.push(batch);
        }
        let rows = concat_batches(&side.schema(), &batches)?;
        drop(batches);
        memory.try_resize(batch_bytes(&rows) + Places::most_bytes(rows.num_rows()))?;
        let keys = key.evaluate(&rows)?.into_array(rows.num_rows())?;
        let places = Places::of(&Keys::of(&keys)?)?;
        Ok((Self { rows, places, _memory: memory }, keys))
    }
}

/// What comes out of a join.
pub(super) struct Shape {
    pub(super) kind: Kind,
    pub(super) key: Arc<dyn PhysicalExpr>,
    pub(super) columns: Vec<ColumnIndex>,
    pub(super) schema: SchemaRef,
}

/// A batch of rows whose partners are looked up, as batches.
pub(super) struct Joined {
    held: Arc<Held>,
    shape: Arc<Shape>,
    batch: RecordBatch,
    /// The first place of each row.
    first: Vec<u32>,
    /// The next row and the place of its next partner.
    next: (usize, Option<u32>),
    most_rows: usize,
}

impl Joined {
    /// `most_rows` come in a batch where one row may have many partners.
    pub(super) fn new(
        held: Arc<Held>,
        shape: Arc<Shape>,
        batch: RecordBatch,
        most_rows: usize,
    ) -> Result<Self> {
        let keys = Keys::of(&shape.key.evaluate(&batch)?.into_array(batch.num_rows())?)?;
        let first = held.places.find(&keys);
        Ok(Self { held, shape, batch, first, next: (0, None), most_rows })
    }

    /// All rows at once, none of which has two partners, or needs to know more than one.
    fn single(&mut self) -> Option<Result<RecordBatch>> {
        let first = std::mem::take(&mut self.first);
        let kept = match self.shape.kind {
            Kind::Outer => first.len(),
            Kind::Inner | Kind::Semi => first.iter().filter(|place| **place != 0).count(),
            Kind::Anti => first.iter().filter(|place| **place == 0).count(),
        };
        if kept == 0 {
            return None;
        }
        // Where every row stays, nothing of it is copied.
        if kept == first.len() {
            return Some(self.made(first, |column| Ok(column.clone())));
        }
        let anti = matches!(self.shape.kind, Kind::Anti);
        let keep = BooleanBuffer::collect_bool(first.len(), |row| (first[row] == 0) == anti);
        let keep = FilterBuilder::new(&BooleanArray::from(keep)).optimize().build();
        let found = first.into_iter().filter(|place| (*place == 0) == anti).collect();
        Some(self.made(found, |column| Ok(keep.filter(column)?)))
    }

    /// Some rows with all of their partners.
    fn pairs(&mut self) -> Option<Result<RecordBatch>> {
        let (mut rows, mut places) = (Vec::new(), Vec::new());
        let alone = matches!(self.shape.kind, Kind::Outer);
        let (mut row, mut at) = self.next;
        while rows.len() < self.most_rows && row < self.first.len() {
            let place = at.unwrap_or(self.first[row]);
            if place != 0 || alone {
                rows.push(row as u32);
                places.push(place);
            }
            at = (place != 0).then(|| self.held.places.after(place)).filter(|next| *next != 0);
            row += usize::from(at.is_none());
        }
        self.next = (row, at);
        let rows = UInt32Array::from(rows);
        (!rows.is_empty()).then(|| self.made(places, |column| Ok(take(column, &rows, None)?)))
    }

    /// A row for each place, its own columns as `own` makes them.
    fn made(&self, places: Vec<u32>, own: impl Fn(&ArrayRef) -> Result<ArrayRef>) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        let partners = partners(places);
        let columns = self.shape.columns.iter().map(|column| match column.side {
            JoinSide::Left => self.held.column(column.index, &partners),
            _ => own(self.batch.column(column.index)),
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new_with_options(self.shape.schema.clone(), columns, &options)?)
    }
}

impl Iterator for Joined {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.shape.kind.has_partners() && !self.held.places.are_single() {
            self.pairs()
        } else {
            self.single()
        }
    }
}

/// The rows at some places.
fn partners(places: Vec<u32>) -> UInt32Array {
    let nulls = places
        .contains(&0)
        .then(|| NullBuffer::new(BooleanBuffer::collect_bool(places.len(), |row| places[row] != 0)));
    UInt32Array::new(places.into_iter().map(|place| place.saturating_sub(1)).collect(), nulls)
}

impl Held {
    fn column(&self, index: usize, partners: &UInt32Array) -> Result<ArrayRef> {
        let column = self.rows.column(index);
        if partners.null_count() == partners.len() {
            return Ok(new_null_array(column.data_type(), partners.len()));
        }
        Ok(take(column, partners, None)?)
    }
}
