//! Where a trial's checkpoints lie, how many are kept, and how a clone gets its own.
//!
//! A trial has a folder of checkpoints for each of its generations: `checkpoints`, and `checkpoints-1` once it was made a clone. A generation's folder
//! appears whole: it is there if and only if what it starts from has been copied.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use air_core::checkpoint::{Checkpoint, CheckpointStore, Retention};
use air_core::storage::Storage;
use bytes::Bytes;

use crate::TrialId;
use crate::controller::{Begun, Origin};
use crate::error::{Result, TuneError};
use crate::result::trial_dir;

/// Checkpoints of one trial that are kept, besides those that somebody needs.
const KEPT: usize = 2;

/// The checkpoints of one generation of a trial.
pub(crate) struct Keep {
    root: PathBuf,
    trial: TrialId,
    generation: u32,
}

fn folder(generation: u32) -> String {
    if generation == 0 { "checkpoints".into() } else { format!("checkpoints-{generation}") }
}

/// The generations a trial's folder has checkpoints of, in order.
fn generations(trial_dir: &Path) -> Result<Vec<u32>> {
    let entries = match fs::read_dir(trial_dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(TuneError::io(trial_dir))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(TuneError::io(trial_dir))?.file_name();
        match name.to_str().and_then(|name| name.strip_prefix("checkpoints")) {
            Some("") => found.push(0),
            Some(rest) => found.extend(rest.strip_prefix('-').and_then(|n| n.parse::<u32>().ok())),
            None => {}
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The newest checkpoint in the folder of a trial.
pub(crate) fn latest(trial_dir: &Path) -> Result<Option<Checkpoint>> {
    match generations(trial_dir)?.last() {
        Some(generation) => Ok(open(&trial_dir.join(folder(*generation)))?.latest()?),
        None => Ok(None),
    }
}

fn open(dir: &Path) -> Result<CheckpointStore> {
    Ok(CheckpointStore::open(Storage::open(&dir.to_string_lossy())?, Retention::default())?)
}

impl Keep {
    pub fn new(root: &Path, trial: TrialId, generation: u32) -> Self {
        Self { root: root.to_owned(), trial, generation }
    }

    fn trial_dir(&self) -> PathBuf {
        trial_dir(&self.root, self.trial)
    }

    fn dir(&self) -> PathBuf {
        self.trial_dir().join(folder(self.generation))
    }

    /// A checkpoint's place within the experiment's folder.
    fn place(&self, checkpoint: &Checkpoint) -> String {
        let path = checkpoint.local_path().unwrap_or_default();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        format!("{}/{name}", self.place_of(self.generation))
    }

    fn place_of(&self, generation: u32) -> String {
        let trial = trial_dir(Path::new(""), self.trial);
        format!("{}/{}", trial.to_string_lossy(), folder(generation))
    }

    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        let dir = self.dir();
        if dir.is_dir() { Ok(open(&dir)?.latest()?) } else { Ok(None) }
    }

    /// What there is of this generation, if it has begun.
    pub fn begun(&self) -> Result<Option<Begun>> {
        if !self.dir().is_dir() {
            return Ok(None);
        }
        let saved = self.latest()?.map(|checkpoint| (self.place(&checkpoint), checkpoint.step()));
        Ok(Some(Begun { saved }))
    }

    /// Saves one; returns it with its place within the experiment's folder.
    pub fn save(&self, step: u64, files: &[(&str, Bytes)]) -> Result<(Checkpoint, String)> {
        let checkpoint = open(&self.dir())?.save(step, &BTreeMap::new(), files)?;
        let place = self.place(&checkpoint);
        Ok((checkpoint, place))
    }

    /// Deletes all but the newest, and what is pinned.
    pub fn prune(&self, is_pinned: impl Fn(&str) -> bool) -> Result<()> {
        let saved = open(&self.dir())?.list()?;
        for old in &saved[..saved.len().saturating_sub(KEPT)] {
            if let Some(path) = old.local_path().filter(|_| !is_pinned(&self.place(old))) {
                // Without its manifest it is no checkpoint any more, however far the rest gets.
                let manifest = path.join("manifest.json");
                fs::remove_file(&manifest).map_err(TuneError::io(&manifest))?;
                fs::remove_dir_all(&path).map_err(TuneError::io(&path))?;
            }
        }
        Ok(())
    }

    /// Begins this generation with the checkpoint of another trial, as one of `step`; with none, if there is none to copy. Returns its place within the
    /// experiment's folder.
    pub fn copy(&self, origin: &Origin, step: u64) -> Result<Option<String>> {
        let dir = self.dir();
        if dir.is_dir() {
            return Ok(self.latest()?.map(|checkpoint| self.place(&checkpoint)));
        }
        let donor = Keep::new(&self.root, origin.source.0, origin.source.1);
        let source = match &origin.checkpoint {
            Some(place) => Some(Checkpoint::find(&self.root.join(place).to_string_lossy())?),
            None => donor.latest()?,
        };
        let part = dir.with_extension("part");
        match fs::remove_dir_all(&part) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(TuneError::io(&part)(error)),
            _ => {}
        }
        fs::create_dir_all(&part).map_err(TuneError::io(&part))?;
        if let Some(source) = source {
            let read = |name: &str| source.read(name).map(|bytes| (name.to_owned(), bytes));
            let files: Vec<(String, Bytes)> = source
                .files()
                .iter()
                .map(|file| read(&file.name))
                .collect::<std::result::Result<_, air_core::CoreError>>()?;
            let files: Vec<(&str, Bytes)> =
                files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
            open(&part)?.save(step, source.metrics(), &files)?;
        }
        fs::rename(&part, &dir).map_err(TuneError::io(&dir))?;
        Ok(self.latest()?.map(|checkpoint| self.place(&checkpoint)))
    }

    /// Deletes earlier generations, except where something is pinned.
    pub fn delete_older(&self, is_pinned: impl Fn(&str) -> bool) -> Result<()> {
        let trial_dir = self.trial_dir();
        for generation in generations(&trial_dir)? {
            if generation < self.generation && !is_pinned(&self.place_of(generation)) {
                let dir = trial_dir.join(folder(generation));
                fs::remove_dir_all(&dir).map_err(TuneError::io(&dir))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn save(keep: &Keep, step: u64) -> String {
        keep.save(step, &[("weights", Bytes::from(vec![step as u8; 3]))]).unwrap().1
    }

    #[test]
    fn the_newest_two_are_kept_and_what_is_pinned() {
        let root = tempfile::tempdir().unwrap();
        let keep = Keep::new(root.path(), 3, 0);
        let pinned = save(&keep, 1);
        assert_eq!(pinned, "trial_00003/checkpoints/checkpoint_000000");
        for step in 2..6 {
            save(&keep, step);
            keep.prune(|place| place == pinned).unwrap();
        }
        let steps = |keep: &Keep| -> Vec<u64> {
            open(&keep.dir()).unwrap().list().unwrap().iter().map(Checkpoint::step).collect()
        };
        assert_eq!(steps(&keep), [1, 4, 5]);
        keep.prune(|_| false).unwrap();
        assert_eq!(steps(&keep), [4, 5]);
    }

    #[test]
    fn a_clone_starts_from_a_copy_and_its_earlier_generations_go() {
        let root = tempfile::tempdir().unwrap();
        let (donor, own) = (Keep::new(root.path(), 0, 0), Keep::new(root.path(), 1, 0));
        let place = save(&donor, 7);
        save(&donor, 8);
        save(&own, 9);
        let clone = Keep::new(root.path(), 1, 1);
        let origin = |checkpoint: Option<&str>| Origin {
            donor: 0,
            source: (0, 0),
            checkpoint: checkpoint.map(str::to_owned),
            donor_iterations: 8,
        };
        let copied = clone.copy(&origin(Some(&place)), 9).unwrap().unwrap();
        assert_eq!(copied, "trial_00001/checkpoints-1/checkpoint_000000");
        let start = clone.latest().unwrap().unwrap();
        assert_eq!((start.step(), &start.read("weights").unwrap()[..]), (9, &[7_u8; 3][..]));
        clone.copy(&origin(None), 9).unwrap();
        assert_eq!(clone.latest().unwrap().unwrap().read("weights").unwrap()[0], 7, "it is copied once");
        clone.delete_older(|_| true).unwrap();
        assert!(own.latest().unwrap().is_some());
        clone.delete_older(|_| false).unwrap();
        assert!(own.latest().unwrap().is_none());
        assert_eq!(latest(&root.path().join("trial_00001")).unwrap().unwrap().step(), 9);

        let newest = Keep::new(root.path(), 2, 1);
        newest.copy(&origin(None), 1).unwrap();
        assert_eq!(newest.latest().unwrap().unwrap().read("weights").unwrap()[0], 8);
        let nothing = Keep::new(root.path(), 4, 1);
        nothing.copy(&Origin { source: (9, 0), ..origin(None) }, 1).unwrap();
        assert!(nothing.latest().unwrap().is_none() && nothing.dir().is_dir());
        assert!(latest(root.path().join("none").as_path()).unwrap().is_none());
    }
}
