//! Sources and sinks of one's own: the suites pass what is right and find what is wrong; errors name the source, the part and the row.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use air_core::BoxError;
use air_data::{
    DataError, FileErrors, ReadRequest, Session, Sink, SinkPart, SinkWrite, Source, SourceBatches, SourcePart,
};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{session, told};

/// What is wrong with a [`Table`].
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    None,
    Error,
    Panic,
    Opening,
    Rows,
    Column,
    Limit,
}

/// Parts of a hundred rows, of which the one in the middle may have a fault from row 50 on.
#[derive(Debug, Clone)]
struct Table {
    parts: usize,
    fault: Fault,
    /// Whether it heeds what is asked for, and whether it blocks.
    heeds: bool,
    blocks: bool,
    opened: Arc<AtomicUsize>,
}

impl Table {
    fn new(parts: usize, fault: Fault) -> Self {
        Self { parts, fault, heeds: false, blocks: false, opened: Arc::default() }
    }
}

impl Source for Table {
    fn name(&self) -> String {
        "the table".to_owned()
    }

    fn schema(&self) -> SchemaRef {
        let fields = [("id", DataType::Int64), ("text", DataType::Utf8)];
        Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, false)).to_vec()))
    }

    fn parts(&self) -> Result<Vec<SourcePart>, BoxError> {
        Ok((0..self.parts)
            .map(|part| SourcePart::new(format!("part {part}")).rows(100).bytes(2000))
            .collect())
    }

    fn open(&self, part: usize, request: &ReadRequest) -> Result<SourceBatches, BoxError> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        if part >= self.parts {
            return Err("there is none".into());
        }
        let fault = if part == self.parts / 2 { self.fault } else { Fault::None };
        if fault == Fault::Opening {
            return Err("the door is shut".into());
        }
        let (schema, request, heeds) = (self.schema(), request.clone(), self.heeds);
        let step = if heeds { request.batch_rows.clamp(1, 50) } else { 50 };
        let rows = if fault == Fault::Rows { 90 } else { 100 };
        let rows = if heeds { request.limit.unwrap_or(rows).min(rows) } else { rows };
        let rows = if fault == Fault::Limit { request.limit.map_or(rows, |limit| limit / 2) } else { rows };
        let batches = (0..rows).step_by(step).map(move |start| {
            if start >= 50 {
                match fault {
                    Fault::Error => return Err("the disk is broken".into()),
                    Fault::Panic => panic!("the roof is down"),
                    _ => {}
                }
            }
            let ids = (start..rows.min(start + step)).map(|row| (100 * part + row) as i64);
            let texts = StringArray::from_iter_values(ids.clone().map(|id| format!("row {id}")));
            let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(ids));
            if fault == Fault::Column && start >= 50 {
                return Ok(RecordBatch::try_from_iter([("id", ids)])?);
            }
            let batch = RecordBatch::try_new(schema.clone(), vec![ids, Arc::new(texts)])?;
            match &request.columns {
                Some(columns) if heeds => Ok(batch.project(columns)?),
                _ => Ok(batch),
            }
        });
        Ok(if self.blocks { SourceBatches::blocking(batches) } else { SourceBatches::computed(batches) })
    }
}

#[test]
fn sources_that_are_right_pass_the_suite() {
    for (parts, heeds, blocks) in [(0, false, false), (1, true, false), (5, false, true), (5, true, true)] {
        air_data::testing::source(|| Table { heeds, blocks, ..Table::new(parts, Fault::None) });
    }
}

#[test]
fn the_suite_finds_what_is_wrong() {
    for (fault, found) in [
        (Fault::Error, "the disk is broken"),
        (Fault::Opening, "the door is shut"),
        (Fault::Rows, "has other rows than it promises"),
        (Fault::Column, "expected columns"),
        (Fault::Limit, "are asked for"),
    ] {
        let run = std::panic::catch_unwind(|| air_data::testing::source(|| Table::new(3, fault)));
        let said = *run.unwrap_err().downcast::<String>().unwrap();
        assert!(said.contains(found), "{fault:?}: {said}");
    }
}

