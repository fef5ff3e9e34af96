//! The `air-data` binary.
fn main() {}
