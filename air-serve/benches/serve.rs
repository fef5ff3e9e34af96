//! Benches of air-serve.
fn main() {
    divan::main();
}
