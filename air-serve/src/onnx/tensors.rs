//! A graph with all its inputs and outputs: as tensors of protocol V2, and several requests at a time.

use air_core::BoxError;
use ndarray::{ArrayD, Axis, IxDyn, Slice};

use super::error::{OnnxError, Reason};
use super::graph::{Graph, Port};
use super::ops::join_rows;
use super::request::{OnnxAnswer, OnnxRequest};
use super::value::{Value, text};
use crate::error::CallError;
use crate::v2::{DataType, Element, Signature, Tensor, TensorCodec, TensorError, TensorSpec};

/// Between the tensors of protocol V2 and the values of a graph.
pub(crate) struct GraphCodec {
    signature: Signature,
}

impl GraphCodec {
    pub(crate) fn new(graph: &Graph) -> Self {
        let labels = graph.labels().map(super::Labels::len);
        let ports = |ports: &[Port]| ports.iter().map(|port| spec(port, labels)).collect();
        let (inputs, outputs) = (ports(graph.inputs()), ports(graph.outputs()));
        GraphCodec { signature: Signature { platform: "air_onnx", inputs, outputs } }
    }

    fn values(tensors: &[Tensor]) -> Result<Vec<Value>, CallError> {
        let value = |tensor: &Tensor| {
            value(tensor).map_err(|reason| CallError::Invalid {
                expected: format!("a tensor that fits the input `{}`", tensor.name()),
                got: reason,
            })
        };
        tensors.iter().map(value).collect()
    }

    fn tensors(&self, values: Vec<Value>) -> Result<Vec<Tensor>, BoxError> {
        let specs = self.signature.outputs();
        values.iter().zip(specs).map(|(value, spec)| Ok(tensor(value, spec)?)).collect()
    }
}

impl TensorCodec<OnnxRequest, OnnxAnswer> for GraphCodec {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn decode(&self, inputs: Vec<Tensor>) -> Result<OnnxRequest, CallError> {
        Self::values(&inputs).map(OnnxRequest::Values)
    }

    fn encode(&self, output: OnnxAnswer) -> Result<Vec<Tensor>, BoxError> {
        match output {
            OnnxAnswer::Values(values) => self.tensors(values),
            OnnxAnswer::Answer(_) => Err("it answered values with a prediction".into()),
        }
    }
}

impl TensorCodec<Vec<Value>, Vec<Value>> for GraphCodec {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn decode(&self, inputs: Vec<Tensor>) -> Result<Vec<Value>, CallError> {
        Self::values(&inputs)
    }

    fn encode(&self, output: Vec<Value>) -> Result<Vec<Tensor>, BoxError> {
        self.tensors(output)
    }
}

/// A port as the protocol describes it. What has no tensor type is the scores of a `ZipMap`.
fn spec(port: &Port, labels: Option<usize>) -> TensorSpec {
    let datatype = match port.dtype.as_str() {
        "double" => DataType::Fp64,
        "int64" => DataType::Int64,
        "int32" => DataType::Int32,
        "bool" => DataType::Bool,
        "string" => DataType::Bytes,
        _ => DataType::Fp32,
    };
    let shape = match (port.dtype.as_str(), port.shape.is_empty()) {
        ("", _) => vec![None, labels],
        (_, true) => vec![None],
        (_, false) => port.shape.clone(),
    };
    TensorSpec { name: port.name.clone(), datatype, shape }
}

fn value(tensor: &Tensor) -> Result<Value, Reason> {
    fn array<T: Element, U>(tensor: &Tensor, as_value: fn(T) -> U) -> Result<ArrayD<U>, Reason> {
        let elements = tensor.elements::<T>().map_err(|error| error.reason)?;
        shaped(tensor, elements.into_iter().map(as_value).collect())
    }
    Ok(match tensor.datatype() {
        DataType::Fp32 => Value::F32(array(tensor, |x: f32| x)?),
        DataType::Fp64 => Value::F64(array(tensor, |x: f64| x)?),
        DataType::Int64 => Value::I64(array(tensor, |x: i64| x)?),
        DataType::Int32 => Value::I64(array(tensor, |x: i32| i64::from(x))?),
        DataType::Bool => Value::Bool(array(tensor, |x: bool| x)?),
        DataType::Bytes => {
            let strings = tensor.strings().map_err(|error| error.reason)?;
            let texts: Result<Vec<_>, _> = strings.iter().map(|bytes| text(bytes)).collect();
            Value::Text(shaped(tensor, texts?)?)
        }
        other => return Err(format!("{other}, which the evaluator does not take")),
    })
}

fn shaped<T>(tensor: &Tensor, elements: Vec<T>) -> Result<ArrayD<T>, Reason> {
    ArrayD::from_shape_vec(IxDyn(tensor.shape()), elements).map_err(|error| error.to_string())
}

