//! Devices: what this machine computes on.
//!
//! [`list`] finds the processor and every CUDA device; [`Device::cuda`] asks for one and says plainly why it cannot
//! be had. CUDA is always compiled in and loaded at run time, so one build serves machines with and without it.
//! A [`Stream`] copies tensors to and from a device and launches [`Kernel`]s in order.
//!
//! What decides is apart from the driver, and tested without one:
//!
//! | file | idea |
//! |---|---|
//! | `pool` | memory that is kept for its next use, counted |
//! | `spares` | events that are used again, counted |
//! | `uses` | which stream waits for which before it uses memory |
//! | `kernel` | kernels: what they take, on how many threads, their machine code on disk |
//! | `cuda` | carrying it out by the driver |
//!
//! ```
//! use air_core::device::{self, Device};
//!
//! assert_eq!(device::list()[0].device, Device::Cpu); // always there, always first
//! let device = Device::cuda(0).unwrap_or(Device::Cpu);
//! println!("computing on {device}");
//! ```
//!
//! Invariant **A3**: only `device/cuda/` names cudarc.

pub(crate) mod cuda;
mod error;
mod info;
pub(crate) mod kernel;
mod pool;
mod spares;
mod uses;

pub use cuda::{Event, Stream};
pub use error::{DeviceError, lost};
pub use info::{DeviceInfo, DeviceReport, list, memory_in_use, report};
pub use kernel::{Arg, Kernel, Launch, Scalar};
pub use pool::MemoryUse;
pub use spares::EventUse;
pub(crate) use uses::Access;

use serde::{Deserialize, Serialize};

/// Where a tensor lies and where work on it runs. Plain data: written and serialised as `cpu` or `cuda:0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor and its memory.
    #[default]
    Cpu,
    /// The CUDA device of this ordinal, as the driver counts them (`CUDA_VISIBLE_DEVICES` applies).
    Cuda(usize),
}

impl Device {
    /// The CUDA device `ordinal`, after checking that it is there.
    ///
    /// The error says what is missing: the driver, a device at all, or this one.
    pub fn cuda(ordinal: usize) -> Result<Device, DeviceError> {
        let count = cuda::count()?;
        if ordinal >= count {
            return Err(DeviceError::OutOfRange { ordinal, count });
        }
        Ok(Device::Cuda(ordinal))
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl std::str::FromStr for Device {
    type Err = DeviceError;

    /// Reads `cpu`, `cuda` (the first one) or `cuda:N`. The device need not be there.
    fn from_str(text: &str) -> Result<Device, DeviceError> {
        let unknown = || DeviceError::UnknownName { name: text.chars().take(64).collect() };
        match text {
            "cpu" => Ok(Device::Cpu),
            "cuda" => Ok(Device::Cuda(0)),
            _ => {
                let ordinal = text.strip_prefix("cuda:").ok_or_else(unknown)?;
                ordinal.parse().map(Device::Cuda).map_err(|_| unknown())
            }
        }
    }
}

impl TryFrom<String> for Device {
    type Error = DeviceError;

    fn try_from(text: String) -> Result<Device, DeviceError> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_read_back() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(7)] {
            assert_eq!(device.to_string().parse::<Device>().unwrap(), device);
            let json = serde_json::to_string(&device).unwrap();
            assert_eq!(serde_json::from_str::<Device>(&json).unwrap(), device);
        }
        assert_eq!("cuda".parse::<Device>().unwrap(), Device::Cuda(0));
        for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:99999999999999999999999"] {
            assert_eq!(name.parse::<Device>(), Err(DeviceError::UnknownName { name: name.to_owned() }));
        }
    }
}
