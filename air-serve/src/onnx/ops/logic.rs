//! Comparisons, logic, and choosing by it.

use std::sync::Arc;

use ndarray::{ArrayD, IxDyn, Zip};

use super::dense::broadcast;
use super::{Operator, need};
use crate::onnx::error::Reason;
use crate::onnx::value::Value;

/// Compares two numbers.
type CompareFn = fn(f64, f64) -> bool;

/// The comparison of two tensors that an operator name stands for.
pub(super) fn compare(name: &str) -> Option<Compare> {
    let function: CompareFn = match name {
        "Less" => |a, b| a < b,
        "LessOrEqual" => |a, b| a <= b,
        "Greater" => |a, b| a > b,
        "GreaterOrEqual" => |a, b| a >= b,
        "Equal" => |a, b| a == b,
        _ => return None,
    };
    Some(Compare { function, equal: name == "Equal" })
}

/// An element-wise comparison of two tensors, broadcast against each other.
pub(crate) struct Compare {
    function: CompareFn,
    /// It is for equality, which is asked of texts and truths too.
    equal: bool,
}

impl Operator for Compare {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let function = self.function;
        Ok(vec![Value::Bool(match (need(inputs, 0)?, need(inputs, 1)?) {
            (Value::F32(a), Value::F32(b)) => zip(a, b, |&a, &b| function(f64::from(a), f64::from(b)))?,
            (Value::F64(a), Value::F64(b)) => zip(a, b, |&a, &b| function(a, b))?,
            (Value::I64(a), Value::I64(b)) if self.equal => zip(a, b, |a, b| a == b)?,
            (Value::I64(a), Value::I64(b)) => zip(a, b, |&a, &b| function(a as f64, b as f64))?,
            (Value::Text(a), Value::Text(b)) if self.equal => zip(a, b, |a: &Arc<str>, b| a == b)?,
            (Value::Bool(a), Value::Bool(b)) if self.equal => zip(a, b, |a, b| a == b)?,
            (a, b) => return Err(format!("cannot compare {} and {}", a.type_name(), b.type_name())),
        })])
    }
}

fn zip<A, B, C>(a: &ArrayD<A>, b: &ArrayD<B>, function: impl Fn(&A, &B) -> C) -> Result<ArrayD<C>, Reason> {
    let shape = IxDyn(&broadcast(a.shape(), b.shape())?);
    match (a.broadcast(shape.clone()), b.broadcast(shape)) {
        (Some(a), Some(b)) => Ok(Zip::from(&a).and(&b).map_collect(function)),
        _ => Err(format!("shapes {:?} and {:?} do not fit", a.shape(), b.shape())),
    }
}

/// The function of two truths that an operator name stands for.
pub(super) fn connective(name: &str) -> Option<Connective> {
    Some(Connective(match name {
        "And" => |a, b| a && b,
        "Or" => |a, b| a || b,
        "Xor" => |a, b| a != b,
        _ => return None,
    }))
}

/// An element-wise function of two tensors of truths.
pub(crate) struct Connective(fn(bool, bool) -> bool);

impl Operator for Connective {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let function = self.0;
        let (a, b) = (truths(need(inputs, 0)?)?, truths(need(inputs, 1)?)?);
        Ok(vec![Value::Bool(zip(a, b, |&a, &b| function(a, b))?)])
    }
}

fn truths(value: &Value) -> Result<&ArrayD<bool>, Reason> {
    match value {
        Value::Bool(array) => Ok(array),
        other => Err(format!("expected bool, got {}", other.type_name())),
    }
}

/// `Not`.
pub(crate) struct Not;

impl Operator for Not {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        Ok(vec![Value::Bool(truths(need(inputs, 0)?)?.mapv(|x| !x))])
    }
}

/// `IsNaN`.
pub(crate) struct IsNan;

impl Operator for IsNan {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        Ok(vec![Value::Bool(match need(inputs, 0)? {
            Value::F64(x) => x.mapv(f64::is_nan),
            other => other.to_f32()?.mapv(f32::is_nan),
        })])
    }
}

/// `Where`: of two tensors, the element of the first where the condition holds.
pub(crate) struct Where;

impl Operator for Where {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        fn chosen<T: Clone>(
            condition: &ArrayD<bool>,
            yes: &ArrayD<T>,
            no: &ArrayD<T>,
        ) -> Result<ArrayD<T>, Reason> {
            let either = zip(yes, no, |yes, no| (yes.clone(), no.clone()))?;
            zip(condition, &either, |&holds, (yes, no)| if holds { yes.clone() } else { no.clone() })
        }
        let condition = truths(need(inputs, 0)?)?;
        Ok(vec![match (need(inputs, 1)?, need(inputs, 2)?) {
            (Value::F32(yes), Value::F32(no)) => Value::F32(chosen(condition, yes, no)?),
            (Value::F64(yes), Value::F64(no)) => Value::F64(chosen(condition, yes, no)?),
            (Value::I64(yes), Value::I64(no)) => Value::I64(chosen(condition, yes, no)?),
            (Value::Bool(yes), Value::Bool(no)) => Value::Bool(chosen(condition, yes, no)?),
            (Value::Text(yes), Value::Text(no)) => Value::Text(chosen(condition, yes, no)?),
            (a, b) => return Err(format!("cannot choose between {} and {}", a.type_name(), b.type_name())),
        }])
    }
}
