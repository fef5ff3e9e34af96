//! The `air-core` binary.
fn main() {}
