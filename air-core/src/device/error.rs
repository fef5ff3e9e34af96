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
    /// No NCCL on this machine.
    #[error(
        "nccl library (libnccl.so.2) not found; install it (package libnccl2, or nvidia-nccl-cu13 on PyPI) and put its folder on LD_LIBRARY_PATH; \
         the loader says: {reason}"
    )]
    NoNccl {
        /// What the system's loader said of each name that was tried.
        reason: String,
    },
    /// The NCCL found is older than the program needs.
    #[error("nccl {}.{} found, at least {}.{} is needed; update it",
        found / 10_000, found % 10_000 / 100, needed / 10_000, needed % 10_000 / 100)]
    NcclTooOld {
        /// The version found, as NCCL writes it: 10 000 × major + 100 × minor + patch.
        found: u32,
        /// The oldest version that serves.
        needed: u32,
    },
    /// NCCL takes one rank a device.
    #[error("ranks {first} and {second} are both on {device}; each needs a device of its own")]
    TwoRanks {
        /// Which device.
        device: Device,
        /// The rank that has it.
        first: usize,
        /// The rank that cannot.
        second: usize,
    },
    /// An error of NCCL, or a call after the communicator was aborted.
    #[error("{operation} failed on {device}: {cause}")]
    Nccl {
        /// Which device.
        device: Device,
        /// What was being done.
        operation: &'static str,
        /// NCCL's name of the error, and its words.
        cause: String,
    },
    /// A kernel does not compile.
    #[error("cuda kernel {kernel} does not compile: {log}")]
    Compile {
        /// The kernel's name.
        kernel: String,
        /// What the compiler said.
        log: String,
    },
    /// A kernel's name or signature cannot be read.
    #[error("kernel {kernel} has no usable signature: {reason}")]
    Signature {
        /// The kernel's name.
        kernel: String,
        /// What cannot be read.
        reason: String,
    },
    /// An argument of a kernel is not what its signature says.
    #[error("argument `{argument}` of kernel {kernel} {reason}")]
    Argument {
        /// The kernel's name.
        kernel: String,
        /// The argument's name.
        argument: String,
        /// What it is and should not be.
        reason: String,
    },
    /// No device runs a kernel on such a grid.
    #[error("kernel {kernel} cannot be launched on {reason}")]
    Launch {
        /// The kernel's name.
        kernel: String,
        /// What is wrong with the grid.
        reason: String,
    },
    /// A worker asked for a device that it was not given.
    #[error("this worker was not given {}; it has {}", device.map_or("a gpu".to_owned(), |d| d.to_string()), listed(given))]
    NotGiven {
        /// The device it asked for; absent where it would have taken any GPU.
        device: Option<Device>,
        /// The devices that it has.
        given: Vec<Device>,
    },
    /// The device's memory is full, or the limit set for it reached; what was kept for later use has been given back.
    #[error("{device} is out of memory: {asked_bytes} bytes asked for, {in_use_bytes} in use by this process, {free_bytes} free{}",
        limit_bytes.map_or(String::new(), |limit| format!(", limit {limit}")))]
    OutOfMemory {
        /// Which device.
        device: Device,
        /// What was asked for.
        asked_bytes: u64,
        /// What this process's tensors hold there.
        in_use_bytes: u64,
        /// What the driver says is free; other processes may take it.
        free_bytes: u64,
        /// What this process may hold, where a limit was set.
        limit_bytes: Option<u64>,
    },
    /// The system has no page-locked memory left, through which copies to and from a device pass.
    #[error(
        "no page-locked memory for copies with {device}: {asked_bytes} bytes asked for, {in_use_bytes} in use"
    )]
    NoLockedMemory {
        /// Which device.
        device: Device,
        /// What was asked for.
        asked_bytes: u64,
        /// What copies hold now.
        in_use_bytes: u64,
    },
    /// The device's context is destroyed: every call on what is open there fails the same way. Once all of it has been let go of, this
    /// process may open the device anew; whether that works is up to the driver. A new process can.
    #[error(
        "{device} is lost after {cause} during {operation}; a new process can use it again, this one where the driver allows it"
    )]
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

/// Devices by name, or what to do where there are none.
fn listed(devices: &[Device]) -> String {
    if devices.is_empty() {
        return "none: ask for them with `Spec::resources(Resources::new().gpu(1.0))`".to_owned();
    }
    devices.iter().map(Device::to_string).collect::<Vec<_>>().join(", ")
}

const MAX_CAUSES: usize = 32;

/// The lost device that `error`, or one of its causes, tells of.
///
/// A worker asks this of any error of its code: it ends as [`Exit::DeviceLost`](crate::Exit::DeviceLost) where the device is its own.
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
    /// True where the error is sticky: nothing that is open on the device works any more.
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
