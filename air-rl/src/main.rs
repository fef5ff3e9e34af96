//! The `air-rl` binary.
fn main() -> std::process::ExitCode {
    air_core::log::init();
    air_core::cli::main_with(air_rl::cli::run)
}
