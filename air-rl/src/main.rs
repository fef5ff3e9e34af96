//! The `air-rl` binary.
fn main() {}
