//! [`Documents`]: formats that are ours rather than the engine's as a table: lines of text, whole files, NumPy arrays.

use std::fmt;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::{ArrayRef, BinaryArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as EngineResult, project_schema};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::scalar::ScalarValue;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use super::format::FileFormat;
use super::list::FileList;
use super::options::{FileErrors, Skipped};
use super::{Source, SourceExec, npy};
use crate::error::DataError;

/// A longer line is an error.
const LINE_BYTES: usize = 64 << 20;

/// Files as a table: one block for each run of files.
#[derive(Debug)]
pub(crate) struct Documents {
    pub(crate) list: FileList,
    format: FileFormat,
    content: SchemaRef,
    schema: SchemaRef,
}

impl Documents {
    pub(super) fn new(list: FileList, content: SchemaRef, keys: Vec<FieldRef>, format: FileFormat) -> Self {
        let fields: Vec<FieldRef> = content.fields().iter().cloned().chain(keys).collect();
        Self { list, format, content, schema: Arc::new(Schema::new(fields)) }
    }
}

/// The columns of a file.
pub(super) async fn look(
    file: &ObjectMeta,
    format: &FileFormat,
    store: &dyn ObjectStore,
) -> Result<SchemaRef, BoxError> {
    let field = match format {
        FileFormat::Text => Field::new("text", DataType::Utf8, false),
        FileFormat::Npy => {
            let bytes = store.get_range(&file.location, 0..file.size.min(npy::HEADER_BYTES)).await?;
            npy::Header::parse(&bytes)?.field()?
        }
        _ => Field::new("bytes", DataType::Binary, false),
    };
    Ok(Arc::new(Schema::new(vec![field])))
}

#[async_trait]
impl TableProvider for Documents {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        Ok(self.list.pushdown(filters))
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let chosen = self.list.chosen(filters, state)?;
        if chosen.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&self.schema, projection)?)));
        }
        let blocks = chosen.len().min(state.config().target_partitions()).max(1);
        let document = |index: usize| {
            let meta = self.list.files[index].meta.clone();
            Document { name: self.list.name(&meta), meta, keys: self.list.values[index].clone() }
        };
        let each = chosen.len().div_ceil(blocks).max(1);
        let blocks: Vec<Vec<Document>> =
            chosen.chunks(each).map(|chunk| chunk.iter().copied().map(document).collect()).collect();
        let source = Reading {
            blocks,
            store: self.list.store.clone(),
            format: self.format.clone(),
            content: self.content.clone(),
            schema: self.schema.clone(),
            skipped: (self.list.on_error == FileErrors::Skip).then(|| self.list.skipped.clone()),
        };
        Ok(Arc::new(SourceExec::new(Arc::new(source), projection.cloned(), limit)?))
    }
}

#[derive(Debug, Clone)]
struct Document {
    meta: ObjectMeta,
    name: String,
    keys: Vec<ScalarValue>,
}

#[derive(Debug, Clone)]
struct Reading {
    blocks: Vec<Vec<Document>>,
    store: Arc<dyn ObjectStore>,
    format: FileFormat,
    content: SchemaRef,
    schema: SchemaRef,
    skipped: Option<Skipped>,
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let files: usize = self.blocks.iter().map(Vec::len).sum();
        write!(f, "{files} files of {:?}", self.format)
    }
}

impl Source for Reading {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn partitions(&self) -> usize {
        self.blocks.len()
    }

    fn rows(&self, partition: usize) -> Option<usize> {
        let whole = self.format == FileFormat::Binary && self.skipped.is_none();
        whole.then(|| self.blocks[partition].len())
    }

    fn open(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> BoxStream<'static, EngineResult<RecordBatch>> {
        let this = Arc::new(self.clone());
        let rows = context.session_config().batch_size();
        let documents = futures::stream::iter(this.blocks[partition].clone());
        documents.flat_map(move |document| this.clone().document(document, rows)).boxed()
    }
}

