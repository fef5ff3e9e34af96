//! [`Table`]: a table as a sink. All parts go through one transaction in their order; those whose turn it is not yet keep their rows on disk.

use std::io::Write as _;
use std::sync::Arc;

use air_core::BoxError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::BytesMut;
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::{SpillFile, SpillWriter};
use futures::TryStreamExt;
use parking_lot::Mutex;

use super::database::Database;
use super::encode;
use super::kind::Kind;
use super::target::Target;
use super::turns::Turns;
use crate::session::blocking;
use crate::sink::{Sink, SinkPart, SinkWrite, WriteMode};

/// A table to be written.
pub(super) struct Table {
    pub(super) database: Database,
    pub(super) name: String,
    pub(super) mode: WriteMode,
    /// Where rows are kept that have to wait.
    pub(super) disk: Arc<DiskManager>,
}

impl Sink for Table {
    type Write = Writing;

    fn name(&self) -> String {
        format!("{} of {}", self.name, self.database.name())
    }

    async fn begin(&self, schema: &SchemaRef, _: usize) -> Result<Writing, BoxError> {
        let kinds = encode::kinds(schema)?;
        let columns = encode::declared(schema, &kinds)?;
        let target = Target::begin(&self.database, &self.name, &columns, self.mode).await?;
        let turns = Arc::new(Mutex::new(Turns::new(target)));
        Ok(Writing { turns, kinds: kinds.into(), disk: self.disk.clone() })
    }
}

/// A transaction under way.
pub(super) struct Writing {
    turns: Arc<Mutex<Turns<Target, Kept>>>,
    kinds: Arc<[Kind]>,
    disk: Arc<DiskManager>,
}

impl SinkWrite for Writing {
    type Part = Part;

    async fn open(&self, number: usize) -> Result<Part, BoxError> {
        Ok(Part {
            number,
            turns: self.turns.clone(),
            kinds: self.kinds.clone(),
            disk: self.disk.clone(),
            target: None,
            kept: Kept::default(),
        })
    }

    async fn commit(&self, _: Vec<()>) -> Result<Vec<String>, BoxError> {
        let closed = self.turns.lock().close();
        let (mut target, kept) = closed.ok_or("a part has not given the connection back")?;
        for kept in kept {
            kept.put_into(&mut target).await?;
        }
        target.commit().await?;
        Ok(Vec::new())
    }

    async fn abort(&self, _: Vec<()>) {
        let closed = self.turns.lock().close();
        if let Some((target, _)) = closed {
            target.abort().await;
        }
    }
}

/// A part under way.
pub(super) struct Part {
    number: usize,
    turns: Arc<Mutex<Turns<Target, Kept>>>,
    kinds: Arc<[Kind]>,
    disk: Arc<DiskManager>,
    /// The table, once it is this part's turn.
    target: Option<Target>,
    kept: Kept,
}

impl Part {
    /// The table, if it is this part's turn: with all of the part in it that was kept.
    async fn target(&mut self) -> Result<Option<&mut Target>, BoxError> {
        if self.target.is_none() {
            self.target = self.turns.lock().take(self.number);
            if let Some(target) = &mut self.target {
                std::mem::take(&mut self.kept).put_into(target).await?;
            }
        }
        Ok(self.target.as_mut())
    }
}

impl SinkPart for Part {
    type Finished = ();

    async fn write(&mut self, batch: &RecordBatch) -> Result<(), BoxError> {
        let mut rows = BytesMut::new();
        encode::encode(batch, &self.kinds, &mut rows)?;
        match self.target().await? {
            Some(target) => {
                target.put(rows.freeze()).await?;
                target.pause().await
            }
            None => self.kept.keep(&rows, &self.disk),
        }
    }

    async fn finish(mut self) -> Result<(), BoxError> {
        let target = self.target.take();
        let mut passed = match target {
            Some(target) => self.turns.lock().pass(target),
            None => self.turns.lock().end(self.number, std::mem::take(&mut self.kept)),
        };
        while let Some((mut target, kept)) = passed {
            kept.put_into(&mut target).await?;
            passed = self.turns.lock().pass(target);
        }
        Ok(())
    }

    async fn abort(self) {
        // What it wrote goes with the transaction, which is called off.
        if let Some(target) = self.target {
            self.turns.lock().give_back(target);
        }
    }
}

/// Rows that wait for their turn, on disk.
#[derive(Default)]
struct Kept(Option<(Arc<dyn SpillFile>, Box<dyn SpillWriter>)>);

impl Kept {
    fn keep(&mut self, rows: &[u8], disk: &Arc<DiskManager>) -> Result<(), BoxError> {
        blocking(|| {
            let (_, writer) = match &mut self.0 {
                Some(open) => open,
                none => {
                    let file = disk.create_tmp_file("rows for PostgreSQL")?;
                    let writer = file.open_writer()?;
                    none.insert((file, writer))
                }
            };
            Ok(writer.write_all(rows)?)
        })
    }

    async fn put_into(self, target: &mut Target) -> Result<(), BoxError> {
        let Some((file, mut writer)) = self.0 else { return Ok(()) };
        blocking(|| writer.finish())?;
        let mut pieces = file.read_stream()?;
        while let Some(piece) = pieces.try_next().await? {
            target.put(piece).await?;
        }
        target.pause().await
    }
}
