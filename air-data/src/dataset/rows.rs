//! [`Rows`]: a dataset as an iterator of rows.

use serde::de::DeserializeOwned;

use super::Dataset;
use super::batches::{BatchOptions, Batches};
use crate::error::{DataError, Place, Result};
use crate::rows::Reader;

impl Dataset {
    /// The rows one after the other, as values of `T`, see [`Dataset::take`]; read ahead on the session's threads, within its prefetch.
    ///
    /// # Errors
    /// As [`Dataset::batches_with`]. What goes wrong later comes out of the iterator, once, as its last item; so does [`DataError::Row`], for a batch with a row
    /// that is no `T`.
    pub fn rows<T: DeserializeOwned>(&self) -> Result<Rows<T>> {
        let batches = self.batches_with(BatchOptions::new(self.session.config().batch_rows))?;
        Ok(Rows { batches: Some(batches), reader: Reader::new(), ready: Vec::new().into_iter(), seen: 0 })
    }
}

/// An iterator over the rows of a dataset. Dropping it stops the work.
#[derive(Debug)]
pub struct Rows<T> {
    batches: Option<Batches>,
    reader: Reader<T>,
    ready: std::vec::IntoIter<T>,
    /// Rows in the batches so far.
    seen: u64,
}

impl<T: DeserializeOwned> Iterator for Rows<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.ready.next() {
                return Some(Ok(row));
            }
            let Some(batch) = self.batches.as_mut()?.next() else {
                self.batches = None;
                return None;
            };
            let (first, reader) = (self.seen, &self.reader);
            let rows = batch.and_then(|batch| {
                self.seen += batch.num_rows() as u64;
                reader.read(&batch).map_err(|bad| {
                    let rows = match bad.row {
                        Some(row) => first + row as u64..first + row as u64 + 1,
                        None => first..first + batch.num_rows() as u64,
                    };
                    DataError::Row {
                        op: "rows".to_owned(),
                        type_name: std::any::type_name::<T>(),
                        place: Place { rows, ..Place::default() },
                        source: bad.source,
                    }
                })
            });
            match rows {
                Ok(rows) => self.ready = rows.into_iter(),
                Err(error) => {
                    // An error is the last item.
                    self.batches = None;
                    return Some(Err(error));
                }
            }
        }
    }
}
