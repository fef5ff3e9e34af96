//! [`Buffer`]: values that can be handed to other ranks in pieces, and be one buffer again.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use bytes::{Buf, BytesMut};

use super::number::Number;
use crate::tensor::{Tensor, TensorError};

/// The memory of a buffer begins at a multiple of this, and is cut at multiples of it: a cache line, which two ranks
/// should not write to at once.
const LINE_BYTES: usize = 64;

/// Values for [`Collective::all_reduce_owned`](super::Collective::all_reduce_owned); a slice like any other in between.
///
/// A borrowed slice cannot be lent to another thread, so the verbs on slices pass values through staging memory. A
/// buffer is handed over: it is cut into pieces without being copied, each rank reduces one piece of everybody's
/// buffer where it lies, and gives it back.
pub struct Buffer<T> {
    bytes: BytesMut,
    element: PhantomData<T>,
}

impl<T: Number> Buffer<T> {
    /// So many zeros.
    pub fn zeroed(len: usize) -> Self {
        let wanted = len * size_of::<T>();
        let mut bytes = BytesMut::zeroed(wanted + LINE_BYTES);
        bytes.advance(bytes.as_ptr().align_offset(LINE_BYTES).min(LINE_BYTES));
        bytes.truncate(wanted);
        Self::of(bytes)
    }

    /// The same memory as a tensor, without copying.
    ///
    /// # Errors
    /// Where the values do not fill `shape` exactly.
    pub fn into_tensor(self, shape: &[usize]) -> Result<Tensor, TensorError> {
        Tensor::from_arrow(self.bytes.freeze().into(), T::DTYPE, shape)
    }

    pub(super) fn of(bytes: BytesMut) -> Self {
        Self { bytes, element: PhantomData }
    }

    pub(super) fn into_bytes(self) -> BytesMut {
        self.bytes
    }
}

impl<T: Number> From<&[T]> for Buffer<T> {
    fn from(values: &[T]) -> Self {
        let mut buffer = Self::zeroed(values.len());
        buffer.copy_from_slice(values);
        buffer
    }
}

impl<T: Number> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        bytemuck::cast_slice(&self.bytes)
    }
}

impl<T: Number> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(&mut self.bytes)
    }
}

impl<T: Number> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("dtype", &T::DTYPE).field("len", &self.len()).finish()
    }
}

/// Cuts `bytes` into `count` pieces of about the same size, at cache lines.
pub(super) fn cut(mut bytes: BytesMut, count: usize) -> Vec<BytesMut> {
    let lines = bytes.len() / LINE_BYTES;
    let mut pieces: Vec<BytesMut> =
        (1..count).rev().map(|piece| bytes.split_off(piece * lines / count * LINE_BYTES)).collect();
    pieces.push(bytes);
    pieces.reverse();
    pieces
}

/// Undoes [`cut`].
pub(super) fn joined(pieces: impl IntoIterator<Item = BytesMut>) -> BytesMut {
    let mut pieces = pieces.into_iter();
    let mut whole = pieces.next().unwrap_or_default();
    for piece in pieces {
        whole.unsplit(piece);
    }
    whole
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;

    fn round_trip<T: Number>(len: usize, count: usize) {
        let mut buffer = Buffer::<T>::zeroed(len);
        let end = len.saturating_sub(1);
        if let Some(last) = buffer.get_mut(end) {
            *last = bytemuck::Zeroable::zeroed();
        }
        let start = buffer.as_ptr();
        assert!(start.addr().is_multiple_of(LINE_BYTES) || len == 0);
        let mut buffer = buffer;
        for _ in 0..3 {
            let pieces = cut(buffer.into_bytes(), count);
            assert_eq!(pieces.len(), count);
            assert_eq!(pieces.iter().map(BytesMut::len).sum::<usize>(), len * size_of::<T>());
            assert!(pieces[1..].iter().all(|piece| piece.as_ptr().addr().is_multiple_of(LINE_BYTES)));
            buffer = Buffer::of(joined(pieces));
            assert_eq!(buffer.len(), len);
            assert!(buffer.as_ptr() == start || len == 0, "{len} values in {count} pieces were copied");
        }
    }

    #[test]
    fn pieces_are_one_buffer_again_without_a_copy() {
        for len in [0, 1, 15, 16, 17, 1000, 100_000] {
            for count in 1..6 {
                round_trip::<f32>(len, count);
                round_trip::<f64>(len, count);
                round_trip::<bf16>(len, count);
            }
        }
    }

    #[test]
    fn a_buffer_becomes_a_tensor_where_it_lies() -> Result<(), TensorError> {
        let buffer = Buffer::from(&[1.0_f32, 2.0, 3.0, 4.0, 5.0, 6.0][..]);
        let start = buffer.as_ptr();
        let tensor = buffer.into_tensor(&[2, 3])?;
        assert_eq!(tensor.as_slice::<f32>()?.as_ptr(), start);
        assert_eq!(tensor.at::<f32>(&[1, 0])?, 4.0);
        Ok(())
    }
}
