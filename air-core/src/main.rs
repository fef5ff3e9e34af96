//! The `air-core` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    air_core::log::init();
    air_core::cli::main_with(air_core::app::run)
}
