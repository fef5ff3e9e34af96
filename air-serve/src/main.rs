//! The `air-serve` binary.
fn main() {}