#[test]
fn errors_name_the_source_the_part_and_the_row() {
    let session = session();
    let read = |fault, blocks| {
        let ds = session.read_source(Table { blocks, ..Table::new(3, fault) }).unwrap();
        let first: i64 = ds.select(["id"]).limit(100).sum("id").unwrap();
        assert_eq!(first, 4950, "the first part is read without the others");
        (ds.count().unwrap(), ds.collect().unwrap_err())
    };
    for blocks in [false, true] {
        let (count, error) = read(Fault::Error, blocks);
        assert_eq!(count, 300, "what is promised is not counted");
        assert_eq!(told(&error), "reading part 1 of the table at row 50\n  caused by: the disk is broken");
        assert!(matches!(error.root(), DataError::Source { row: 50, .. }), "{error:?}");
        let (_, error) = read(Fault::Panic, blocks);
        assert!(told(&error).contains("the roof is down"), "{}", told(&error));
        assert!(told(&error).contains("part 1 of the table"), "{}", told(&error));
    }
    let (_, error) = read(Fault::Opening, false);
    assert_eq!(told(&error), "reading part 1 of the table at row 0\n  caused by: the door is shut");
    let (_, error) = read(Fault::Rows, false);
    assert!(told(&error).ends_with("it has 90 rows, and was said to have 100"), "{}", told(&error));
    let (_, error) = read(Fault::Column, false);
    assert!(
        told(&error).contains("part 1 of the table at row 50") && told(&error).contains("expected columns")
    );

    let ds = session.read_source_with(Table::new(3, Fault::Error), FileErrors::Skip).unwrap();
    let ids: Vec<i64> = ds.select(["id"]).take_all().unwrap();
    assert_eq!(ids, (0..150).chain(200..300).collect::<Vec<_>>(), "what was read before the error stays");
    assert_eq!(ds.count().unwrap(), 250, "what may be skipped is counted by reading");
    let skipped = ds.skipped_files().unwrap();
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].path, "the table: part 1");
    assert!(skipped[0].error.contains("the disk is broken"), "{}", skipped[0].error);
}

#[test]
fn a_limit_and_other_verbs_work_on_sources() {
    let session = session();
    let table = Table::new(1000, Fault::None);
    let ds = session.read_source(table.clone()).unwrap();
    assert_eq!(ds.num_blocks().unwrap(), 1000);
    assert_eq!(ds.limit(120).select(["text"]).take_all::<String>().unwrap()[119], "row 119");
    assert!(table.opened.load(Ordering::SeqCst) < 100, "a limit opens what it needs, and a little ahead");
    let small = session.read_source(Table::new(4, Fault::None)).unwrap();
    let doubled = small.map(|row: air_data::Row| Ok(2 * row.i64("id").unwrap()));
    assert_eq!(doubled.take_all::<i64>().unwrap(), (0..400).map(|id| 2 * id).collect::<Vec<_>>());
    assert!(small.explain().unwrap().contains("SourceExec: the table, blocks=4"));
    let none = session.read_source(Table::new(0, Fault::None)).unwrap();
    assert_eq!((none.count().unwrap(), none.collect().unwrap().len()), (0, 0));
    assert_eq!(none.columns().unwrap(), ["id", "text"]);
}

/// A directory with a file of JSON lines for each part, renamed into place. What is wrong with it, if anything.
#[derive(Debug)]
struct Folder {
    dir: tempfile::TempDir,
    fault: &'static str,
}

impl Folder {
    fn new(fault: &'static str) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), fault }
    }

    fn read(&self) -> Vec<RecordBatch> {
        let path = self.dir.path().join("done");
        if !path.exists() || std::fs::read_dir(&path).unwrap().count() == 0 {
            return Vec::new();
        }
        let session = Session::shared().unwrap();
        session.read_ipc(&path).unwrap().collect().unwrap()
    }
}

struct Writing {
    hidden: PathBuf,
    done: PathBuf,
    schema: SchemaRef,
    fault: &'static str,
}

