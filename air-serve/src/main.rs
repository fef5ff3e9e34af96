//! The `air-serve` binary.

fn main() -> std::process::ExitCode {
    air_core::cli::main_with(air_serve::cli::main)
}
