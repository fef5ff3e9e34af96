//! The results as an Arrow table and as a Parquet file.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, RecordBatchOptions, StringArray,
};
use arrow::datatypes::{Field as ArrowField, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::ResultGrid;
use super::columns::{Column, Field, columns};
use crate::error::{Result, TuneError};

impl ResultGrid {
    /// The results as an Arrow table, one row a trial in their order: `trial` (`Int64`), `status` (`Utf8`), `iterations` (`Int64`),
    /// `seconds` (`Float64`), the parameters by their paths, the metric and all other numbers last reported (`Float64`), then
    /// `attempts` (`Int64`), `stop` and `cause` (`Utf8`). What a trial has not is null.
    ///
    /// A parameter's column is `Int64`, `Float64` if some are not whole, `Boolean`, or else `Utf8`, with lists as JSON. A parameter
    /// called as another column is `config/NAME`.
    ///
    /// # Errors
    /// [`TuneError::Table`] if Arrow refuses the table.
    pub fn to_arrow(&self) -> Result<RecordBatch> {
        let columns = columns(self);
        let arrays: Vec<ArrayRef> = columns.iter().map(array).collect();
        let named = columns.into_iter().zip(&arrays);
        let schema: Schema = Schema::new(
            named.map(|(c, a)| ArrowField::new(c.name, a.data_type().clone(), true)).collect::<Vec<_>>(),
        );
        let rows = RecordBatchOptions::new().with_row_count(Some(self.len()));
        Ok(RecordBatch::try_new_with_options(Arc::new(schema), arrays, &rows)?)
    }

    /// Writes [`to_arrow`](Self::to_arrow)'s table as Parquet, compressed with zstd.
    ///
    /// # Errors
    /// [`TuneError::Table`] if Arrow or `to` refuses it.
    pub fn write_parquet<W: Write + Send>(&self, to: W) -> Result<()> {
        let table = self.to_arrow()?;
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default()));
        let mut writer = ArrowWriter::try_new(to, table.schema(), Some(properties.build()))?;
        writer.write(&table)?;
        writer.close()?;
        Ok(())
    }
}

impl From<arrow::error::ArrowError> for TuneError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Table { source: Box::new(error) }
    }
}

impl From<parquet::errors::ParquetError> for TuneError {
    fn from(error: parquet::errors::ParquetError) -> Self {
        Self::Table { source: Box::new(error) }
    }
}

/// The narrowest type that holds every field: text holds them all.
fn array(column: &Column) -> ArrayRef {
    let fields = column.fields.iter().map(Option::as_ref);
    let all = |fits: fn(&Field) -> bool| {
        column.fields.iter().any(Option::is_some) && column.fields.iter().flatten().all(fits)
    };
    if all(|field| whole(field).is_some()) {
        Arc::new(fields.map(|field| field.and_then(whole)).collect::<Int64Array>())
    } else if column.numbers || all(|field| number(field).is_some()) {
        Arc::new(fields.map(|field| field.and_then(number)).collect::<Float64Array>())
    } else if all(|field| truth(field).is_some()) {
        Arc::new(fields.map(|field| field.and_then(truth)).collect::<BooleanArray>())
    } else {
        Arc::new(fields.map(|field| field.map(ToString::to_string)).collect::<StringArray>())
    }
}

fn whole(field: &Field) -> Option<i64> {
    if let Field::Whole(whole) = field { Some(*whole) } else { None }
}

#[allow(clippy::cast_precision_loss)] // a column of both is one of numbers, as in any table
fn number(field: &Field) -> Option<f64> {
    match field {
        Field::Whole(whole) => Some(*whole as f64),
        Field::Number(number) | Field::Seconds(number) => Some(*number),
        Field::Truth(_) | Field::Text(_) => None,
    }
}

fn truth(field: &Field) -> Option<bool> {
    if let Field::Truth(truth) = field { Some(*truth) } else { None }
}
