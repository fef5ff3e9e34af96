//! The `air-tune` binary; see [`air_tune::cli`].

fn main() -> std::process::ExitCode {
    air_core::log::init();
    air_core::cli::main_with(air_tune::cli::run)
}
