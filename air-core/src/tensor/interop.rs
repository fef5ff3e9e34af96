//! ndarray arrays as tensors.

use ndarray::{Array, ArrayBase, Data, Dimension};

use super::host::HostMemory;
use super::layout::Layout;
use super::storage::Storage;
use super::{Element, Result, Tensor};

impl Tensor {
    /// Takes over an owned array, in whatever order of axes its memory is, without copying.
    ///
    /// Only an array with reversed axes (negative strides) is copied.
    pub fn from_ndarray<T: Element, D: Dimension>(array: Array<T, D>) -> Result<Tensor> {
        let shape = array.shape().to_vec();
        let strides: Option<Vec<usize>> =
            array.strides().iter().map(|&stride| usize::try_from(stride).ok()).collect();
        let Some(strides) = strides else {
            return Tensor::from_ndarray_view(&array);
        };
        let (values, offset) = array.into_raw_vec_and_offset();
        let layout = Layout::strided(&shape, &strides, offset.unwrap_or(0), values.len(), T::DTYPE)?;
        Ok(Tensor { storage: Storage::host(HostMemory::adopt(values)), layout, dtype: T::DTYPE })
    }

    /// Copies the elements of any array or view, row-major, into memory aligned to 64 bytes.
    pub fn from_ndarray_view<T, S, D>(array: &ArrayBase<S, D>) -> Result<Tensor>
    where
        T: Element,
        S: Data<Elem = T>,
        D: Dimension,
    {
        let mut tensor = Tensor::zeros::<T>(array.shape())?;
        tensor.view_mut::<T>()?.assign(&array.view().into_dyn());
        Ok(tensor)
    }
}
