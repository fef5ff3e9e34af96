//! `reports.jsonl`: what happened, one JSON object a line.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use air_core::BoxError;
use serde_json::json;

use super::csv::append;
use super::{Callback, Event};
use crate::error::{Result, TuneError};

pub(super) struct JsonLines {
    path: PathBuf,
    /// Whether a line torn by a crash has been looked for.
    whole: bool,
}

impl JsonLines {
    pub fn new(dir: &Path) -> Self {
        Self { path: dir.join("reports.jsonl"), whole: false }
    }
}

/// Cuts off a last line without its end.
fn cut_torn_line(path: &Path) -> Result<()> {
    let mut file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(TuneError::io(path))?,
    };
    let cut = || -> std::io::Result<()> {
        let mut end = file.metadata()?.len();
        let mut block = [0_u8; 4096];
        while end > 0 {
            let start = end.saturating_sub(block.len() as u64);
            let part = &mut block[..(end - start) as usize];
            file.seek(SeekFrom::Start(start))?;
            file.read_exact(part)?;
            if let Some(newline) = part.iter().rposition(|byte| *byte == b'\n') {
                return file.set_len(start + newline as u64 + 1);
            }
            end = start;
        }
        file.set_len(0)
    };
    let mut cut = cut;
    cut().map_err(TuneError::io(path))
}

impl Callback for JsonLines {
    fn name(&self) -> &'static str {
        "reports.jsonl"
    }

    fn on_events(&mut self, events: &[Event]) -> Result<(), BoxError> {
        if !self.whole {
            cut_torn_line(&self.path)?;
            self.whole = true;
        }
        let mut lines = String::new();
        for event in events {
            let line = match event {
                Event::Started { trial, attempt, config } => {
                    json!({"event": "started", "trial": trial, "attempt": attempt, "config": config})
                }
                Event::Reported { trial, iteration, values, seconds, .. } => {
                    json!({"event": "reported", "trial": trial, "iteration": iteration, "seconds": seconds, "metrics": values})
                }
                Event::Requeued { trial, cause } => {
                    json!({"event": "requeued", "trial": trial, "cause": cause.to_string()})
                }
                Event::Paused { trial } => json!({"event": "paused", "trial": trial}),
                Event::Changed { trial, iteration, donor, config } => {
                    json!({"event": "changed", "trial": trial, "iteration": iteration, "donor": donor, "config": config})
                }
                Event::Ended(result) => json!({
                    "event": "ended", "trial": result.trial, "status": result.status, "iterations": result.iterations,
                    "seconds": result.seconds, "value": result.value.map(crate::values::to_json),
                    "cause": result.cause.as_ref().map(ToString::to_string),
                }),
            };
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        append(&self.path, lines.as_bytes())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_torn_line_is_cut_before_the_next_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reports.jsonl");
        let whole = format!("{{\"a\":\"{}\"}}\n", "x".repeat(5000));
        for torn in ["", "{\"ev", &"y".repeat(9000)] {
            std::fs::write(&path, format!("{whole}{torn}")).unwrap();
            let mut log = JsonLines::new(dir.path());
            log.on_events(&[Event::Started { trial: 3, attempt: 1, config: crate::Config::default() }])
                .unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.lines().count(), 2);
            assert!(
                text.starts_with(&whole)
                    && text.lines().all(|l| serde_json::from_str::<serde_json::Value>(l).is_ok())
            );
        }
        std::fs::write(&path, "torn from the start").unwrap();
        cut_torn_line(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}
