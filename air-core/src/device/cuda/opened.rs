//! A device as this process has it open.
//!
//! The driver has one context of a device for all of a process, so what goes with it is one for all of the process too: the memory that is
//! kept for later use, events that are used again, and kernels that are loaded. It lasts as long as a stream, a tensor or a copy on the device does;
//! with the last of them all of it is given back. After a device was lost, whoever opens it next begins anew: once everything on it
//! has been let go of, with a new context, where the driver allows it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use cudarc::driver::{CudaContext, CudaEvent};
use parking_lot::Mutex;

use super::error::translate;
use super::launch::Loaded;
use super::memory::{OnDevice, OnHost};
use crate::device::pool::{MemoryUse, Pool};
use crate::device::spares::Spares;
use crate::device::{Device, DeviceError};

/// What is kept of page-locked memory, and where copies begin to wait for each other: sixteen chunks of them.
const LOCKED_BYTES: u64 = 64 << 20;

static OPEN: Mutex<BTreeMap<usize, Weak<Opened>>> = Mutex::new(BTreeMap::new());

pub(super) struct Opened {
    pub(super) device: Device,
    /// Dropped before the context: fields go in this order, and each pool holds the context, too.
    pub(super) memory: Arc<Pool<OnDevice>>,
    pub(super) locked: Arc<Pool<OnHost>>,
    pub(super) kernels: Mutex<Vec<Loaded>>,
    pub(super) events: Arc<Spares<CudaEvent>>,
    pub(super) context: Arc<CudaContext>,
}

impl Opened {
    /// The device, open already or opened now.
    pub(super) fn open(device: Device, operation: &'static str) -> Result<Arc<Opened>, DeviceError> {
        let Device::Cuda(ordinal) = device else {
            return Err(DeviceError::NotCuda { operation, device });
        };
        Device::cuda(ordinal)?;
        // Held while it is opened, so that it is opened once.
        let mut open = OPEN.lock();
        if let Some(opened) = open.get(&ordinal).and_then(Weak::upgrade) {
            return Ok(opened);
        }
        let context = CudaContext::new(ordinal).map_err(|found| translate(device, operation, found.0))?;
        let opened = Arc::new(Opened {
            device,
            memory: Pool::new(OnDevice { context: Arc::clone(&context) }, None),
            locked: Pool::new(OnHost { context: Arc::clone(&context) }, Some(LOCKED_BYTES)),
            kernels: Mutex::default(),
            events: Spares::new(),
            context,
        });
        open.insert(ordinal, Arc::downgrade(&opened));
        Ok(opened)
    }

    /// Nobody else is to begin with it; a device that is lost stays lost for those who have it.
    pub(super) fn give_up(&self) {
        let mut open = OPEN.lock();
        let ordinal = self.context.ordinal();
        if open.get(&ordinal).is_some_and(|opened| std::ptr::eq(opened.as_ptr(), self)) {
            open.remove(&ordinal);
        }
    }
}

/// The devices that this process has open, and what it has of their memory.
pub(crate) fn memory_in_use() -> Vec<(Device, MemoryUse)> {
    // Let go of after the lock: the last one to do so closes the device, which takes time.
    let opened: Vec<_> = OPEN.lock().values().filter_map(Weak::upgrade).collect();
    opened.iter().map(|opened| (opened.device, opened.memory.in_use())).collect()
}
