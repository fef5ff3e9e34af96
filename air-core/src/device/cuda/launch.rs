//! Kernels on a device: loaded when first launched there, for all streams of the device.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ops::Range;
use std::sync::Weak;

use cudarc::driver::{CudaFunction, DriverError, result, sys};
use cudarc::nvrtc::Ptx;

use super::memory::Memory;
use super::stream::Stream;
use crate::device::kernel::{Code, Kernel, Launch, Text};
use crate::device::uses::Access;
use crate::device::{DeviceError, kernel};

const LOADING: &str = "loading a kernel";
const LAUNCHING: &str = "launching a kernel";
/// Above this a kernel must say beforehand how much memory its blocks share.
const USUAL_SHARED_BYTES: u32 = 48 << 10;

/// A kernel loaded on a device, as long as someone has it.
pub(super) struct Loaded {
    /// What it is of; kept alive, so that no other can have its address.
    text: Weak<Text>,
    function: CudaFunction,
}

/// An argument as the device gets it.
pub(crate) enum Value<'a> {
    /// The bytes of a number, from the first on.
    Scalar([u8; 8]),
    /// The address of these bytes.
    Memory(&'a Memory, Range<usize>, Access),
}

impl Stream {
    /// Queues the kernel with arguments that fit its signature, on a grid that was checked.
    pub(crate) fn launch_values(
        &self,
        kernel: &Kernel,
        launch: Launch,
        values: &[Value<'_>],
    ) -> Result<(), DeviceError> {
        let function = self.function(kernel)?;
        let mut uses = Vec::with_capacity(values.len());
        let mut slots = Vec::with_capacity(values.len());
        for value in values {
            slots.push(match value {
                Value::Scalar(bytes) => u64::from_ne_bytes(*bytes),
                Value::Memory(memory, range, access) => {
                    uses.push((*memory, *access));
                    self.address(memory, range, LAUNCHING)?
                }
            });
        }
        let mut parameters: Vec<*mut c_void> =
            slots.iter_mut().map(|slot| std::ptr::from_mut(slot).cast()).collect();
        self.run(LAUNCHING, &uses, || {
            let (grid, block) = (launch.grid.into(), launch.block.into());
            if launch.shared_bytes > USUAL_SHARED_BYTES {
                let most = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
                function
                    .set_attribute(most, launch.shared_bytes.cast_signed())
                    .map_err(|found| self.failed(LAUNCHING, found))?;
            }
            // SAFETY: `function` holds its module, which is loaded. The driver copies each parameter, in number and size those of
            // the signature, from a slot of 8 bytes before it returns. That the kernel has this signature, and touches no more than
            // the memory named by it, is what whoever made it promised (`Kernel::new`); that memory stays until the work on it is done.
            unsafe {
                result::launch_kernel(
                    function.cu_function(),
                    grid,
                    block,
                    launch.shared_bytes,
                    self.queue.cu_stream(),
                    &mut parameters,
                )
            }
            .map_err(|found| self.failed(LAUNCHING, found))
        })
    }

    /// The kernel on this device, compiled and loaded if it is not.
    fn function(&self, kernel: &Kernel) -> Result<CudaFunction, DeviceError> {
        if let Some(function) = self.loaded(kernel) {
            return Ok(function);
        }
        let failed = |found: DriverError| self.failed(LOADING, found);
        let (major, minor) = self.opened.context.compute_capability().map_err(failed)?;
        let architecture = format!("sm_{major}{minor}");
        let load = |code: Code| {
            let module = self.opened.context.load_module(Ptx::from_binary(code.bytes))?;
            module.load_function(kernel.name())
        };
        let code = kernel::code(kernel, &architecture)?;
        let function = match (code.from_cache, load(code)) {
            // Whole, but nothing that this driver takes: made anew.
            (true, Err(_)) => load(kernel::fresh_code(kernel, &architecture)?).map_err(failed)?,
            (_, loaded) => loaded.map_err(failed)?,
        };
        let mut kernels = self.opened.kernels.lock();
        let gone = kernels.extract_if(.., |loaded| loaded.text.strong_count() == 0).collect::<Vec<_>>();
        kernels.push(Loaded { text: kernel.weak(), function: function.clone() });
        drop(kernels);
        if !gone.is_empty() {
            // Nothing may run of a module that is unloaded.
            self.opened.context.synchronize().map_err(failed)?;
        }
        Ok(function)
    }

    fn loaded(&self, kernel: &Kernel) -> Option<CudaFunction> {
        let kernels = self.opened.kernels.lock();
        kernels.iter().find(|loaded| kernel.is(&loaded.text)).map(|loaded| loaded.function.clone())
    }
}
