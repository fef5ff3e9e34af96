//! Operators that take parts of tensors, or give them other dimensions.

use ndarray::{ArrayD, Axis, IxDyn, Slice as Range};

use super::shape::{axis, each_type, reshaped};
use super::{MAX_ELEMENTS, Operator, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::{Value, vector};

/// The integers of an optional input; of the attribute, in older operator sets.
fn ints(inputs: &[Option<&Value>], index: usize, attribute: &[i64]) -> Result<Vec<i64>, Reason> {
    match inputs.get(index).copied().flatten() {
        Some(value) => Ok(value.as_i64()?.iter().copied().collect()),
        None => Ok(attribute.to_vec()),
    }
}

/// `Gather`: the slices of an axis that the indices name.
pub(crate) struct Gather {
    pub axis: i64,
}

impl Operator for Gather {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let (value, indices) = (need(inputs, 0)?, need(inputs, 1)?.as_i64()?);
        let at = axis(self.axis, value.shape().len())?;
        let width = value.shape()[at];
        let place = |&index: &i64| {
            let from = if index < 0 { index + width as i64 } else { index };
            let place = usize::try_from(from).ok().filter(|&place| place < width);
            place.ok_or_else(|| format!("index {index} on an axis of {width}"))
        };
        let places = indices.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let rest: usize =
            value.shape().iter().enumerate().filter(|(i, _)| *i != at).map(|(_, dim)| dim).product();
        let len = rest.saturating_mul(places.len());
        if len > MAX_ELEMENTS {
            return Err(format!("the result would have {len} elements, the limit is {MAX_ELEMENTS}"));
        }
        let mut shape = value.shape().to_vec();
        shape.splice(at..=at, indices.shape().iter().copied());
        Ok(vec![each_type!(value, array => reshaped(&array.select(Axis(at), &places), &shape)?)])
    }
}

/// `Slice` along some axes.
pub(crate) struct Slice {
    starts: Vec<i64>,
    ends: Vec<i64>,
    axes: Vec<i64>,
}

impl Slice {
    pub(super) fn build(node: &Node<'_>) -> Self {
        let list = |name| node.ints(name).to_vec();
        Slice { starts: list("starts"), ends: list("ends"), axes: list("axes") }
    }
}

impl Operator for Slice {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let value = need(inputs, 0)?;
        let (starts, ends) = (ints(inputs, 1, &self.starts)?, ints(inputs, 2, &self.ends)?);
        let all: Vec<i64> = (0..starts.len() as i64).collect();
        let axes = ints(inputs, 3, if self.axes.is_empty() { &all } else { &self.axes })?;
        let steps = ints(inputs, 4, &vec![1; starts.len()])?;
        if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
            return Err("starts, ends, axes and steps are not of one length".to_owned());
        }
        let mut sliced = value.clone();
        for (((start, end), at), step) in starts.into_iter().zip(ends).zip(axes).zip(steps) {
            let at = axis(at, sliced.shape().len())?;
            let range = range(start, end, step, sliced.shape()[at])?;
            sliced = each_type!(&sliced, array => array.slice_axis(Axis(at), range).to_owned());
        }
        Ok(vec![sliced])
    }
}

/// The elements of an axis from one to before another, by ONNX's rule: either may lie outside, and counts from the end where it is negative.
fn range(start: i64, end: i64, step: i64, len: usize) -> Result<Range, Reason> {
    let len = len as i64;
    let from_end = |at: i64| if at < 0 { at.saturating_add(len) } else { at };
    let (start, end) = (from_end(start), from_end(end));
    let step_by = isize::try_from(step).map_err(|_| format!("a step of {step}"))?;
    if step > 0 {
        let (start, end) = (start.clamp(0, len), end.clamp(0, len));
        return Ok(Range::new(start as isize, Some(end.max(start) as isize), step_by));
    }
    if step == 0 || step == i64::MIN {
        return Err(format!("a step of {step}"));
    }
    // Backwards, `end` is before the first that is taken; ndarray wants the range forwards.
    let (start, end) = (start.clamp(-1, len - 1), end.clamp(-1, len - 1));
    let (low, high) = (end + 1, (start + 1).max(end + 1));
    Ok(Range::new(low as isize, Some(high as isize), step_by))
}

/// `Squeeze`: without some dimensions of 1.
pub(crate) struct Squeeze {
    pub axes: Vec<i64>,
}

impl Operator for Squeeze {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let value = need(inputs, 0)?;
        let shape = value.shape();
        let axes = ints(inputs, 1, &self.axes)?;
        let mut out: Vec<usize> = axes.iter().map(|&at| axis(at, shape.len())).collect::<Result<_, _>>()?;
        if out.is_empty() {
            out = (0..shape.len()).filter(|&at| shape[at] == 1).collect();
        }
        if let Some(at) = out.iter().find(|&&at| shape[at] != 1) {
            return Err(format!("dimension {at} of shape {shape:?} is not 1"));
        }
        let kept: Vec<usize> =
            shape.iter().enumerate().filter(|(at, _)| !out.contains(at)).map(|(_, &dim)| dim).collect();
        Ok(vec![each_type!(value, array => reshaped(array, &kept)?)])
    }
}

