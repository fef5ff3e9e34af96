//! [`CheckpointStore`]: the checkpoints of one run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::Checkpoint;
use super::error::CheckpointError;
use super::manifest::{CLAIM, FORMAT, FileEntry, MANIFEST, Manifest};
use super::retention::{Retention, Saved};
use crate::storage::{Storage, StorageError};
use crate::{CoreError, Result};

/// How many numbers are tried before a save gives up: others would have to save that many at once.
const MAX_CLAIMS: u64 = 10_000;

/// The checkpoints of one run, in one directory. Cheap to clone; clones are the same store.
///
/// All verbs block, on the store's I/O.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    storage: Storage,
    retention: Retention,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers this store is saving under, or deleting.
    busy: BTreeSet<u64>,
    /// What was passed over so far, and why.
    skipped: BTreeMap<u64, Skipped>,
}

/// A directory that looks like a checkpoint and cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The directory's name.
    pub name: String,
    /// Why not.
    pub reason: CheckpointError,
}

impl CheckpointStore {
    /// The store in that directory. Nothing is read or created yet.
    pub fn open(storage: Storage, retention: Retention) -> Result<Self> {
        retention.validate()?;
        Ok(Self { inner: Arc::new(Inner { storage, retention, state: Mutex::default() }) })
    }

    /// Saves a checkpoint, then deletes those that the retention does not keep. When this returns an error, nothing
    /// was saved.
    pub fn save(
        &self,
        step: u64,
        metrics: &BTreeMap<String, f64>,
        files: &[(&str, Bytes)],
    ) -> Result<Checkpoint> {
        let entries = files.iter().map(|(name, bytes)| FileEntry {
            name: (*name).to_owned(),
            size_bytes: bytes.len() as u64,
            crc32c: crc32c::crc32c(bytes),
        });
        let manifest = Manifest { format: FORMAT, step, metrics: metrics.clone(), files: entries.collect() };
        manifest.check()?;

        let (index, storage) = self.claim()?;
        let written = write(&storage, &manifest, files);
        self.inner.state.lock().busy.remove(&index);
        if let Err(error) = written {
            // Whatever stays behind is incomplete, and never taken for a checkpoint.
            let _ = self.inner.storage.delete_dir_blocking(&name(index));
            return Err(error);
        }
        if let Err(error) = self.prune() {
            tracing::warn!(store = %self.inner.storage, %error, "cannot delete old checkpoints");
        }
        Ok(Checkpoint { storage, manifest: Arc::new(manifest) })
    }

