#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::csv::ReaderBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use futures::TryStreamExt;
use futures::executor::block_on;
use proptest::prelude::*;

use super::cuts::Cuts;
use super::lines::Lines;
use super::*;
use crate::format::bytes::tests::file;

const CSV: Csv = Csv { delimiter: b',', quote: b'"', comment: None, header: true };

fn want(columns: &[(&str, DataType)], rows: usize) -> Want {
    let fields: Vec<Field> =
        columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
    let all: SchemaRef = Arc::new(Schema::new(fields));
    Want { columns: all.clone(), all, given: false, rows, pieces: None }
}

fn gathered(schema: &SchemaRef, batches: &[RecordBatch]) -> RecordBatch {
    arrow::compute::concat_batches(schema, batches).unwrap()
}

/// The pieces of a file in an order, each by itself.
fn in_pieces(
    content: &[u8],
    each: u64,
    want: &Want,
    order: impl FnOnce(usize) -> Vec<usize>,
) -> Result<Vec<Vec<RecordBatch>>, String> {
    let cuts = Arc::new(Cuts::new(file(content), CSV.delimiter, CSV.quote, CSV.header, each));
    let mut pieces = vec![Vec::new(); cuts.len()];
    for index in order(cuts.len()) {
        let want = Want { pieces: Some(vec![(cuts.clone(), index)]), ..want.clone() };
        let read = block_on(CSV.open(cuts.file.clone(), want).try_collect::<Vec<_>>());
        pieces[index] = read.map_err(|error| error.to_string())?;
        if let Some(rows) = cuts.rows_before(index) {
            // Where the pieces before have been read, that is what they had.
            let before: usize = pieces[..index].iter().flatten().map(RecordBatch::num_rows).sum();
            if index == 0 || pieces[..index].iter().all(|piece| !piece.is_empty()) {
                assert_eq!(rows, before as u64, "piece {index}");
            }
        }
    }
    Ok(pieces)
}

/// What the decoder makes of the whole text.
fn by_itself(content: &[u8], want: &Want) -> Result<RecordBatch, String> {
    let reader = ReaderBuilder::new(want.all.clone()).with_header(CSV.header).with_batch_size(want.rows);
    let batches: Result<Vec<_>, _> = reader.build(content).unwrap().collect();
    batches.map(|batches| gathered(&want.all, &batches)).map_err(|error| error.to_string())
}

/// A value as it stands in a file: plain, quoted with anything in it, and with quotes where they are characters like others.
fn value() -> BoxedStrategy<String> {
    prop_oneof![
        6 => "[a-z0-9]{0,6}",
        4 => "[a-z,\n\r ]{0,8}".prop_map(|text| format!("\"{text}\"")),
        2 => "[a-z,\n]{0,3}".prop_map(|text| format!("\"{text}\"\"{text}\"")),
        1 => Just("\"\"".to_owned()),
    ]
    .boxed()
}

fn odd_value() -> BoxedStrategy<String> {
    prop_oneof![
        8 => value(),
        1 => "[a-z]{1,3}\"[a-z]{0,3}",
        1 => "[a-z\n]{0,3}".prop_map(|text| format!("\"{text}\"x\"")),
    ]
    .boxed()
}

fn text(value: BoxedStrategy<String>) -> BoxedStrategy<String> {
    let line = (
        value.clone(),
        value,
        prop_oneof![4 => Just("\n"), 2 => Just("\r\n"), 1 => Just("\n\n"), 1 => Just("\r")],
    );
    (proptest::collection::vec(line, 0..40), any::<bool>())
        .prop_map(|(lines, last)| {
            let lines = lines.iter().map(|(a, b, end)| format!("{a},{b}{end}"));
            let text = std::iter::once("a,b\n".to_owned()).chain(lines).collect::<String>();
            if last { text } else { text.trim_end_matches(['\n', '\r']).to_owned() }
        })
        .boxed()
}

fn columns_of_text() -> Want {
    want(&[("a", DataType::Utf8), ("b", DataType::Utf8)], 3)
}

