//! NumPy's `.npy` files, version 1 to 3: a header that tells type and shape, then the values.
//!
//! The format is described in NumPy's documentation of `numpy.lib.format`.

use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{Array, ArrayData, ArrayRef, BooleanArray, FixedSizeListArray, RecordBatch, make_array};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};

use super::{FileBytes, Format, Want, batch};

/// A longer header is not looked into.
const HEADER_BYTES: u64 = 1 << 16;

const MAGIC: &[u8] = b"\x93NUMPY";

#[derive(Debug)]
pub(super) struct Npy;

impl Format for Npy {
    fn name(&self) -> &'static str {
        "npy"
    }

    fn look(&self, file: FileBytes) -> BoxFuture<'static, Result<Schema, BoxError>> {
        let field = async move { Header::parse(&file.start(HEADER_BYTES).await?)?.field() };
        field.map(|field| Ok(Schema::new(vec![field?]))).boxed()
    }

    fn open(&self, file: FileBytes, want: Want) -> BoxStream<'static, Result<RecordBatch, BoxError>> {
        let batches = async move {
            let array = decode(file.whole().await?, want.all.field(0))?;
            let pieces = (0..array.len()).step_by(want.rows).map(move |start| {
                let rows = want.rows.min(array.len() - start);
                let columns = want.columns.fields().iter().map(|_| array.slice(start, rows)).collect();
                batch(want.columns.clone(), columns, rows)
            });
            Ok::<_, BoxError>(futures::stream::iter(pieces))
        };
        futures::stream::once(batches).try_flatten().boxed()
    }
}

/// What a file says of its values.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Header {
    pub(crate) kind: DataType,
    pub(crate) shape: Vec<usize>,
    /// Where the values begin.
    start: usize,
}

impl Header {
    /// Reads the beginning of a file.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BoxError> {
        let short = || BoxError::from("cut short within the header");
        if !bytes.starts_with(MAGIC) {
            return Err("not a .npy file: it does not begin with \\x93NUMPY".into());
        }
        let major = *bytes.get(6).ok_or_else(short)?;
        let (length, start) = match major {
            1 => (u16::from_le_bytes(bytes.get(8..10).ok_or_else(short)?.try_into()?) as usize, 10),
            2 | 3 => (u32::from_le_bytes(bytes.get(8..12).ok_or_else(short)?.try_into()?) as usize, 12),
            other => return Err(format!("version {other} of the format is not known").into()),
        };
        if length as u64 > HEADER_BYTES {
            return Err(format!("a header of {length} bytes; at most {HEADER_BYTES} are read").into());
        }
        let text = std::str::from_utf8(bytes.get(start..start + length).ok_or_else(short)?)?;
        let field = |name: &str| -> Result<&str, BoxError> {
            let at = text.find(name).ok_or_else(|| format!("the header has no {name}"))?;
            let rest = text[at + name.len()..].trim_start();
            let rest = rest.strip_prefix(':').ok_or_else(|| format!("the header has no value for {name}"))?;
            Ok(rest.trim_start())
        };
        let descr = field("'descr'")?;
        let descr = descr.strip_prefix('\'').and_then(|rest| rest.split('\'').next());
        let descr = descr.ok_or("values with named fields are not read; save each field by itself")?;
        let order = field("'fortran_order'")?;
        let shape = field("'shape'")?;
        let shape = shape
            .strip_prefix('(')
            .and_then(|rest| rest.split(')').next())
            .ok_or("a shape that is no tuple")?;
        let sizes = shape.split(',').map(str::trim).filter(|size| !size.is_empty());
        let shape: Vec<usize> = sizes.map(str::parse).collect::<Result<_, _>>()?;
        if order.starts_with("True") && shape.len() > 1 {
            return Err("columns come first (fortran_order); save it with numpy.ascontiguousarray".into());
        }
        Ok(Self { kind: kind(descr)?, shape, start: start + length })
    }

    /// The shape of a row.
    fn row(&self) -> &[usize] {
        self.shape.get(1..).unwrap_or(&[])
    }

    /// The column that the values make.
    pub(crate) fn field(&self) -> Result<Field, BoxError> {
        let row = self.row();
        if row.is_empty() {
            return Ok(Field::new("data", self.kind.clone(), false));
        }
        let width = i32::try_from(product(row)?).map_err(|_| "a row has more than 2^31 values")?;
        let item = Arc::new(Field::new("item", self.kind.clone(), false));
        let shape = format!("{{\"shape\":{row:?}}}").replace(' ', "");
        let metadata = [
            ("ARROW:extension:name".to_owned(), "arrow.fixed_shape_tensor".to_owned()),
            ("ARROW:extension:metadata".to_owned(), shape),
        ];
        Ok(Field::new("data", DataType::FixedSizeList(item, width), false).with_metadata(metadata.into()))
    }
}

fn product(sizes: &[usize]) -> Result<usize, BoxError> {
    let product = sizes.iter().try_fold(1_usize, |product, size| product.checked_mul(*size));
    product.ok_or_else(|| "more values than can be counted".into())
}

