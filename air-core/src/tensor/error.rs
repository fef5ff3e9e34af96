use crate::device::DeviceError;

use super::DType;

/// Why a tensor could not be made, viewed or moved.
///
/// Shapes and strides are counted in elements, outermost axis first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// More axes than [`MAX_RANK`](super::MAX_RANK).
    #[error("shape {shape:?} has {} axes, at most {} are supported", shape.len(), super::MAX_RANK)]
    TooManyAxes {
        /// The shape asked for.
        shape: Vec<usize>,
    },
    /// The bytes of the shape cannot be counted in an `isize`.
    #[error("shape {shape:?} of {dtype} is larger than the address space")]
    TooLarge {
        /// The shape asked for.
        shape: Vec<usize>,
        /// The element type asked for.
        dtype: DType,
    },
    /// The system has no memory for it.
    #[error("no memory for {needed_bytes} bytes of shape {shape:?}")]
    OutOfMemory {
        /// The bytes asked for.
        needed_bytes: usize,
        /// The shape asked for.
        shape: Vec<usize>,
    },
    /// The tensors to join differ in element type or in an axis other than the one joined along.
    #[error("tensor {index} of {found_dtype}{found:?} does not join {dtype}{shape:?} along axis {axis}")]
    CannotJoin {
        /// Which of the tensors.
        index: usize,
        /// Its shape.
        found: Vec<usize>,
        /// Its element type.
        found_dtype: DType,
        /// The shape of the first.
        shape: Vec<usize>,
        /// The element type of the first.
        dtype: DType,
        /// The axis joined along.
        axis: usize,
    },
    /// Nothing to join.
    #[error("no tensors to join")]
    NothingToJoin,
    /// The values at hand do not fill the shape exactly.
    #[error("{found} values do not fill shape {shape:?}, which holds {expected}")]
    WrongLength {
        /// How many values there are.
        found: usize,
        /// How many the shape holds.
        expected: usize,
        /// The shape asked for.
        shape: Vec<usize>,
    },
    /// The tensor was read as another element type than it holds.
    #[error("tensor holds {found}, not {expected}")]
    WrongType {
        /// The type asked for.
        expected: DType,
        /// The type held.
        found: DType,
    },
    /// The tensor was read with another number of axes than it has.
    #[error("tensor of shape {shape:?} has {} axes, not {expected}", shape.len())]
    WrongRank {
        /// The number of axes asked for.
        expected: usize,
        /// The shape held.
        shape: Vec<usize>,
    },
    /// No such axis.
    #[error("axis {axis} is out of range for shape {shape:?}")]
    AxisOutOfRange {
        /// The axis asked for.
        axis: usize,
        /// The shape held.
        shape: Vec<usize>,
    },
    /// No such position along an axis.
    #[error("index {index} is out of range for axis {axis} of shape {shape:?}")]
    IndexOutOfRange {
        /// The position asked for.
        index: usize,
        /// Along which axis.
        axis: usize,
        /// The shape held.
        shape: Vec<usize>,
    },
    /// A range along an axis ends before it starts or beyond the axis.
    #[error("range {start}..{end} is out of range for axis {axis} of shape {shape:?}")]
    RangeOutOfRange {
        /// The first position.
        start: usize,
        /// One past the last position.
        end: usize,
        /// Along which axis.
        axis: usize,
        /// The shape held.
        shape: Vec<usize>,
    },
    /// The axes given are not each axis of the tensor exactly once.
    #[error("{axes:?} is not an order of the axes of shape {shape:?}")]
    NotAPermutation {
        /// The order asked for.
        axes: Vec<usize>,
        /// The shape held.
        shape: Vec<usize>,
    },
    /// The elements do not lie one after another, as the operation needs.
    #[error(
        "tensor of shape {shape:?} and strides {strides:?} is not contiguous; call `contiguous()` to copy it"
    )]
    NotContiguous {
        /// The shape held.
        shape: Vec<usize>,
        /// The strides held.
        strides: Vec<usize>,
    },
    /// The memory has other holders, or belongs to an Arrow buffer, so it must not be written.
    #[error("tensor memory is shared; call `make_unique()` to write to a copy")]
    Shared,
    /// The memory does not start at a multiple of the element's alignment.
    #[error("memory at {address:#x} is not aligned to the {align} bytes that {dtype} needs; copy it first")]
    Misaligned {
        /// Where the memory starts.
        address: usize,
        /// The alignment needed, in bytes.
        align: usize,
        /// The element type asked for.
        dtype: DType,
    },
    /// A byte that is neither 0 nor 1 where a boolean should be.
    #[error("byte {value} at position {position} is not a boolean")]
    NotABool {
        /// The byte found.
        value: u8,
        /// Its position in the memory.
        position: usize,
    },
    /// The operation needs host memory.
    #[error("{operation} needs the tensor on the cpu, it is on {device}; move it with `to_device`")]
    NotOnHost {
        /// What was asked for.
        operation: &'static str,
        /// Where the tensor is.
        device: crate::device::Device,
    },
    /// The encoded form is larger than the reader allows.
    #[error("encoded tensor of {found_bytes} bytes is over the limit of {limit_bytes}")]
    OverLimit {
        /// The size announced or found.
        found_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// The encoded form does not say a tensor.
    #[error("not an encoded tensor: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The device could not carry out a copy.
    #[error(transparent)]
    Device(#[from] DeviceError),
}
