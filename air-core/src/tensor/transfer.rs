//! Tensors to devices and back, and work on them there.

use std::sync::Arc;

use super::host::HostMemory;
use super::storage::Storage;
use super::{DType, Element, Result, Tensor, TensorError};
use crate::device::{Device, DeviceError, Stream};

impl Tensor {
    /// The same elements on `device`: this handle again where they are there already, a copy otherwise.
    ///
    /// Opens a [`Stream`] for the copy; hold one yourself where you copy often.
    pub fn to_device(&self, device: Device) -> Result<Tensor> {
        match (self.device(), device) {
            (from, to) if from == to => Ok(self.clone()),
            (Device::Cpu, to) => Stream::new(to)?.upload(self),
            (from, Device::Cpu) => Stream::new(from)?.download(self),
            // Between two devices by way of the host, which works whether or not they can reach each other.
            (from, to) => Stream::new(to)?.upload(&Stream::new(from)?.download(self)?),
        }
    }
}

impl Stream {
    /// A copy of a host tensor on this device. The host memory has been read when this returns, while
    /// the device may still be at work on the copy; later work on this stream waits for it.
    pub fn upload(&self, tensor: &Tensor) -> Result<Tensor> {
        // Row-major without gaps, so that no more crosses the bus than is needed.
        let tensor = tensor.contiguous()?;
        let memory = self.upload_bytes(tensor.as_bytes()?)?;
        Ok(Tensor {
            storage: Storage::Cuda(Arc::new(memory)),
            layout: tensor.layout.rebased(),
            dtype: tensor.dtype,
        })
    }

    /// A copy of a tensor of this device in host memory, after all work queued before it.
    ///
    /// A view with gaps keeps its strides, and what lies in the gaps comes along.
    pub fn download(&self, tensor: &Tensor) -> Result<Tensor> {
        let Storage::Cuda(from) = &tensor.storage else {
            return Err(self.wrong_device("download", tensor));
        };
        if tensor.device() != self.device() {
            return Err(self.wrong_device("download", tensor));
        }
        let range = tensor.byte_range();
        let mut memory = HostMemory::zeroed(range.len());
        if let Some(to) = memory.bytes_mut() {
            self.download_bytes(from, range, to)?;
        }
        Ok(Tensor { storage: Storage::host(memory), layout: tensor.layout.rebased(), dtype: tensor.dtype })
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
            if tensor.device() != self.device() {
                return Err(self.wrong_device("axpy", tensor));
            }
        }
        if x.shape() != y.shape() {
            return Err(TensorError::WrongLength {
                found: x.len(),
                expected: y.len(),
                shape: y.shape().to_vec(),
            });
        }
        let range = y.byte_range();
        let (Storage::Cuda(x_memory), Storage::Cuda(y_memory)) = (&x.storage, &mut y.storage) else {
            return Err(self.wrong_device("axpy", x));
        };
        let y_memory = Arc::get_mut(y_memory).ok_or(TensorError::Shared)?;
        Ok(self.axpy_bytes(alpha, (x_memory, x.byte_range()), (y_memory, range))?)
    }

    fn wrong_device(&self, operation: &'static str, tensor: &Tensor) -> TensorError {
        DeviceError::WrongDevice { operation, expected: self.device(), found: tensor.device() }.into()
    }
}
