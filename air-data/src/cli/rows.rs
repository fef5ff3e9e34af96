//! Rows on stdout, one JSON object a line.

use std::io::Write;

use air_core::cli::CliError;

use crate::Dataset;

/// Rows that are put into text at once.
const ROWS: usize = 1024;

pub(super) fn print(dataset: &Dataset) -> Result<(), CliError> {
    for batch in dataset.batches(ROWS)? {
        let mut text = Vec::new();
        let mut writer = arrow::json::writer::WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, arrow::json::writer::LineDelimited>(&mut text);
        writer.write(&batch?)?;
        writer.finish()?;
        let mut out = std::io::stdout().lock();
        match out.write_all(&text) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                return Err(CliError::OutputClosed);
            }
            result => result?,
        }
    }
    Ok(())
}