impl Reading {
    fn document(
        self: Arc<Self>,
        document: Document,
        rows: usize,
    ) -> BoxStream<'static, EngineResult<RecordBatch>> {
        let (store, meta) = (self.store.clone(), document.meta.clone());
        let content = match self.format {
            FileFormat::Text => lines(store, meta, rows),
            FileFormat::Npy => {
                let field = self.content.field(0).clone();
                futures::stream::once(async move {
                    let array = npy::decode(whole(store, meta).await?, &field)?;
                    let pieces = (0..array.len()).step_by(rows.max(1));
                    let pieces: Vec<_> =
                        pieces.map(|start| Ok(array.slice(start, rows.min(array.len() - start)))).collect();
                    Ok::<_, BoxError>(futures::stream::iter(pieces))
                })
                .try_flatten()
                .boxed()
            }
            _ => futures::stream::once(async move {
                let bytes = whole(store, meta).await?;
                Ok(Arc::new(BinaryArray::from_iter_values([bytes])) as ArrayRef)
            })
            .boxed(),
        };
        let skipped = self.skipped.clone();
        let batches = content.map(move |column| {
            let source = match column.and_then(|column| self.batch(column, &document.keys)) {
                Ok(batch) => return Ok(batch),
                Err(source) => source,
            };
            Err(DataError::File { path: document.name.clone(), source })
        });
        let batches = batches.scan((), move |(), item| {
            let item = match (item, &skipped) {
                (Err(error), Some(skipped)) => {
                    if let DataError::File { path, .. } = &error {
                        skipped.add(path, &error);
                    }
                    None
                }
                (item, _) => Some(item.map_err(DataFusionError::from)),
            };
            futures::future::ready(item)
        });
        batches.boxed()
    }

    fn batch(&self, column: ArrayRef, keys: &[ScalarValue]) -> Result<RecordBatch, BoxError> {
        let rows = column.len();
        let mut columns = vec![column];
        for key in keys {
            columns.push(key.to_array_of_size(rows)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}

async fn whole(store: Arc<dyn ObjectStore>, meta: ObjectMeta) -> Result<bytes::Bytes, BoxError> {
    Ok(store.get(&meta.location).await?.bytes().await?)
}

/// The lines of a file, `rows` at a time.
fn lines(
    store: Arc<dyn ObjectStore>,
    meta: ObjectMeta,
    rows: usize,
) -> BoxStream<'static, Result<ArrayRef, BoxError>> {
    let start = async move {
        let chunks = store.get(&meta.location).await?.into_stream().map_err(BoxError::from).boxed();
        let state = (chunks, Lines { rest: Vec::new(), at: 0, line: 0 }, false);
        Ok::<_, BoxError>(futures::stream::try_unfold(
            state,
            move |(mut chunks, mut lines, mut over)| async move {
                loop {
                    if let Some(batch) = lines.take(rows, over)? {
                        return Ok(Some((batch, (chunks, lines, over))));
                    }
                    if over {
                        return Ok(None);
                    }
                    match chunks.try_next().await? {
                        Some(chunk) => lines.push(&chunk)?,
                        None => over = true,
                    }
                }
            },
        ))
    };
    futures::stream::once(start).try_flatten().boxed()
}

/// Text that is cut into lines.
struct Lines {
    rest: Vec<u8>,
    /// Where the next line begins.
    at: usize,
    /// Lines cut so far.
    line: u64,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) -> Result<(), BoxError> {
        self.rest.drain(..self.at);
        self.at = 0;
        if self.rest.len() > LINE_BYTES && !chunk.contains(&b'\n') {
            return Err(format!("line {} is longer than {LINE_BYTES} bytes", self.line + 1).into());
        }
        self.rest.extend_from_slice(chunk);
        Ok(())
    }

    /// `rows` lines, or at the end of the file what there is; nothing when more has to be read first.
    fn take(&mut self, rows: usize, over: bool) -> Result<Option<ArrayRef>, BoxError> {
        let mut ends = Vec::with_capacity(rows.min(8192));
        let mut from = self.at;
        while ends.len() < rows {
            match self.rest[from..].iter().position(|byte| *byte == b'\n') {
                Some(length) => {
                    ends.push((from, from + length));
                    from += length + 1;
                }
                None if over && from < self.rest.len() => {
                    ends.push((from, self.rest.len()));
                    from = self.rest.len();
                }
                None => break,
            }
        }
        if ends.is_empty() || ends.len() < rows && !over {
            return Ok(None);
        }
        let mut texts = Vec::with_capacity(ends.len());
        for (number, (start, end)) in ends.into_iter().enumerate() {
            let line = &self.rest[start..end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            texts.push(std::str::from_utf8(line).map_err(|error| {
                let line = self.line + number as u64 + 1;
                format!("line {line}: not UTF-8 after {} bytes", error.valid_up_to())
            })?);
        }
        let array: ArrayRef = Arc::new(StringArray::from_iter_values(&texts));
        self.line += texts.len() as u64;
        self.at = from;
        Ok(Some(array))
    }
}
