//! Tensors to devices and back, and work on them there.

use std::sync::Arc;

use super::host::HostMemory;
use super::layout::Layout;
use super::storage::Storage;
use super::{DType, Element, Result, Tensor, TensorError};
use crate::device::cuda::{Arriving, Memory, Value};
use crate::device::kernel::{Shown, axpy};
use crate::device::{Access, Arg, Device, DeviceError, Kernel, Launch, Stream};

impl Tensor {
    /// The same elements on `device`: this handle again where they are there already, a copy otherwise. Between two CUDA devices they go
    /// directly, where these can reach each other.
    ///
    /// Opens a [`Stream`] for the copy; hold one yourself where you copy often.
    pub fn to_device(&self, device: Device) -> Result<Tensor> {
        match (self.device(), device) {
            (from, to) if from == to => Ok(self.clone()),
            (from, Device::Cpu) => Stream::new(from)?.download(self),
            (_, to) => Stream::new(to)?.bring(self),
        }
    }
}

impl Stream {
    /// A tensor of zeros on this device.
    pub fn zeros<T: Element>(&self, shape: &[usize]) -> Result<Tensor> {
        let layout = Layout::contiguous(shape, T::DTYPE)?;
        let memory = self.zeroed_bytes(layout.len() * T::DTYPE.size_bytes())?;
        Ok(on_device(memory, layout, T::DTYPE))
    }

    /// A copy of a host tensor on this device. The host memory has been read when this returns, while
    /// the device may still be at work on the copy; later work with the tensor, on any stream, waits for it.
    pub fn upload(&self, tensor: &Tensor) -> Result<Tensor> {
        // Row-major without gaps, so that no more crosses the bus than is needed.
        let tensor = tensor.contiguous()?;
        let memory = self.upload_bytes(tensor.as_bytes()?)?;
        Ok(on_device(memory, tensor.layout.rebased(), tensor.dtype))
    }

    /// The tensor on this device, wherever it is: this handle again, an [`upload`](Self::upload), or a copy from another device.
    ///
    /// A view of another device's memory keeps its strides, and what lies in its gaps comes along.
    pub fn bring(&self, tensor: &Tensor) -> Result<Tensor> {
        match &tensor.storage {
            Storage::Host(_) => self.upload(tensor),
            Storage::Cuda(_) if tensor.device() == self.device() => Ok(tensor.clone()),
            Storage::Cuda(from) => {
                let memory = self.copied_bytes(from, tensor.byte_range())?;
                Ok(on_device(memory, tensor.layout.rebased(), tensor.dtype))
            }
        }
    }

    /// A copy of a tensor of this device in host memory, after all work on it queued before.
    ///
    /// A view with gaps keeps its strides, and what lies in the gaps comes along.
    pub fn download(&self, tensor: &Tensor) -> Result<Tensor> {
        let from = self.memory_of("download", tensor)?;
        let range = tensor.byte_range();
        let mut memory = HostMemory::zeroed(range.len());
        if let Some(to) = memory.bytes_mut() {
            self.download_bytes(from, range, to)?;
        }
        Ok(Tensor { storage: Storage::host(memory), layout: tensor.layout.rebased(), dtype: tensor.dtype })
    }

    /// As [`download`](Self::download), but returns at once: the copy goes on beside work on other streams. Until it is waited for, as many
    /// bytes of page-locked host memory are in use.
    pub fn start_download(&self, tensor: &Tensor) -> Result<Download> {
        let from = self.memory_of("download", tensor)?;
        let bytes = self.start_download_bytes(from, tensor.byte_range())?;
        let (layout, dtype) = (tensor.layout.rebased(), tensor.dtype);
        Ok(Download { bytes, size_bytes: tensor.byte_range().len(), layout, dtype })
    }

