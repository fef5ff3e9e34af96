//! [`BatchSource`]: how a library that consumes batches meets one that makes them, without either knowing the other
//! (invariant A1). A dataset's shard is one; a trainer takes any.

use crate::BoxError;
use crate::channel::Weigh;
use crate::tensor::{Tensor, TensorError};

/// Named columns of equally many rows. Cheap to clone: the tensors are handles.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    columns: Vec<(String, Tensor)>,
    rows: usize,
}

/// Columns that do not make a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Two columns have one name.
    #[error("two columns are named `{name}`")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A column is a scalar, which has no rows.
    #[error("column `{name}` has no rows: it is a scalar")]
    Scalar {
        /// The column.
        name: String,
    },
    /// A column is longer or shorter than the first.
    #[error("column `{name}` has {rows} rows, the first column has {expected_rows}")]
    Ragged {
        /// The column.
        name: String,
        /// Its rows.
        rows: usize,
        /// The rows of the first column.
        expected_rows: usize,
    },
    /// There is no column of that name.
    #[error("no column `{name}`; there are: {columns}")]
    NoColumn {
        /// The name asked for.
        name: String,
        /// The names there are, with commas between.
        columns: String,
    },
}

impl Batch {
    /// A batch of these columns. A tensor's first axis is its rows; names and lengths must agree.
    pub fn new(columns: Vec<(String, Tensor)>) -> Result<Self, BatchError> {
        let mut rows = None;
        for (position, (name, tensor)) in columns.iter().enumerate() {
            let Some(&length) = tensor.shape().first() else {
                return Err(BatchError::Scalar { name: name.clone() });
            };
            let expected_rows = *rows.get_or_insert(length);
            if length != expected_rows {
                return Err(BatchError::Ragged { name: name.clone(), rows: length, expected_rows });
            }
            if columns[..position].iter().any(|(earlier, _)| earlier == name) {
                return Err(BatchError::Duplicate { name: name.clone() });
            }
        }
        Ok(Self { columns, rows: rows.unwrap_or(0) })
    }

    /// How many rows each column has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The columns, in order: name, and a tensor of shape `[rows, …]`.
    pub fn columns(&self) -> &[(String, Tensor)] {
        &self.columns
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Result<&Tensor, BatchError> {
        let found = self.columns.iter().find(|(column, _)| column == name);
        found.map(|(_, tensor)| tensor).ok_or_else(|| BatchError::NoColumn {
            name: name.into(),
            columns: self.columns.iter().map(|(column, _)| column.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// Rows `from..to` of every column, without copying.
    pub fn slice(&self, from: usize, to: usize) -> Result<Self, TensorError> {
        let columns: Result<Vec<_>, TensorError> = self
            .columns
            .iter()
            .map(|(name, tensor)| Ok((name.clone(), tensor.slice(0, from..to)?)))
            .collect();
        Ok(Self { columns: columns?, rows: to.saturating_sub(from) })
    }

    /// The columns themselves.
    pub fn into_columns(self) -> Vec<(String, Tensor)> {
        self.columns
    }
}

impl Weigh for Batch {
    fn weight_bytes(&self) -> usize {
        self.columns.iter().map(|(name, tensor)| name.len() + tensor.weight_bytes()).sum()
    }
}

/// Something that yields batches, once an epoch: a dataset's shard, a file, a generator.
pub trait BatchSource: Send {
    /// The next batch, or `None` at the end of the epoch. May block.
    fn next_batch(&mut self) -> Result<Option<Batch>, BoxError>;

    /// Goes back to the beginning, for the given epoch. A source that shuffles draws a new order from it; the same
    /// epoch always has the same order.
    fn restart(&mut self, epoch: u64) -> Result<(), BoxError>;
}

impl<S: BatchSource + ?Sized> BatchSource for Box<S> {
    fn next_batch(&mut self) -> Result<Option<Batch>, BoxError> {
        (**self).next_batch()
    }

    fn restart(&mut self, epoch: u64) -> Result<(), BoxError> {
        (**self).restart(epoch)
    }
}

/// Batches in memory, the same every epoch; for tests and for small tables.
#[derive(Debug, Clone, Default)]
pub struct InMemory {
    batches: Vec<Batch>,
    next: usize,
}

impl InMemory {
    /// A source of these batches, in this order.
    pub fn new(batches: Vec<Batch>) -> Self {
        Self { batches, next: 0 }
    }
}

impl BatchSource for InMemory {
    fn next_batch(&mut self) -> Result<Option<Batch>, BoxError> {
        let batch = self.batches.get(self.next).cloned();
        self.next += usize::from(batch.is_some());
        Ok(batch)
    }

    fn restart(&mut self, _epoch: u64) -> Result<(), BoxError> {
        self.next = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn column(name: &str, rows: usize) -> (String, Tensor) {
        (name.into(), Tensor::from_vec((0..rows * 2).map(|i| i as f32).collect(), &[rows, 2]).unwrap())
    }

    #[test]
    fn columns_must_agree() {
        let error = |columns| Batch::new(columns).unwrap_err().to_string();
        assert_eq!(
            error(vec![column("x", 3), column("y", 2)]),
            "column `y` has 2 rows, the first column has 3"
        );
        assert_eq!(error(vec![column("x", 3), column("x", 3)]), "two columns are named `x`");
        assert_eq!(
            error(vec![("s".into(), Tensor::scalar(1.0_f32))]),
            "column `s` has no rows: it is a scalar"
        );
        assert_eq!(Batch::new(Vec::new()).unwrap().rows(), 0);
    }

    #[test]
    fn a_column_is_found_by_name_and_sliced_without_copying() {
        let batch = Batch::new(vec![column("x", 4), column("y", 4)]).unwrap();
        assert_eq!(batch.column("z").unwrap_err().to_string(), "no column `z`; there are: x, y");
        let part = batch.slice(1, 3).unwrap();
        assert_eq!(part.rows(), 2);
        assert_eq!(part.column("y").unwrap().to_vec::<f32>().unwrap(), [2.0, 3.0, 4.0, 5.0]);
        assert!(part.column("y").unwrap().shares_memory_with(batch.column("y").unwrap()));
        assert!(batch.slice(3, 5).is_err());
        assert_eq!(batch.weight_bytes(), 2 + 2 * 32);
    }

    #[test]
    fn a_source_in_memory_repeats_every_epoch() {
        let mut source: Box<dyn BatchSource> =
            Box::new(InMemory::new(vec![Batch::new(vec![column("x", 1)]).unwrap(); 2]));
        for epoch in 0..3 {
            source.restart(epoch).unwrap();
            assert_eq!(source.next_batch().unwrap().unwrap().rows(), 1);
            assert_eq!(source.next_batch().unwrap().unwrap().rows(), 1);
            assert!(source.next_batch().unwrap().is_none());
            assert!(source.next_batch().unwrap().is_none());
        }
    }
}
