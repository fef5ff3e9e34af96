//! Tensors as bytes, for other processes: a header of 128 bytes, then the elements.
//!
//! All numbers are little-endian; the elements are contiguous and row-major.
//!
//! | bytes | what |
//! |---|---|
//! | 0..4 | `AIRT` |
//! | 4 | version, 1 |
//! | 5 | element type: its place in [`DType::ALL`] |
//! | 6 | number of axes, at most [`MAX_RANK`] |
//! | 7 | 0 |
//! | 8..72 | lengths of the axes, 8 bytes each, 0 beyond the last |
//! | 72..80 | bytes of the elements |
//! | 80..128 | 0 |
//!
//! The header is as long as two cache lines, so that elements in an aligned frame are aligned as well and
//! [`decode_shared`] looks at them where they lie.

use bytes::Bytes;

use super::arrow::check_bools;
use super::host::HostMemory;
use super::layout::Layout;
use super::storage::Storage;
use super::{DType, MAX_RANK, Result, Tensor, TensorError};

/// Bytes before the elements.
pub const HEADER_BYTES: usize = 128;

const MAGIC: &[u8; 4] = b"AIRT";
const VERSION: u8 = 1;
const LENGTHS: usize = 8;
const PAYLOAD: usize = LENGTHS + 8 * MAX_RANK;

// Elements are written as they lie in memory.
const _: () = assert!(cfg!(target_endian = "little"), "tensor bytes are little-endian");

/// What a header says.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The element type.
    pub dtype: DType,
    /// Lengths of the axes, outermost first.
    pub shape: Vec<usize>,
    /// Bytes of the elements that follow.
    pub payload_bytes: usize,
}

/// The header of a tensor; its elements, [`Tensor::as_bytes`] of a contiguous one, follow it on the wire.
pub fn header(tensor: &Tensor) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4] = VERSION;
    bytes[5] = DType::ALL.iter().position(|&dtype| dtype == tensor.dtype()).unwrap_or(usize::MAX) as u8;
    bytes[6] = tensor.rank() as u8;
    for (slot, &length) in bytes[LENGTHS..PAYLOAD].chunks_exact_mut(8).zip(tensor.shape()) {
        slot.copy_from_slice(&(length as u64).to_le_bytes());
    }
    bytes[PAYLOAD..PAYLOAD + 8].copy_from_slice(&(tensor.size_bytes() as u64).to_le_bytes());
    bytes
}

/// Header and elements of a host tensor in one piece.
pub fn encode(tensor: &Tensor) -> Result<Vec<u8>> {
    let tensor = tensor.contiguous()?;
    let elements = tensor.as_bytes()?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + elements.len());
    bytes.extend_from_slice(&header(&tensor));
    bytes.extend_from_slice(elements);
    Ok(bytes)
}

/// Reads a header from the start of `bytes`; nothing is allocated for elements yet.
///
/// An error where it is not one, or where header and elements together exceed `limit_bytes`.
pub fn decode_header(bytes: &[u8], limit_bytes: usize) -> Result<Header> {
    let malformed = |reason: String| Err(TensorError::Malformed { reason });
    let Some(bytes) = bytes.first_chunk::<HEADER_BYTES>() else {
        return malformed(format!("{} bytes, a header alone has {HEADER_BYTES}", bytes.len()));
    };
    if &bytes[..4] != MAGIC {
        return malformed("it does not start with AIRT".to_owned());
    }
    if bytes[4] != VERSION {
        return malformed(format!("version {}, this program reads {VERSION}", bytes[4]));
    }
    let Some(&dtype) = DType::ALL.get(usize::from(bytes[5])) else {
        return malformed(format!("unknown element type {}", bytes[5]));
    };
    let rank = usize::from(bytes[6]);
    if rank > MAX_RANK {
        return malformed(format!("{rank} axes, at most {MAX_RANK} are supported"));
    }
    let mut numbers = bytes[LENGTHS..PAYLOAD + 8].chunks_exact(8).map(|word| {
        let word: [u8; 8] = word.try_into().unwrap_or_default();
        usize::try_from(u64::from_le_bytes(word)).unwrap_or(usize::MAX)
    });
    let lengths: Vec<usize> = numbers.by_ref().take(MAX_RANK).collect();
    let payload_bytes = numbers.next().unwrap_or(usize::MAX);
    let (shape, unused) = lengths.split_at(rank);
    if bytes[7] != 0
        || unused.iter().any(|&length| length != 0)
        || bytes[PAYLOAD + 8..].iter().any(|&b| b != 0)
    {
        return malformed("reserved bytes are not 0".to_owned());
    }
    let layout = Layout::contiguous(shape, dtype)?;
    if layout.len() * dtype.size_bytes() != payload_bytes {
        return malformed(format!("{payload_bytes} bytes announced for shape {shape:?} of {dtype}"));
    }
    let found_bytes = payload_bytes.saturating_add(HEADER_BYTES);
    if found_bytes > limit_bytes {
        return Err(TensorError::OverLimit { found_bytes, limit_bytes });
    }
    Ok(Header { dtype, shape: shape.to_vec(), payload_bytes })
}

