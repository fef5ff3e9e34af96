//! Kernels, compiled for the device at hand when they are first used.
#![allow(unsafe_code)]

use std::ops::Range;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaFunction, CudaStream, LaunchConfig, PushKernelArg};
use cudarc::nvrtc::Ptx;

use super::compile::machine_code;
use super::{Memory, error::translate};
use crate::device::{Device, DeviceError};

const NAME: &str = "axpy_f32";
const SOURCE: &str = include_str!("axpy.cu");
const THREADS: u32 = 256;
/// Each thread strides over the elements, so a grid that fills the device is enough for any number of them.
const MOST_BLOCKS: u64 = 65_535;

/// `y = alpha * x + y` over f32.
#[derive(Clone)]
pub(super) struct Axpy {
    function: CudaFunction,
}

impl Axpy {
    pub(super) fn load(device: Device, context: &Arc<CudaContext>) -> Result<Axpy, DeviceError> {
        let failed = |found: cudarc::driver::DriverError| translate(device, "loading a kernel", found.0);
        let (major, minor) = context.compute_capability().map_err(failed)?;
        let code = machine_code(NAME, SOURCE, &format!("sm_{major}{minor}"))?;
        let module = context.load_module(Ptx::from_binary(code)).map_err(failed)?;
        Ok(Axpy { function: module.load_function(NAME).map_err(failed)? })
    }

    /// Queues the kernel over the bytes `x.1` and `y.1`, which hold equally many f32.
    pub(super) fn launch(
        &self,
        device: Device,
        stream: &Arc<CudaStream>,
        alpha: f32,
        x: (&Memory, Range<usize>),
        y: (&mut Memory, Range<usize>),
    ) -> Result<(), DeviceError> {
        let invalid =
            || DeviceError::Driver { device, cause: "range beyond the memory".to_owned(), operation: NAME };
        let count = x.1.len() / size_of::<f32>();
        if y.1.len() != x.1.len() {
            return Err(invalid());
        }
        if count == 0 {
            return Ok(());
        }
        let x = x.0.bytes.try_slice(x.1).ok_or_else(invalid)?;
        let mut y = y.0.bytes.try_slice_mut(y.1).ok_or_else(invalid)?;
        // SAFETY: both slices hold `count` times 4 bytes (`transmute` checks it), every bit pattern is an f32, and
        // tensors start at multiples of their element's size in memory that CUDA aligns to 256 bytes.
        let x = unsafe { x.transmute::<f32>(count) }.ok_or_else(invalid)?;
        // SAFETY: as above; `y` is borrowed alone.
        let mut y = unsafe { y.transmute_mut::<f32>(count) }.ok_or_else(invalid)?;
        let elements = count as u64;
        let config = LaunchConfig {
            grid_dim: (elements.div_ceil(u64::from(THREADS)).min(MOST_BLOCKS) as u32, 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        let mut launch = stream.launch_builder(&self.function);
        launch.arg(&elements).arg(&alpha).arg(&x).arg(&mut y);
        // SAFETY: the arguments are, in order and type, those of `axpy_f32` in `axpy.cu`; the kernel reads `x` and
        // touches `y` only below `elements`, which both hold.
        unsafe { launch.launch(config) }.map_err(|found| translate(device, NAME, found.0))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the compiler is, with or without a device, the kernels compile.
    #[test]
    fn the_source_compiles() {
        match machine_code(NAME, SOURCE, "sm_90") {
            Ok(code) => assert!(code.starts_with(b"\x7fELF")),
            Err(DeviceError::NoCompiler) => println!("no kernel compiler here, so its absence is asserted"),
            Err(other) => panic!("{other}"),
        }
    }
}
