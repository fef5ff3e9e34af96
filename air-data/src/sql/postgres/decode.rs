//! [`Decoder`]: from the bytes of a binary `COPY` to batches. It reads nothing itself, and the bytes may be cut anywhere.
//!
//! The format is described in the documentation of PostgreSQL's `COPY`: a signature, flags, a header that may be longer, and rows, each with the number of its
//! fields and each field with its length, -1 for a null; a number of fields of -1 ends it.

use air_core::BoxError;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use bytes::Buf;

use super::column::Column;
use super::kind::Kind;

/// What a binary `COPY` begins with.
pub(super) const SIGNATURE: &[u8; 11] = b"PGCOPY\n\xff\r\n\0";

/// The number of fields that ends it.
pub(super) const TRAILER: i16 = -1;

/// Flags that a reader must know: the only one there has been is for rows with numbers of their own, long ago.
const CRITICAL_FLAGS: u32 = 0xffff_0000;

/// A header longer than this is none.
const MAX_HEADER_BYTES: u32 = 1 << 16;

/// The server makes no row longer than this, with all its fields.
const MAX_ROW_BYTES: usize = 1 << 30;

/// Rows of a binary `COPY`, collected into columns.
#[derive(Debug)]
pub(super) struct Decoder {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// What is not decoded yet: less than the next item takes.
    rest: Vec<u8>,
    state: State,
    rows: usize,
    bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Header,
    Rows,
    Ended,
}

impl Decoder {
    /// Into columns of these kinds, one for each of the schema's.
    pub(super) fn new(schema: SchemaRef, kinds: impl IntoIterator<Item = Kind>) -> Self {
        let columns: Vec<Column> = kinds
            .into_iter()
            .zip(schema.fields())
            .map(|(kind, field)| Column::new(kind, field.is_nullable()))
            .collect();
        Self { schema, columns, rest: Vec::new(), state: State::Header, rows: 0, bytes: 0 }
    }

    /// Rows that are decoded and not [taken](Self::take).
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// About how many bytes they have.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Decodes what is complete. After an error the rows before the one that is wrong can still be taken.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(), BoxError> {
        if self.rest.is_empty() {
            let left = self.decode(bytes)?;
            self.rest.extend_from_slice(left);
        } else {
            self.rest.extend_from_slice(bytes);
            let all = std::mem::take(&mut self.rest);
            let left = self.decode(&all)?.len();
            self.rest = all;
            self.rest.drain(..self.rest.len() - left);
        }
        if self.rest.len() > MAX_ROW_BYTES {
            return Err(format!("there is a row of more than {MAX_ROW_BYTES} bytes").into());
        }
        Ok(())
    }

    /// Decodes as far as it goes, and gives the rest.
    fn decode<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], BoxError> {
        if self.state == State::Header {
            let Some(rest) = header(bytes)? else { return Ok(bytes) };
            (self.state, bytes) = (State::Rows, rest);
        }
        while self.state == State::Rows {
            let Some(rest) = self.row(bytes)? else { return Ok(bytes) };
            bytes = rest;
        }
        if !bytes.is_empty() {
            return Err(format!("there are {} bytes behind the end of the rows", bytes.len()).into());
        }
        Ok(bytes)
    }

    /// Decodes a row, if all of it is there, and gives what is behind it.
    fn row<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, BoxError> {
        let mut rest = bytes;
        let Ok(fields) = rest.try_get_i16() else { return Ok(None) };
        if fields == TRAILER {
            self.state = State::Ended;
            return Ok(Some(rest));
        }
        if usize::try_from(fields) != Ok(self.columns.len()) {
            return Err(format!("a row has {fields} fields, and {} are expected", self.columns.len()).into());
        }
        if !self.is_whole(rest)? {
            return Ok(None);
        }
        for (index, column) in self.columns.iter_mut().enumerate() {
            let size = rest.get_i32();
            let value = usize::try_from(size).ok().and_then(|size| rest.split_off(..size));
            match column.push(value) {
                Ok(bytes) => self.bytes += bytes,
                Err(error) => {
                    let rows = self.rows;
                    self.columns.iter_mut().for_each(|column| column.truncate(rows));
                    return Err(format!("column '{}' {error}", self.schema.field(index).name()).into());
                }
            }
        }
        self.rows += 1;
        Ok(Some(rest))
    }

    /// Whether all fields of a row are there.
    fn is_whole(&self, mut rest: &[u8]) -> Result<bool, BoxError> {
        for field in self.schema.fields() {
            let Ok(size) = rest.try_get_i32() else { return Ok(false) };
            match usize::try_from(size) {
                Ok(size) if size > MAX_ROW_BYTES => {
                    return Err(format!("column '{}' has {size} bytes in one row", field.name()).into());
                }
                Ok(size) if size > rest.len() => return Ok(false),
                Ok(size) => rest.advance(size),
                Err(_) if size == -1 => {}
                Err(_) => return Err(format!("column '{}' has {size} bytes", field.name()).into()),
            }
        }
        Ok(true)
    }

    /// The rows so far as a batch.
    pub(super) fn take(&mut self) -> Result<RecordBatch, BoxError> {
        let columns = self.columns.iter_mut().zip(self.schema.fields()).map(|(column, field)| {
            column.take().map_err(|error| format!("column '{}': {error}", field.name()))
        });
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        self.bytes = 0;
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// Where the rows are cut short.
    pub(super) fn end(&self) -> Result<(), BoxError> {
        match self.state {
            State::Ended => Ok(()),
            _ => Err("the rows are cut short: their end did not come".into()),
        }
    }
}

