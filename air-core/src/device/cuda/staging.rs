//! Copies between the host and a device, through page-locked memory.
//!
//! A device copies by itself only from and to page-locked memory. It comes from a pool that all streams of a device share. A long copy goes
//! in chunks, two at a time: while the device works on one, the other is filled or emptied.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::sys;

use super::event::Event;
use super::memory::{Memory, OnHost};
use super::opened::Opened;
use super::stream::Stream;
use crate::device::DeviceError;
use crate::device::pool::Held;
use crate::device::uses::Access;

/// Large enough that the start of a copy costs little, small enough to keep.
const CHUNK_BYTES: usize = 4 << 20;
/// What copies up to this size take, so that few sizes are kept.
const SMALL_BYTES: usize = 64 << 10;
/// Chunks of one copy on their way at once.
const AT_ONCE: usize = 2;

/// Page-locked memory for a part of a copy.
struct Chunk<'a> {
    stream: &'a Stream,
    locked: Held<OnHost>,
}

impl<'a> Chunk<'a> {
    fn take(stream: &'a Stream, bytes: usize) -> Result<Chunk<'a>, DeviceError> {
        let bytes = if bytes <= SMALL_BYTES { SMALL_BYTES } else { bytes.max(CHUNK_BYTES) };
        Ok(Chunk { stream, locked: stream.opened.locked.take_done(bytes)? })
    }

    fn start(&self) -> *mut u8 {
        std::ptr::with_exposed_provenance_mut(self.locked.address() as usize)
    }

    /// Fills it with `from` and queues the copy to `to` on the device.
    fn send(self, from: &[u8], to: u64) -> Result<Event, DeviceError> {
        // SAFETY: the chunk has room for `from` (`take` was asked for as much), no work uses it (`take_done`), and it is held alone.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.start(), from.len()) };
        // SAFETY: the bytes were written just now; `to` has room for them (the caller's range was checked). The chunk goes back
        // to its pool with an event behind the copy, so it is neither written nor freed before the copy is done.
        let queued = unsafe {
            sys::cuMemcpyHtoDAsync_v2(to, self.start().cast(), from.len(), self.stream.queue.cu_stream())
        };
        self.queued(queued, "upload", Access::Read)
    }

    /// Queues the copy of `bytes` bytes at `from` on the device to it.
    fn fetch(&self, from: u64, bytes: usize) -> Result<Event, DeviceError> {
        // SAFETY: the chunk has room for `bytes`, no work uses it, and `from` holds as many (the caller's range was checked). It is
        // read after the event behind the copy only, and goes back to its pool with it.
        let queued = unsafe {
            sys::cuMemcpyDtoHAsync_v2(self.start().cast(), from, bytes, self.stream.queue.cu_stream())
        };
        self.queued(queued, "download", Access::Write)
    }

    fn queued(
        &self,
        queued: sys::CUresult,
        operation: &'static str,
        access: Access,
    ) -> Result<Event, DeviceError> {
        let event = self.stream.event(operation)?;
        self.locked.note(access, self.stream.id, event.clone());
        queued.result().map_err(|found| self.stream.failed(operation, found))?;
        Ok(event)
    }
}

/// Queues the copy of `from` to the start of `to`. All of `from` has been read when this returns; the device may still be at work.
pub(super) fn upload(stream: &Stream, from: &[u8], to: &Memory) -> Result<(), DeviceError> {
    let mut on_the_way = VecDeque::new();
    for (turn, part) in from.chunks(CHUNK_BYTES).enumerate() {
        if on_the_way.len() == AT_ONCE
            && let Some(first) = on_the_way.pop_front()
        {
            // So that its chunk serves again, and no more of them are locked.
            Event::wait(&first)?;
        }
        let start = turn * CHUNK_BYTES;
        let address = stream.address(to, &(start..start + part.len()), "upload")?;
        on_the_way.push_back(Chunk::take(stream, part.len())?.send(part, address)?);
    }
    Ok(())
}

/// Copies the bytes `range` of `from` into `to`, of the same length, and waits for them.
pub(super) fn download(
    stream: &Stream,
    from: &Memory,
    range: Range<usize>,
    to: &mut [u8],
) -> Result<(), DeviceError> {
    let mut on_the_way: VecDeque<(Chunk<'_>, Event, &mut [u8])> = VecDeque::new();
    let arrive = |(chunk, event, part): (Chunk<'_>, Event, &mut [u8])| {
        Event::wait(&event)?;
        // SAFETY: the copy is done, so the device has written as many bytes as `part` has, and `chunk` is held alone.
        unsafe { std::ptr::copy_nonoverlapping(chunk.start(), part.as_mut_ptr(), part.len()) };
        Ok::<_, DeviceError>(())
    };
    for (turn, part) in to.chunks_mut(CHUNK_BYTES).enumerate() {
        if on_the_way.len() == AT_ONCE
            && let Some(first) = on_the_way.pop_front()
        {
            arrive(first)?;
        }
        let start = range.start + turn * CHUNK_BYTES;
        let address = stream.address(from, &(start..start + part.len()), "download")?;
        let chunk = Chunk::take(stream, part.len())?;
        let event = chunk.fetch(address, part.len())?;
        on_the_way.push_back((chunk, event, part));
    }
    on_the_way.into_iter().try_for_each(arrive)
}

/// Bytes on their way from a device to the host.
pub(crate) struct Arriving {
    locked: Held<OnHost>,
    event: Event,
    len: usize,
    /// Outlives what is held.
    _opened: Arc<Opened>,
}

impl Arriving {
    /// Queues the copy of the bytes `range` of `from`, in one piece.
    pub(super) fn start(
        stream: &Stream,
        from: &Memory,
        range: Range<usize>,
    ) -> Result<Arriving, DeviceError> {
        let address = stream.address(from, &range, "download")?;
        let chunk = Chunk::take(stream, range.len())?;
        // Nothing is copied of nothing, for which there may be no address.
        let event =
            if range.is_empty() { stream.event("download")? } else { chunk.fetch(address, range.len())? };
        Ok(Arriving { locked: chunk.locked, event, len: range.len(), _opened: Arc::clone(&stream.opened) })
    }

    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    /// Waits for the bytes and copies them to `to`, of the same length.
    pub(crate) fn wait(&self, to: &mut [u8]) -> Result<(), DeviceError> {
        Event::wait(&self.event)?;
        let start = std::ptr::with_exposed_provenance::<u8>(self.locked.address() as usize);
        // SAFETY: the copy is done, so the device has written `len` bytes, of which no more than `to` has room for are read.
        unsafe { std::ptr::copy_nonoverlapping(start, to.as_mut_ptr(), self.len.min(to.len())) };
        Ok(())
    }
}
