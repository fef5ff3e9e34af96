use std::error::Error;

use super::Device;
use crate::error::CoreError;
use crate::tensor::TensorError;

/// Why a device cannot be had, or what went wrong on it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No CUDA driver on this machine.
    #[error(
        "cuda driver library (libcuda.so.1) not found; install the NVIDIA driver, or run with --gpus in a container, or use the cpu"
    )]
    NoDriver,
    /// The driver is older than the program needs.
    #[error("cuda driver supports CUDA {}.{}, at least {}.{} is needed; update the NVIDIA driver",
        found / 1000, found % 1000 / 10, needed / 1000, needed % 1000 / 10)]
    DriverTooOld {
        /// The version found, as CUDA writes it: 1000 × major + 10 × minor.
        found: u32,
        /// The oldest version that serves.
        needed: u32,
    },
    /// A driver, but no device.
    #[error("the cuda driver reports no device; see `nvidia-smi` and CUDA_VISIBLE_DEVICES, or use the cpu")]
    NoDevice,
    /// A device, but not this one.
    #[error("cuda:{ordinal} does not exist, the driver reports {count} device(s), counted from 0")]
    OutOfRange {
        /// The device asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// Not a name of a device.
    #[error("unknown device \"{name}\", expected cpu, cuda or cuda:N")]
    UnknownName {
        /// The name given.
        name: String,
    },
    /// The operation needs a CUDA device.
    #[error("{operation} needs a cuda device, got {device}")]
    NotCuda {
        /// What was asked for.
        operation: &'static str,
        /// The device given.
        device: Device,
    },
    /// A tensor is on another device than the one that works on it.
    #[error("{operation} on {expected} needs its tensors there, got one on {found}")]
    WrongDevice {
        /// What was asked for.
        operation: &'static str,
        /// The device that works.
        expected: Device,
        /// Where the tensor is.
        found: Device,
    },
    /// The run-time kernel compiler is missing.
    #[error(
        "cuda kernel compiler (libnvrtc) not found; install it (package cuda-nvrtc, or nvidia-cuda-nvrtc on PyPI) and put its folder on LD_LIBRARY_PATH"
    )]
    NoCompiler,
    /// A kernel does not compile.
    #[error("cuda kernel {kernel} does not compile: {log}")]
    Compile {
        /// The kernel's name.
        kernel: &'static str,
        /// What the compiler said.
        log: String,
    },
    /// The device's memory is full.
    #[error("{device} is out of memory")]
    OutOfMemory {
        /// Which device.
        device: Device,
    },
    /// The device's context is destroyed: every later call in this process fails the same way. Only a new
    /// process can use the device again.
    #[error("{device} is lost after {cause} during {operation}; only a new process can use it again")]
    Lost {
        /// Which device.
        device: Device,
        /// The driver's name of the error.
        cause: String,
        /// What was being done when it showed (work before it may be to blame, as work is asynchronous).
        operation: &'static str,
    },
    /// Any other error of the driver; the device still works.
    #[error("{operation} failed on {device}: {cause}")]
    Driver {
        /// Which device.
        device: Device,
        /// The driver's name of the error.
        cause: String,
        /// What was being done.
        operation: &'static str,
    },
}

const MAX_CAUSES: usize = 32;

/// The lost device that `error`, or one of its causes, tells of.
///
/// A supervisor asks this of any error: a worker whose device is lost must not be restarted in this process.
pub fn lost<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a DeviceError> {
    // A chain of causes may be endless.
    std::iter::successors(Some(error), |&error| error.source())
        .take(MAX_CAUSES)
        .find_map(|error| told_by(error).filter(|e| e.is_lost()))
}

/// The device error that `error` itself is or passes on.
fn told_by<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a DeviceError> {
    if let Some(CoreError::Device(found) | CoreError::Tensor(TensorError::Device(found))) =
        error.downcast_ref()
    {
        return Some(found);
    }
    if let Some(TensorError::Device(found)) = error.downcast_ref() {
        return Some(found);
    }
    error.downcast_ref()
}

impl DeviceError {
    /// True where the error is sticky: no restart within this process helps.
    pub fn is_lost(&self) -> bool {
        matches!(self, DeviceError::Lost { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BoxError;

    fn sample() -> DeviceError {
        DeviceError::Lost { device: Device::Cuda(1), cause: "ECC".to_owned(), operation: "upload" }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("step 7 failed")]
    struct Step(#[source] BoxError);

    #[test]
    fn a_lost_device_is_found_under_any_wrapping() {
        let wrapped: [BoxError; 5] = [
            sample().into(),
            TensorError::from(sample()).into(),
            CoreError::from(sample()).into(),
            CoreError::from(TensorError::from(sample())).into(),
            Step(Box::new(Step(TensorError::from(sample()).into()))).into(),
        ];
        for error in &wrapped {
            assert_eq!(lost(&**error), Some(&sample()), "{error:?}");
        }
    }

    #[test]
    fn other_errors_lose_no_device() {
        let others: [BoxError; 3] =
            [DeviceError::NoDriver.into(), TensorError::Shared.into(), "plain text".into()];
        for error in &others {
            assert_eq!(lost(&**error), None, "{error:?}");
        }
    }
}
