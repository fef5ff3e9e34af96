//! The handful of neural operators that multi-layer perceptrons need, on `f32` and `f64`.

use ndarray::{ArrayD, ArrayView2, ArrayViewD, Axis, Ix2, IxDyn, Zip};

use super::{MAX_ELEMENTS, Operator, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::Value;

/// A function of one number.
pub(super) type UnaryFn = fn(f64) -> f64;
/// A function of two numbers.
pub(super) type BinaryFn = fn(f64, f64) -> f64;

/// The element-wise function an operator name stands for.
pub(super) fn unary(name: &str) -> Option<UnaryFn> {
    Some(match name {
        "Relu" => |x| if x < 0.0 { 0.0 } else { x },
        "Tanh" => f64::tanh,
        "Sigmoid" => super::post::logistic,
        "Exp" => f64::exp,
        "Log" => f64::ln,
        "Sqrt" => f64::sqrt,
        "Abs" => f64::abs,
        "Neg" => |x| -x,
        // Of zero and NaN they themselves.
        "Sign" => |x| if x == 0.0 { x } else { x.signum() },
        "Floor" => f64::floor,
        "Ceil" => f64::ceil,
        "Reciprocal" => f64::recip,
        _ => return None,
    })
}

/// The function of two tensors an operator name stands for.
pub(super) fn binary(name: &str) -> Option<BinaryFn> {
    Some(match name {
        "Add" => |a, b| a + b,
        "Sub" => |a, b| a - b,
        "Mul" => |a, b| a * b,
        "Div" => |a, b| a / b,
        "Pow" => f64::powf,
        _ => return None,
    })
}

/// An element-wise function.
pub(crate) struct Unary(pub UnaryFn);

impl Operator for Unary {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let function = self.0;
        Ok(vec![match need(inputs, 0)? {
            Value::F32(x) => Value::F32(x.mapv(|x| function(f64::from(x)) as f32)),
            Value::F64(x) => Value::F64(x.mapv(function)),
            other => return Err(format!("expected float or double, got {}", other.type_name())),
        }])
    }
}

/// An element-wise function of two tensors, broadcast against each other.
pub(crate) struct Binary(pub BinaryFn);

impl Operator for Binary {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let function = self.0;
        let (a, b) = (need(inputs, 0)?, need(inputs, 1)?);
        let shape = broadcast(a.shape(), b.shape())?;
        Ok(vec![match (a, b) {
            (Value::F32(a), Value::F32(b)) => {
                Value::F32(zip(a, b, &shape, |a, b| function(f64::from(a), f64::from(b)) as f32)?)
            }
            (Value::F64(a), Value::F64(b)) => Value::F64(zip(a, b, &shape, function)?),
            (Value::I64(a), Value::I64(b)) => {
                Value::I64(zip(a, b, &shape, |a, b| function(a as f64, b as f64) as i64)?)
            }
            (a, b) => return Err(format!("cannot combine {} and {}", a.type_name(), b.type_name())),
        }])
    }
}

fn zip<T: Copy>(
    a: &ArrayD<T>,
    b: &ArrayD<T>,
    shape: &[usize],
    function: impl Fn(T, T) -> T,
) -> Result<ArrayD<T>, Reason> {
    let spread = |x: &ArrayD<T>| x.broadcast(IxDyn(shape)).map(ndarray::ArrayBase::into_owned);
    let (Some(mut left), Some(right)) = (spread(a), b.broadcast(IxDyn(shape))) else {
        return Err(format!("shapes {:?} and {:?} do not fit", a.shape(), b.shape()));
    };
    Zip::from(&mut left).and(&right).for_each(|a, &b| *a = function(*a, b));
    Ok(left)
}