/// The type that `<f8` and its like stand for.
fn kind(descr: &str) -> Result<DataType, BoxError> {
    Ok(match descr {
        "|b1" => DataType::Boolean,
        "|i1" => DataType::Int8,
        "<i2" => DataType::Int16,
        "<i4" => DataType::Int32,
        "<i8" => DataType::Int64,
        "|u1" => DataType::UInt8,
        "<u2" => DataType::UInt16,
        "<u4" => DataType::UInt32,
        "<u8" => DataType::UInt64,
        "<f2" => DataType::Float16,
        "<f4" => DataType::Float32,
        "<f8" => DataType::Float64,
        other => {
            return Err(format!(
                "values of type {other} are not read; numbers and booleans of little-endian order are"
            )
            .into());
        }
    })
}

/// What NumPy calls a type; `None` for one that it does not write.
pub(crate) fn descr(kind: &DataType) -> Option<&'static str> {
    Some(match kind {
        DataType::Boolean => "|b1",
        DataType::Int8 => "|i1",
        DataType::Int16 => "<i2",
        DataType::Int32 => "<i4",
        DataType::Int64 => "<i8",
        DataType::UInt8 => "|u1",
        DataType::UInt16 => "<u2",
        DataType::UInt32 => "<u4",
        DataType::UInt64 => "<u8",
        DataType::Float16 => "<f2",
        DataType::Float32 => "<f4",
        DataType::Float64 => "<f8",
        _ => return None,
    })
}

/// All values of a file, which must be those of `field`.
fn decode(bytes: Bytes, field: &Field) -> Result<ArrayRef, BoxError> {
    let header = Header::parse(&bytes)?;
    let found = header.field()?;
    if found.data_type() != field.data_type() {
        return Err(format!("rows of {}, where {} are expected", found.data_type(), field.data_type()).into());
    }
    let values = product(&header.shape)?;
    let width = header.kind.primitive_width().unwrap_or(1);
    let need = values.checked_mul(width).ok_or("more bytes than can be counted")?;
    let have = bytes.len() - header.start;
    if have != need {
        return Err(format!("{have} bytes of values, where the shape {:?} needs {need}", header.shape).into());
    }
    let flat: ArrayRef = if header.kind == DataType::Boolean {
        let flags = bytes[header.start..].iter().map(|byte| Some(*byte != 0));
        Arc::new(flags.collect::<BooleanArray>())
    } else {
        // Not copied, unless the values lie askew in memory.
        let data = ArrayData::builder(header.kind.clone())
            .len(values)
            .add_buffer(Buffer::from(bytes.slice(header.start..)))
            .align_buffers(true)
            .build()?;
        make_array(data)
    };
    match field.data_type() {
        DataType::FixedSizeList(item, width) => {
            let rows = header.shape.first().copied().unwrap_or(0);
            Ok(Arc::new(FixedSizeListArray::try_new_with_length(item.clone(), *width, flat, None, rows)?))
        }
        _ => Ok(flat),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn file(header: &str, values: &[u8]) -> Bytes {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(values);
        bytes.into()
    }

    #[test]
    fn headers_that_are_wrong_are_told() {
        let told = |header: &str| Header::parse(&file(header, &[])).unwrap_err().to_string();
        assert!(told("{'descr': '>f8', 'fortran_order': False, 'shape': (3,)}").contains(">f8"));
        assert!(told("{'descr': '<f8', 'fortran_order': True, 'shape': (3, 2)}").contains("fortran_order"));
        assert!(
            told("{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (3,)}").contains("named fields")
        );
        assert!(told("{'descr': '<f8', 'shape': (3,)}").contains("no 'fortran_order'"));
        assert!(told("{'descr': '<f8', 'fortran_order': False, 'shape': 3}").contains("tuple"));
        assert!(Header::parse(b"PK").unwrap_err().to_string().starts_with("not a .npy file"));
    }

    #[test]
    fn values_that_are_too_few_are_told() {
        let header = "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3)}";
        let whole = file(header, &[0; 12]);
        let field = Header::parse(&whole).unwrap().field().unwrap();
        assert_eq!(field.metadata()["ARROW:extension:metadata"], "{\"shape\":[3]}");
        assert_eq!(decode(whole, &field).unwrap().len(), 2);
        let error = decode(file(header, &[0; 11]), &field).unwrap_err().to_string();
        assert_eq!(error, "11 bytes of values, where the shape [2, 3] needs 12");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            header in "(\\{'descr': '[<|>][fiub][1-8]', 'fortran_order': (True|False), 'shape': \\([0-9, ]{0,9}\\), \\}|.{0,40})",
            values in prop::collection::vec(any::<u8>(), 0..64),
            cut in 0..120_usize,
        ) {
            let bytes = file(&header, &values);
            let bytes = bytes.slice(..bytes.len() - cut.min(bytes.len()));
            if let Ok(field) = Header::parse(&bytes).and_then(|header| header.field())
                && let Ok(array) = decode(bytes, &field)
            {
                prop_assert_eq!(array.data_type(), field.data_type());
            }
        }
    }
}
