//! [`Rows`]: records → batches.

use std::collections::HashMap;

use air_core::BoxError;
use arrow::array::RecordBatch;

use super::example::{Feature, Kind, each_bytes, each_floats, each_ints, features};
use super::frame::Frames;
use crate::format::cells::{Cells, Values};
use crate::format::{BATCH_BYTES, LOOK_ROWS, Want, batch};

/// Where a feature's values go.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    Column(usize),
    /// The table has it, and nobody asked for it.
    Unwanted,
}

/// The records of a file as batches.
pub(super) struct Rows {
    frames: Frames,
    want: Want,
    cells: Vec<Cells>,
    targets: HashMap<String, Target>,
    /// The features of the last record, in their order: mostly the next one has them in the same.
    last: Vec<(String, Target)>,
}

impl Rows {
    pub(super) fn new(frames: Frames, want: Want) -> Result<Self, BoxError> {
        let cells = want.columns.fields().iter().map(|field| Cells::new(field)).collect::<Result<_, _>>()?;
        let mut targets: HashMap<String, Target> =
            want.all.fields().iter().map(|field| (field.name().clone(), Target::Unwanted)).collect();
        for (index, field) in want.columns.fields().iter().enumerate() {
            targets.insert(field.name().clone(), Target::Column(index));
        }
        Ok(Self { frames, want, cells, targets, last: Vec::new() })
    }

    /// The next batch; none at the end of the file.
    pub(super) async fn batch(&mut self) -> Result<Option<RecordBatch>, BoxError> {
        let mut rows = 0;
        let mut bytes = 0;
        while rows < self.want.rows && bytes < BATCH_BYTES {
            let Some(record) = self.frames.next().await? else { break };
            self.row(&record, rows).map_err(|error| self.frames.on(error))?;
            rows += 1;
            // A row costs at least its columns, also where a record says nothing of them.
            bytes += record.len() + 8 * self.cells.len();
        }
        if rows == 0 {
            return Ok(None);
        }
        let columns = self.cells.iter_mut().map(Cells::take).collect::<Result<_, _>>()?;
        Ok(Some(batch(self.want.columns.clone(), columns, rows)?))
    }

    fn row(&mut self, record: &[u8], row: usize) -> Result<(), BoxError> {
        for (place, feature) in features(record).enumerate() {
            let feature = feature?;
            let Target::Column(index) = self.target(place, &feature)? else { continue };
            let cells = &mut self.cells[index];
            if cells.rows() > row {
                return Err(format!("feature '{}' comes twice", feature.name).into());
            }
            fill(cells, &feature).map_err(|error| format!("feature '{}' {error}", feature.name))?;
        }
        for (index, cells) in self.cells.iter_mut().enumerate() {
            if cells.rows() == row {
                let named = |error| format!("feature '{}' {error}", self.want.columns.field(index).name());
                cells.null().map_err(named)?;
            }
        }
        Ok(())
    }

    fn target(&mut self, place: usize, feature: &Feature<'_>) -> Result<Target, BoxError> {
        if let Some((name, target)) = self.last.get(place)
            && name == feature.name
        {
            return Ok(*target);
        }
        let target = match self.targets.get(feature.name) {
            Some(target) => *target,
            None if self.want.given || feature.list.is_none() => Target::Unwanted,
            None => {
                return Err(format!(
                    "feature '{}' is not in the first {LOOK_ROWS} records of any file, which told the columns; give them all (ReadOptions::schema)",
                    feature.name
                )
                .into());
            }
        };
        self.last.truncate(place);
        if self.last.len() == place {
            self.last.push((feature.name.to_owned(), target));
        }
        Ok(target)
    }
}

fn fill(cells: &mut Cells, feature: &Feature<'_>) -> Result<(), BoxError> {
    let Some((kind, list)) = feature.list else { return cells.null() };
    match (kind, &mut cells.values) {
        (Kind::Bytes, Values::Bytes { .. }) => each_bytes(list, |value| cells.push_bytes(value))?,
        (Kind::Floats, Values::Floats(all)) => each_floats(list, |value| all.push(value))?,
        (Kind::Floats, Values::Doubles(all)) => each_floats(list, |value| all.push(f64::from(value)))?,
        (Kind::Ints, Values::Ints(all)) => each_ints(list, |value| all.push(value))?,
        (kind, _) => return Err(format!("has {kind}, which its column does not hold").into()),
    }
    cells.end()
}
