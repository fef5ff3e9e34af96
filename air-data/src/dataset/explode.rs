//! [`Dataset::explode`]: lists as rows.

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{ArrayRef, RecordBatch, UInt64Array};
use arrow::compute::take;
use arrow::datatypes::{Field, FieldRef, Schema, SchemaRef};

use super::Dataset;
use crate::error::{DataError, Result};
use crate::lists::{entry, lists};

impl Dataset {
    /// A row for each entry of a column's lists, in their order, with the other columns' values beside each. A row whose list is null or empty makes none.
    pub fn explode(&self, column: &str) -> Self {
        match self.exploded(column) {
            Ok((schema, index)) => {
                let made = schema.clone();
                self.map_batches_to(schema, move |batch| explode(&batch, index, &made))
            }
            Err(error) => self.failed(error),
        }
    }

    /// The columns after it, and which of them is exploded.
    fn exploded(&self, column: &str) -> Result<(SchemaRef, usize)> {
        let schema = self.schema()?;
        let mut fields: Vec<FieldRef> = schema.fields().to_vec();
        let Some(index) = fields.iter().position(|field| field.name() == column) else {
            let known = fields.iter().map(|field| field.name().clone()).collect();
            return Err(DataError::unknown_column(column, known));
        };
        let Some(item) = entry(fields[index].data_type()) else {
            let reason = format!("explode needs lists, and '{column}' is {}", fields[index].data_type());
            return Err(DataError::Config { field: "column", reason });
        };
        fields[index] = Arc::new(Field::new(column, item.data_type().clone(), true));
        Ok((Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone())), index))
    }
}

fn explode(
    batch: &RecordBatch,
    index: usize,
    schema: &SchemaRef,
) -> std::result::Result<RecordBatch, BoxError> {
    let Some((rows, entries)) = lists(batch.column(index)) else {
        return Err("its columns have changed".into());
    };
    let lengths = rows.iter().enumerate().flat_map(|(row, range)| range.clone().map(move |_| row as u64));
    let row_of_each = UInt64Array::from_iter_values(lengths);
    let places = UInt64Array::from_iter_values(rows.iter().flat_map(Clone::clone).map(|at| at as u64));
    let columns = batch.columns().iter().enumerate().map(|(at, column)| {
        if at == index { take(&entries, &places, None) } else { take(column, &row_of_each, None) }
    });
    let columns = columns.collect::<std::result::Result<Vec<ArrayRef>, _>>()?;
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}
