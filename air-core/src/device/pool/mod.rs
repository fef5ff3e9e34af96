//! Memory that is kept for its next use: the caching allocator of device memory and of page-locked host memory.
//!
//! To ask a driver for memory takes from tens of microseconds to milliseconds, and to give it back stops the device. So what is let go of
//! is kept, by size, and handed out again: at once to the stream that used it last, whose work is in order anyway, and to
//! others when the work is done. `books` decides and counts; this file carries it out over a [`Source`], which is
//! a driver or, in tests, the heap.

mod books;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::Mutex;

use self::books::{Answer, Books};
use super::DeviceError;
use super::uses::{Access, Fence, StreamId, Uses};
pub use books::MemoryUse;

/// Where memory comes from.
pub(crate) trait Source: Send + Sync {
    /// What follows the work on it.
    type Fence: Fence;

    /// Memory of this many bytes, by address; `None` where there is no more.
    fn allocate(&self, bytes: usize) -> Result<Option<u64>, DeviceError>;

    /// Takes back what it gave. Nothing uses it any more.
    fn free(&self, address: u64, bytes: usize);

    /// The error of a caller who asked for `bytes` and cannot have them, with nothing left to give back.
    fn full(&self, bytes: usize, now: MemoryUse) -> DeviceError;
}

/// A piece of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) address: u64,
    /// What it takes; at least what was asked for.
    pub(crate) bytes: usize,
}

/// The memory of one source, in use and kept.
pub(crate) struct Pool<S: Source> {
    source: S,
    books: Mutex<Books<S::Fence>>,
}

impl<S: Source> Pool<S> {
    /// Above `limit_bytes`, in use and kept together, nothing is kept.
    pub(crate) fn new(source: S, limit_bytes: Option<u64>) -> Arc<Self> {
        Arc::new(Self { source, books: Mutex::new(Books::new(limit_bytes)) })
    }

    /// At least this many bytes for `stream`, with whatever was in them. What is kept is given back before this fails.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize, stream: StreamId) -> Result<Held<S>, DeviceError> {
        let wanted = books::rounded(bytes);
        for given_back in [false, true] {
            // Not in the `match`, which would hold the lock.
            let answer = self.books.lock().ask(wanted, Some(stream));
            if let Some(held) = self.carry_out(answer, wanted)? {
                return Ok(held);
            }
            if !given_back {
                self.give_back();
            }
        }
        Err(self.source.full(bytes, self.in_use()))
    }

    /// At least this many bytes for the host, which no work uses any more. At the limit it waits for what is in use by streams; only
    /// where nothing is does it go beyond.
    pub(crate) fn take_done(self: &Arc<Self>, bytes: usize) -> Result<Held<S>, DeviceError> {
        let wanted = books::rounded(bytes);
        let answer = self.books.lock().ask(wanted, None);
        if let Some(held) = self.carry_out(answer, wanted)? {
            return Ok(held);
        }
        let oldest = self.books.lock().oldest(wanted);
        if let Some((block, uses)) = oldest {
            uses.wait();
            return Ok(self.held(block, Uses::default()));
        }
        self.give_back();
        let answer = self.books.lock().ask_beyond_limit(wanted);
        self.carry_out(answer, wanted)?.ok_or_else(|| self.source.full(bytes, self.in_use()))
    }

    fn carry_out(
        self: &Arc<Self>,
        answer: Answer<S::Fence>,
        wanted: usize,
    ) -> Result<Option<Held<S>>, DeviceError> {
        match answer {
            Answer::Reuse(block, uses) => Ok(Some(self.held(block, uses))),
            Answer::Full => Ok(None),
            // The lock is not held: this may take long, and to let go of memory must not.
            Answer::Allocate => {
                let given = self.source.allocate(wanted);
                self.books.lock().allocated(wanted, matches!(given, Ok(Some(_))));
                let block = given?.map(|address| Block { address, bytes: wanted });
                Ok(block.map(|block| self.held(block, Uses::default())))
            }
        }
    }

    fn held(self: &Arc<Self>, block: Block, uses: Uses<S::Fence>) -> Held<S> {
        Held { pool: Arc::clone(self), block, uses: Mutex::new(uses) }
    }

    /// Gives all that is kept back to where it came from, after the work on it.
    pub(crate) fn give_back(&self) {
        let kept = self.books.lock().empty();
        self.free(kept);
    }

    /// Changes the limit; what is kept and may not be is given back.
    pub(crate) fn limit(&self, limit_bytes: Option<u64>) {
        let kept = self.books.lock().limit(limit_bytes);
        self.free(kept);
    }

    /// What is in use and what is kept.
    pub(crate) fn in_use(&self) -> MemoryUse {
        self.books.lock().now()
    }

    fn free(&self, kept: Vec<(Block, Uses<S::Fence>)>) {
        for (block, uses) in kept {
            uses.wait();
            self.source.free(block.address, block.bytes);
        }
    }
}

impl<S: Source> Drop for Pool<S> {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Memory in use. Dropped, it is kept for its next use.
pub(crate) struct Held<S: Source> {
    pool: Arc<Pool<S>>,
    block: Block,
    uses: Mutex<Uses<S::Fence>>,
}

impl<S: Source> Held<S> {
    pub(crate) fn address(&self) -> u64 {
        self.block.address
    }

    /// What `stream` has to wait for before it uses the memory.
    pub(crate) fn before(&self, access: Access, stream: StreamId) -> Vec<S::Fence> {
        self.uses.lock().before(access, stream)
    }

    /// `stream` uses it until `fence`.
    pub(crate) fn note(&self, access: Access, stream: StreamId, fence: S::Fence) {
        self.uses.lock().note(access, stream, fence);
    }
}

impl<S: Source> Drop for Held<S> {
    fn drop(&mut self) {
        let uses = std::mem::take(&mut *self.uses.lock());
        let kept = self.pool.books.lock().put(self.block, uses);
        self.pool.free(kept);
    }
}