/// Reads a tensor, copying its elements into memory aligned to 64 bytes.
///
/// `bytes` must hold header and elements and nothing else, `limit_bytes` at most.
pub fn decode(bytes: &[u8], limit_bytes: usize) -> Result<Tensor> {
    let header = decode_header(bytes, limit_bytes)?;
    let elements = payload(bytes, &header)?;
    check_bools(elements, header.dtype)?;
    Ok(Tensor {
        storage: Storage::host(HostMemory::copied(elements)),
        layout: Layout::contiguous(&header.shape, header.dtype)?,
        dtype: header.dtype,
    })
}

/// Reads a tensor that shares the memory of `bytes` where its elements are aligned there, and copies them otherwise.
pub fn decode_shared(bytes: &Bytes, limit_bytes: usize) -> Result<Tensor> {
    let header = decode_header(bytes, limit_bytes)?;
    payload(bytes, &header)?;
    let elements = arrow_buffer::Buffer::from(bytes.slice(HEADER_BYTES..));
    match Tensor::from_arrow(elements, header.dtype, &header.shape) {
        Err(TensorError::Misaligned { .. }) => decode(bytes, limit_bytes),
        read => read,
    }
}

fn payload<'a>(bytes: &'a [u8], header: &Header) -> Result<&'a [u8]> {
    let elements = &bytes[HEADER_BYTES..];
    if elements.len() == header.payload_bytes {
        return Ok(elements);
    }
    Err(TensorError::Malformed {
        reason: format!(
            "{} bytes of elements, the header announces {}",
            elements.len(),
            header.payload_bytes
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn sample() -> Tensor {
        Tensor::from_vec(vec![1.5f32, -2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]).unwrap()
    }

    #[test]
    fn every_type_and_rank_comes_back() {
        for dtype in DType::ALL {
            for shape in [&[][..], &[3], &[2, 0, 4], &[1, 2, 1, 2, 1, 2, 1, 2]] {
                let bytes = encode(&Tensor::zeros_of(dtype, shape).unwrap()).unwrap();
                let back = decode(&bytes, LIMIT).unwrap();
                assert_eq!((back.dtype(), back.shape()), (dtype, shape));
            }
        }
        let back = decode(&encode(&sample().transpose()).unwrap(), LIMIT).unwrap();
        assert_eq!(back.shape(), [3, 2]);
        assert_eq!(back.to_vec::<f32>().unwrap(), [1.5, 4.0, -2.0, 5.0, 3.0, 6.0]);
    }

    #[test]
    fn the_limit_holds_before_anything_is_allocated() {
        let bytes = encode(&sample()).unwrap();
        assert!(decode(&bytes, HEADER_BYTES + 24).is_ok());
        let error = decode(&bytes, HEADER_BYTES + 23).err();
        assert_eq!(error, Some(TensorError::OverLimit { found_bytes: 152, limit_bytes: 151 }));
        // A header that announces 2^60 bytes costs nothing.
        let mut huge = bytes.clone();
        huge[LENGTHS..LENGTHS + 16].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 0]);
        huge[PAYLOAD..PAYLOAD + 8].copy_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(matches!(decode(&huge, LIMIT), Err(TensorError::OverLimit { .. })));
    }

    #[test]
    fn any_spoilt_header_is_an_error() {
        const BITS: u32 = if cfg!(miri) { 1 } else { 8 };
        let good = encode(&sample()).unwrap();
        for cut in 0..good.len() {
            assert!(decode(&good[..cut], LIMIT).is_err(), "cut at {cut}");
        }
        for place in 0..HEADER_BYTES {
            for bit in 0..BITS {
                let mut bad = good.clone();
                bad[place] ^= 1 << bit;
                // Another element type of the same width is a valid tensor; nothing else is.
                let read = decode(&bad, LIMIT);
                let same_width = place == 5 && read.as_ref().is_ok_and(|t| t.dtype().size_bytes() == 4);
                assert!(read.is_err() || same_width, "byte {place} bit {bit}");
            }
        }
        let mut long = good;
        long.push(0);
        assert!(matches!(decode(&long, LIMIT), Err(TensorError::Malformed { .. })));
    }

    #[test]
    fn a_byte_that_is_no_boolean_is_refused() {
        let mut bytes = encode(&Tensor::from_vec(vec![true, false], &[2]).unwrap()).unwrap();
        bytes[HEADER_BYTES + 1] = 2;
        assert_eq!(decode(&bytes, LIMIT).err(), Some(TensorError::NotABool { value: 2, position: 1 }));
        assert!(decode_shared(&Bytes::from(bytes), LIMIT).is_err());
    }

    struct Frame(arrow_buffer::Buffer);

    impl AsRef<[u8]> for Frame {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[test]
    fn aligned_frames_are_shared_and_others_copied() {
        let frame = Tensor::from_slice(&encode(&sample()).unwrap(), &[152]).unwrap();
        let owner = frame.to_arrow().unwrap();
        let start = owner.as_ptr();
        let aligned = Bytes::from_owner(Frame(owner));
        let shared = decode_shared(&aligned, LIMIT).unwrap();
        assert_eq!(shared.as_bytes().unwrap().as_ptr(), start.wrapping_add(HEADER_BYTES));

        let mut shifted = vec![0u8];
        shifted.extend_from_slice(&aligned);
        let odd = Bytes::from(shifted).slice(1..);
        let copied = decode_shared(&odd, LIMIT).unwrap();
        assert_eq!(copied.to_vec::<f32>().unwrap(), shared.to_vec::<f32>().unwrap());
    }
}
