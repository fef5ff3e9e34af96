//! The `air-core` binary's commands.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use crate::cli::{self, CliError};
use crate::{bench, device, outln};

/// The compute layer of AIR: what devices there are, and what a call costs here.
#[derive(Parser)]
#[command(name = "air-core", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the devices that workers can compute on
    Devices {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Measure calls, starts and memory beside the bare libraries underneath
    Bench {
        /// Print one JSON object: {name: {value, unit, floor}}
        #[arg(long)]
        json: bool,
    },
}

/// Runs the binary with these arguments (the first is the program's name).
pub fn run(args: Vec<OsString>) -> Result<(), CliError> {
    match cli::parse::<Args>(args)?.command {
        Command::Devices { json } => devices(json),
        Command::Bench { json } => measure(json),
    }
}

fn devices(json: bool) -> Result<(), CliError> {
    let report = device::report();
    if json {
        return outln!("{}", serde_json::to_string(&report)?);
    }
    for device in &report.devices {
        let gib = |bytes: u64| bytes as f64 / (1_u64 << 30) as f64;
        outln!(
            "{:8} {}, {} wide, {:.1} of {:.1} GiB free",
            device.device.to_string(),
            device.name,
            device.parallelism,
            gib(device.free_memory_bytes),
            gib(device.memory_bytes)
        )?;
    }
    if let Some(why) = &report.cuda_unavailable {
        eprintln!("no CUDA device: {why}");
    }
    Ok(())
}

fn measure(json: bool) -> Result<(), CliError> {
    let figures = bench::run()?;
    if json {
        return outln!("{}", serde_json::to_string(&figures)?);
    }
    for (name, figure) in &figures {
        let value = format!("{:.4e}", figure.value);
        match figure.floor {
            Some(floor) => {
                outln!("{name:26} {value:>12} {:8} {:.2} of the floor", figure.unit, figure.value / floor)?;
            }
            None => outln!("{name:26} {value:>12} {}", figure.unit)?,
        }
    }
    Ok(())
}
