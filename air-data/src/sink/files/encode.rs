//! Batches → the bytes of a file, format by format.

use air_core::BoxError;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::csv::{QuoteStyle, WriterBuilder};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::ipc::writer::FileWriter;
use arrow::json::LineDelimitedWriter;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression as Codec, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;

use super::WriteOptions;
use crate::format::tfrecord::Examples;
use crate::format::webdataset::Samples;
use crate::format::{Compression, FileFormat, npy};

/// Rows in a row group of Parquet, unless told.
const ROW_GROUP_ROWS: usize = 1 << 20;

/// Dictionaries of numbers are given up from so many bytes on, which are 32 768 of eight bytes: what has more of them in a row group seldom has few, and
/// looking each up takes longer than writing it.
const NUMBERS_BYTES: usize = 256 << 10;

/// Batches → bytes of a file.
pub(super) trait Encoder: Send {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError>;
    fn finish(&mut self) -> std::result::Result<(), BoxError>;
    /// The bytes made since the last call.
    fn take(&mut self) -> Vec<u8>;
}

pub(super) fn encoder(
    format: &FileFormat,
    options: &WriteOptions,
    schema: &SchemaRef,
) -> std::result::Result<Box<dyn Encoder>, BoxError> {
    Ok(match format {
        FileFormat::Parquet => {
            let compression = match options.compression {
                Compression::None => Codec::UNCOMPRESSED,
                Compression::Auto | Compression::Snappy => Codec::SNAPPY,
                Compression::Gzip => Codec::GZIP(GzipLevel::default()),
                Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
            };
            let properties = WriterProperties::builder()
                .set_compression(compression)
                .set_max_row_group_row_count(Some(options.row_group_rows.unwrap_or(ROW_GROUP_ROWS)));
            let numbers = schema.fields().iter().filter(|field| field.data_type().is_primitive());
            let properties = numbers.fold(properties, |properties, field| {
                let column = ColumnPath::from(vec![field.name().clone()]);
                properties.set_column_dictionary_page_size_limit(column, NUMBERS_BYTES)
            });
            let properties = Some(properties.build());
            Box::new(Parquet { writer: ArrowWriter::try_new(Vec::new(), schema.clone(), properties)? })
        }
        FileFormat::Csv(_) => {
            let csv = &options.csv;
            let builder = WriterBuilder::new()
                .with_delimiter(csv.delimiter_byte()?)
                .with_quote(csv.quote_byte()?)
                .with_quote_style(QuoteStyle::Necessary);
            let mut bytes = Vec::new();
            if csv.header {
                builder
                    .clone()
                    .with_header(true)
                    .build(&mut bytes)
                    .write(&RecordBatch::new_empty(schema.clone()))?;
            }
            Box::new(Csv { builder: builder.with_header(false), bytes })
        }
        FileFormat::Json => Box::new(Json { bytes: Vec::new() }),
        FileFormat::Ipc => Box::new(Ipc { writer: FileWriter::try_new(Vec::new(), schema)? }),
        FileFormat::JsonArray => Box::new(JsonArray { rows: 0, bytes: Vec::new() }),
        FileFormat::Npy => Box::new(Npy::new(schema)?),
        FileFormat::TfRecord => Box::new(Examples::new(schema)?),
        FileFormat::WebDataset => Box::new(Samples::new(schema)?),
        #[cfg(feature = "avro")]
        FileFormat::Avro => Box::new(crate::format::avro::Blocks::new(schema)?),
        #[cfg(feature = "images")]
        FileFormat::Images(_) => Box::new(crate::format::images::Picture::new(schema, options.jpeg_quality)?),
        other => return Err(format!("files of the format {other:?} are read and not written").into()),
    })
}

struct Parquet {
    writer: ArrowWriter<Vec<u8>>,
}

impl Encoder for Parquet {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        Ok(self.writer.write(batch)?)
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        self.writer.finish()?;
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.inner_mut())
    }
}

struct Csv {
    builder: WriterBuilder,
    bytes: Vec<u8>,
}

impl Encoder for Csv {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        Ok(self.builder.clone().build(&mut self.bytes).write(batch)?)
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

struct Json {
    bytes: Vec<u8>,
}

impl Encoder for Json {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        let mut writer = LineDelimitedWriter::new(&mut self.bytes);
        writer.write(batch)?;
        Ok(writer.finish()?)
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

/// `[`, the rows with commas between them, `]`.
struct JsonArray {
    rows: usize,
    bytes: Vec<u8>,
}

impl Encoder for JsonArray {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        let mut lines = Vec::new();
        let mut writer = LineDelimitedWriter::new(&mut lines);
        writer.write(batch)?;
        writer.finish()?;
        // Line ends within values are escaped.
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            self.bytes.extend_from_slice(if self.rows == 0 { b"[\n" } else { b",\n" });
            self.bytes.extend_from_slice(line);
            self.rows += 1;
        }
        Ok(())
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        self.bytes.extend_from_slice(if self.rows == 0 { b"[]\n" } else { b"\n]\n" });
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl Encoder for Examples {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        Examples::write(self, batch)
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        Examples::take(self)
    }
}

#[cfg(feature = "avro")]
impl Encoder for crate::format::avro::Blocks {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        Self::write(self, batch)
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        Self::finish(self)
    }

