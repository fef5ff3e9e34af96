//! Integration tests of air-serve, one file an area.
#![allow(clippy::unwrap_used)]

mod onnx_fixtures;
