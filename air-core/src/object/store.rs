//! [`Store`]: the values that are counted in bytes, in memory and on disk.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::config::ObjectConfig;
use super::error::ObjectError;
use super::file::Directory;
use super::ledger::{Id, Ledger};
use super::spill::{Codec, Codecs};
use super::stored::{Evict, Stored};
use super::{Outcome, PutError};

/// How many bytes of objects are where. Only values that can spill are counted; others are just held.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObjectStats {
    /// Above this the least recently used objects spill.
    pub budget_bytes: usize,
    /// Bytes in memory.
    pub in_memory_bytes: usize,
    /// Bytes on disk.
    pub spilled_bytes: usize,
    /// Objects in memory.
    pub in_memory: usize,
    /// Objects on disk.
    pub spilled: usize,
    /// Objects somebody holds, which therefore cannot spill.
    pub pinned: usize,
    /// How often an object was written to disk.
    pub spills_total: u64,
    /// How often one was read back.
    pub restores_total: u64,
    /// How often one could not be written.
    pub spill_failures_total: u64,
}

pub struct Store {
    held: Mutex<Held>,
    codecs: Codecs,
    pub(super) directory: Directory,
    next: AtomicU64,
    spills: AtomicU64,
    pub(super) restores: AtomicU64,
    failures: AtomicU64,
    offload: OnceLock<Offload>,
}

/// Runs a closure on a thread that may block.
pub(crate) type Offload = Box<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

struct Held {
    ledger: Ledger,
    values: HashMap<Id, Weak<dyn Evict>>,
}

impl Store {
    pub(crate) fn new(config: ObjectConfig) -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::new(Held { ledger: Ledger::new(config.memory_bytes), values: HashMap::new() }),
            codecs: config.codecs,
            directory: Directory::within(config.spill_dir),
            next: AtomicU64::new(0),
            spills: AtomicU64::new(0),
            restores: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            offload: OnceLock::new(),
        })
    }

    /// Says where to run what blocks; once.
    pub(crate) fn offload_to(&self, offload: Offload) {
        let _ = self.offload.set(offload);
    }

    pub(super) fn offload(&self, run: Box<dyn FnOnce() + Send>) {
        match self.offload.get() {
            Some(offload) => offload(run),
            None => run(),
        }
    }

    /// The runtime ends: what is on disk is gone, what is in memory stays for whoever has a handle.
    pub(crate) fn close(&self) {
        self.directory.close();
    }

    pub(crate) fn stats(&self) -> ObjectStats {
        let held = self.held.lock();
        let (in_memory, spilled, pinned) = held.ledger.counts();
        ObjectStats {
            budget_bytes: held.ledger.budget_bytes(),
            in_memory_bytes: held.ledger.in_memory_bytes(),
            spilled_bytes: held.ledger.spilled_bytes(),
            in_memory,
            spilled,
            pinned,
            spills_total: self.spills.load(Ordering::Relaxed),
            restores_total: self.restores.load(Ordering::Relaxed),
            spill_failures_total: self.failures.load(Ordering::Relaxed),
        }
    }

    /// Takes a value over. One that cannot be made room for is held all the same: a task's result has nowhere to go back to.
    pub(crate) fn hold<T: Send + Sync + 'static>(self: &Arc<Self>, value: T) -> Outcome<T> {
        let (outcome, _) = self.try_hold(value);
        outcome
    }

    /// Takes a value over, or gives it back where the budget is exceeded and nothing can be written.
    pub(crate) fn put<T: Send + Sync + 'static>(
        self: &Arc<Self>,
        value: T,
    ) -> Result<Outcome<T>, PutError<T>> {
        let (outcome, source) = match self.try_hold(value) {
            (outcome, Ok(())) => return Ok(outcome),
            (outcome, Err(source)) => (outcome, source),
        };
        match outcome {
            Outcome::Stored(stored) => match Stored::take_back(stored) {
                Ok(value) => Err(PutError { value, source }),
                Err(stored) => Ok(Outcome::Stored(stored)),
            },
            outcome => Ok(outcome),
        }
    }

    fn try_hold<T: Send + Sync + 'static>(
        self: &Arc<Self>,
        value: T,
    ) -> (Outcome<T>, Result<(), ObjectError>) {
        let Some((codec, bytes)) = self.codecs.find::<T>().map(|codec| (codec, (codec.size_bytes)(&value)))
        else {
            return (Outcome::Plain(value), Ok(()));
        };
        if bytes == 0 {
            return (Outcome::Plain(value), Ok(()));
        }
        let stored = self.admit(value, bytes, codec);
        let room = self.make_room();
        (Outcome::Stored(stored), room)
    }

    fn admit<T: Send + Sync + 'static>(
        self: &Arc<Self>,
        value: T,
        bytes: usize,
        codec: Codec<T>,
    ) -> Arc<Stored<T>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let stored = Arc::new(Stored::new(id, Arc::clone(self), codec, value));
        let evict: Arc<dyn Evict> = stored.clone();
        let mut held = self.held.lock();
        held.values.insert(id, Arc::downgrade(&evict));
        held.ledger.admit(id, bytes);
        drop(held);
        stored
    }

    /// Writes values to disk until the rest is within the budget, or until one cannot be written.
    pub(super) fn make_room(&self) -> Result<(), ObjectError> {
        loop {
            let mut held = self.held.lock();
            let Some(victim) = held.ledger.victim() else { return Ok(()) };
            let value = held.values.get(&victim).and_then(Weak::upgrade);
            drop(held);
            // One whose last handle is just going needs no file.
            let Some(value) = value else { continue };
            match value.evict() {
                Ok(written) => self.spills.fetch_add(u64::from(written), Ordering::Relaxed),
                Err(error) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    let reason = std::error::Error::source(&error);
                    tracing::error!(%error, reason, "objects exceed their budget");
                    return Err(error);
                }
            };
        }
    }

    pub(super) fn ledger<R>(&self, ask: impl FnOnce(&mut Ledger) -> R) -> R {
        ask(&mut self.held.lock().ledger)
    }

    pub(super) fn remove(&self, id: Id) {
        let mut held = self.held.lock();
        held.ledger.remove(id);
        held.values.remove(&id);
    }
}
