//! Networks answer as ONNX Runtime does.

use air_serve::onnx::{self, Value};
use ndarray::{ArrayD, Axis, IxDyn, Slice};

use crate::answers::{Example, assert_close, examples};
use crate::fixtures;

const WITHIN: fn(f64) -> f64 = |_| 1e-5;

/// The second row alone.
fn second<T: Clone>(rows: &ArrayD<T>) -> ArrayD<T> {
    rows.slice_axis(Axis(0), Slice::from(1..2)).to_owned()
}

fn example(name: &str) -> Example {
    examples("nets.json").remove(name).unwrap()
}

fn answer(name: &str, input: Value) -> ArrayD<f32> {
    let graph = onnx::load(fixtures(&format!("{name}.onnx"))).unwrap();
    let Value::F32(answer) = graph.run(vec![input]).unwrap().remove(0) else { panic!("not floats") };
    answer
}

#[test]
fn a_convolutional_network_answers_one_image_and_several() {
    let example = example("net_conv");
    let images = example.inputs[0].floats();
    let logits = example.outputs[0].numbers();
    assert_close("all", &answer("net_conv", Value::F32(images.clone())), &logits, WITHIN);
    assert_close("one", &answer("net_conv", Value::F32(second(&images))), &second(&logits), WITHIN);
}

#[test]
fn a_recurrent_network_takes_sequences_of_any_length() {
    let example = example("net_gru");
    let tokens = example.inputs[0].ints();
    assert_close("states", &answer("net_gru", Value::I64(tokens)), &example.outputs[0].numbers(), WITHIN);
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
