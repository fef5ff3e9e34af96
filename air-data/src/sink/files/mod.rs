//! [`FileSink`]: one file for each block, all of them or none.
//!
//! Every file is an upload of its own that becomes visible only when it is completed (a rename on local disks, a
//! multipart upload elsewhere), and none is completed before the store has all parts of all. So a failure, or a crash while rows
//! are still being computed, leaves nothing half-written to be read, and one in completing takes the files back that were not there before. A new directory on a
//! local disk is written under another, hidden name beside it and then renamed, so it is there with all its files or not at all; elsewhere a crash between the first
//! and the last completion leaves some of the files, each of them whole; so it does of files of one row each, such as images, which are completed as they come, and
//! taken back after a failure: an upload that waits takes memory, and they are many. A write that is to be gone on with completes each block's files in a hidden directory that stays.

mod encode;
mod packed;
mod part;
mod resume;
mod split;
mod stage;
mod upload;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;

use air_core::BoxError;
use arrow::datatypes::SchemaRef;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::contract::{Sink, SinkWrite};
use crate::error::{DataError, Result};
use crate::format::{Codec, Compression, CsvOptions, FileFormat};
use crate::session::blocking;
use crate::source::{explain, explain_after};
use part::{Ended, FilePart};
use resume::{Description, Noted, Resumable};
use split::Layout;
use stage::Stage;

/// What to do about data that is already at the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// Refuse: [`DataError::Exists`].
    #[default]
    Create,
    /// Replace it once the new data is complete.
    Overwrite,
}

/// Settings of a write.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WriteOptions {
    /// What to do about data that is already there.
    pub mode: WriteMode,
    /// How CSV looks; only `header`, `delimiter` and `quote` matter to a writer.
    pub csv: CsvOptions,
    /// How Parquet, CSV and JSON are compressed. Files of CSV and JSON in a directory have an ending that says so, `.csv.gz`; that of a single file is
    /// given, and says how where this does not.
    pub compression: Compression,
    /// Rows in one row group of Parquet, at most; 1 048 576 when absent.
    pub row_group_rows: Option<usize>,
    /// Columns that become directories, `key=value`, outermost first, instead of being in the files.
    pub partition_by: Vec<String>,
    /// Images are JPEG of this quality, 1 to 100; without one PNG, which loses nothing.
    #[cfg(feature = "images")]
    pub jpeg_quality: Option<u8>,
    /// Whether a write that is cut off or fails leaves the blocks that are complete, for a write of the same rows to the same directory to go on
    /// from. Until all are complete they lie beside the directory, in `.NAME.unfinished`. Only for directories on a local disk, and for rows of
    /// which each block has the same whenever it is computed: not those of joins and groups.
    pub resume: bool,
}

impl WriteOptions {
    /// Checks every field's range.
    ///
    /// # Errors
    /// [`DataError::Config`] names the first field that is out of range.
    pub fn validate(&self) -> Result<()> {
        if self.row_group_rows == Some(0) {
            return Err(DataError::Config { field: "row_group_rows", reason: "at least 1".to_owned() });
        }
        #[cfg(feature = "images")]
        if self.jpeg_quality.is_some_and(|quality| !(1..=100).contains(&quality)) {
            return Err(DataError::Config { field: "jpeg_quality", reason: "between 1 and 100".to_owned() });
        }
        Ok(())
    }
}

/// Where a write goes.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) store: Arc<dyn ObjectStore>,
    /// What messages put before a path.
    pub(crate) root: String,
    /// The directory, or the one file.
    pub(crate) path: Path,
    /// Whether `path` is one file.
    pub(crate) single: bool,
    /// The directory on the local disk, if it is one.
    pub(crate) local: Option<PathBuf>,
}

/// Whether rows of `schema` can be written so, before there are any.
pub(crate) fn check(
    schema: &SchemaRef,
    format: &FileFormat,
    options: &WriteOptions,
) -> std::result::Result<(), BoxError> {
    options.validate()?;
    options.compression.check_writing(format)?;
    let layout = Layout::new(schema, &options.partition_by)?;
    encode::encoder(format, options, &layout.schema).map(|_| ())
}

/// Files of one format.
pub(crate) struct FileSink {
    pub(crate) target: Target,
    pub(crate) format: FileFormat,
    pub(crate) options: WriteOptions,
    /// How the rows come about, where they are to be gone on with.
    pub(crate) plan: Option<String>,
}

impl Sink for FileSink {
    type Write = FileWrite;

