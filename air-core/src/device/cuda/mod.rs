//! The one place that names cudarc.
//!
//! cudarc panics where a library it needs is missing, so every path into it starts at [`count`] or
//! [`Stream::new`], which look for the library first. Errors become [`DeviceError`] in `error.rs`.
#![allow(unsafe_code)]

mod compile;
mod error;
mod event;
mod launch;
mod memory;
mod nccl;
mod opened;
mod staging;
mod stream;

pub(crate) use compile::{compiler_version, machine_code};
pub use event::Event;
pub(crate) use launch::Value;
pub(crate) use memory::Memory;
pub(crate) use nccl::{Communicator, Operand, Operands, Pauses, Step, communicators};
pub(crate) use opened::memory_in_use;
pub(crate) use staging::Arriving;
pub use stream::Stream;

use std::ffi::c_int;

use cudarc::driver::{CudaContext, sys};

use super::{Device, DeviceError, DeviceInfo};

/// Stream-ordered allocation came with CUDA 11.2; nothing newer is used.
const OLDEST_DRIVER: u32 = 11_020;

/// How many devices the driver shows.
pub(crate) fn count() -> Result<usize, DeviceError> {
    check_driver()?;
    let count = CudaContext::device_count().map_err(|found| match found.0 {
        sys::CUresult::CUDA_ERROR_NO_DEVICE => DeviceError::NoDevice,
        other => error::translate(Device::Cuda(0), "counting devices", other),
    })?;
    match usize::try_from(count) {
        Ok(count @ 1..) => Ok(count),
        _ => Err(DeviceError::NoDevice),
    }
}

/// What the driver says about each device.
pub(crate) fn infos() -> Result<Vec<DeviceInfo>, DeviceError> {
    (0..count()?).map(info).collect()
}

fn info(ordinal: usize) -> Result<DeviceInfo, DeviceError> {
    let device = Device::Cuda(ordinal);
    let asked =
        |found: cudarc::driver::DriverError| error::translate(device, "describing the device", found.0);
    let context = CudaContext::new(ordinal).map_err(asked)?;
    let (free, total) = context.mem_get_info().map_err(asked)?;
    let (major, minor) = context.compute_capability().map_err(asked)?;
    let multiprocessors = context
        .attribute(sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        .map_err(asked)?;
    Ok(DeviceInfo {
        device,
        name: context.name().map_err(asked)?,
        memory_bytes: total as u64,
        free_memory_bytes: free as u64,
        parallelism: usize::try_from(multiprocessors).unwrap_or(0),
        compute_capability: Some(format!("{major}.{minor}")),
        memory_use: memory_in_use().into_iter().find(|(other, _)| *other == device).map(|(_, now)| now),
    })
}

fn check_driver() -> Result<(), DeviceError> {
    // SAFETY: loads the driver's library by its well-known name and runs its initialisers, as any program that uses
    // CUDA does; no symbol is called.
    if !unsafe { sys::is_culib_present() } {
        return Err(DeviceError::NoDriver);
    }
    let mut found: c_int = 0;
    // SAFETY: the library is there, and the call writes one integer through a valid pointer. It needs no `cuInit`.
    let result = unsafe { sys::cuDriverGetVersion(&raw mut found) };
    let found = u32::try_from(found).unwrap_or(0);
    match result {
        sys::CUresult::CUDA_SUCCESS if found >= OLDEST_DRIVER => Ok(()),
        sys::CUresult::CUDA_SUCCESS => Err(DeviceError::DriverTooOld { found, needed: OLDEST_DRIVER }),
        // Stub libraries answer every call with this.
        sys::CUresult::CUDA_ERROR_STUB_LIBRARY => Err(DeviceError::NoDriver),
        other => Err(error::translate(Device::Cuda(0), "asking the driver's version", other)),
    }
}
