//! [`Rows`]: samples → batches.

use std::collections::HashMap;

use air_core::BoxError;
use arrow::array::RecordBatch;

use super::tar::{Entry, Tar};
use super::{KEY, parts};
use crate::format::cells::{Cells, Shape, Values};
use crate::format::{BATCH_BYTES, LOOK_ROWS, VALUE_BYTES, Want, batch};

/// The samples of an archive as batches.
pub(super) struct Rows {
    tar: Tar,
    want: Want,
    cells: Vec<Cells>,
    /// Where the files of an ending go; nowhere for those that nobody asked for.
    targets: HashMap<String, Option<usize>>,
    key: Option<usize>,
    /// The first file of the next sample.
    next: Option<Entry>,
    samples: u64,
}

impl Rows {
    pub(super) fn new(tar: Tar, want: Want) -> Result<Self, BoxError> {
        let cells: Vec<Cells> =
            want.columns.fields().iter().map(|field| Cells::new(field)).collect::<Result<_, _>>()?;
        if let Some(index) = cells.iter().position(|cells| cells.shape != Shape::One) {
            let name = want.columns.field(index).name();
            return Err(format!("column '{name}' cannot be a list: a file is one value").into());
        }
        let mut targets: HashMap<String, Option<usize>> =
            want.all.fields().iter().map(|field| (field.name().clone(), None)).collect();
        for (index, field) in want.columns.fields().iter().enumerate() {
            targets.insert(field.name().clone(), Some(index));
        }
        let key = targets.remove(KEY).flatten();
        if let Some(key) = key
            && !matches!(cells[key].values, Values::Bytes { .. })
        {
            return Err(format!("column '{KEY}' is text").into());
        }
        Ok(Self { tar, want, cells, targets, key, next: None, samples: 0 })
    }

    /// The next batch; none at the end of the archive.
    pub(super) async fn batch(&mut self) -> Result<Option<RecordBatch>, BoxError> {
        let (mut rows, mut bytes) = (0, 0);
        while rows < self.want.rows && bytes < BATCH_BYTES {
            let Some(read) = self.sample(rows).await? else { break };
            rows += 1;
            bytes += read + 8 * self.cells.len();
        }
        if rows == 0 {
            return Ok(None);
        }
        let columns = self.cells.iter_mut().map(Cells::take).collect::<Result<_, _>>()?;
        Ok(Some(batch(self.want.columns.clone(), columns, rows)?))
    }

    /// The next file that belongs to a sample.
    async fn file(&mut self) -> Result<Option<Entry>, BoxError> {
        if let Some(entry) = self.next.take() {
            return Ok(Some(entry));
        }
        while let Some(entry) = self.tar.next().await? {
            if parts(&entry.name).is_some() {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Reads a sample into the row; how many bytes it took, or none at the end of the archive.
    async fn sample(&mut self, row: usize) -> Result<Option<usize>, BoxError> {
        let Some(mut entry) = self.file().await? else { return Ok(None) };
        let key = parts(&entry.name).map_or_else(String::new, |(key, _)| key.to_owned());
        self.samples += 1;
        let mut bytes = key.len();
        if let Some(cells) = self.key.map(|index| &mut self.cells[index]) {
            cells.push_bytes(key.as_bytes())?;
            cells.end()?;
        }
        loop {
            bytes += self.put(&entry, row).await.map_err(|error| self.on(&entry, error))?;
            let Some(next) = self.file().await? else { break };
            if parts(&next.name).is_none_or(|(other, _)| other != key) {
                self.next = Some(next);
                break;
            }
            entry = next;
        }
        for (cells, field) in self.cells.iter_mut().zip(self.want.columns.fields()) {
            if cells.rows() == row {
                cells.null().map_err(|error| {
                    let sample = self.samples - 1;
                    format!("sample {sample} ('{key}'): the file of the ending '{}' {error}", field.name())
                })?;
            }
        }
        Ok(Some(bytes))
    }

    async fn put(&mut self, entry: &Entry, row: usize) -> Result<usize, BoxError> {
        let ending = parts(&entry.name).map_or("", |(_, ending)| ending);
        let index = match self.targets.get(ending) {
            Some(Some(index)) => *index,
            Some(None) => return Ok(0),
            None if self.want.given => return Ok(0),
            None => {
                return Err(format!(
                    "the first {LOOK_ROWS} samples of all files, which told the columns, have none of that ending; give all columns (ReadOptions::schema)"
                )
                .into());
            }
        };
        if self.cells[index].rows() > row {
            return Err("the sample has it twice".into());
        }
        if entry.bytes > VALUE_BYTES {
            return Err(format!("{} bytes; a file has at most {VALUE_BYTES}", entry.bytes).into());
        }
        let content = self.tar.content(entry).await?;
        let number = |kind: &str| format!("is no {kind}: {:?}", shown(&content));
        let trimmed = || std::str::from_utf8(&content).unwrap_or_default().trim();
        let cells = &mut self.cells[index];
        match &mut cells.values {
            Values::Bytes { .. } => cells.push_bytes(&content)?,
            Values::Ints(all) => all.push(trimmed().parse().map_err(|_| number("integer"))?),
            Values::Floats(all) => all.push(trimmed().parse().map_err(|_| number("number"))?),
            Values::Doubles(all) => all.push(trimmed().parse().map_err(|_| number("number"))?),
        }
        cells.end()?;
        Ok(content.len())
    }

    fn on(&self, entry: &Entry, error: BoxError) -> BoxError {
        format!("sample {}, '{}' at byte {}: {error}", self.samples - 1, entry.name, entry.at).into()
    }
}

/// The beginning of a content, for a message.
fn shown(content: &[u8]) -> String {
    String::from_utf8_lossy(&content[..content.len().min(40)]).into_owned()
}
