//! `Cast`, `Constant` and `ZipMap`.

use std::sync::Arc;

use super::{Operator, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::proto::data_type;
use crate::onnx::value::{Labels, Value, text, vector};

/// `Cast` to another element type.
pub(crate) struct Cast {
    to: i32,
}

impl Cast {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let to = node.int("to", 0) as i32;
        match to {
            data_type::FLOAT
            | data_type::DOUBLE
            | data_type::INT32
            | data_type::INT64
            | data_type::BOOL
            | data_type::STRING => Ok(Cast { to }),
            other => Err(format!("casting to {} is not supported", data_type::name(other))),
        }
    }
}

impl Operator for Cast {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let x = need(inputs, 0)?;
        Ok(vec![match (self.to, x) {
            (_, Value::Maps { .. }) => return Err("maps cannot be cast".to_owned()),
            (data_type::FLOAT, Value::Text(x)) => Value::F32(parse(x)?),
            (data_type::DOUBLE, Value::Text(x)) => Value::F64(parse(x)?),
            (_, Value::Text(x)) if self.to == data_type::STRING => Value::Text(x.clone()),
            (data_type::BOOL, Value::Text(_)) => return Err("text cannot be cast to bool".to_owned()),
            (_, Value::Text(x)) => Value::I64(parse(x)?),
            (data_type::FLOAT, x) => Value::F32(x.to_f32()?.into_owned()),
            (data_type::DOUBLE, Value::F64(x)) => Value::F64(x.clone()),
            (data_type::DOUBLE, Value::I64(x)) => Value::F64(x.mapv(|x| x as f64)),
            (data_type::DOUBLE, x) => Value::F64(x.to_f32()?.mapv(f64::from)),
            (data_type::BOOL, x) => Value::Bool(x.to_f32()?.mapv(|x| x != 0.0)),
            (data_type::STRING, Value::I64(x)) => Value::Text(x.mapv(|x| Arc::from(x.to_string()))),
            (data_type::STRING, x) => Value::Text(x.to_f32()?.mapv(|x| Arc::from(x.to_string()))),
            (_, Value::I64(x)) => Value::I64(x.clone()),
            (_, Value::F64(x)) => Value::I64(x.mapv(|x| x as i64)),
            (_, x) => Value::I64(x.to_f32()?.mapv(|x| x as i64)),
        }])
    }
}

fn parse<T: std::str::FromStr>(texts: &ndarray::ArrayD<Arc<str>>) -> Result<ndarray::ArrayD<T>, Reason> {
    let parsed: Result<Vec<T>, Reason> = texts
        .iter()
        .map(|text| text.trim().parse().map_err(|_| format!("`{text}` is not a number")))
        .collect();
    ndarray::ArrayD::from_shape_vec(texts.raw_dim(), parsed?).map_err(|error| error.to_string())
}

/// The value of a `Constant` node.
pub(super) fn constant(node: &Node<'_>) -> Result<Value, Reason> {
    if let Some(tensor) = node.tensor("value") {
        return Value::from_proto(tensor);
    }
    if !node.floats("value_floats").is_empty() {
        return Ok(Value::F32(vector(node.floats("value_floats").to_vec())));
    }
    if !node.ints("value_ints").is_empty() {
        return Ok(Value::I64(vector(node.ints("value_ints").to_vec())));
    }
    if let Some(x) = node.scalar_float("value_float") {
        return Ok(Value::F32(ndarray::arr0(x).into_dyn()));
    }
    if let Some(x) = node.scalar_int("value_int") {
        return Ok(Value::I64(ndarray::arr0(x).into_dyn()));
    }
    match node.string("value_string", "") {
        Ok("") => Err("it has no value of a supported kind".to_owned()),
        other => Ok(Value::Text(ndarray::arr0(text(other?.as_bytes())?).into_dyn())),
    }
}

/// `ZipMap`: scores with the labels beside them.
pub(crate) struct ZipMap {
    labels: Labels,
}

impl ZipMap {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let labels = node.labels("classlabels_int64s", "classlabels_strings")?;
        Ok(ZipMap { labels: labels.ok_or("it has no class labels")? })
    }
}

impl Operator for ZipMap {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let scores = need(inputs, 0)?.to_f32()?.into_owned();
        match *scores.shape() {
            [_, columns] if columns == self.labels.len() => {
                Ok(vec![Value::Maps { labels: self.labels.clone(), scores }])
            }
            ref shape => Err(format!("scores of shape {shape:?} for {} labels", self.labels.len())),
        }
    }
}