fn tensor(value: &Value, spec: &TensorSpec) -> Result<Tensor, TensorError> {
    fn made<T: Clone, U: Element>(
        spec: &TensorSpec,
        array: &ArrayD<T>,
        element: fn(T) -> U,
    ) -> Result<Tensor, TensorError> {
        let elements: Vec<U> = array.iter().cloned().map(element).collect();
        Tensor::new(spec.name.as_str(), array.shape(), &elements)
    }
    match (value, spec.datatype) {
        (Value::F32(array) | Value::Maps { scores: array, .. }, _) => made(spec, array, |x: f32| x),
        (Value::F64(array), _) => made(spec, array, |x: f64| x),
        (Value::I64(array), DataType::Int32) => made(spec, array, |x: i64| x as i32),
        (Value::I64(array), _) => made(spec, array, |x: i64| x),
        (Value::Bool(array), _) => made(spec, array, |x: bool| x),
        (Value::Text(array), _) => {
            Tensor::of_strings(spec.name.as_str(), array.shape(), array.iter().map(|x| x.as_bytes()))
        }
    }
}

/// Evaluates the graph on each request: on all of them at once where their rows can be joined.
pub(crate) fn run_all(graph: &Graph, batch: Vec<Vec<Value>>) -> Result<Vec<Vec<Value>>, OnnxError> {
    if batch.len() > 1
        && let Some(answers) = run_joined(graph, &batch)?
    {
        return Ok(answers);
    }
    batch.into_iter().map(|inputs| graph.run(inputs)).collect()
}

/// One evaluation for all, if inputs and outputs are rows and the requests differ in nothing but the number of rows.
fn run_joined(graph: &Graph, batch: &[Vec<Value>]) -> Result<Option<Vec<Vec<Value>>>, OnnxError> {
    let is_rows = |port: &Port| port.shape.first() == Some(&None) || port.dtype.is_empty();
    if !graph.inputs().iter().all(is_rows) || !graph.outputs().iter().all(is_rows) {
        return Ok(None);
    }
    let Some(rows) = batch.iter().map(|inputs| common_rows(inputs)).collect::<Option<Vec<usize>>>() else {
        return Ok(None);
    };
    let joined: Result<Vec<Value>, Reason> = (0..graph.inputs().len())
        .map(|input| join_rows(&batch.iter().map(|inputs| inputs.get(input)).collect::<Vec<_>>()))
        .collect();
    // Requests of different widths, say.
    let Ok(joined) = joined else { return Ok(None) };
    let outputs = graph.run(joined)?;
    let all: usize = rows.iter().sum();
    if outputs.iter().any(|output| output.shape().first() != Some(&all)) {
        return Ok(None);
    }
    let mut start = 0;
    let of_request = rows.into_iter().map(|rows| {
        let range = start..start + rows;
        start = range.end;
        outputs.iter().map(|output| output.rows(range.clone())).collect()
    });
    Ok(Some(of_request.collect()))
}

/// The most rows that a value has.
pub(crate) fn rows(values: &[Value]) -> usize {
    values.iter().filter_map(|value| value.shape().first().copied()).max().unwrap_or(1)
}

/// The number of rows, if all values have the same.
fn common_rows(values: &[Value]) -> Option<usize> {
    let rows = *values.first()?.shape().first()?;
    values.iter().all(|value| value.shape().first() == Some(&rows)).then_some(rows)
}

impl Value {
    /// Some of the rows.
    fn rows(&self, range: std::ops::Range<usize>) -> Value {
        let rows = Slice::from(range);
        match self {
            Value::F32(array) => Value::F32(array.slice_axis(Axis(0), rows).to_owned()),
            Value::F64(array) => Value::F64(array.slice_axis(Axis(0), rows).to_owned()),
            Value::I64(array) => Value::I64(array.slice_axis(Axis(0), rows).to_owned()),
            Value::Bool(array) => Value::Bool(array.slice_axis(Axis(0), rows).to_owned()),
            Value::Text(array) => Value::Text(array.slice_axis(Axis(0), rows).to_owned()),
            Value::Maps { labels, scores } => {
                Value::Maps { labels: labels.clone(), scores: scores.slice_axis(Axis(0), rows).to_owned() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn graph(name: &str) -> Graph {
        crate::onnx::load(
            [env!("CARGO_MANIFEST_DIR"), "tests/fixtures", name].iter().collect::<std::path::PathBuf>(),
        )
        .unwrap()
    }

    fn rows(rows: usize, columns: usize, from: f32) -> Vec<Value> {
        let elements = (0..rows * columns).map(|index| from + index as f32).collect();
        vec![Value::F32(ArrayD::from_shape_vec(IxDyn(&[rows, columns]), elements).unwrap())]
    }

    #[test]
    fn requests_of_different_rows_are_answered_as_if_each_were_alone() {
        for name in ["forest_three.onnx", "gbc_names_zipmap.onnx", "mlp_three.onnx"] {
            let graph = graph(name);
            let batch = vec![rows(1, 4, 0.0), rows(3, 4, 2.0), rows(2, 4, -1.0)];
            let joined = run_joined(&graph, &batch).unwrap().unwrap();
            let alone: Vec<_> = batch.into_iter().map(|inputs| graph.run(inputs).unwrap()).collect();
            assert_eq!(joined, alone, "{name}");
        }
    }

    #[test]
    fn requests_that_cannot_be_joined_are_run_one_by_one() {
        // The file does not say how wide, so each must fail or not by itself.
        let graph = graph("linear_regression.onnx");
        let width = graph.inputs()[0].shape[1].unwrap();
        assert!(run_joined(&graph, &[rows(1, width, 0.0), rows(1, width + 1, 0.0)]).unwrap().is_none());
    }
}