    fn take(&mut self) -> Vec<u8> {
        Self::take(self)
    }
}

#[cfg(feature = "images")]
impl Encoder for crate::format::images::Picture {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        Self::write(self, batch)
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        Self::take(self)
    }
}

impl Encoder for Samples {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        Samples::write(self, batch)
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        Samples::finish(self);
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        Samples::take(self)
    }
}

struct Ipc {
    writer: FileWriter<Vec<u8>>,
}

impl Encoder for Ipc {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        Ok(self.writer.write(batch)?)
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        Ok(self.writer.finish()?)
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }
}

/// Its header tells the number of rows, so the values wait for the end.
struct Npy {
    descr: &'static str,
    kind: DataType,
    row: Option<usize>,
    rows: usize,
    values: Vec<u8>,
    file: Vec<u8>,
}

impl Npy {
    fn new(schema: &SchemaRef) -> std::result::Result<Self, BoxError> {
        let [field] = &schema.fields()[..] else {
            let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
            return Err(
                format!(".npy holds one column, and there are {}; select one", names.join(", ")).into()
            );
        };
        let (kind, row) = match field.data_type() {
            DataType::FixedSizeList(item, width) => (item.data_type(), Some(usize::try_from(*width)?)),
            plain => (plain, None),
        };
        let descr = npy::descr(kind)
            .ok_or_else(|| format!("'{}' is {kind}, which .npy does not hold", field.name()))?;
        Ok(Self { descr, kind: kind.clone(), row, rows: 0, values: Vec::new(), file: Vec::new() })
    }
}

impl Encoder for Npy {
    fn write(&mut self, batch: &RecordBatch) -> std::result::Result<(), BoxError> {
        let column = batch.column(0);
        let flat = match column.as_fixed_size_list_opt() {
            Some(list) => {
                let width = list.value_length() as usize;
                list.values().slice(list.offset() * width, list.len() * width)
            }
            None => column.clone(),
        };
        if column.null_count() + flat.null_count() > 0 {
            return Err("a null, which .npy cannot hold; fill it or filter it out first".into());
        }
        if self.kind == DataType::Boolean {
            self.values.extend(flat.as_boolean().iter().flatten().map(u8::from));
        } else {
            let data = flat.to_data();
            let width = self.kind.primitive_width().unwrap_or(1);
            let (from, bytes) = (data.offset() * width, data.len() * width);
            self.values.extend_from_slice(&data.buffers()[0].as_slice()[from..from + bytes]);
        }
        self.rows += batch.num_rows();
        Ok(())
    }

    fn finish(&mut self) -> std::result::Result<(), BoxError> {
        let shape = match self.row {
            Some(width) => format!("({}, {width})", self.rows),
            None => format!("({},)", self.rows),
        };
        let header = format!("{{'descr': '{}', 'fortran_order': False, 'shape': {shape}, }}", self.descr);
        // The values begin at a multiple of 64.
        let padded = (10 + header.len() + 1).next_multiple_of(64) - 10;
        self.file.extend_from_slice(b"\x93NUMPY\x01\x00");
        self.file.extend_from_slice(&u16::try_from(padded)?.to_le_bytes());
        self.file.extend_from_slice(format!("{header:<width$}\n", width = padded - 1).as_bytes());
        self.file.append(&mut self.values);
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.file)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use bytes::Bytes;
    use parquet::file::reader::FileReader;
    use parquet::file::serialized_reader::SerializedFileReader;

    use super::*;

    #[test]
    fn numbers_that_are_nearly_all_different_have_no_large_dictionary() {
        let rows = 100_000_i64;
        let text = (0..rows).map(|row| Some((row % 60_000).to_string())).collect::<StringArray>();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("all", Arc::new(Int64Array::from_iter_values(0..rows))),
            ("few", Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row % 1000)))),
            ("text", Arc::new(text)),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let options = WriteOptions { compression: Compression::None, ..WriteOptions::default() };
        let mut encoder = encoder(&FileFormat::Parquet, &options, &batch.schema()).unwrap();
        encoder.write(&batch).unwrap();
        encoder.finish().unwrap();
        let file = SerializedFileReader::new(Bytes::from(encoder.take())).unwrap();
        let dictionary = |column: usize| {
            let column = file.metadata().row_group(0).column(column);
            column.data_page_offset() - column.dictionary_page_offset().unwrap()
        };
        assert!((8 * 1000..10_000).contains(&dictionary(1)), "{}", dictionary(1));
        assert!((NUMBERS_BYTES as i64..300_000).contains(&dictionary(0)), "{}", dictionary(0));
        // Text has what the format's writers give it.
        assert!(dictionary(2) > 400_000, "{}", dictionary(2));
    }
}
