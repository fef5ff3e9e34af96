//! `convert`.

use air_core::cli::CliError;
use air_core::outln;
use clap::Args;

use super::input::Input;
use crate::{Compression, FileFormat, Session, WriteMode, WriteOptions};

#[derive(Debug, Args)]
pub(super) struct Convert {
    #[command(flatten)]
    input: Input,
    /// A file (.csv, .parquet, .json, .jsonl, .arrow, .npy; .csv.gz, .json.zst and so on), or with --format a directory
    output: String,
    /// The format of a directory's files
    #[arg(long, value_parser = ["csv", "parquet", "json", "ipc", "npy"])]
    format: Option<String>,
    /// How it is compressed: Parquet with any of these, CSV and JSON with gzip or zstd; as the extension says when absent
    #[arg(long, value_parser = ["none", "snappy", "gzip", "zstd"])]
    compression: Option<String>,
    /// Files to write into a directory
    #[arg(long, requires = "format")]
    files: Option<usize>,
    /// Replace what is at OUT
    #[arg(long)]
    overwrite: bool,
}

impl Convert {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        let Self { input, output, format, compression, files, overwrite } = self;
        let input = input.open(session)?;
        let named = format.map_or_else(|| output.clone(), |name| format!("x.{name}"));
        let format = FileFormat::of_path(&named).map_err(|_| {
            CliError::usage(format!(
                "cannot tell the format of {output}: give a known extension, or --format"
            ))
        })?;
        let compression = match compression.as_deref() {
            Some("none") => Compression::None,
            Some("snappy") => Compression::Snappy,
            Some("gzip") => Compression::Gzip,
            Some("zstd") => Compression::Zstd,
            _ => Compression::Auto,
        };
        let mut options = WriteOptions { compression, ..WriteOptions::default() };
        if overwrite {
            options.mode = WriteMode::Overwrite;
        }
        if let FileFormat::Csv(csv) = &format {
            options.csv = csv.clone();
        }
        let dataset = files.map_or_else(|| input.clone(), |files| input.repartition(files));
        for file in dataset.write(&output, format, options)? {
            outln!("{file}")?;
        }
        Ok(())
    }
}
