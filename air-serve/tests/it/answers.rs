//! What another evaluator answered, from the files of the fixtures.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};
use serde::Deserialize;

use crate::fixtures;

/// Inputs and what they gave.
#[derive(Deserialize)]
pub struct Example {
    pub inputs: Vec<Array>,
    pub outputs: Vec<Array>,
}

/// An array; a gap is written as text.
#[derive(Deserialize)]
pub struct Array {
    shape: Vec<usize>,
    data: Vec<serde_json::Value>,
}

impl Array {
    pub fn of<T>(&self, element: fn(&serde_json::Value) -> T) -> ArrayD<T> {
        ArrayD::from_shape_vec(IxDyn(&self.shape), self.data.iter().map(element).collect()).unwrap()
    }

    pub fn floats(&self) -> ArrayD<f32> {
        self.of(|x| x.as_f64().map_or(f32::NAN, |x| x as f32))
    }

    pub fn numbers(&self) -> ArrayD<f64> {
        self.of(|x| x.as_f64().unwrap())
    }

    pub fn ints(&self) -> ArrayD<i64> {
        self.of(|x| x.as_i64().unwrap())
    }
}

/// All of a file, by the names of the models.
pub fn examples(file: &str) -> BTreeMap<String, Example> {
    serde_json::from_str(&std::fs::read_to_string(fixtures(file)).unwrap()).unwrap()
}

/// Numbers are nearer to what they should be than the bound for each.
pub fn assert_close(name: &str, got: &ArrayD<f32>, want: &ArrayD<f64>, within: fn(f64) -> f64) {
    assert_eq!(got.shape(), want.shape(), "{name}");
    for (&got, &want) in got.iter().zip(want) {
        assert!((f64::from(got) - want).abs() < within(want), "{name}: {got}, not {want}");
    }
}
