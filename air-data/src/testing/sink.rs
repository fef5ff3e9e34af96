//! What every sink must hold to.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};

use super::{one, session, told};
use crate::dataset::Dataset;
use crate::session::Session;
use crate::sink::{Sink, SinkPart, SinkWrite};

/// Checks that what is written into sinks from `make` is what `read` then finds in them: the parts' rows in the order of the parts, also of parts that end in another
/// order, of parts without rows, and of none; that nothing is found before the commit; and that nothing is found after an abort or after a dataset that fails.
/// The columns written are `id` (integers), `text` (with nulls) and `x` (floats). `read` of a sink that nothing was committed to gives nothing.
///
/// # Panics
/// With the rule that is broken.
pub fn sink<S: Sink>(make: impl Fn() -> S, read: impl Fn(&S) -> Vec<RecordBatch>) {
    let session = session(2);
    let rows = table(1000);
    let schema = rows.schema();
    let found = |sink: &S, what: &str| one(&schema, read(sink), what);
    let none = |sink: &S, what: &str| {
        let rows: usize = read(sink).iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 0, "{what}");
    };
    let dataset = session.from_batches(vec![rows.clone()]).unwrap_or_else(|error| panic!("{error}"));

    for blocks in [1, 3] {
        let sink = Arc::new(make());
        none(&sink, "there are rows in a sink that nothing was written into");
        let written = dataset.repartition(blocks).write_sink(sink.clone());
        written.unwrap_or_else(|error| panic!("writing {blocks} parts: {}", told(&error)));
        assert_eq!(
            found(&sink, "what was written"),
            rows,
            "other rows are found than {blocks} parts were written of"
        );
    }
    let sink = Arc::new(make());
    written(&dataset.limit(0), &sink, "no rows");
    none(&sink, "there are rows where none were written");
    let sink = Arc::new(make());
    written(&dataset.limit(2).repartition(5), &sink, "parts without rows");
    assert_eq!(
        found(&sink, "two rows"),
        rows.slice(0, 2),
        "other rows are found than two of five parts were written of"
    );

    let sink = Arc::new(make());
    let failing = dataset
        .repartition(3)
        .map(|row: Row| if row.id == 999 { Err("the last row".into()) } else { Ok(row) });
    let error = failing.write_sink(sink.clone());
    assert!(error.is_err(), "a dataset that fails is written all the same");
    none(&sink, "there are rows of a dataset that failed");

    let sink = make();
    by_hand(&session, &sink, &rows, &none);
    assert_eq!(
        found(&sink, "parts that end the other way round"),
        rows,
        "the order is not that of the parts"
    );
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Row {
    id: i64,
    text: Option<String>,
    x: f64,
}

fn written<S: Sink>(dataset: &Dataset, sink: &Arc<S>, what: &str) {
    dataset.write_sink(sink.clone()).unwrap_or_else(|error| panic!("{what}: {}", told(&error)));
}

fn table(rows: i64) -> RecordBatch {
    let text = (0..rows).map(|id| (id % 7 != 0).then(|| format!("row {id}, ä \"b\"\n")));
    let columns: [(&str, ArrayRef, bool); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..rows)), false),
        ("text", Arc::new(text.collect::<StringArray>()), true),
        ("x", Arc::new(Float64Array::from_iter_values((0..rows).map(|id| id as f64 / 8.0))), false),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap_or_else(|error| panic!("{error}"))
}

/// A write that is aborted, and one whose parts end in another order.
fn by_hand<S: Sink>(session: &Session, sink: &S, rows: &RecordBatch, none: &impl Fn(&S, &str)) {
    let steps = async {
        let schema = rows.schema();
        let write = sink.begin(&schema, 3).await?;
        let (mut a, mut b) = (write.open(0).await?, write.open(2).await?);
        a.write(&rows.slice(0, 10)).await?;
        b.write(&rows.slice(10, 10)).await?;
        let b = b.finish().await?;
        none(sink, "there are rows of a part that has finished, before the commit");
        a.abort().await;
        write.abort(vec![b]).await;
        none(sink, "there are rows of a write that was aborted");

        let write = sink.begin(&schema, 2).await?;
        let (mut second, mut first) = (write.open(1).await?, write.open(0).await?);
        second.write(&rows.slice(600, 400)).await?;
        first.write(&rows.slice(0, 7)).await?;
        let second = second.finish().await?;
        first.write(&rows.slice(7, 593)).await?;
        let first = first.finish().await?;
        none(sink, "there are rows before the commit");
        write.commit(vec![first, second]).await?;
        Ok::<_, air_core::BoxError>(())
    };
    let compute = session.compute().unwrap_or_else(|error| panic!("{error}"));
    compute.block_on(steps).unwrap_or_else(|error| panic!("a write step by step: {error}"));
}
