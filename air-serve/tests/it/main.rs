//! Integration tests of air-serve, one file an area.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

mod admin;
mod answers;
mod asynchronous;
mod auth;
mod calls;
mod cli;
mod client;
mod composition;
mod config;
mod convolutions;
mod ensembles;
mod gate;
mod http;
mod limits;
mod lines;
#[cfg(feature = "llm")]
mod llm;
mod load;
mod logs;
mod mirror;
mod multiplex;
#[cfg(any(feature = "tract", feature = "onnxruntime"))]
mod nets;
mod onnx_bad;
mod onnx_fixtures;
mod onnx_pipelines;
mod page;
mod policies;
mod policy;
mod priorities;
mod replicas;
mod resources;
mod scaling;
mod shutdown;
mod streams;
mod tls;
#[cfg(feature = "otel")]
mod traces;
mod updates;
mod v2;
mod wait;

/// A file of this crate's fixtures.
fn fixtures(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures", name].iter().collect()
}

/// A file of the examples.
fn examples(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../examples/data", name].iter().collect()
}