    fn name(&self) -> String {
        self.target.name(&self.target.path)
    }

    async fn begin(&self, schema: &SchemaRef, parts: usize) -> std::result::Result<FileWrite, BoxError> {
        Ok(FileWrite::new(self, schema, parts).await?)
    }
}

/// Files under way: where they lie, and what they are to replace.
pub(crate) struct FileWrite {
    target: Arc<Target>,
    format: FileFormat,
    options: WriteOptions,
    layout: Arc<Layout>,
    stage: Option<Stage>,
    resumable: Option<Arc<Resumable>>,
    /// The parts that an earlier write left.
    resumed: Mutex<BTreeMap<usize, Vec<Ended>>>,
    /// Where the files lie until they are complete.
    base: Path,
    before: Vec<Path>,
    /// What the names of files of one row begin with, so that none replaces a file that is there already.
    tag: String,
}

impl FileWrite {
    async fn new(sink: &FileSink, schema: &SchemaRef, parts: usize) -> Result<Self> {
        let (target, options) = (Arc::new(sink.target.clone()), sink.options.clone());
        options.validate()?;
        options.compression.check_writing(&sink.format)?;
        let layout = Arc::new(Layout::new(schema, &options.partition_by)?);
        if target.single && !options.partition_by.is_empty() {
            let reason = "a single file has no directories; give a path without an extension".to_owned();
            return Err(DataError::Config { field: "partition_by", reason });
        }
        let mut before = existing(&target).await?;
        let (mut resumable, mut noted) = (None, BTreeMap::new());
        if let Some(plan) = &sink.plan {
            let local = if target.single { None } else { target.local.as_deref() };
            let Some(local) = local else {
                let reason = "only a directory on a local disk can be gone on with".to_owned();
                return Err(DataError::Config { field: "resume", reason });
            };
            if options.mode == WriteMode::Create && !before.is_empty() && !Resumable::is_of(local) {
                return Err(DataError::Exists { path: target.name(&target.path) });
            }
            let description = Description::new(parts, schema, &sink.format, &options, plan);
            let (found, notes) = blocking(|| Resumable::open(local, &description))?;
            // What was given its name before the write was cut off.
            let ours: HashSet<Path> =
                notes.values().flatten().filter_map(|file| at(&target.path, file)).collect();
            if options.mode == WriteMode::Create {
                before.retain(|path| !ours.contains(path));
            }
            (resumable, noted) = (Some(found), notes);
        }
        if options.mode == WriteMode::Create && !before.is_empty() {
            return Err(DataError::Exists { path: target.name(&target.path) });
        }
        let local = target.local.as_deref().filter(|_| !target.single && resumable.is_none());
        let stage = local.and_then(Stage::beside);
        let base = match (&stage, &resumable) {
            (Some(stage), _) => stage.path()?,
            (_, Some(resumable)) => resumable.files()?,
            (None, None) => target.path.clone(),
        };
        let resumed = if resumable.is_some() { left(&target, &base, noted).await? } else { BTreeMap::new() };
        let (resumable, resumed) = (resumable.map(Arc::new), Mutex::new(resumed));
        let tag = match (before.is_empty(), &stage) {
            (false, None) => format!("{:08x}-", rand::random::<u32>()),
            _ => String::new(),
        };
        Ok(Self {
            target,
            format: sink.format.clone(),
            options,
            layout,
            stage,
            resumable,
            resumed,
            base,
            before,
            tag,
        })
    }

    async fn finish(&self, mut files: VecDeque<Ended>) -> Result<Vec<String>> {
        let target = &self.target;
        // The first block's file exists for the columns' sake: it is not needed when another one has rows.
        if files.len() > 1
            && files[0].rows == 0
            && let Some(file) = files.pop_front()
        {
            if file.is_complete() {
                target.store.delete(&file.path).await.map_err(|e| target.failed(&file.path, e.into()))?;
            }
            file.give_up(target.store.as_ref()).await;
        }
        let mut complete: Vec<Path> = Vec::with_capacity(files.len());
        while let Some(mut file) = files.pop_front() {
            if let Err(error) = file.complete().await {
                let error = target.failed(&target.shown(&self.base, &file.path), error.into());
                files.push_front(file);
                self.take_back(files, &complete).await;
                return Err(error);
            }
            complete.push(file.path);
        }
        if let Some(stage) = &self.stage {
            stage.publish().map_err(|e| target.failed(&target.path, e.into()))?;
        }
        if let Some(resumable) = &self.resumable {
            blocking(|| resumable.publish()).map_err(|e| target.failed(&target.path, e.into()))?;
        }
        let paths: Vec<Path> = complete.iter().map(|path| target.shown(&self.base, path)).collect();
        if self.options.mode == WriteMode::Overwrite && !target.single {
            for old in self.before.iter().filter(|old| !paths.contains(old)) {
                target.store.delete(old).await.map_err(|e| target.failed(old, e.into()))?;
            }
        }
        Ok(paths.iter().map(|path| target.name(path)).collect())
    }