/// `Unsqueeze`: with more dimensions of 1.
pub(crate) struct Unsqueeze {
    pub axes: Vec<i64>,
}

impl Operator for Unsqueeze {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let value = need(inputs, 0)?;
        let axes = ints(inputs, 1, &self.axes)?;
        let rank = value.shape().len() + axes.len();
        if rank > 8 {
            return Err(format!("{rank} dimensions are more than the limit of 8"));
        }
        let mut at: Vec<usize> = axes.iter().map(|&at| axis(at, rank)).collect::<Result<_, _>>()?;
        at.sort_unstable();
        let mut shape = value.shape().to_vec();
        for at in at {
            if at > shape.len() {
                return Err(format!("axes {axes:?} for a tensor of shape {:?}", value.shape()));
            }
            shape.insert(at, 1);
        }
        Ok(vec![each_type!(value, array => reshaped(array, &shape)?)])
    }
}

/// `Transpose`: the dimensions in another order; turned around without one.
pub(crate) struct Transpose {
    pub perm: Vec<i64>,
}

impl Operator for Transpose {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let value = need(inputs, 0)?;
        let rank = value.shape().len();
        let order: Vec<usize> = if self.perm.is_empty() {
            (0..rank).rev().collect()
        } else {
            self.perm.iter().map(|&at| axis(at, rank)).collect::<Result<_, _>>()?
        };
        let mut seen = order.clone();
        seen.sort_unstable();
        if !seen.iter().copied().eq(0..rank) {
            return Err(format!("{:?} is no order of {rank} dimensions", self.perm));
        }
        Ok(vec![each_type!(value, array => {
            array.view().permuted_axes(order.as_slice()).as_standard_layout().into_owned()
        })])
    }
}

/// `Shape`.
pub(crate) struct Shape;

impl Operator for Shape {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let shape = need(inputs, 0)?.shape().iter().map(|&dim| dim as i64).collect();
        Ok(vec![Value::I64(vector(shape))])
    }
}

/// `ConstantOfShape`.
pub(crate) struct ConstantOfShape {
    value: Value,
}

impl ConstantOfShape {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let value = node.tensor("value").map(Value::from_proto).transpose()?;
        let value = value.unwrap_or_else(|| Value::F32(vector(vec![0.0])));
        match value.shape().iter().product() {
            1usize => Ok(ConstantOfShape { value }),
            len => Err(format!("its value has {len} elements, not one")),
        }
    }
}

impl Operator for ConstantOfShape {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let shape = need(inputs, 0)?.as_i64()?;
        let mut dims = Vec::with_capacity(shape.len().min(8));
        let mut len = 1usize;
        for &dim in shape {
            let dim = usize::try_from(dim).map_err(|_| format!("{shape} is not a shape"))?;
            len = len.saturating_mul(dim);
            dims.push(dim);
        }
        if len > MAX_ELEMENTS || dims.len() > 8 {
            return Err(format!(
                "{shape} is larger than the limit of {MAX_ELEMENTS} elements and 8 dimensions"
            ));
        }
        fn filled<T: Clone>(element: &ArrayD<T>, dims: &[usize]) -> Result<ArrayD<T>, Reason> {
            let element = element.iter().next().ok_or("its value is empty")?;
            Ok(ArrayD::from_elem(IxDyn(dims), element.clone()))
        }
        Ok(vec![each_type!(&self.value, array => filled(array, &dims)?)])
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ndarray::Array1;

    use super::*;

    #[test]
    fn ranges_are_those_of_python_slices() {
        let taken = |start, end, step| {
            let ten = Array1::from_iter(0..10);
            range(start, end, step, 10).map(|range| ten.slice_axis(Axis(0), range).to_vec())
        };
        assert_eq!(taken(2, 5, 1).unwrap(), [2, 3, 4]);
        assert_eq!(taken(-3, i64::MAX, 1).unwrap(), [7, 8, 9]);
        assert_eq!(taken(1, -1, 3).unwrap(), [1, 4, 7]);
        assert_eq!(taken(5, 2, 1).unwrap(), [0; 0]);
        assert_eq!(taken(-1, i64::MIN, -1).unwrap(), [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
        assert_eq!(taken(8, 2, -2).unwrap(), [8, 6, 4]);
        assert_eq!(taken(2, 8, -1).unwrap(), [0; 0]);
        assert!(taken(0, 1, 0).is_err() && taken(0, 1, i64::MIN).is_err());
    }
}
