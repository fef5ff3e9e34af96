//! TFRecord: TensorFlow's files of records, each an `Example` message, with checksums.
//!
//! The frame is described in TensorFlow's documentation ("TFRecord and tf.train.Example"), the messages in its `example.proto` and `feature.proto`.

mod example;
mod frame;
mod rows;
mod write;

pub(crate) use write::Examples;

use std::collections::BTreeMap;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::{FileBytes, Format, LOOK_BYTES, LOOK_ROWS, MAX_COLUMNS, Want};
use example::Kind;
use frame::Frames;
use rows::Rows;

#[derive(Debug)]
pub(super) struct TfRecord;

impl Format for TfRecord {
    fn name(&self) -> &'static str {
        "tfrecord"
    }

    fn look(&self, file: FileBytes) -> BoxFuture<'static, Result<Schema, BoxError>> {
        look(Frames::new(file.peephole())).boxed()
    }

    /// A feature that has one value in all records of a file and several in those of another is a list.
    fn merge(&self, a: Schema, b: Schema) -> Result<Schema, ArrowError> {
        let lists = |plain: &Schema, other: &Schema| {
            let fields = plain.fields().iter().map(|field| {
                let listed = DataType::new_list(field.data_type().clone(), false);
                match other.field_with_name(field.name()) {
                    Ok(other) if *other.data_type() == listed => {
                        field.as_ref().clone().with_data_type(listed)
                    }
                    _ => field.as_ref().clone(),
                }
            });
            Schema::new(fields.collect::<Vec<_>>())
        };
        let (a, b) = (lists(&a, &b), lists(&b, &a));
        let mut fields = Schema::try_merge([a, b])?.fields().to_vec();
        fields.sort_by(|a, b| a.name().cmp(b.name()));
        Ok(Schema::new(fields))
    }

    fn open(&self, file: FileBytes, want: Want) -> BoxStream<'static, Result<RecordBatch, BoxError>> {
        let rows = futures::future::ready(Rows::new(Frames::new(file.window()), want));
        let batches = rows.map(|rows| match rows {
            Ok(rows) => futures::stream::try_unfold(rows, |mut rows| async move {
                Ok(rows.batch().await?.map(|batch| (batch, rows)))
            })
            .boxed(),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        });
        batches.flatten_stream().boxed()
    }
}

/// What is known of a feature.
struct Seen {
    kind: Kind,
    /// Whether no record has other than one value of it.
    single: bool,
}

/// The columns that the first records tell: by name, since a message has its features in no particular order.
async fn look(mut frames: Frames) -> Result<Schema, BoxError> {
    let mut seen: BTreeMap<String, Seen> = BTreeMap::new();
    while frames.number() < LOOK_ROWS && frames.at() < LOOK_BYTES {
        let Some(record) = frames.next().await? else { break };
        for feature in example::features(&record) {
            let feature = feature.map_err(|error| frames.on(error))?;
            let Some((kind, values)) = feature.count().map_err(|error| frames.on(error))? else { continue };
            let Some(known) = seen.get_mut(feature.name) else {
                if seen.len() == MAX_COLUMNS {
                    return Err(frames.on(format!("more than {MAX_COLUMNS} features").into()));
                }
                seen.insert(feature.name.to_owned(), Seen { kind, single: values == 1 });
                continue;
            };
            if known.kind != kind {
                let name = feature.name;
                let error =
                    format!("feature '{name}' has {kind}, and in records before it has {}", known.kind);
                return Err(frames.on(error.into()));
            }
            known.single &= values == 1;
        }
    }
    let fields = seen.into_iter().map(|(name, seen)| {
        let item = match seen.kind {
            Kind::Bytes => DataType::Binary,
            Kind::Floats => DataType::Float32,
            Kind::Ints => DataType::Int64,
        };
        let kind = if seen.single { item } else { DataType::new_list(item, false) };
        Field::new(name, kind, true)
    });
    Ok(Schema::new(fields.collect::<Vec<_>>()))
}
