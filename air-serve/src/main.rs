//! The `air-serve` binary.

/// Bodies of very different sizes come and go on several threads: glibc's allocator keeps ever more of what they leave behind, this one gives it back, and
/// is quicker with small ones.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    air_core::cli::main_with(air_serve::cli::main)
}
