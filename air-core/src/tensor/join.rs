//! Several tensors as one. This copies: the parts lie in different memory.

use ndarray::{ArrayViewD, ArrayViewMutD, Axis, IxDyn, Slice};

use super::read::strided;
use super::{Result, Tensor, TensorError};

impl Tensor {
    /// The tensors one after another along `axis`, copied into memory aligned to 64 bytes: the rows of several batches.
    ///
    /// They must agree in element type and in every other axis, and be on the host.
    pub fn concat(parts: &[Tensor], axis: usize) -> Result<Tensor> {
        let first = parts.first().ok_or(TensorError::NothingToJoin)?;
        let mut shape = first.shape().to_vec();
        if axis >= shape.len() {
            return Err(TensorError::AxisOutOfRange { axis, shape });
        }
        let mut length = 0usize;
        for (index, part) in parts.iter().enumerate() {
            let like = |(other, (&here, &there)): (usize, (&usize, &usize))| other == axis || here == there;
            let agree = part.rank() == first.rank()
                && part.dtype() == first.dtype()
                && part.shape().iter().zip(first.shape()).enumerate().all(like);
            if !agree {
                return Err(TensorError::CannotJoin {
                    index,
                    found: part.shape().to_vec(),
                    found_dtype: part.dtype(),
                    shape,
                    dtype: first.dtype(),
                    axis,
                });
            }
            // A sum that overflows is refused as too large with the shape.
            length = length.saturating_add(part.shape()[axis]);
        }
        shape[axis] = length;
        let mut whole = Tensor::zeros_of(first.dtype(), &shape)?;
        // The type does not matter to a copy, only the width.
        match first.dtype().size_bytes() {
            1 => fill::<u8>(&mut whole, parts, axis),
            2 => fill::<u16>(&mut whole, parts, axis),
            4 => fill::<u32>(&mut whole, parts, axis),
            _ => fill::<u64>(&mut whole, parts, axis),
        }?;
        Ok(whole)
    }

    /// The tensors, all of one shape, along a new axis: several rows as one batch.
    pub fn stack(parts: &[Tensor], axis: usize) -> Result<Tensor> {
        let parts: Vec<Tensor> = parts.iter().map(|part| part.insert_axis(axis)).collect::<Result<_>>()?;
        Tensor::concat(&parts, axis)
    }
}

fn fill<B: bytemuck::Pod>(whole: &mut Tensor, parts: &[Tensor], axis: usize) -> Result<()> {
    let layout = whole.layout;
    let odd = |_| layout.not_contiguous();
    let bytes =
        bytemuck::try_cast_slice_mut::<u8, B>(whole.host_bytes_mut("concat")?).map_err(|_| odd(()))?;
    let mut target = ArrayViewMutD::from_shape(IxDyn(layout.shape()), bytes).map_err(|_| odd(()))?;
    let mut at = 0;
    for part in parts {
        let bytes = bytemuck::try_cast_slice::<u8, B>(part.host_bytes("concat")?).map_err(|_| odd(()))?;
        let source = ArrayViewD::from_shape(strided(&part.layout), bytes).map_err(|_| odd(()))?;
        let end = at + part.shape()[axis];
        target.slice_axis_mut(Axis(axis), Slice::from(at..end)).assign(&source);
        at = end;
    }
    Ok(())
}
