//! The cost of a trial that does nothing.
fn main() {
    divan::main();
}
