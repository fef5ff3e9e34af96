//! Points in the work of streams.

use std::sync::Arc;

use cudarc::driver::{CudaEvent, CudaStream, DriverError};

use super::error::translate;
use super::memory::bind;
use super::opened::Opened;
use crate::device::spares::Spare;
use crate::device::uses::Fence;
use crate::device::{Device, DeviceError};

/// A point in the work of a [`Stream`](super::Stream), to wait for. Cheap to clone.
#[derive(Clone)]
pub struct Event {
    device: Device,
    recorded: Arc<Spare<CudaEvent>>,
}

impl Event {
    /// What is queued on `queue` by now.
    ///
    /// The driver's event is one that nobody holds any more, where there is one: who was to wait for what it stood for has been told to.
    pub(super) fn record(opened: &Opened, queue: &CudaStream) -> Result<Event, DriverError> {
        let event = opened.events.take(|| opened.context.new_event(None))?;
        event.record(queue)?;
        Ok(Event { device: opened.device, recorded: Arc::new(event) })
    }

    /// Has what is queued on `queue` from now on wait on the device. The queue may be of another device.
    pub(super) fn hold_up(&self, queue: &CudaStream) -> Result<(), DriverError> {
        queue.wait(&self.recorded)
    }

    /// Whether all work before it is done; an error where some of it failed.
    pub fn is_done(&self) -> Result<bool, DeviceError> {
        self.query().map_err(|found| translate(self.device, "asking an event", found.0))
    }

    /// Waits until all work before it is done; an error where some of it failed.
    pub fn wait(&self) -> Result<(), DeviceError> {
        self.recorded.synchronize().map_err(|found| translate(self.device, "waiting for an event", found.0))
    }

    fn query(&self) -> Result<bool, DriverError> {
        bind(self.recorded.context())?;
        self.recorded.try_is_complete()
    }
}

impl Fence for Event {
    /// Where it cannot be told, it is not: memory is not used again before it is known to be free.
    fn is_done(&self) -> bool {
        match self.query() {
            Ok(done) => done,
            Err(found) => {
                self.recorded.context().record_err::<()>(Err(found));
                false
            }
        }
    }

    fn wait(&self) {
        self.recorded.context().record_err(self.recorded.synchronize());
    }
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Event(on {})", self.device)
    }
}