fn same_in_pieces(text: &str, each: u64) -> Result<(), TestCaseError> {
    let want = columns_of_text();
    let whole = by_itself(text.as_bytes(), &want);
    let forward = in_pieces(text.as_bytes(), each, &want, |pieces| (0..pieces).collect());
    let backward = in_pieces(text.as_bytes(), each, &want, |pieces| (0..pieces).rev().collect());
    match whole {
        Ok(whole) => {
            for pieces in [forward.unwrap(), backward.unwrap()] {
                prop_assert_eq!(&whole, &gathered(&want.all, &pieces.concat()));
            }
        }
        // Whoever reads backward meets another of several errors.
        Err(error) => prop_assert_eq!(error, forward.unwrap_err()),
    }
    Ok(())
}

proptest! {
    #[test]
    fn pieces_are_the_whole(text in text(value()), each in 1_u64..60) {
        same_in_pieces(&text, each)?;
    }

    #[test]
    fn also_where_quotes_cannot_be_counted(text in text(odd_value()), each in 1_u64..60) {
        same_in_pieces(&text, each)?;
    }

    #[test]
    fn bytes_may_come_in_any_chunks(text in text(odd_value()), at in any::<prop::sample::Index>()) {
        let (mut whole, mut parts) = (Lines::new(b',', b'"'), Lines::new(b',', b'"'));
        let at = at.index(text.len() + 1);
        whole.pass(text.as_bytes());
        parts.pass(&text.as_bytes()[..at]);
        parts.pass(&text.as_bytes()[at..]);
        prop_assert_eq!(whole, parts);
        // Byte by byte, as records are looked for.
        let mut lines = Lines::new(b',', b'"');
        let mut rest = text.as_bytes();
        while let Some(end) = lines.pass_line(rest) {
            rest = &rest[end..];
        }
        prop_assert_eq!(whole, lines);
    }
}

#[test]
fn all_pieces_of_a_regular_file_have_their_records() {
    let line = "1,\"two\nlines, \"\"quoted\"\"\"\n";
    let text = format!("a,b\n{}", line.repeat(1000));
    let want = want(&[("a", DataType::Int64), ("b", DataType::Utf8)], 64);
    let pieces = in_pieces(text.as_bytes(), 100, &want, |pieces| (0..pieces).collect()).unwrap();
    let rows: Vec<usize> = pieces.iter().map(|piece| piece.iter().map(RecordBatch::num_rows).sum()).collect();
    assert_eq!(
        (rows.iter().sum::<usize>(), rows.iter().filter(|rows| **rows > 5).count()),
        (1000, 0),
        "{rows:?}"
    );
}

#[test]
fn from_a_quote_that_cannot_be_counted_on_one_piece_has_all() {
    let text = format!("a,b\n{}1,5\" pipe\n{}", "1,2\n".repeat(20), "3,\"4\n\"\n".repeat(20));
    let pieces = in_pieces(text.as_bytes(), 16, &columns_of_text(), |pieces| (0..pieces).collect()).unwrap();
    let rows: Vec<usize> = pieces.iter().map(|piece| piece.iter().map(RecordBatch::num_rows).sum()).collect();
    assert_eq!(rows[..6], [3, 4, 4, 4, 4, 22], "{rows:?}");
    assert_eq!(rows[6..].iter().sum::<usize>(), 0);
}

#[test]
fn errors_name_the_line_of_the_file() {
    let want = want(&[("a", DataType::Int64), ("b", DataType::Int64)], 8);
    let good = "1,2\n".repeat(50);
    for bad in ["1,line 7\n", "1\n", "1,2,3\n"] {
        let text = format!("a,b\n{good}{bad}{good}");
        let whole = by_itself(text.as_bytes(), &want).unwrap_err();
        assert!(whole.contains("line 5"), "{whole}");
        for each in [10, 33, 1000] {
            let error = in_pieces(text.as_bytes(), each, &want, |pieces| (0..pieces).collect()).unwrap_err();
            assert_eq!(error, whole);
        }
    }
}

#[test]
fn one_value_may_be_larger_than_pieces() {
    let text = format!("a,b\n1,\"{}\"\n2,x\n", "long\n".repeat(40_000));
    let pieces =
        in_pieces(text.as_bytes(), 1000, &columns_of_text(), |pieces| (0..pieces).collect()).unwrap();
    let rows: Vec<usize> = pieces.iter().map(|piece| piece.iter().map(RecordBatch::num_rows).sum()).collect();
    assert_eq!((rows[0], rows.iter().sum::<usize>()), (1, 2));
    assert_eq!(*rows.last().unwrap(), 1);
}
