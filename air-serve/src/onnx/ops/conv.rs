//! Convolution of images.

use ndarray::{Array1, Array2, Array4, ArrayD, ArrayView3, Dimension, Ix1, Ix4, s};

use super::{MAX_ELEMENTS, Operator, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::Value;

/// The largest padding, stride or dilation.
const FARTHEST: i64 = 1 << 20;

/// `Conv` in two dimensions: images `[n, planes, rows, columns]` and kernels `[filters, planes / group, rows, columns]`.
pub(crate) struct Conv {
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    /// Zeros above, left, below and right of an image.
    pads: [usize; 4],
    group: usize,
}

impl Conv {
    /// None of a convolution that is not over images, or whose padding follows from them.
    pub(super) fn build(node: &Node<'_>) -> Option<Result<Self, Reason>> {
        let padding = match node.string("auto_pad", "NOTSET") {
            Ok(padding) => padding,
            Err(reason) => return Some(Err(reason)),
        };
        let of_images = node.ints("kernel_shape").len() == 2 && matches!(padding, "NOTSET" | "VALID");
        of_images.then(|| Self::of_images(node))
    }

    fn of_images(node: &Node<'_>) -> Result<Self, Reason> {
        let group = node.int("group", 1);
        if group < 1 {
            return Err(format!("attribute group is {group}"));
        }
        Ok(Self {
            kernel: extents(node, "kernel_shape", 1)?,
            strides: extents(node, "strides", 1)?,
            dilations: extents(node, "dilations", 1)?,
            pads: extents(node, "pads", 0)?,
            group: group as usize,
        })
    }

    /// How many places the kernel has along an axis of `size`.
    fn places(&self, axis: usize, size: usize) -> Result<usize, Reason> {
        let padded = size.saturating_add(self.pads[axis] + self.pads[axis + 2]);
        let reach = self.dilations[axis] * (self.kernel[axis] - 1) + 1;
        match padded.checked_sub(reach) {
            Some(room) => Ok(room / self.strides[axis] + 1),
            None => Err(format!(
                "a kernel that reaches over {reach} does not fit an image of {size} along axis {}",
                axis + 2
            )),
        }
    }

    /// What the kernel sees of some planes of an image: a column for each of its places.
    fn columns(&self, image: ArrayView3<'_, f32>, places: [usize; 2]) -> Array2<f32> {
        let (planes, rows, width) = image.dim();
        let [high, wide] = self.kernel;
        let mut columns = Array2::zeros((planes * high * wide, places[0] * places[1]));
        for (at, mut seen) in columns.outer_iter_mut().enumerate() {
            let (plane, down, right) = (at / (high * wide), at / wide % high, at % wide);
            for (place, value) in seen.iter_mut().enumerate() {
                let y = place / places[1] * self.strides[0] + down * self.dilations[0];
                let x = place % places[1] * self.strides[1] + right * self.dilations[1];
                let inside = y.checked_sub(self.pads[0]).zip(x.checked_sub(self.pads[1]));
                if let Some((y, x)) = inside.filter(|&(y, x)| y < rows && x < width) {
                    *value = image[[plane, y, x]];
                }
            }
        }
        columns
    }
}

/// An attribute of as many numbers, each at least `least`, which is also what it is where it is absent.
fn extents<const N: usize>(node: &Node<'_>, name: &str, least: i64) -> Result<[usize; N], Reason> {
    let found = node.ints(name);
    if found.is_empty() {
        return Ok([least as usize; N]);
    }
    let fits = found.iter().all(|x| (least..=FARTHEST).contains(x));
    let found = <[i64; N]>::try_from(found).ok().filter(|_| fits);
    let wrong =
        || format!("attribute {name} is {:?}, not {N} numbers from {least} to {FARTHEST}", node.ints(name));
    found.map(|found| found.map(|x| x as usize)).ok_or_else(wrong)
}

/// An input with the axes of `D`.
fn of_axes<D: Dimension>(value: &Value, what: &str, axes: usize) -> Result<ndarray::Array<f32, D>, Reason> {
    let x: ArrayD<f32> = value.to_f32()?.into_owned();
    let shape = x.shape().to_vec();
    x.into_dimensionality().map_err(|_| format!("expected {what} of {axes} axes, got shape {shape:?}"))
}

impl Operator for Conv {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let x = of_axes::<Ix4>(need(inputs, 0)?, "images", 4)?;
        let w = of_axes::<Ix4>(need(inputs, 1)?, "kernels", 4)?;
        let (images, planes, rows, width) = x.dim();
        let (filters, seen, ..) = w.dim();
        let fits = seen.checked_mul(self.group) == Some(planes) && filters % self.group == 0;
        if !fits || w.shape()[2..] != self.kernel {
            let (w, x, group, kernel) = (w.shape(), x.shape(), self.group, self.kernel);
            return Err(format!("kernels {w:?} of {kernel:?} in {group} groups do not fit images {x:?}"));
        }
        let bias = match inputs.get(2).copied().flatten() {
            None => Array1::zeros(filters),
            Some(bias) => of_axes::<Ix1>(bias, "a bias", 1)?,
        };
        if bias.len() != filters {
            return Err(format!("the bias has {} values for {filters} filters", bias.len()));
        }
        let places = [self.places(0, rows)?, self.places(1, width)?];
        let area = places[0].saturating_mul(places[1]);
        let patch = w.len().checked_div(filters).unwrap_or(0);
        let elements = images.saturating_mul(filters).max(patch).saturating_mul(area);
        if elements > MAX_ELEMENTS {
            return Err(format!("the result would have {elements} elements, the limit is {MAX_ELEMENTS}"));
        }
        let in_group = filters / self.group;
        let kernels = w.into_shape_with_order((filters, patch)).map_err(|e| e.to_string())?;
        let mut y = Array4::zeros((images, filters, places[0], places[1]));
        for (x, mut y) in x.outer_iter().zip(y.outer_iter_mut()) {
            for group in 0..self.group {
                let first = group * in_group;
                let columns = self.columns(x.slice(s![group * seen..(group + 1) * seen, .., ..]), places);
                let product = kernels.slice(s![first..first + in_group, ..]).dot(&columns);
                for (values, filter) in product.outer_iter().zip(first..) {
                    let to = y.index_axis_mut(ndarray::Axis(0), filter);
                    to.into_iter().zip(values).for_each(|(to, value)| *to = bias[filter] + value);
                }
            }
        }
        Ok(vec![Value::F32(y.into_dyn())])
    }
}