struct Part {
    path: PathBuf,
    batches: Vec<RecordBatch>,
    schema: SchemaRef,
    fault: &'static str,
}

impl Sink for Folder {
    type Write = Writing;

    fn name(&self) -> String {
        "the folder".to_owned()
    }

    async fn begin(&self, schema: &SchemaRef, parts: usize) -> Result<Writing, BoxError> {
        let done = self.dir.path().join("done");
        let hidden = if self.fault == "seen" { done.clone() } else { self.dir.path().join("hidden") };
        if self.fault == "begin" {
            return Err(format!("no room for {parts} parts").into());
        }
        std::fs::create_dir_all(&hidden)?;
        Ok(Writing { hidden, done, schema: schema.clone(), fault: self.fault })
    }
}

impl SinkWrite for Writing {
    type Part = Part;

    async fn open(&self, part: usize) -> Result<Part, BoxError> {
        let part = if self.fault == "order" { 99 - part } else { part };
        let path = self.hidden.join(format!("{part:03}.arrow"));
        Ok(Part { path, batches: Vec::new(), schema: self.schema.clone(), fault: self.fault })
    }

    async fn commit(&self, parts: Vec<PathBuf>) -> Result<Vec<String>, BoxError> {
        if self.hidden != self.done {
            std::fs::rename(&self.hidden, &self.done)?;
        }
        Ok(parts.iter().map(|part| part.display().to_string()).collect())
    }

    async fn abort(&self, _: Vec<PathBuf>) {
        if self.fault == "left" {
            let _ = std::fs::rename(&self.hidden, &self.done);
        } else {
            let _ = std::fs::remove_dir_all(&self.hidden);
        }
    }
}

impl SinkPart for Part {
    type Finished = PathBuf;

    async fn write(&mut self, batch: &RecordBatch) -> Result<(), BoxError> {
        if self.fault == "write" && !self.batches.is_empty() {
            return Err("the pen is dry".into());
        }
        self.batches.push(batch.clone());
        Ok(())
    }

    async fn finish(self) -> Result<PathBuf, BoxError> {
        let mut writer =
            arrow::ipc::writer::FileWriter::try_new(std::fs::File::create(&self.path)?, &self.schema)?;
        for batch in &self.batches {
            writer.write(batch)?;
        }
        writer.finish()?;
        Ok(self.path)
    }

    async fn abort(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

#[test]
fn a_sink_that_is_right_passes_the_suite_and_others_do_not() {
    air_data::testing::sink(|| Folder::new(""), Folder::read);
    for (fault, found) in [
        ("begin", "no room for 1 parts"),
        ("seen", "there are rows"),
        ("left", "there are rows"),
        ("order", "the order is not that of the parts"),
    ] {
        let run = std::panic::catch_unwind(|| air_data::testing::sink(|| Folder::new(fault), Folder::read));
        let said = run.unwrap_err();
        let said = said.downcast_ref::<String>().cloned().unwrap_or_default();
        // Parts of another order are found in whichever check comes first.
        assert!(
            said.contains(found) || fault == "order" && said.contains("other rows are found"),
            "{fault}: {said}"
        );
    }
}

#[test]
fn errors_of_sinks_name_the_sink_the_part_and_the_row() {
    let session = session();
    let ds = session.range(40_000).unwrap().repartition(2);
    let sink = Arc::new(Folder::new(""));
    let parts = ds.write_sink(sink.clone()).unwrap();
    assert_eq!(parts.len(), 2);
    assert_eq!(sink.read().iter().map(RecordBatch::num_rows).sum::<usize>(), 40_000);
    let error = ds.write_sink(Folder::new("write")).unwrap_err();
    let told = told(&error);
    assert!(told.starts_with("writing part ") && told.contains(" of the folder at row "), "{told}");
    assert!(told.ends_with("caused by: the pen is dry"), "{told}");
    let error = ds.write_sink(Folder::new("begin")).unwrap_err();
    assert_eq!(
        super::told(&error),
        "writing the beginning of the folder at row 0\n  caused by: no room for 2 parts"
    );
}
