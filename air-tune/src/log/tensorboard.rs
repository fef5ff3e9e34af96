//! What trials report, for TensorBoard: one run a trial. The files' format is [`air_core::events`]'.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use air_core::BoxError;
pub use air_core::events::{EventWriter, Scalar};
use air_core::events::{file_name, now, summary, version};

use super::csv::append;
use super::{Callback, Event};
use crate::TrialId;
use crate::error::Result;
use crate::result::trial_dir;

/// One run a trial: `trial_00000/events.out.tfevents…` with all it reported.
pub(super) struct TensorBoard {
    dir: PathBuf,
    file_name: String,
    pending: HashMap<TrialId, Vec<u8>>,
    begun: HashSet<TrialId>,
}

impl TensorBoard {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), file_name: file_name(), pending: HashMap::new(), begun: HashSet::new() }
    }

    fn flush(&mut self) -> Result<()> {
        for (trial, bytes) in self.pending.drain() {
            append(&trial_dir(&self.dir, trial).join(&self.file_name), &bytes)?;
        }
        Ok(())
    }
}

impl Callback for TensorBoard {
    fn name(&self) -> &'static str {
        "the TensorBoard log"
    }

    fn on_events(&mut self, events: &[Event]) -> Result<(), BoxError> {
        let now = now();
        for event in events {
            match event {
                Event::Reported { trial, iteration, values, .. } => {
                    let bytes = self.pending.entry(*trial).or_default();
                    if self.begun.insert(*trial) {
                        bytes.extend(version(now));
                    }
                    let scalars = values.iter().map(|(tag, value)| Scalar { tag, value });
                    bytes.extend(summary(now, *iteration, scalars));
                }
                Event::Ended(result) => {
                    self.begun.remove(&result.trial);
                }
                Event::Started { .. }
                | Event::Requeued { .. }
                | Event::Paused { .. }
                | Event::Changed { .. } => {}
            }
        }
        self.flush()?;
        Ok(())
    }
}