    /// The newest checkpoint, read back and compared with what was saved; `None` where there is none.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        let complete = self.complete()?;
        self.first_sound(complete.into_iter().rev())
    }

    /// The best checkpoint by the retention's score, read back and compared with what was saved.
    pub fn best(&self) -> Result<Option<Checkpoint>> {
        if self.inner.retention.score.is_none() {
            return Err(CheckpointError::NoScore.into());
        }
        let mut complete: BTreeMap<_, _> = self.complete()?.into_iter().collect();
        let ranked = self.inner.retention.ranked(&self.saved(&complete));
        self.first_sound(ranked.into_iter().filter_map(|saved| complete.remove_entry(&saved.index)))
    }

    /// All checkpoints that have a manifest and, by their sizes, their files; oldest first.
    pub fn list(&self) -> Result<Vec<Checkpoint>> {
        Ok(self.complete()?.into_iter().map(|(_, checkpoint)| checkpoint).collect())
    }

    /// What was passed over so far, oldest first. Each is also logged, once.
    pub fn skipped(&self) -> Vec<Skipped> {
        self.inner.state.lock().skipped.values().cloned().collect()
    }

    /// Deletes the directories of saves that did not finish, and says which. Only for whoever knows that no other
    /// process is saving into this store.
    pub fn delete_incomplete(&self) -> Result<Vec<String>> {
        let mut deleted = Vec::new();
        for index in self.indices()? {
            if self.inner.state.lock().busy.contains(&index) {
                continue;
            }
            let name = name(index);
            if !self.inner.storage.exists_blocking(&format!("{name}/{MANIFEST}"))? {
                self.inner.storage.delete_dir_blocking(&name)?;
                deleted.push(name);
            }
        }
        Ok(deleted)
    }

    /// Reserves the next number, against other threads and processes.
    fn claim(&self) -> Result<(u64, Storage)> {
        let first = self.indices()?.last().map_or(0, |index| index + 1);
        for index in first..first.saturating_add(MAX_CLAIMS) {
            let storage = self.inner.storage.join(&name(index))?;
            // Before the claim, so that nobody takes the new directory for one that was given up.
            if !self.inner.state.lock().busy.insert(index) {
                continue;
            }
            match storage.create_blocking(CLAIM, Bytes::new()) {
                Ok(()) => return Ok((index, storage)),
                Err(error) => {
                    self.inner.state.lock().busy.remove(&index);
                    if !matches!(error, CoreError::Storage(StorageError::AlreadyExists { .. })) {
                        return Err(error);
                    }
                }
            }
        }
        let count = MAX_CLAIMS as usize;
        Err(CheckpointError::TooMany { what: "concurrent saves", count, limit: count }.into())
    }

    fn prune(&self) -> Result<()> {
        if self.inner.retention.keep.is_none() {
            return Ok(());
        }
        let complete: BTreeMap<_, _> = self.complete()?.into_iter().collect();
        for index in self.inner.retention.surplus(&self.saved(&complete)) {
            if self.inner.state.lock().busy.insert(index) {
                let deleted = self.delete(index);
                self.inner.state.lock().busy.remove(&index);
                deleted?;
            }
        }
        Ok(())
    }

    fn delete(&self, index: u64) -> Result<()> {
        // Without its manifest it is no checkpoint any more, however far the rest gets.
        self.inner.storage.delete_blocking(&format!("{}/{MANIFEST}", name(index)))?;
        self.inner.storage.delete_dir_blocking(&name(index))
    }

    fn saved(&self, checkpoints: &BTreeMap<u64, Checkpoint>) -> Vec<Saved> {
        let metric = self.inner.retention.score.as_ref().map(|score| score.metric.as_str());
        let score = |checkpoint: &Checkpoint| checkpoint.metrics().get(metric?).copied();
        checkpoints.iter().map(|(index, it)| Saved { index: *index, score: score(it) }).collect()
    }

    /// The first of these whose content is what was saved.
    fn first_sound(&self, candidates: impl Iterator<Item = (u64, Checkpoint)>) -> Result<Option<Checkpoint>> {
        for (index, checkpoint) in candidates {
            match checkpoint.verify() {
                Ok(()) => return Ok(Some(checkpoint)),
                Err(CoreError::Checkpoint(reason)) => self.skip(index, reason),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The checkpoints that have a manifest and files of the right sizes.
    fn complete(&self) -> Result<Vec<(u64, Checkpoint)>> {
        let mut complete = Vec::new();
        for index in self.indices()? {
            match self.load(index) {
                Ok(checkpoint) => complete.push((index, checkpoint)),
                Err(CoreError::Checkpoint(reason)) => self.skip(index, reason),
                Err(error) => return Err(error),
            }
        }
        Ok(complete)
    }

    fn load(&self, index: u64) -> Result<Checkpoint> {
        let storage = self.inner.storage.join(&name(index))?;
        let sizes: BTreeMap<_, _> =
            storage.list_blocking("")?.into_iter().map(|object| (object.name, object.size_bytes)).collect();
        let checkpoint = Checkpoint::load(storage)?;
        for entry in checkpoint.files() {
            match sizes.get(&entry.name) {
                Some(size_bytes) => checkpoint.compare(entry, *size_bytes, entry.crc32c)?,
                None => return Err(checkpoint.corrupt(entry, "is missing".into())),
            }
        }
        Ok(checkpoint)
    }

    fn skip(&self, index: u64, reason: CheckpointError) {
        let mut state = self.inner.state.lock();
        if state.busy.contains(&index) {
            return;
        }
        let skipped = Skipped { name: name(index), reason };
        if state.skipped.get(&index) != Some(&skipped) {
            tracing::warn!(store = %self.inner.storage, reason = %skipped.reason, "passed over a checkpoint");
            state.skipped.insert(index, skipped);
        }
    }

    /// The numbers of the directories that look like checkpoints, ascending.
    fn indices(&self) -> Result<Vec<u64>> {
        let names = self.inner.storage.list_dirs_blocking()?;
        let mut indices: Vec<u64> = names.iter().filter_map(|name| index_of(name)).collect();
        indices.sort_unstable();
        Ok(indices)
    }
}

fn write(storage: &Storage, manifest: &Manifest, files: &[(&str, Bytes)]) -> Result<()> {
    for (name, bytes) in files {
        storage.put_blocking(name, bytes.clone())?;
    }
    let text = manifest.to_text().map_err(|error| CheckpointError::Corrupt {
        checkpoint: storage.to_string(),
        file: MANIFEST.into(),
        reason: format!("cannot be written: {error}"),
    })?;
    storage.put_blocking(MANIFEST, text)
}

fn name(index: u64) -> String {
    format!("checkpoint_{index:06}")
}

fn index_of(directory: &str) -> Option<u64> {
    let index = directory.strip_prefix("checkpoint_")?.parse().ok()?;
    (name(index) == directory).then_some(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_are_checkpoints() {
        assert_eq!(index_of("checkpoint_000003"), Some(3));
        assert_eq!(index_of(&name(12_345_678)), Some(12_345_678));
        for other in [
            "checkpoint_3",
            "checkpoint_",
            "checkpoint_00000x",
            "checkpoint_+00003",
            "best",
            "checkpoint_000003.old",
        ] {
            assert_eq!(index_of(other), None, "{other}");
        }
    }
}
