//! A named tensor, kept as it travels: little-endian elements in row-major order.
//!
//! That is the layout of the protocol's binary form and of gRPC's raw contents, so those two are taken over without a copy.

use bytes::{BufMut, Bytes, BytesMut};
use half::{bf16, f16};

use super::datatype::DataType;

/// More dimensions are refused.
pub(crate) const MAX_RANK: usize = 16;

/// A named tensor of a request or an answer. Clones share the data.
///
/// ```
/// use air_serve::v2::{DataType, Tensor};
///
/// let x = Tensor::new("x", [2, 2], &[1.0f32, 2.0, 3.0, 4.0])?;
/// assert_eq!((x.datatype(), x.shape()), (DataType::Fp32, &[2, 2][..]));
/// assert_eq!(x.elements::<f32>()?, [1.0, 2.0, 3.0, 4.0]);
/// assert!(x.elements::<i64>().is_err());
/// # Ok::<(), air_serve::v2::TensorError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub(crate) name: String,
    datatype: DataType,
    shape: Vec<usize>,
    data: Bytes,
}

/// Why a tensor cannot be made or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tensor `{name}`: {reason}")]
pub struct TensorError {
    /// The tensor.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A Rust type that is an element type of the protocol.
pub trait Element: Copy + sealed::Sealed {
    /// The protocol's type.
    const DATATYPE: DataType;
    /// Appends the element.
    #[doc(hidden)]
    fn put(self, to: &mut BytesMut);
    /// Reads an element from exactly as many bytes as one has.
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Self;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! element {
    ($($type:ty => $datatype:ident),* $(,)?) => {$(
        impl sealed::Sealed for $type {}
        impl Element for $type {
            const DATATYPE: DataType = DataType::$datatype;
            fn put(self, to: &mut BytesMut) {
                to.put_slice(&self.to_le_bytes());
            }
            fn read(bytes: &[u8]) -> Self {
                // The caller splits by the element's size, so this is always the whole of it.
                bytes.first_chunk().map_or(<$type>::from_le_bytes(Default::default()), |chunk| <$type>::from_le_bytes(*chunk))
            }
        }
    )*};
}

element!(
    u8 => Uint8, u16 => Uint16, u32 => Uint32, u64 => Uint64, i8 => Int8, i16 => Int16, i32 => Int32, i64 => Int64,
    f16 => Fp16, f32 => Fp32, f64 => Fp64, bf16 => Bf16,
);

impl sealed::Sealed for bool {}
impl Element for bool {
    const DATATYPE: DataType = DataType::Bool;
    fn put(self, to: &mut BytesMut) {
        to.put_u8(u8::from(self));
    }
    fn read(bytes: &[u8]) -> Self {
        bytes.first().is_some_and(|&byte| byte != 0)
    }
}

impl Tensor {
    /// A tensor of these elements, in row-major order.
    pub fn new<T: Element>(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        elements: &[T],
    ) -> Result<Tensor, TensorError> {
        Tensor::from_bytes(name, T::DATATYPE, shape, put_all(elements).freeze())
    }

    /// A tensor of byte strings: `BYTES`.
    pub fn of_strings<S: AsRef<[u8]>>(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        strings: impl IntoIterator<Item = S>,
    ) -> Result<Tensor, TensorError> {
        let mut data = BytesMut::new();
        strings.into_iter().for_each(|string| put_string(string.as_ref(), &mut data));
        Tensor::from_bytes(name, DataType::Bytes, shape, data.freeze())
    }

    /// A tensor from its binary form: little-endian elements; of `BYTES`, each behind its length as four bytes. `BOOL` is one byte each, 0 or 1.
    pub fn from_bytes(
        name: impl Into<String>,
        datatype: DataType,
        shape: impl Into<Vec<usize>>,
        data: Bytes,
    ) -> Result<Tensor, TensorError> {
        let tensor = Tensor { name: name.into(), datatype, shape: shape.into(), data };
        match tensor.validate() {
            Ok(()) => Ok(tensor),
            Err(reason) => Err(TensorError { name: tensor.name, reason }),
        }
    }

    fn validate(&self) -> Result<(), String> {
        let (shape, bytes) = (&self.shape, self.data.len());
        let wanted = count(shape)?;
        let Some(size) = self.datatype.size() else { return self.validate_strings(wanted) };
        if wanted.checked_mul(size) != Some(bytes) {
            let datatype = self.datatype;
            return Err(format!(
                "{wanted} elements of {datatype} ({size} bytes each) make its shape {shape:?}, it has {bytes} bytes"
            ));
        }
        if self.datatype == DataType::Bool && self.data.iter().any(|&byte| byte > 1) {
            return Err("a BOOL is a byte that is neither 0 nor 1".to_owned());
        }
        Ok(())
    }

    fn validate_strings(&self, wanted: usize) -> Result<(), String> {
        let mut found = 0usize;
        let mut rest = &self.data[..];
        while !rest.is_empty() {
            let split = split_string(rest);
            let too_long = || format!("its byte string {found} is longer than the data that is left");
            rest = split.ok_or_else(too_long)?.1;
            found += 1;
        }
        if found == wanted {
            Ok(())
        } else {
            Err(format!("its shape {:?} has {wanted} elements, it has {found}", self.shape))
        }
    }

