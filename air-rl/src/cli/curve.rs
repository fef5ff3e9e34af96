//! `curve`: the learning curve of logged runs.

use std::path::{Path, PathBuf};

use air_core::cli::CliError;
use air_core::outln;
use clap::{Args, ValueEnum};

use crate::curve::{self, Along, draw};

#[derive(Args)]
pub(super) struct Curve {
    /// What `train --log` wrote: the folder of one run or of several seeds, for each line one
    #[arg(required = true)]
    logs: Vec<PathBuf>,
    /// The SVG file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What stands on the horizontal axis
    #[arg(long, value_enum, default_value_t = Axis::Steps)]
    along: Axis,
    /// Above the curve
    #[arg(long, default_value = "")]
    title: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Axis {
    /// Environment steps
    Steps,
    /// Seconds of training
    Seconds,
}

pub(super) fn run(args: &Curve) -> Result<(), CliError> {
    let along = match args.along {
        Axis::Steps => Along::Steps,
        Axis::Seconds => Along::Seconds,
    };
    let mut curves = Vec::with_capacity(args.logs.len());
    for dir in &args.logs {
        curves.push((name(dir), curve::read(dir, along)?));
    }
    let svg = draw(&args.title, along.title(), &curves);
    std::fs::write(&args.out, svg)
        .map_err(|e| CliError::failed(format!("cannot write {}: {e}", args.out.display())))?;
    outln!("{} curves in {}", curves.len(), args.out.display())
}

fn name(dir: &Path) -> String {
    dir.file_name().map_or_else(|| dir.display().to_string(), |name| name.to_string_lossy().into_owned())
}
