use half::{bf16, f16};

use super::signature::Number;
use crate::tensor::{DType, Tensor};

/// What a kernel is given for one of its arguments: made with `from`, of a number, a tensor that it reads, or one that it writes.
#[derive(Debug)]
#[non_exhaustive]
pub enum Arg<'a> {
    /// A number.
    Scalar(Scalar),
    /// A tensor that is read.
    Read(&'a Tensor),
    /// A tensor that is written, and read where the kernel does so; no other handle may hold its memory.
    Write(&'a mut Tensor),
}

/// A number as a kernel gets it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scalar {
    pub(super) kind: Number,
    pub(crate) bytes: [u8; 8],
    /// As a length, where it is one.
    pub(super) length: Option<usize>,
}

impl<'a> From<&'a Tensor> for Arg<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Arg::Read(tensor)
    }
}

impl<'a> From<&'a mut Tensor> for Arg<'a> {
    fn from(tensor: &'a mut Tensor) -> Self {
        Arg::Write(tensor)
    }
}

impl From<Scalar> for Arg<'_> {
    fn from(scalar: Scalar) -> Self {
        Arg::Scalar(scalar)
    }
}

macro_rules! scalar {
    ($($type:ty => $kind:expr, $length:expr;)*) => {$(
        impl From<$type> for Scalar {
            fn from(value: $type) -> Self {
                let mut bytes = [0; 8];
                bytes[..size_of::<$type>()].copy_from_slice(bytemuck::bytes_of(&value));
                let length: fn($type) -> Option<usize> = $length;
                Scalar { kind: $kind, bytes, length: length(value) }
            }
        }

        impl From<$type> for Arg<'_> {
            fn from(value: $type) -> Self {
                Arg::Scalar(value.into())
            }
        }
    )*};
}

scalar! {
    f32 => Number::Of(DType::F32), |_| None;
    f64 => Number::Of(DType::F64), |_| None;
    f16 => Number::Of(DType::F16), |_| None;
    bf16 => Number::Of(DType::BF16), |_| None;
    i8 => Number::Of(DType::I8), |n| n.try_into().ok();
    i32 => Number::Of(DType::I32), |n| n.try_into().ok();
    i64 => Number::Of(DType::I64), |n| n.try_into().ok();
    u8 => Number::Of(DType::U8), |n| Some(n.into());
    u32 => Number::Of(DType::U32), |n| n.try_into().ok();
    u64 => Number::U64, |n| n.try_into().ok();
    bool => Number::Of(DType::Bool), |_| None;
}