    /// Its name among the inputs or outputs of the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its element type.
    pub fn datatype(&self) -> DataType {
        self.datatype
    }

    /// Its dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its binary form; see [`Tensor::from_bytes`].
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }

    /// Its elements in row-major order, if they are of that type.
    pub fn elements<T: Element>(&self) -> Result<Vec<T>, TensorError> {
        if self.datatype != T::DATATYPE {
            return Err(self.mismatch(T::DATATYPE));
        }
        Ok(self.data.chunks_exact(T::DATATYPE.size().unwrap_or(1)).map(T::read).collect())
    }

    /// Its byte strings in row-major order, if it is of `BYTES`. They share the tensor's memory.
    pub fn strings(&self) -> Result<Vec<Bytes>, TensorError> {
        if self.datatype != DataType::Bytes {
            return Err(self.mismatch(DataType::Bytes));
        }
        let mut strings = Vec::new();
        let mut rest = &self.data[..];
        while let Some((string, after)) = split_string(rest) {
            strings.push(self.data.slice_ref(string));
            rest = after;
        }
        Ok(strings)
    }

    fn mismatch(&self, wanted: DataType) -> TensorError {
        TensorError { name: self.name.clone(), reason: format!("it is of {}, not {wanted}", self.datatype) }
    }
}

/// The number of elements of a shape.
pub(crate) fn count(shape: &[usize]) -> Result<usize, String> {
    if shape.len() > MAX_RANK {
        return Err(format!("{} dimensions are more than the limit of {MAX_RANK}", shape.len()));
    }
    // Also what a zero hides must not overflow: whoever strides over the tensor multiplies in another order.
    let extent =
        shape.iter().filter(|&&dim| dim > 0).try_fold(1usize, |product, &dim| product.checked_mul(dim));
    match extent {
        Some(extent) if isize::try_from(extent).is_ok() => Ok(if shape.contains(&0) { 0 } else { extent }),
        _ => Err(format!("its shape {shape:?} has too many elements")),
    }
}

/// The binary form of elements.
pub(crate) fn put_all<T: Element>(elements: &[T]) -> BytesMut {
    let mut data = BytesMut::with_capacity(size_of_val(elements));
    for &element in elements {
        element.put(&mut data);
    }
    data
}

/// Appends a byte string behind its length.
pub(crate) fn put_string(string: &[u8], to: &mut BytesMut) {
    to.put_u32_le(string.len() as u32);
    to.put_slice(string);
}

/// The first byte string and what comes after it.
fn split_string(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = data.split_first_chunk()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_binary_form_is_little_endian_and_byte_strings_have_their_length_in_front() {
        let x = Tensor::new("x", [2], &[1i32, -2]).unwrap();
        assert_eq!(&x.bytes()[..], [1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff]);
        let s = Tensor::of_strings("s", [2], ["ab", ""]).unwrap();
        assert_eq!(&s.bytes()[..], b"\x02\0\0\0ab\0\0\0\0");
        assert_eq!(s.strings().unwrap(), ["ab", ""]);
        let b = Tensor::new("b", [2], &[true, false]).unwrap();
        assert_eq!((&b.bytes()[..], b.elements::<bool>().unwrap()), (&[1, 0][..], vec![true, false]));
        let h = Tensor::new("h", [1], &[f16::from_f32(1.5)]).unwrap();
        assert_eq!(h.elements::<f16>().unwrap(), [f16::from_f32(1.5)]);
    }

    #[test]
    fn what_does_not_fit_its_shape_is_refused_with_both_numbers() {
        let refused = |datatype, shape: &[usize], data: &'static [u8]| {
            Tensor::from_bytes("x", datatype, shape, Bytes::from_static(data)).unwrap_err().reason
        };
        assert!(refused(DataType::Fp32, &[2], &[0; 7]).contains("it has 7 bytes"));
        assert!(refused(DataType::Bytes, &[1], b"\x05\0\0\0abc").contains("byte string 0 is longer"));
        assert!(refused(DataType::Bytes, &[2], b"\x03\0\0\0abc").contains("has 2 elements, it has 1"));
        assert!(refused(DataType::Bool, &[2], &[1, 2]).contains("neither 0 nor 1"));
        assert!(refused(DataType::Uint8, &[usize::MAX, 2], &[]).contains("too many"));
        assert!(refused(DataType::Uint8, &[0, usize::MAX, 2], &[]).contains("too many"));
        assert!(refused(DataType::Uint8, &[1; 17], &[0]).contains("limit of 16"));
    }

    #[test]
    fn a_scalar_has_one_element_and_an_empty_tensor_none() {
        assert_eq!(Tensor::new("x", [], &[7u8]).unwrap().elements::<u8>().unwrap(), [7]);
        assert_eq!(Tensor::new::<u8>("x", [3, 0], &[]).unwrap().elements::<u8>().unwrap(), [0u8; 0]);
    }
}
