//! Page-locked host memory through which copies pass.
//!
//! A device copies by itself only from page-locked memory. Two buffers take turns: while the device works on one, the
//! other is filled or emptied, so a copy of any size overlaps and needs no more than twice [`CHUNK_BYTES`].
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DriverError, PinnedHostSlice};

/// Large enough that the start of a copy costs little, small enough to keep.
pub(super) const CHUNK_BYTES: usize = 4 << 20;

pub(super) struct Staging {
    buffers: [PinnedHostSlice<u8>; 2],
}

impl Staging {
    pub(super) fn new(context: &Arc<CudaContext>) -> Result<Staging, DriverError> {
        // Not write-combined, which cudarc's default is: such memory is slow to read, and downloads read it.
        let buffer = || -> Result<_, DriverError> {
            // SAFETY: the memory comes uninitialised, so every byte is written before anything reads it.
            let mut buffer = unsafe { context.alloc_pinned_with_flags::<u8>(CHUNK_BYTES, 0) }?;
            let start = buffer.as_mut_ptr()?;
            // SAFETY: `start` is valid for writes of `CHUNK_BYTES` bytes, and `buffer` is held alone.
            unsafe { start.write_bytes(0, CHUNK_BYTES) };
            Ok(buffer)
        };
        Ok(Staging { buffers: [buffer()?, buffer()?] })
    }

    /// Queues the copy of `from` to the start of `to`. All of `from` has been read when this returns; the device
    /// may still be at work.
    pub(super) fn upload(
        &mut self,
        stream: &Arc<CudaStream>,
        from: &[u8],
        to: &mut CudaSlice<u8>,
    ) -> Result<(), DriverError> {
        for (turn, chunk) in from.chunks(CHUNK_BYTES).enumerate() {
            let start = turn * CHUNK_BYTES;
            // cudarc copies a pinned buffer as a whole only, so the last chunk, which is shorter, goes as a plain
            // slice: the driver returns once it has read it.
            if chunk.len() == CHUNK_BYTES {
                let buffer = &mut self.buffers[turn % 2];
                // Waits until the device has read what this buffer held two turns ago.
                buffer.as_mut_slice()?.copy_from_slice(chunk);
                stream.memcpy_htod(&*buffer, &mut to.slice_mut(start..start + CHUNK_BYTES))?;
            } else {
                stream.memcpy_htod(chunk, &mut to.slice_mut(start..start + chunk.len()))?;
            }
        }
        Ok(())
    }

    /// Copies the bytes `range` of `from` into `to`, of the same length, and waits for them.
    pub(super) fn download(
        &mut self,
        stream: &Arc<CudaStream>,
        from: &CudaSlice<u8>,
        range: Range<usize>,
        to: &mut [u8],
    ) -> Result<(), DriverError> {
        let whole = to.len() / CHUNK_BYTES;
        let (chunks, rest) = to.split_at_mut(whole * CHUNK_BYTES);
        let mut arrived = chunks.chunks_mut(CHUNK_BYTES);
        for turn in 0..whole {
            let start = range.start + turn * CHUNK_BYTES;
            stream.memcpy_dtoh(&from.slice(start..start + CHUNK_BYTES), &mut self.buffers[turn % 2])?;
            // While that one is on its way, empty the one before.
            if turn > 0
                && let Some(chunk) = arrived.next()
            {
                chunk.copy_from_slice(self.buffers[(turn - 1) % 2].as_slice()?);
            }
        }
        if let Some(chunk) = arrived.next() {
            chunk.copy_from_slice(self.buffers[(whole - 1) % 2].as_slice()?);
        }
        if !rest.is_empty() {
            stream.memcpy_dtoh(&from.slice(range.start + whole * CHUNK_BYTES..range.end), rest)?;
        }
        stream.synchronize()
    }
}
