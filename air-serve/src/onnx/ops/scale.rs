//! `Scaler` and `Normalizer`.

use ndarray::Axis;

use super::{Operator, matrix, need};
use crate::onnx::error::Reason;
use crate::onnx::node::Node;
use crate::onnx::value::Value;

/// `(x - offset) * scale`, by column.
pub(crate) struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

impl Scaler {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let (offset, scale) = (node.floats("offset").to_vec(), node.floats("scale").to_vec());
        if offset.is_empty() || scale.is_empty() {
            return Err("offset and scale are needed".to_owned());
        }
        Ok(Scaler { offset, scale })
    }
}

impl Operator for Scaler {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let mut x = need(inputs, 0)?.to_f32()?.into_owned();
        let (_, columns) = matrix(x.shape())?;
        for (name, list) in [("offset", &self.offset), ("scale", &self.scale)] {
            if list.len() != 1 && list.len() != columns {
                return Err(format!("{name} has {} entries for {columns} features", list.len()));
            }
        }
        let at = |list: &[f32], column: usize| if list.len() == 1 { list[0] } else { list[column] };
        let last = Axis(x.ndim() - 1);
        for (column, mut lane) in x.axis_iter_mut(last).enumerate() {
            let (offset, scale) = (at(&self.offset, column), at(&self.scale, column));
            lane.mapv_inplace(|x| (x - offset) * scale);
        }
        Ok(vec![Value::F32(x)])
    }
}

#[derive(Clone, Copy)]
enum Norm {
    Max,
    L1,
    L2,
}

/// Divides each row by its norm; a row of norm zero stays.
pub(crate) struct Normalizer {
    norm: Norm,
}

impl Normalizer {
    pub(super) fn build(node: &Node<'_>) -> Result<Self, Reason> {
        let norm = match node.string("norm", "MAX")? {
            "MAX" => Norm::Max,
            "L1" => Norm::L1,
            "L2" => Norm::L2,
            other => return Err(format!("unknown norm {other}")),
        };
        Ok(Normalizer { norm })
    }
}

impl Operator for Normalizer {
    fn run(&self, inputs: &[Option<&Value>]) -> Result<Vec<Value>, Reason> {
        let mut x = need(inputs, 0)?.to_f32()?.into_owned();
        matrix(x.shape())?;
        let last = Axis(x.ndim() - 1);
        for mut row in x.lanes_mut(last) {
            let norm = match self.norm {
                Norm::Max => row.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                Norm::L1 => row.iter().map(|x| x.abs()).sum(),
                Norm::L2 => row.iter().map(|x| x * x).sum::<f32>().sqrt(),
            };
            if norm != 0.0 {
                row.mapv_inplace(|x| x / norm);
            }
        }
        Ok(vec![Value::F32(x)])
    }
}
