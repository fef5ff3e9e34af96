//! `stats`.

use air_core::cli::CliError;
use air_core::outln;
use clap::Args;
use serde::Serialize;

use super::input::Input;
use crate::stats::Bytes;
use crate::{Session, Summary};

#[derive(Debug, Args)]
pub(super) struct Stats {
    #[command(flatten)]
    input: Input,
    /// Print one JSON object instead: {"files", "bytes", "rows", "columns": [..]}
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Told<'a> {
    files: usize,
    bytes: u64,
    #[serde(flatten)]
    summary: &'a Summary,
}

impl Stats {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        let dataset = self.input.open(session)?;
        let (files, bytes) = (dataset.input_files()?.len(), dataset.input_bytes()?);
        let summary = dataset.summary()?;
        if self.json {
            return outln!("{}", serde_json::to_string(&Told { files, bytes, summary: &summary })?);
        }
        let plural = if files == 1 { "" } else { "s" };
        outln!("{files} file{plural}, {}\n{summary}", Bytes(bytes))
    }
}
