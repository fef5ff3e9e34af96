//! The integration tests of air-data, one file an area.
#![allow(clippy::unwrap_used, missing_docs)]

mod answers;
mod bad_input;
mod budget;
mod c_stream;
mod cli;
mod columns;
mod compressed;
mod disk_full;
mod engine;
mod errors;
mod exchange_loom;
mod features;
mod files;
mod formats;
mod fuzz;
mod groups;
mod http;
mod joins;
#[path = "../../../air-core/tests/it/loom_mutex.rs"]
mod loom_mutex;
mod order;
mod out_of_core;
mod own;
mod pools;
mod preprocess;
mod quickstart;
mod random_engine;
mod random_plans;
mod random_verbs;
mod real;
mod resume;
mod s3;
mod sources;
mod split;
mod splits;
mod tensor_columns;
mod tensors;

use std::path::PathBuf;

use air_data::{Dataset, Session, SessionConfig};

/// An engine of its own for each test: two threads, small batches, no progress bar.
fn session() -> Session {
    Session::new(SessionConfig { parallelism: 2, progress: false, ..SessionConfig::default() }).unwrap()
}

/// A file of `examples/data`.
fn example(name: &str) -> String {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/data");
    root.join(name).canonicalize().unwrap().to_string_lossy().into_owned()
}

fn iris(session: &Session) -> Dataset {
    session.read_csv(example("iris.csv")).unwrap()
}

/// An error with its causes, as a user sees it.
fn told(error: &air_data::DataError) -> String {
    air_core::cli::Chain(error).to_string()
}

/// Writes a file, and gives its path.
fn put(dir: &tempfile::TempDir, name: &str, content: impl AsRef<[u8]>) -> String {
    let path = dir.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, content).unwrap();
    path.to_string_lossy().into_owned()
}

/// The path of a file that is to be written.
fn out(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).to_string_lossy().into_owned()
}
