//! `export`: a policy as a file for other programs.

use std::path::PathBuf;

use air_core::cli::CliError;
use air_core::outln;
use clap::{Args, ValueEnum};

use super::usage;
use crate::saved::policy::Policy;

#[derive(Args)]
pub(super) struct Export {
    /// A checkpoint that `train --out` wrote, or the directory of several
    checkpoint: String,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// What to write; by the file's name unless given
    #[arg(long)]
    format: Option<Format>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// Observations in, actions out: what `air-serve run` serves
    Onnx,
    /// The network alone, as PyTorch would load it
    Safetensors,
}

pub(super) fn run(args: &Export) -> Result<(), CliError> {
    let named = args.out.extension().and_then(|extension| Format::from_str(extension.to_str()?, true).ok());
    let Some(format) = args.format.or(named) else {
        let name = args.out.display();
        return Err(CliError::usage(format!(
            "{name} ends in neither .onnx nor .safetensors: say which with --format"
        )));
    };
    let policy = Policy::load(&args.checkpoint)?;
    let bytes = match format {
        Format::Onnx => policy.to_onnx(),
        Format::Safetensors => policy.to_safetensors(),
    };
    let bytes = bytes.map_err(usage)?;
    std::fs::write(&args.out, &bytes)
        .map_err(|e| CliError::failed(format!("cannot write {}: {e}", args.out.display())))?;
    outln!("{} bytes in {}", bytes.len(), args.out.display())
}
