//! What scikit-learn does before its models, and models that are made of others, answer as ONNX Runtime does.

use std::collections::BTreeMap;
use std::sync::Arc;

use air_serve::onnx::{self, Graph, Value};
use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;

use crate::fixtures;

#[derive(Deserialize)]
struct Example {
    inputs: Vec<Array>,
    outputs: Vec<Array>,
}

#[derive(Deserialize)]
struct Array {
    shape: Vec<usize>,
    data: Vec<serde_json::Value>,
}

impl Array {
    fn of<T>(&self, element: fn(&serde_json::Value) -> T) -> ArrayD<T> {
        ArrayD::from_shape_vec(IxDyn(&self.shape), self.data.iter().map(element).collect()).unwrap()
    }

    /// As the graph's input of that type takes it.
    fn value(&self, dtype: &str) -> Value {
        match dtype {
            "string" => Value::Text(self.of(|x| Arc::from(x.as_str().unwrap()))),
            // A gap is written as text.
            _ => Value::F32(self.of(|x| x.as_f64().map_or(f32::NAN, |x| x as f32))),
        }
    }
}

fn assert_answers(name: &str, got: &Value, want: &Array) {
    match got {
        Value::I64(got) => assert_eq!(*got, want.of(|x| x.as_i64().unwrap()), "{name}"),
        Value::F32(got) => {
            let want = want.of(|x| x.as_f64().unwrap());
            assert_eq!(got.shape(), want.shape(), "{name}");
            for (got, want) in got.iter().zip(&want) {
                let within = 1e-5 * want.abs().max(1.0);
                assert!((f64::from(*got) - want).abs() <= within, "{name}: {got}, not {want}");
            }
        }
        other => panic!("{name} answered {}", other.type_name()),
    }
}

fn graph(name: &str) -> Graph {
    onnx::load(fixtures(&format!("pipe_{name}.onnx"))).unwrap()
}

#[test]
fn every_pipeline_answers_as_it_should() {
    let text = std::fs::read_to_string(fixtures("pipelines.json")).unwrap();
    let examples: BTreeMap<String, Example> = serde_json::from_str(&text).unwrap();
    assert_eq!(examples.len(), 19);
    for (name, example) in &examples {
        let graph = graph(name);
        let inputs =
            example.inputs.iter().zip(graph.inputs()).map(|(x, port)| x.value(&port.dtype)).collect();
        let outputs = graph.run(inputs).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(outputs.len(), example.outputs.len(), "{name}");
        for (got, want) in outputs.iter().zip(&example.outputs) {
            assert_answers(name, got, want);
        }
    }
}

#[test]
fn a_column_of_the_wrong_type_is_named() {
    let graph = graph("one_hot");
    let inputs = graph.inputs().iter().map(|_| Value::F32(ArrayD::zeros(IxDyn(&[1, 1])))).collect();
    let error = graph.run(inputs).unwrap_err().to_string();
    assert!(error.contains("string [?, 1]") && error.contains("`size`"), "{error}");
}
