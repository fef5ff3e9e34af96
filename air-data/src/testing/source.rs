//! What every source must hold to.

use std::collections::HashSet;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use futures::{StreamExt, TryStreamExt};

use super::{one, session, told};
use crate::session::Session;
use crate::source::{ReadRequest, Source, SourcePart};

/// Columns that are read by themselves.
const COLUMNS: usize = 8;

/// Checks that sources from `make` tell the same each time, that their parts have the rows they promise, however they are asked: all columns, some, none, turned
/// round, so many rows, in batches of any size, twice at once, left unread; that a part which is not there is an error; and that a dataset has the parts'
/// rows in their order.
///
/// # Panics
/// With the rule that is broken.
pub fn source<S: Source>(make: impl Fn() -> S) {
    let source = Arc::new(make());
    let again = make();
    let schema = source.schema();
    assert_eq!(schema, again.schema(), "two sources alike tell different columns");
    assert_eq!(source.name(), again.name(), "two sources alike have different names");
    let names: HashSet<&String> = schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(names.len(), schema.fields().len(), "two columns have one name");
    let parts = parts_of(&*source);
    assert_eq!(parts, parts_of(&again), "two sources alike tell different parts");
    assert_eq!(parts, parts_of(&*source), "a source tells other parts the second time");

    let session = session(2);
    let read = Read { session: &session, source: source.clone() };
    let mut whole = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let rows = read.part(index, ReadRequest { batch_rows: 1000, ..ReadRequest::default() });
        if let Some(promised) = part.rows {
            assert_eq!(rows.num_rows() as u64, promised, "{} has other rows than it promises", part.name);
        }
        read.ways(index, &part.name, &rows);
        whole.push(rows);
    }
    let beyond = source.open(parts.len(), &ReadRequest { batch_rows: 1000, ..ReadRequest::default() });
    let refused = match beyond {
        Err(_) => true,
        Ok(batches) => session
            .block_on(async move { Ok(batches.into_stream().next().await) })
            .is_ok_and(|first| matches!(first, Some(Err(_)))),
    };
    assert!(refused, "part {} is not there, and is opened all the same", parts.len());

    let whole = one(&schema, whole, "the parts");
    for threads in [1, 4] {
        let dataset = super::session(threads).read_source(make());
        let dataset = dataset.unwrap_or_else(|error| panic!("no dataset: {}", told(&error)));
        let count = dataset.count().unwrap_or_else(|error| panic!("counting: {}", told(&error)));
        assert_eq!(count, whole.num_rows() as u64, "a dataset has other rows than the parts");
        let rows = dataset.collect().unwrap_or_else(|error| panic!("reading: {}", told(&error)));
        assert_eq!(
            one(&schema, rows, "the dataset"),
            whole,
            "the rows of a dataset are not the parts' in order"
        );
        let half = dataset.limit(whole.num_rows() / 2).collect();
        let half = one(&schema, half.unwrap_or_else(|error| panic!("a limit: {}", told(&error))), "a limit");
        assert_eq!(half, whole.slice(0, whole.num_rows() / 2), "a limit gives other rows than the first");
    }
}

fn parts_of(source: &impl Source) -> Vec<SourcePart> {
    source.parts().unwrap_or_else(|error| panic!("the parts cannot be told: {error}"))
}

struct Read<'a, S> {
    session: &'a Session,
    source: Arc<S>,
}

impl<S: Source> Read<'_, S> {
    fn batches(&self, part: usize, request: &ReadRequest) -> Result<Vec<RecordBatch>, BoxError> {
        let batches = self.source.open(part, request)?;
        let all = async move { Ok(batches.into_stream().try_collect::<Vec<_>>().await) };
        self.session.block_on(all)?
    }

    /// The rows asked for: the columns that are wanted, cut out where there are more.
    fn part(&self, part: usize, request: ReadRequest) -> RecordBatch {
        let (schema, what) = (self.source.schema(), format!("part {part} for {request:?}"));
        let batches = self.batches(part, &request).unwrap_or_else(|error| panic!("{what}: {error}"));
        let Some(columns) = &request.columns else { return one(&schema, batches, &what) };
        let wanted = Arc::new(request.schema(&schema).unwrap_or_else(|error| panic!("{what}: {error}")));
        let cut = batches.into_iter().map(|batch| {
            let same = batch.num_columns() == columns.len()
                && batch.schema_ref().fields().iter().zip(wanted.fields()).all(|(a, b)| a.name() == b.name());
            if same {
                batch
            } else {
                batch.project(columns).unwrap_or_else(|error| panic!("{what}: {error}"))
            }
        });
        let cut: Vec<RecordBatch> = cut.collect();
        if columns.is_empty() {
            // Rows without columns are only counted.
            let rows = cut.iter().map(RecordBatch::num_rows).sum();
            let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows));
            return RecordBatch::try_new_with_options(wanted, Vec::new(), &options)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
        one(&wanted, cut, &what)
    }

    fn ways(&self, part: usize, name: &str, rows: &RecordBatch) {
        let ask = |columns: Option<Vec<usize>>, limit: Option<usize>, batch_rows: usize| ReadRequest {
            columns,
            limit,
            batch_rows,
        };
        for batch_rows in [1000, 7, 1 << 20] {
            let again = self.part(part, ask(None, None, batch_rows));
            assert_eq!(&again, rows, "{name} has other rows in batches of {batch_rows}");
        }
        let width = rows.num_columns();
        let mut choices: Vec<Vec<usize>> = (0..width.min(COLUMNS)).map(|column| vec![column]).collect();
        choices.extend([Vec::new(), (0..width).rev().collect()]);
        for columns in choices {
            let wanted = rows.project(&columns).unwrap_or_else(|error| panic!("{name}: {error}"));
            let got = self.part(part, ask(Some(columns.clone()), None, 1000));
            assert_eq!(
                got.num_rows(),
                wanted.num_rows(),
                "{name} has other rows for the columns {columns:?}"
            );
            assert_eq!(
                got.columns(),
                wanted.columns(),
                "{name} has other values for the columns {columns:?}"
            );
        }
        for limit in [1, rows.num_rows() / 2, rows.num_rows() + 1] {
            let got = self.part(part, ask(None, Some(limit), 1000));
            let wanted = limit.min(rows.num_rows());
            assert!(
                got.num_rows() >= wanted,
                "{name} has {} rows where {limit} are asked for",
                got.num_rows()
            );
            assert_eq!(
                got.slice(0, wanted),
                rows.slice(0, wanted),
                "{name} has not the first rows where {limit} are asked for"
            );
        }
        // Two at once, of which one is left unread.
        let two =
            || self.source.open(part, &ask(None, None, 7)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (left, whole) = (two().into_stream(), two().into_stream());
        let both = async move {
            let (mut left, mut whole) = (left, whole);
            let first = left.next().await;
            let mut batches: Vec<RecordBatch> = Vec::new();
            while let Some(batch) = whole.next().await {
                match batch {
                    Ok(batch) => batches.push(batch),
                    Err(error) => return Ok(Err(error)),
                }
            }
            drop(first);
            Ok(Ok(batches))
        };
        let batches = self.session.block_on(both).unwrap_or_else(|error| panic!("{name}: {error}"));
        let batches = batches.unwrap_or_else(|error| panic!("{name} beside itself: {error}"));
        assert_eq!(&one(&self.source.schema(), batches, name), rows, "{name} has other rows beside itself");
    }
}
