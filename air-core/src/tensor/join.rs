//! Several tensors as one. This copies: the parts lie in different memory.

use ndarray::{ArrayViewD, ArrayViewMutD, Axis, IxDyn, Slice};

use super::layout::Layout;
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
        let sources: Vec<Source> =
            parts.iter().map(|part| Ok((&part.layout, part.host_bytes("concat")?))).collect::<Result<_>>()?;
        let mut whole = Tensor::zeros_of(first.dtype(), &shape)?;
        let bytes = whole.host_bytes_mut("concat")?;
        // The type does not matter to a copy, only the width.
        match first.dtype().size_bytes() {
            1 => fill::<u8>(bytes, &shape, &sources, axis),
            2 => fill::<u16>(bytes, &shape, &sources, axis),
            4 => fill::<u32>(bytes, &shape, &sources, axis),
            _ => fill::<u64>(bytes, &shape, &sources, axis),
        }
        .ok_or_else(|| whole.layout.not_contiguous())?;
        Ok(whole)
    }

    /// The tensors, all of one shape, along a new axis: several rows as one batch.
    pub fn stack(parts: &[Tensor], axis: usize) -> Result<Tensor> {
        let parts: Vec<Tensor> = parts.iter().map(|part| part.insert_axis(axis)).collect::<Result<_>>()?;
        Tensor::concat(&parts, axis)
    }
}

/// Where the elements of a part lie, from the first to the last in memory.
type Source<'a> = (&'a Layout, &'a [u8]);

fn fill<B: bytemuck::Pod>(target: &mut [u8], shape: &[usize], sources: &[Source], axis: usize) -> Option<()> {
    let target = bytemuck::try_cast_slice_mut::<u8, B>(target).ok()?;
    let mut target = ArrayViewMutD::from_shape(IxDyn(shape), target).ok()?;
    let mut at = 0;
    for (layout, bytes) in sources {
        let source = bytemuck::try_cast_slice::<u8, B>(bytes).ok()?;
        let source = ArrayViewD::from_shape(strided(layout), source).ok()?;
        let end = at + layout.shape()[axis];
        target.slice_axis_mut(Axis(axis), Slice::from(at..end)).assign(&source);
        at = end;
    }
    Some(())
}