/// The common shape, by NumPy's rule, within [`MAX_ELEMENTS`].
pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Reason> {
    let rank = a.len().max(b.len());
    let dim =
        |shape: &[usize], index: usize| (index + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    let mut shape = Vec::with_capacity(rank);
    let mut len = 1usize;
    for index in 0..rank {
        shape.push(match (dim(a, index), dim(b, index)) {
            (a, b) if a == b => a,
            (1, b) => b,
            (a, 1) => a,
            _ => return Err(format!("shapes {a:?} and {b:?} do not fit")),
        });
        len = len.saturating_mul(shape[index]);
    }
    limited(len)?;
    Ok(shape)
}

fn limited(len: usize) -> Result<(), Reason> {
    if len > MAX_ELEMENTS {
        Err(format!("the result would have {len} elements, the limit is {MAX_ELEMENTS}"))
    } else {
        Ok(())
    }
}

fn two<T>(x: &ArrayD<T>) -> Result<ArrayView2<'_, T>, Reason> {
    let shape = x.shape().to_vec();
    x.view().into_dimensionality::<Ix2>().map_err(|_| format!("expected a matrix, got shape {shape:?}"))
}

fn product<T: ndarray::LinalgScalar>(
    a: ArrayView2<'_, T>,
    b: ArrayView2<'_, T>,
) -> Result<ArrayD<T>, Reason> {
    if a.ncols() != b.nrows() {
        return Err(format!("shapes {:?} and {:?} cannot be multiplied", a.shape(), b.shape()));
    }
    limited(a.nrows().saturating_mul(b.ncols()))?;
    Ok(a.dot(&b).into_dyn())
}

/// `MatMul` of two matrices.
pub(crate) struct MatMul;

impl Operator for MatMul {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        Ok(vec![match (need(inputs, 0)?, need(inputs, 1)?) {
            (Value::F32(a), Value::F32(b)) => Value::F32(product(two(a)?, two(b)?)?),
            (Value::F64(a), Value::F64(b)) => Value::F64(product(two(a)?, two(b)?)?),
            (a, b) => return Err(format!("cannot multiply {} and {}", a.type_name(), b.type_name())),
        }])
    }
}

/// `Gemm`: `alpha · op(a) · op(b) + beta · c`.
pub(crate) struct Gemm {
    alpha: f32,
    beta: f32,
    transpose_a: bool,
    transpose_b: bool,
}

impl Gemm {
    pub(super) fn build(node: &Node<'_>) -> Self {
        Gemm {
            alpha: node.float("alpha", 1.0),
            beta: node.float("beta", 1.0),
            transpose_a: node.int("transA", 0) != 0,
            transpose_b: node.int("transB", 0) != 0,
        }
    }
}

impl Operator for Gemm {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let turned = |x: ArrayD<f32>, turn: bool| if turn { x.reversed_axes() } else { x };
        let a = turned(need(inputs, 0)?.to_f32()?.into_owned(), self.transpose_a);
        let b = turned(need(inputs, 1)?.to_f32()?.into_owned(), self.transpose_b);
        let mut y = product(two(&a)?, two(&b)?)?;
        if self.alpha != 1.0 {
            y.mapv_inplace(|y| y * self.alpha);
        }
        if let Some(c) = inputs.get(2).copied().flatten() {
            let c = c.to_f32()?;
            let c: ArrayViewD<'_, f32> = c
                .broadcast(y.raw_dim())
                .ok_or_else(|| format!("the bias of shape {:?} does not fit {:?}", c.shape(), y.shape()))?;
            let beta = self.beta;
            Zip::from(&mut y).and(&c).for_each(|y, &c| *y += beta * c);
        }
        Ok(vec![Value::F32(y)])
    }
}

/// `Softmax` along an axis.
pub(crate) struct Softmax {
    axis: i64,
}

impl Softmax {
    pub(super) fn build(node: &Node<'_>) -> Self {
        // The default axis changed in operator set 13; on matrices both are the last.
        Softmax { axis: node.int("axis", if node.opset < 13 { 1 } else { -1 }) }
    }
}

impl Operator for Softmax {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let mut x = need(inputs, 0)?.to_f32()?.into_owned();
        let rank = x.ndim() as i64;
        let axis = if self.axis < 0 { self.axis + rank } else { self.axis };
        if !(0..rank).contains(&axis) {
            return Err(format!("axis {} of a tensor of rank {rank}", self.axis));
        }
        for mut lane in x.lanes_mut(Axis(axis as usize)) {
            let max = lane.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            lane.mapv_inplace(|x| (x - max).exp());
            let sum = lane.sum();
            lane.mapv_inplace(|x| x / sum);
        }
        Ok(vec![Value::F32(x)])
    }
}