    /// Queues a kernel with these arguments, after all work on its tensors queued before, on whatever stream.
    ///
    /// They are checked against its signature first: the error names the argument that does not fit. Tensors that are written must be held by
    /// their handle alone.
    pub fn launch<'a>(
        &self,
        kernel: &Kernel,
        launch: Launch,
        arguments: impl IntoIterator<Item = Arg<'a>>,
    ) -> Result<()> {
        let mut arguments: Vec<Arg<'a>> = arguments.into_iter().collect();
        let shown: Vec<Shown<'_>> = arguments.iter().map(shown).collect();
        kernel.check(&launch, &shown)?;
        let mut values = Vec::with_capacity(arguments.len());
        for argument in &mut arguments {
            values.push(match argument {
                Arg::Scalar(scalar) => Value::Scalar(scalar.bytes),
                Arg::Read(tensor) => {
                    Value::Memory(self.memory_of("launch", tensor)?, tensor.byte_range(), Access::Read)
                }
                Arg::Write(tensor) => {
                    self.memory_of("launch", tensor)?;
                    let range = tensor.byte_range();
                    Value::Memory(alone(tensor)?, range, Access::Write)
                }
            });
        }
        if launch.is_empty() {
            return Ok(());
        }
        Ok(self.launch_values(kernel, launch, &values)?)
    }

    /// Queues `y = alpha * x + y`, element by element, for contiguous f32 tensors of one shape on this device.
    ///
    /// `y` must be held by this handle alone.
    pub fn axpy(&self, alpha: f32, x: &Tensor, y: &mut Tensor) -> Result<()> {
        for tensor in [x, &*y] {
            if tensor.dtype() != f32::DTYPE {
                return Err(TensorError::WrongType { expected: DType::F32, found: tensor.dtype() });
            }
            if !tensor.is_contiguous() {
                return Err(tensor.layout.not_contiguous());
            }
            self.memory_of("axpy", tensor)?;
        }
        if x.shape() != y.shape() {
            return Err(TensorError::WrongLength {
                found: x.len(),
                expected: y.len(),
                shape: y.shape().to_vec(),
            });
        }
        let (len, range) = (y.len(), y.byte_range());
        let x_value = Value::Memory(self.memory_of("axpy", x)?, x.byte_range(), Access::Read);
        let y_value = Value::Memory(alone(y)?, range, Access::Write);
        if len == 0 {
            return Ok(());
        }
        let number = |scalar: crate::device::Scalar| Value::Scalar(scalar.bytes);
        // The kernel sees rows of elements, whatever their shape.
        let values = [number((len as u64).into()), number(alpha.into()), x_value, y_value];
        Ok(self.launch_values(axpy()?, Launch::cover(len), &values)?)
    }

    /// The memory of a tensor on this device.
    fn memory_of<'a>(&self, operation: &'static str, tensor: &'a Tensor) -> Result<&'a Memory> {
        match &tensor.storage {
            Storage::Cuda(memory) if tensor.device() == self.device() => Ok(memory),
            _ => {
                let (expected, found) = (self.device(), tensor.device());
                Err(DeviceError::WrongDevice { operation, expected, found }.into())
            }
        }
    }
}

impl Tensor {
    /// The memory of a contiguous tensor on the stream's device, and which bytes of it are the tensor's, to be read.
    pub(crate) fn read_on(
        &self,
        stream: &Stream,
        operation: &'static str,
    ) -> Result<(&Memory, std::ops::Range<usize>)> {
        let memory = stream.memory_of(operation, self)?;
        if !self.is_contiguous() {
            return Err(self.layout.not_contiguous());
        }
        Ok((memory, self.byte_range()))
    }

    /// As [`read_on`](Self::read_on), to be written: held by this handle alone.
    pub(crate) fn written_on(
        &mut self,
        stream: &Stream,
        operation: &'static str,
    ) -> Result<(&Memory, std::ops::Range<usize>)> {
        self.read_on(stream, operation)?;
        let range = self.byte_range();
        Ok((alone(self)?, range))
    }
}

/// A tensor on its way from a device to the host; see [`Stream::start_download`]. It holds no memory of the device.
#[must_use = "the tensor arrives when it is waited for"]
pub struct Download {
    bytes: Arriving,
    size_bytes: usize,
    layout: Layout,
    dtype: DType,
}

impl Download {
    /// Whether it has arrived; an error where the device failed.
    pub fn is_done(&self) -> Result<bool> {
        Ok(self.bytes.event().is_done()?)
    }

    /// Waits until it has arrived.
    pub fn wait(self) -> Result<Tensor> {
        let mut memory = HostMemory::zeroed(self.size_bytes);
        if let Some(to) = memory.bytes_mut() {
            self.bytes.wait(to)?;
        }
        Ok(Tensor { storage: Storage::host(memory), layout: self.layout, dtype: self.dtype })
    }
}

impl std::fmt::Debug for Download {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Download({}{:?})", self.dtype, self.layout.shape())
    }
}

fn on_device(memory: Memory, layout: Layout, dtype: DType) -> Tensor {
    Tensor { storage: Storage::Cuda(Arc::new(memory)), layout, dtype }
}

/// A tensor's memory for writing, if this handle alone holds it.
fn alone(tensor: &mut Tensor) -> Result<&Memory> {
    let device = tensor.device();
    match &mut tensor.storage {
        Storage::Cuda(memory) => Arc::get_mut(memory).map(|memory| &*memory).ok_or(TensorError::Shared),
        Storage::Host(_) => Err(DeviceError::NotCuda { operation: "launch", device }.into()),
    }
}

/// An argument as a signature is checked against it.
fn shown<'a>(argument: &'a Arg<'_>) -> Shown<'a> {
    let tensor = |tensor: &'a Tensor, written| Shown::Tensor {
        dtype: tensor.dtype(),
        shape: tensor.shape(),
        contiguous: tensor.is_contiguous(),
        written,
    };
    match argument {
        Arg::Scalar(scalar) => Shown::Scalar(*scalar),
        Arg::Read(read) => tensor(read, false),
        Arg::Write(written) => tensor(written, true),
    }
}
