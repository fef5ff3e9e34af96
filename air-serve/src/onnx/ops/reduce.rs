//! What makes one number of many: reductions along axes, and sums of several tensors.

use ndarray::{ArrayD, Axis};

use super::dense::{Binary, BinaryFn};
use super::shape::axis;
use super::{Operator, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::Value;

/// One number of a lane of numbers.
type ReduceFn = fn(&mut dyn Iterator<Item = f64>) -> f64;

fn function(name: &str) -> Option<ReduceFn> {
    Some(match name {
        "ReduceSum" => |lane| lane.sum(),
        "ReduceMean" => |lane| {
            let (sum, count) = lane.fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
            sum / count
        },
        "ReduceProd" => |lane| lane.product(),
        "ReduceMax" => |lane| lane.fold(f64::NEG_INFINITY, f64::max),
        "ReduceMin" => |lane| lane.fold(f64::INFINITY, f64::min),
        "ReduceSumSquare" => |lane| lane.map(|x| x * x).sum(),
        "ReduceL1" => |lane| lane.map(f64::abs).sum(),
        "ReduceL2" => |lane| lane.map(|x| x * x).sum::<f64>().sqrt(),
        "ReduceLogSum" => |lane| lane.sum::<f64>().ln(),
        "ReduceLogSumExp" => |lane| {
            let lane: Vec<f64> = lane.collect();
            let most = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // All of it is minus infinity, or something is infinite: then nothing is to be taken away from it.
            if most.is_infinite() {
                most
            } else {
                most + lane.iter().map(|x| (x - most).exp()).sum::<f64>().ln()
            }
        },
        _ => return None,
    })
}

/// A reduction along some axes, or all.
pub(crate) struct Reduce {
    function: ReduceFn,
    /// From the attribute; newer operator sets have an input instead.
    axes: Vec<i64>,
    keep: bool,
    /// Without axes nothing is reduced, instead of everything.
    noop: bool,
}

impl Reduce {
    pub(super) fn build(node: &Node<'_>) -> Option<Self> {
        Some(Reduce {
            function: function(node.operator())?,
            axes: node.ints("axes").to_vec(),
            keep: node.int("keepdims", 1) != 0,
            noop: node.int("noop_with_empty_axes", 0) != 0,
        })
    }
}

impl Operator for Reduce {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let value = need(inputs, 0)?;
        let axes = match inputs.get(1).copied().flatten() {
            Some(axes) => axes.as_i64()?.iter().copied().collect(),
            None => self.axes.clone(),
        };
        let rank = value.shape().len();
        let mut at = axes.iter().map(|&at| axis(at, rank)).collect::<Result<Vec<_>, _>>()?;
        if at.is_empty() {
            if self.noop {
                return Ok(vec![value.clone()]);
            }
            at = (0..rank).collect();
        }
        at.sort_unstable();
        at.dedup();
        Ok(vec![match value {
            Value::F64(x) => Value::F64(self.reduced(x.clone(), &at)?),
            Value::I64(x) => Value::I64(self.reduced(x.mapv(|x| x as f64), &at)?.mapv(|x| x as i64)),
            x => Value::F32(self.reduced(x.to_f32()?.mapv(f64::from), &at)?.mapv(|x| x as f32)),
        }])
    }
}

impl Reduce {
    fn reduced(&self, x: ArrayD<f64>, axes: &[usize]) -> Result<ArrayD<f64>, Reason> {
        // All axes at once: the functions do not compose.
        let rank = x.ndim();
        let kept: Vec<usize> = (0..rank).filter(|at| !axes.contains(at)).collect();
        let order: Vec<usize> = kept.iter().chain(axes).copied().collect();
        let shape: Vec<usize> = kept.iter().map(|&at| x.shape()[at]).collect();
        let width: usize = axes.iter().map(|&at| x.shape()[at]).product();
        let flat: Vec<f64> = x.permuted_axes(order).iter().copied().collect();
        let rows: usize = shape.iter().product();
        let row = |row: usize| (self.function)(&mut flat[row * width..(row + 1) * width].iter().copied());
        let reduced: Vec<f64> = (0..rows).map(row).collect();
        let mut reduced = ArrayD::from_shape_vec(shape, reduced).map_err(|error| error.to_string())?;
        if self.keep {
            for &at in axes {
                reduced = reduced.insert_axis(Axis(at));
            }
        }
        Ok(reduced)
    }
}

/// `Sum`, `Max`, `Min` and `Mean` of any number of tensors, broadcast against each other.
pub(crate) struct Variadic {
    function: BinaryFn,
    mean: bool,
}

impl Variadic {
    pub(super) fn build(name: &str) -> Option<Self> {
        let function: BinaryFn = match name {
            "Sum" | "Mean" => |a, b| a + b,
            "Max" => f64::max,
            "Min" => f64::min,
            _ => return None,
        };
        Some(Variadic { function, mean: name == "Mean" })
    }
}

impl Operator for Variadic {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let mut all = need(inputs, 0)?.clone();
        for index in 1..inputs.len() {
            let both = Binary(self.function).run(&[Some(&all), Some(need(inputs, index)?)])?;
            all = both.into_iter().next().ok_or("nothing was combined")?;
        }
        let count = inputs.len() as f32;
        Ok(vec![match all {
            Value::F32(x) if self.mean => Value::F32(x / count),
            Value::F64(x) if self.mean => Value::F64(x / f64::from(count)),
            all => all,
        }])
    }
}

/// `LpNormalization`: divides by the norm along an axis.
pub(crate) struct LpNormalization {
    axis: i64,
    p: i64,
}

impl LpNormalization {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        match node.int("p", 2) {
            p @ (1 | 2) => Ok(LpNormalization { axis: node.int("axis", -1), p }),
            p => Err(format!("p is {p}, it must be 1 or 2")),
        }
    }
}

impl Operator for LpNormalization {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let mut x = need(inputs, 0)?.to_f32()?.into_owned();
        let at = axis(self.axis, x.ndim())?;
        for mut lane in x.lanes_mut(Axis(at)) {
            let norm = match self.p {
                1 => lane.iter().map(|x| x.abs()).sum::<f32>(),
                _ => lane.iter().map(|x| x * x).sum::<f32>().sqrt(),
            };
            if norm != 0.0 {
                lane.mapv_inplace(|x| x / norm);
            }
        }
        Ok(vec![Value::F32(x)])
    }
}
