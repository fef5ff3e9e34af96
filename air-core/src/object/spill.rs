//! [`Spill`]: what can go to disk and come back.

use std::any::Any;
use std::io::{self, Read, Write};

use bytes::Bytes;

use crate::tensor::Tensor;

/// A value that is counted in bytes and may be written to disk when memory is short.
///
/// `Tensor`, `Bytes` and `Vec<u8>` are such values; name others with
/// [`ObjectConfig::spill`](super::ObjectConfig::spill).
pub trait Spill: Send + Sync + Sized + 'static {
    /// Bytes of memory that are freed when the value is dropped; 0 for one that is not to be counted or spilled.
    fn size_bytes(&self) -> usize;

    /// Writes the value.
    fn encode(&self, to: &mut dyn Write) -> io::Result<()>;

    /// Reads back what [`encode`](Self::encode) wrote, `len_bytes` in all.
    fn decode(from: &mut dyn Read, len_bytes: u64) -> io::Result<Self>;
}

impl Spill for Vec<u8> {
    fn size_bytes(&self) -> usize {
        self.capacity()
    }

    fn encode(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(self)
    }

    fn decode(from: &mut dyn Read, len_bytes: u64) -> io::Result<Self> {
        let len = usize::try_from(len_bytes).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|error| io::Error::new(io::ErrorKind::OutOfMemory, error))?;
        from.take(len_bytes).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// Counted by its length, whatever it shares its memory with.
impl Spill for Bytes {
    fn size_bytes(&self) -> usize {
        self.len()
    }

    fn encode(&self, to: &mut dyn Write) -> io::Result<()> {
        to.write_all(self)
    }

    fn decode(from: &mut dyn Read, len_bytes: u64) -> io::Result<Self> {
        Vec::decode(from, len_bytes).map(Bytes::from)
    }
}

/// How a type spills, as a value.
pub(crate) struct Codec<T> {
    pub(crate) size_bytes: fn(&T) -> usize,
    pub(crate) encode: fn(&T, &mut dyn Write) -> io::Result<()>,
    pub(crate) decode: fn(&mut dyn Read, u64) -> io::Result<T>,
}

impl<T> Clone for Codec<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Codec<T> {}

impl<T: Spill> Codec<T> {
    fn new() -> Self {
        Self { size_bytes: T::size_bytes, encode: T::encode, decode: T::decode }
    }
}

/// The types that spill beyond those every runtime knows.
#[derive(Clone, Default)]
pub(crate) struct Codecs(Vec<std::sync::Arc<dyn Any + Send + Sync>>);

impl Codecs {
    pub(crate) fn add<T: Spill>(&mut self) {
        self.0.push(std::sync::Arc::new(Codec::<T>::new()));
    }

    /// How values of this type spill, if they do. For plain types the answer is known when the program is compiled, save for
    /// types that were added.
    pub(crate) fn find<T: 'static>(&self) -> Option<Codec<T>> {
        fn same<S: Spill, T: 'static>() -> Option<Codec<T>> {
            (&Codec::<S>::new() as &dyn Any).downcast_ref().copied()
        }
        same::<Tensor, T>()
            .or_else(same::<Bytes, T>)
            .or_else(same::<Vec<u8>, T>)
            .or_else(|| self.0.iter().find_map(|codec| codec.downcast_ref().copied()))
    }
}

impl std::fmt::Debug for Codecs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} added", self.0.len())
    }
}
