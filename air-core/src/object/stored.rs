//! [`Stored`]: one value that is counted in bytes, wherever it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use super::error::ObjectError;
use super::file::SpillFile;
use super::ledger::Id;
use super::spill::Codec;
use super::store::Store;

/// A value in memory or on disk. Who looks at it holds a [`Pin`], and it is in memory for as long.
///
/// Locks are taken in this order: the place of a value, then the store's.
pub(crate) struct Stored<T> {
    id: Id,
    store: Arc<Store>,
    codec: Codec<T>,
    place: Mutex<Place<T>>,
}

enum Place<T> {
    Memory(Arc<T>),
    Disk(SpillFile),
    /// Given back to who put it.
    Nowhere,
}

/// What the store may do to a value without knowing its type.
pub(super) trait Evict: Send + Sync {
    /// Writes it to disk and frees its memory; whether it did: not if somebody used it meanwhile.
    fn evict(&self) -> Result<bool, ObjectError>;
}

/// Keeps a value in memory.
pub(super) struct Pin<T>(Arc<Stored<T>>);

impl<T> Clone for Pin<T> {
    fn clone(&self) -> Self {
        self.0.store.ledger(|ledger| ledger.pin(self.0.id));
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Pin<T> {
    fn drop(&mut self) {
        self.0.store.ledger(|ledger| ledger.unpin(self.0.id));
    }
}

impl<T> Stored<T> {
    pub(super) fn new(id: Id, store: Arc<Store>, codec: Codec<T>, value: T) -> Self {
        Self { id, store, codec, place: Mutex::new(Place::Memory(Arc::new(value))) }
    }

    /// The value, read back if it is on disk.
    pub(super) fn get(self: &Arc<Self>) -> Result<(Arc<T>, Pin<T>), ObjectError> {
        let resident = self.store.ledger(|ledger| ledger.pin(self.id));
        let pin = Pin(Arc::clone(self));
        if !resident {
            // That no room can be made has been logged and counted; it is no reason to withhold what is asked for.
            let _ = self.store.make_room();
        }
        let mut place = self.place.lock();
        let value = match &*place {
            Place::Memory(value) => Arc::clone(value),
            Place::Disk(file) => {
                let read = file.read(self.codec);
                let value = read
                    .map_err(|error| if self.store.directory.closed() { ObjectError::Gone } else { error })?;
                let value = Arc::new(value);
                *place = Place::Memory(Arc::clone(&value));
                self.store.ledger(|ledger| ledger.restored(self.id));
                self.store.restores.fetch_add(1, Ordering::Relaxed);
                value
            }
            Place::Nowhere => return Err(ObjectError::Gone),
        };
        drop(place);
        Ok((value, pin))
    }

    /// The value if it is in memory.
    pub(super) fn get_now(self: &Arc<Self>) -> Option<(Arc<T>, Pin<T>)> {
        let resident = self.store.ledger(|ledger| ledger.pin(self.id));
        let pin = Pin(Arc::clone(self));
        let place = if resident { self.place.try_lock() } else { None };
        match place.as_deref() {
            Some(Place::Memory(value)) => {
                let value = Arc::clone(value);
                drop(place);
                Some((value, pin))
            }
            _ => None,
        }
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The value itself, for one that nobody else has seen; itself again where it is being written right now.
    pub(super) fn take_back(stored: Arc<Self>) -> Result<T, Arc<Self>> {
        let mut place = stored.place.lock();
        match std::mem::replace(&mut *place, Place::Nowhere) {
            Place::Memory(value) => match Arc::try_unwrap(value) {
                Ok(value) => Ok(value),
                Err(shared) => {
                    *place = Place::Memory(shared);
                    drop(place);
                    Err(stored)
                }
            },
            other => {
                *place = other;
                drop(place);
                Err(stored)
            }
        }
    }
}

impl<T: Send + Sync> Evict for Stored<T> {
    fn evict(&self) -> Result<bool, ObjectError> {
        let value = match &*self.place.lock() {
            Place::Memory(value) => Some(Arc::clone(value)),
            _ => None,
        };
        let Some(value) = value else {
            self.store.ledger(|ledger| ledger.stays(self.id));
            return Ok(false);
        };
        // Written without the lock, so that whoever wants the value meanwhile has it.
        let file = match self.store.directory.write(self.id, &*value, self.codec) {
            Ok(file) => file,
            Err(error) => {
                self.store.ledger(|ledger| ledger.stays(self.id));
                return Err(error);
            }
        };
        let mut place = self.place.lock();
        if !self.store.ledger(|ledger| ledger.spilled(self.id)) {
            drop(place);
            return Ok(false);
        }
        let freed = std::mem::replace(&mut *place, Place::Disk(file));
        drop(place);
        drop((freed, value));
        Ok(true)
    }
}

impl<T> Drop for Stored<T> {
    fn drop(&mut self) {
        self.store.remove(self.id);
    }
}