/// What is behind the header, if all of it is there.
fn header(bytes: &[u8]) -> Result<Option<&[u8]>, BoxError> {
    let begun = bytes.len().min(SIGNATURE.len());
    if bytes[..begun] != SIGNATURE[..begun] {
        return Err("what comes is no binary COPY of PostgreSQL".into());
    }
    let mut rest = &bytes[begun..];
    let (Ok(flags), Ok(more)) = (rest.try_get_u32(), rest.try_get_u32()) else { return Ok(None) };
    if flags & CRITICAL_FLAGS != 0 {
        return Err(format!("the rows come in a form that is not known, with the flags {flags:#x}").into());
    }
    if more > MAX_HEADER_BYTES {
        return Err(format!("there is a header of {more} bytes").into());
    }
    Ok(rest.get(more as usize..))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use arrow::array::AsArray;
    use arrow::compute::concat_batches;
    use arrow::datatypes::{Field, Int64Type, Schema};
    use bytes::{BufMut, BytesMut};
    use proptest::prelude::*;

    use super::*;

    fn decoder(kinds: &[Kind]) -> Decoder {
        let fields = kinds.iter().enumerate();
        let fields = fields.map(|(index, kind)| Field::new(format!("c{index}"), kind.arrow(), true));
        Decoder::new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), kinds.to_vec())
    }

    type Rows = Vec<(Option<i64>, Option<Vec<u8>>, Vec<Option<i16>>)>;
    const KINDS: [Kind; 3] = [Kind::Int8, Kind::Bytes, Kind::Int2];

    fn kinds() -> Vec<Kind> {
        let [a, b, c] = KINDS;
        vec![a, b, Kind::List(Box::new(c))]
    }

    fn field(bytes: &mut BytesMut, value: Option<&[u8]>) {
        bytes.put_i32(value.map_or(-1, |value| value.len() as i32));
        bytes.put_slice(value.unwrap_or_default());
    }

    fn wire(rows: &Rows) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        bytes.put_slice(SIGNATURE);
        bytes.put_u32(0x7);
        bytes.put_u32(3);
        bytes.put_slice(b"abc");
        for (id, raw, list) in rows {
            bytes.put_i16(3);
            field(&mut bytes, id.map(i64::to_be_bytes).as_ref().map(<[u8; 8]>::as_slice));
            field(&mut bytes, raw.as_deref());
            let mut array = BytesMut::new();
            array.put_i32(1);
            array.put_i32(1);
            array.put_u32(Kind::Int2.oid());
            array.put_i32(list.len() as i32);
            array.put_i32(1);
            for item in list {
                field(&mut array, item.map(i16::to_be_bytes).as_ref().map(<[u8; 2]>::as_slice));
            }
            field(&mut bytes, Some(&array));
        }
        bytes.put_i16(TRAILER);
        bytes.to_vec()
    }

    /// The rows of bytes that come in pieces of the sizes given, over and over.
    fn decoded(bytes: &[u8], sizes: &[usize]) -> Result<RecordBatch, BoxError> {
        let mut decoder = decoder(&kinds());
        let mut batches = Vec::new();
        let mut left = bytes;
        for size in sizes.iter().cycle() {
            let (piece, rest) = left.split_at((*size).min(left.len()));
            left = rest;
            decoder.feed(piece)?;
            if decoder.rows() >= 3 {
                batches.push(decoder.take()?);
            }
            if left.is_empty() {
                break;
            }
        }
        decoder.end()?;
        batches.push(decoder.take()?);
        Ok(concat_batches(&decoder.schema.clone(), &batches)?)
    }

    #[test]
    fn rows_without_columns_are_counted() {
        let mut bytes = [&SIGNATURE[..], &[0; 8]].concat();
        bytes.extend([0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        let mut decoder = decoder(&[]);
        decoder.feed(&bytes).unwrap();
        decoder.end().unwrap();
        assert_eq!(decoder.take().unwrap().num_rows(), 3);
    }

    #[test]
    fn the_rows_before_a_wrong_one_are_kept() {
        let rows: Rows = vec![
            (Some(1), Some(vec![0, 255]), vec![Some(1), None]),
            (None, None, vec![]),
            (Some(3), Some(vec![]), vec![Some(7)]),
        ];
        let mut bytes = wire(&rows);
        // The last item says that it is longer than it is.
        let place = bytes.len() - 2 - 2 - 1;
        bytes[place] = 3;
        let mut decoder = decoder(&kinds());
        let error = decoder.feed(&bytes).unwrap_err().to_string();
        assert_eq!(error, "column 'c2' has an array that is cut short");
        assert_eq!(decoder.rows(), 2);
        let batch = decoder.take().unwrap();
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
        assert_eq!(batch.column(2).as_list::<i32>().value_offsets(), [0, 2, 2]);
    }

    #[test]
    fn what_is_no_copy_is_told() {
        let head =
            |flags: u32, more: u32| [&SIGNATURE[..], &flags.to_be_bytes(), &more.to_be_bytes()].concat();
        let row = |bytes: &[u8]| [&head(0, 0), bytes].concat();
        for (bytes, what) in [
            (b"PGCOPX".to_vec(), "no binary COPY"),
            (head(1 << 16, 0), "the flags 0x10000"),
            (head(0, u32::MAX), "a header of 4294967295 bytes"),
            (row(&[0, 2]), "a row has 2 fields, and 3 are expected"),
            (row(&[0, 3, 0x7f, 255, 255, 255]), "column 'c0' has 2147483647 bytes in one row"),
            (row(&[0, 3, 0x80, 0, 0, 0]), "column 'c0' has -2147483648 bytes"),
            (row(&[0xff, 0xff, 1]), "1 bytes behind the end"),
        ] {
            let error = decoder(&kinds()).feed(&bytes).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
        }
    }

    fn rows() -> impl Strategy<Value = Rows> {
        let raw = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..20));
        let list = proptest::collection::vec(any::<Option<i16>>(), 0..4);
        proptest::collection::vec((any::<Option<i64>>(), raw, list), 0..20)
    }

    proptest! {
        #[test]
        fn rows_come_out_however_they_are_cut(
            rows in rows(),
            sizes in proptest::collection::vec(1_usize..40, 1..8),
        ) {
            let batch = decoded(&wire(&rows), &sizes).unwrap();
            let ids: Vec<Option<i64>> = batch.column(0).as_primitive::<Int64Type>().iter().collect();
            prop_assert_eq!(ids, rows.iter().map(|row| row.0).collect::<Vec<_>>());
            let raw: Vec<Option<&[u8]>> = batch.column(1).as_binary::<i32>().iter().collect();
            prop_assert_eq!(raw, rows.iter().map(|row| row.1.as_deref()).collect::<Vec<_>>());
            for (row, (_, _, list)) in rows.iter().enumerate() {
                let found = batch.column(2).as_list::<i32>().value(row);
                let found = found.as_primitive::<arrow::datatypes::Int16Type>().iter().collect::<Vec<_>>();
                prop_assert_eq!(&found, list);
            }
        }

        #[test]
        fn bytes_that_are_cut_or_spoilt_never_panic_nor_take_more_than_came(
            rows in rows(),
            keep in 0.0..1.0_f64,
            spoil in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut bytes = wire(&rows);
            let whole = bytes.len();
            bytes.truncate((whole as f64 * keep) as usize + 1);
            for (place, byte) in &spoil {
                *place.get_mut(&mut bytes) = *byte;
            }
            match decoded(&bytes, &[7]) {
                Ok(batch) => prop_assert!(batch.num_rows() <= bytes.len()),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
            if spoil.is_empty() && bytes.len() < whole {
                prop_assert!(decoded(&bytes, &[7]).unwrap_err().to_string().contains("cut short"));
            }
        }

        #[test]
        fn any_value_of_any_kind(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let plain = [
                Kind::Bool,
                Kind::Int4,
                Kind::Float4,
                Kind::Float8,
                Kind::Numeric { precision: 12, scale: 3 },
                Kind::Text,
                Kind::Date,
                Kind::Time,
                Kind::Timestamp,
                Kind::TimestampTz,
            ];
            let lists = plain.clone().map(|kind| Kind::List(Box::new(kind)));
            for kind in plain.into_iter().chain(lists) {
                let mut column = Column::new(kind.clone(), true);
                column.push(None).unwrap();
                if column.push(Some(&bytes)).is_err() {
                    column.truncate(1);
                }
                column.push(None).unwrap();
                // Text is found to be none when all of it is there.
                match column.take() {
                    Ok(array) => prop_assert_eq!(array.data_type(), &kind.arrow()),
                    Err(error) => prop_assert!(error.to_string().contains("UTF-8"), "{}", error),
                }
            }
        }
    }
}
