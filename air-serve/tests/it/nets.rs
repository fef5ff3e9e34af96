//! Networks answer as ONNX Runtime does.

use air_serve::onnx::{self, Value};
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
    data: Vec<f64>,
}

impl Array {
    fn of<T>(&self, element: fn(f64) -> T) -> ArrayD<T> {
        ArrayD::from_shape_vec(IxDyn(&self.shape), self.data.iter().copied().map(element).collect()).unwrap()
    }
}

fn example(name: &str) -> Example {
    let text = std::fs::read_to_string(fixtures("nets.json")).unwrap();
    let mut examples: std::collections::HashMap<String, Example> = serde_json::from_str(&text).unwrap();
    examples.remove(name).unwrap()
}

fn answer(name: &str, input: Value) -> ArrayD<f32> {
    let graph = onnx::load(fixtures(&format!("{name}.onnx"))).unwrap();
    let Value::F32(answer) = graph.run(vec![input]).unwrap().remove(0) else { panic!("not floats") };
    answer
}

fn assert_close(got: &ArrayD<f32>, want: &Array) {
    assert_eq!(got.shape(), want.shape);
    for (got, want) in got.iter().zip(&want.data) {
        assert!((f64::from(*got) - want).abs() < 1e-5, "{got}, not {want}");
    }
}

#[test]
fn a_convolutional_network_answers_one_image_and_several() {
    let example = example("net_conv");
    let images = example.inputs[0].of(|x| x as f32);
    assert_close(&answer("net_conv", Value::F32(images.clone())), &example.outputs[0]);
    let alone = images.slice_axis(ndarray::Axis(0), ndarray::Slice::from(1..2)).to_owned();
    let row = Array { shape: vec![1, 3], data: example.outputs[0].data[3..6].to_vec() };
    assert_close(&answer("net_conv", Value::F32(alone)), &row);
}

#[test]
fn a_recurrent_network_takes_sequences_of_any_length() {
    let example = example("net_gru");
    let tokens = example.inputs[0].of(|x| x as i64);
    assert_close(&answer("net_gru", Value::I64(tokens)), &example.outputs[0]);
    let longer = ArrayD::zeros(IxDyn(&[1, 12]));
    assert_eq!(answer("net_gru", Value::I64(longer)).shape(), [1, 5]);
}

#[test]
fn what_does_not_fit_is_told_by_the_input_it_was_for() {
    let graph = onnx::load(fixtures("net_conv.onnx")).unwrap();
    let wrong = graph.run(vec![Value::F32(ArrayD::zeros(IxDyn(&[1, 1, 8, 7])))]).unwrap_err().to_string();
    assert!(wrong.contains("float [?, 1, 8, 8]") && wrong.contains("`image`"), "{wrong}");
    let out_of_table = onnx::load(fixtures("net_gru.onnx")).unwrap();
    assert!(out_of_table.run(vec![Value::I64(ArrayD::from_elem(IxDyn(&[1, 1]), 11))]).is_err());
}
