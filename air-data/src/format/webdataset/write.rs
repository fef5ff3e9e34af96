//! [`Samples`]: batches → archives.

use air_core::BoxError;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Schema};

use super::{KEY, tar};

/// Rows as samples: the column `__key__` says what its files are called, every other column is a file of that ending; a null is a file that is missing.
pub(crate) struct Samples {
    key: usize,
    last: Option<String>,
    out: Vec<u8>,
}

impl Samples {
    pub(crate) fn new(schema: &Schema) -> Result<Self, BoxError> {
        let key = schema.index_of(KEY).map_err(|_| {
            format!(
                "a sample needs a name, and there is no column '{KEY}' of them; make one with with_column"
            )
        })?;
        for field in schema.fields() {
            let kind = field.data_type();
            let plain = is_bytes(kind) || is_text(kind) || kind.is_numeric() || *kind == DataType::Boolean;
            if field.name() == KEY && !is_text(kind) {
                return Err(format!("'{KEY}' is {kind}, and must be text").into());
            }
            if !plain {
                return Err(format!("'{}' is {kind}; a file is bytes, text or a number", field.name()).into());
            }
            if field.name().is_empty() || field.name().contains('/') {
                return Err(format!("'{}' cannot be the ending of a file", field.name()).into());
            }
        }
        Ok(Self { key, last: None, out: Vec::new() })
    }

    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), BoxError> {
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let columns = batch.columns().iter().map(|column| {
            let text = if is_bytes(column.data_type()) {
                column.clone()
            } else {
                cast_with_options(column, &DataType::Utf8, &strict)?
            };
            Ok(cast_with_options(&text, &DataType::Binary, &strict)?)
        });
        let columns = columns.collect::<Result<Vec<_>, BoxError>>()?;
        let schema = batch.schema();
        for row in 0..batch.num_rows() {
            let key = String::from_utf8_lossy(columns[self.key].as_binary::<i32>().value(row)).into_owned();
            let base = key.rsplit('/').next().unwrap_or_default();
            if base.is_empty()
                || base.contains('.')
                || base.starts_with("__")
                || key.starts_with("./")
                || key.contains('\0')
            {
                return Err(format!(
                    "'{key}' cannot be the key of a sample: its last part has to be there and to have no dot"
                )
                .into());
            }
            if self.last.as_deref() == Some(&*key) {
                return Err(format!("the key '{key}' comes twice, which would make one sample of two").into());
            }
            if columns.iter().enumerate().all(|(index, column)| index == self.key || column.is_null(row)) {
                return Err(format!("the sample '{key}' has no value, so no file would be left of it").into());
            }
            for (index, column) in columns.iter().enumerate() {
                if index != self.key && column.is_valid(row) {
                    let name = format!("{key}.{}", schema.field(index).name());
                    tar::put(&mut self.out, &name, column.as_binary::<i32>().value(row));
                }
            }
            self.last = Some(key);
        }
        Ok(())
    }

    pub(crate) fn finish(&mut self) {
        tar::end(&mut self.out);
    }
}

fn is_bytes(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
    )
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}
