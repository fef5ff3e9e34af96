//! What scikit-learn does before its models, and models that are made of others, answer as ONNX Runtime does.

use std::sync::Arc;

use air_serve::onnx::{self, Graph, Value};
use ndarray::{ArrayD, IxDyn};

use crate::answers::{Array, assert_close, examples};
use crate::fixtures;

/// As the graph's input of that type takes it.
fn value(array: &Array, dtype: &str) -> Value {
    match dtype {
        "string" => Value::Text(array.of(|x| Arc::from(x.as_str().unwrap()))),
        _ => Value::F32(array.floats()),
    }
}

fn assert_answers(name: &str, got: &Value, want: &Array) {
    match got {
        Value::I64(got) => assert_eq!(*got, want.ints(), "{name}"),
        Value::F32(got) => assert_close(name, got, &want.numbers(), |want| 1e-5 * want.abs().max(1.0)),
        other => panic!("{name} answered {}", other.type_name()),
    }
}

fn graph(name: &str) -> Graph {
    onnx::load(fixtures(&format!("pipe_{name}.onnx"))).unwrap()
}

#[test]
fn every_pipeline_answers_as_it_should() {
    let examples = examples("pipelines.json");
    assert_eq!(examples.len(), 19);
    for (name, example) in &examples {
        let graph = graph(name);
        let inputs =
            example.inputs.iter().zip(graph.inputs()).map(|(x, port)| value(x, &port.dtype)).collect();
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
