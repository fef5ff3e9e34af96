//! WebDataset: tar archives of samples. A sample is the files next to each other whose names are the same up to the first dot.
//!
//! The format is described in <https://github.com/webdataset/webdataset>.

mod rows;
mod tar;
mod write;

pub(crate) use write::Samples;

use std::collections::BTreeMap;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use super::{FileBytes, Format, LOOK_BYTES, LOOK_ROWS, MAX_COLUMNS, Want};
use rows::Rows;
use tar::Tar;

/// The column of what the files of a sample are called, up to the first dot.
const KEY: &str = "__key__";

#[derive(Debug)]
pub(super) struct WebDataset;

impl Format for WebDataset {
    fn name(&self) -> &'static str {
        "webdataset"
    }

    fn look(&self, file: FileBytes) -> BoxFuture<'static, Result<Schema, BoxError>> {
        look(Tar::new(file.peephole())).boxed()
    }

    fn merge(&self, a: Schema, b: Schema) -> Result<Schema, ArrowError> {
        let mut fields = Schema::try_merge([a, b])?.fields().to_vec();
        fields.sort_by_key(|field| (field.name() != KEY, field.name().clone()));
        Ok(Schema::new(fields))
    }

    fn open(&self, file: FileBytes, want: Want) -> BoxStream<'static, Result<RecordBatch, BoxError>> {
        match Rows::new(Tar::new(file.window()), want) {
            Ok(rows) => futures::stream::try_unfold(rows, |mut rows| async move {
                Ok(rows.batch().await?.map(|batch| (batch, rows)))
            })
            .boxed(),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }
}

/// The columns that the first samples tell.
async fn look(mut tar: Tar) -> Result<Schema, BoxError> {
    let mut endings: BTreeMap<String, DataType> = BTreeMap::new();
    let (mut samples, mut last) = (0, String::new());
    while samples < LOOK_ROWS && tar.window.at() < LOOK_BYTES {
        let Some(entry) = tar.next().await? else { break };
        let Some((key, ending)) = parts(&entry.name) else { continue };
        if samples == 0 || key != last {
            samples += 1;
            key.clone_into(&mut last);
        }
        if !endings.contains_key(ending) {
            if endings.len() == MAX_COLUMNS {
                return Err(format!("more than {MAX_COLUMNS} endings of files").into());
            }
            endings.insert(ending.to_owned(), kind(ending));
        }
    }
    let mut fields = vec![Field::new(KEY, DataType::Utf8, false)];
    fields.extend(
        endings
            .into_iter()
            .filter(|(ending, _)| ending != KEY)
            .map(|(ending, kind)| Field::new(ending, kind, true)),
    );
    Ok(Schema::new(fields))
}

/// A sample's key and the file's own ending; nothing for files that belong to no sample: those without an ending, those called `__x__`, hidden ones.
fn parts(name: &str) -> Option<(&str, &str)> {
    let name = name.strip_prefix("./").unwrap_or(name);
    let base = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = base + name[base..].find('.')?;
    let (key, ending) = (&name[..dot], &name[dot + 1..]);
    let meta = name[base..].starts_with("__") && name.ends_with("__");
    (dot > base && !ending.is_empty() && !meta).then_some((key, ending))
}

/// What a file of that ending is read as.
fn kind(ending: &str) -> DataType {
    match ending.rsplit('.').next().unwrap_or(ending) {
        "txt" | "text" | "transcript" | "json" | "jsonl" => DataType::Utf8,
        "cls" | "cls2" | "index" | "inx" | "id" => DataType::Int64,
        _ => DataType::Binary,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cut_at_the_first_dot_of_the_last_part() {
        assert_eq!(parts("a.jpg"), Some(("a", "jpg")));
        assert_eq!(parts("./x.y/0001.seg.png"), Some(("x.y/0001", "seg.png")));
        assert_eq!(parts("a/b"), None);
        assert_eq!(parts("a/.hidden"), None);
        assert_eq!(parts("a/b."), None);
        assert_eq!(parts("__meta.json__"), None);
        assert_eq!(kind("left.json"), DataType::Utf8);
        assert_eq!(kind("cls"), DataType::Int64);
        assert_eq!(kind("jpg"), DataType::Binary);
    }
}
