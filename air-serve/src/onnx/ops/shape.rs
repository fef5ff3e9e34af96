//! Operators that move elements without computing.

use ndarray::{ArrayD, Axis, IxDyn};

use super::{Operator, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::Value;

/// Applies one expression to the array inside a value, whatever its element type.
macro_rules! each_type {
    ($value:expr, $array:ident => $body:expr) => {
        match $value {
            Value::F32($array) => Value::F32($body),
            Value::F64($array) => Value::F64($body),
            Value::I64($array) => Value::I64($body),
            Value::Bool($array) => Value::Bool($body),
            Value::Text($array) => Value::Text($body),
            Value::Maps { .. } => return Err("expected a tensor, got maps".to_owned()),
        }
    };
}
pub(super) use each_type;

pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, Reason> {
    let at = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(at)
        .ok()
        .filter(|&at| at < rank)
        .ok_or_else(|| format!("axis {axis} of a tensor of rank {rank}"))
}

pub(super) fn reshaped<T: Clone>(array: &ArrayD<T>, shape: &[usize]) -> Result<ArrayD<T>, Reason> {
    let from = array.shape().to_vec();
    array
        .to_shape(IxDyn(shape))
        .map(|array| array.to_owned())
        .map_err(|_| format!("a tensor of shape {from:?} cannot become {shape:?}"))
}

/// `Reshape`: 0 keeps a dimension, -1 is what is left.
pub(crate) struct Reshape;

impl Operator for Reshape {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let (value, wanted) = (need(inputs, 0)?, need(inputs, 1)?.as_i64()?);
        let len: usize = value.shape().iter().product();
        let mut shape = Vec::with_capacity(wanted.len());
        let mut open = None;
        for (index, &dim) in wanted.iter().enumerate() {
            shape.push(match dim {
                0 => *value.shape().get(index).ok_or("it keeps a dimension that is not there")?,
                -1 if open.is_none() => {
                    open = Some(index);
                    1
                }
                _ => usize::try_from(dim).map_err(|_| format!("{wanted} is not a shape"))?,
            });
        }
        if let Some(index) = open {
            let known = shape.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim)).unwrap_or(0);
            shape[index] = len.checked_div(known).unwrap_or(0);
        }
        Ok(vec![each_type!(value, array => reshaped(array, &shape)?)])
    }
}

/// `Flatten` to two dimensions.
pub(crate) struct Flatten {
    pub axis: i64,
}

impl Operator for Flatten {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let value = need(inputs, 0)?;
        let rank = value.shape().len();
        let at = if self.axis == rank as i64 { rank } else { axis(self.axis, rank)? };
        let (outer, inner) = value.shape().split_at(at);
        let shape = [outer.iter().product(), inner.iter().product()];
        Ok(vec![each_type!(value, array => reshaped(array, &shape)?)])
    }
}

/// `Concat` along an axis.
pub(crate) struct Concat {
    pub axis: i64,
}

impl Operator for Concat {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let first = need(inputs, 0)?;
        let at = axis(self.axis, first.shape().len())?;
        macro_rules! joined {
            ($variant:ident) => {{
                let mut views = Vec::with_capacity(inputs.len());
                for index in 0..inputs.len() {
                    match need(inputs, index)? {
                        Value::$variant(array) => views.push(array.view()),
                        other => {
                            return Err(format!(
                                "cannot join {} and {}",
                                first.type_name(),
                                other.type_name()
                            ));
                        }
                    }
                }
                Value::$variant(ndarray::concatenate(Axis(at), &views).map_err(|error| error.to_string())?)
            }};
        }
        Ok(vec![match first {
            Value::F32(_) => joined!(F32),
            Value::F64(_) => joined!(F64),
            Value::I64(_) => joined!(I64),
            Value::Bool(_) => joined!(Bool),
            Value::Text(_) => joined!(Text),
            Value::Maps { .. } => return Err("expected tensors, got maps".to_owned()),
        }])
    }
}

/// `ArrayFeatureExtractor`: picks columns of the last axis.
pub(crate) struct ArrayFeatureExtractor;

impl Operator for ArrayFeatureExtractor {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let (value, picks) = (need(inputs, 0)?, need(inputs, 1)?.as_i64()?);
        let rank = value.shape().len();
        let width = *value.shape().last().ok_or("expected at least one dimension")?;
        let mut columns = Vec::with_capacity(picks.len());
        for &pick in picks {
            let column = usize::try_from(pick).ok().filter(|&column| column < width);
            columns.push(column.ok_or_else(|| format!("column {pick} of {width}"))?);
        }
        let picked = each_type!(value, array => array.select(Axis(rank - 1), &columns));
        // One vector is a batch of one.
        Ok(vec![if rank == 1 { each_type!(picked, array => array.insert_axis(Axis(0))) } else { picked }])
    }
}

/// `ArgMax` and `ArgMin` along an axis; the first of equal elements, or the last where the node asks for it.
pub(crate) struct ArgMax {
    min: bool,
    axis: i64,
    keep: bool,
    last: bool,
}

impl ArgMax {
    pub(super) fn build(node: &Node<'_>) -> Self {
        ArgMax {
            min: node.operator() == "ArgMin",
            axis: node.int("axis", 0),
            keep: node.int("keepdims", 1) != 0,
            last: node.int("select_last_index", 0) != 0,
        }
    }
}

impl Operator for ArgMax {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let x = need(inputs, 0)?.to_f32()?;
        let at = axis(self.axis, x.ndim())?;
        if x.shape()[at] == 0 {
            return Err("there is nothing to choose from".to_owned());
        }
        let mut found = x.map_axis(Axis(at), |lane| {
            let mut best = 0;
            for (index, value) in lane.iter().enumerate() {
                let better = if self.min { *value < lane[best] } else { *value > lane[best] };
                if better || (self.last && *value == lane[best]) {
                    best = index;
                }
            }
            best as i64
        });
        if self.keep {
            found = found.insert_axis(Axis(at));
        }
        Ok(vec![Value::I64(found)])
    }
}
