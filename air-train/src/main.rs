//! The `air-train` binary.
fn main() {}
