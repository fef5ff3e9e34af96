//! Tensors to disk and back when memory is short.

use std::io::{self, Read, Write};

use super::Tensor;
use super::arrow::check_bools;
use super::wire::{HEADER_BYTES, decode_header, header};
use crate::device::Device;
use crate::object::Spill;

/// A tensor in host memory is counted by the elements it shows. One on a device takes no memory of the host: it is not counted.
impl Spill for Tensor {
    fn size_bytes(&self) -> usize {
        if self.device() == Device::Cpu { Tensor::size_bytes(self) } else { 0 }
    }

    fn encode(&self, to: &mut dyn Write) -> io::Result<()> {
        let tensor = self.contiguous().map_err(io::Error::other)?;
        to.write_all(&header(&tensor))?;
        to.write_all(tensor.as_bytes().map_err(io::Error::other)?)
    }

    fn decode(from: &mut dyn Read, len_bytes: u64) -> io::Result<Self> {
        let mut bytes = [0; HEADER_BYTES];
        from.read_exact(&mut bytes)?;
        let limit_bytes = usize::try_from(len_bytes).unwrap_or(usize::MAX);
        let header = decode_header(&bytes, limit_bytes).map_err(io::Error::other)?;
        let mut tensor = Tensor::zeros_of(header.dtype, &header.shape).map_err(io::Error::other)?;
        let elements = tensor.host_bytes_mut("restore").map_err(io::Error::other)?;
        from.read_exact(elements)?;
        check_bools(elements, header.dtype).map_err(io::Error::other)?;
        Ok(tensor)
    }
}
