//! The `air-train` binary; see [`air_train::cli`].

fn main() -> std::process::ExitCode {
    air_core::log::init();
    air_core::cli::main_with(air_train::cli::run)
}