    /// After a failure to complete a file: those that are not complete, and those that are and were not there before.
    async fn take_back(&self, files: VecDeque<Ended>, complete: &[Path]) {
        give_up(files, self.target.store.as_ref()).await;
        for path in complete.iter().filter(|path| !self.before.contains(path)) {
            let _ = self.target.store.delete(path).await;
        }
    }
}

/// Takes back files that are not visible yet.
async fn give_up(files: impl IntoIterator<Item = Ended>, store: &dyn ObjectStore) {
    for file in files {
        file.give_up(store).await;
    }
}

/// The path of a file that was noted, if it is one.
fn at(base: &Path, file: &Noted) -> Option<Path> {
    Path::parse(format!("{base}/{}", file.path)).ok()
}

/// The parts that are complete of those that were noted; what there is of others is removed.
async fn left(
    target: &Target,
    base: &Path,
    noted: BTreeMap<usize, Vec<Noted>>,
) -> Result<BTreeMap<usize, Vec<Ended>>> {
    let failed = |e: object_store::Error| target.failed(&target.path, e.into());
    let mut there: HashSet<Path> =
        target.store.list(Some(base)).map_ok(|meta| meta.location).try_collect().await.map_err(failed)?;
    let mut parts = BTreeMap::new();
    for (part, files) in noted {
        let found = files.iter().map(|file| {
            let path = at(base, file).filter(|path| there.contains(path))?;
            Some(Ended::there(path, file.rows))
        });
        if let Some(files) = found.collect::<Option<Vec<Ended>>>() {
            for file in &files {
                there.remove(&file.path);
            }
            parts.insert(part, files);
        }
    }
    for path in there {
        target.store.delete(&path).await.map_err(failed)?;
    }
    Ok(parts)
}

impl SinkWrite for FileWrite {
    type Part = FilePart;

    fn resumed(&self, part: usize) -> Option<Vec<Ended>> {
        self.resumed.lock().remove(&part)
    }

    async fn open(&self, part: usize) -> std::result::Result<FilePart, BoxError> {
        Ok(FilePart::new(self, part))
    }

    async fn commit(&self, parts: Vec<Vec<Ended>>) -> std::result::Result<Vec<String>, BoxError> {
        Ok(self.finish(parts.into_iter().flatten().collect()).await?)
    }

    async fn abort(&self, parts: Vec<Vec<Ended>>) {
        give_up(parts.into_iter().flatten(), self.target.store.as_ref()).await;
    }
}

/// The files that are at the destination already.
async fn existing(target: &Target) -> Result<Vec<Path>> {
    let failed = |e: object_store::Error| target.failed(&target.path, e.into());
    if target.single {
        return match target.store.head(&target.path).await {
            Ok(meta) => Ok(vec![meta.location]),
            Err(object_store::Error::NotFound { .. }) => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        };
    }
    target.store.list(Some(&target.path)).map_ok(|meta| meta.location).try_collect().await.map_err(failed)
}

impl Target {
    /// What its files are compressed with as a whole.
    fn codec(&self, format: &FileFormat, compression: Compression) -> Option<Codec> {
        let named = if self.single { self.path.as_ref() } else { "" };
        compression.of(named).filter(|_| format.is_packable())
    }

    fn name(&self, path: &Path) -> String {
        format!("{}{path}", self.root)
    }

    /// Where a file is to be found in the end that lies below `base` until then.
    fn shown(&self, base: &Path, path: &Path) -> Path {
        path.prefix_match(base).into_iter().flatten().fold(self.path.clone(), Path::join)
    }

    fn failed(&self, path: &Path, source: BoxError) -> DataError {
        let path = self.name(path);
        let source = explain(&path, source);
        DataError::Write { path, source }
    }

    /// As [`failed`](Self::failed), once some of the file was sent.
    fn failed_after(&self, path: &Path, sent_bytes: u64, source: object_store::Error) -> DataError {
        let path = self.name(path);
        let source = explain_after(&path, sent_bytes, source.into());
        DataError::Write { path, source }
    }
}
