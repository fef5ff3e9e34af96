//! The `air-tune` binary.
fn main() {}
