//! air-serve

pub mod onnx;
