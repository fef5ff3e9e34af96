//! Event files that TensorBoard reads: records framed as TFRecord, holding `Event` messages of protocol buffers.
//!
//! A record is its length (u64, little-endian), a masked CRC-32C of the length, the bytes, and a masked CRC-32C of the bytes. Of
//! `tensorflow.Event` only these fields are written: `wall_time` (1, double), `step` (2, int64), `file_version` (3, string) and
//! `summary` (5), a list (1) of `Value { tag = 1, simple_value = 2 }`.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use air_core::BoxError;

use super::csv::{append, make_parent};
use super::{Callback, Event};
use crate::TrialId;
use crate::error::{Result, TuneError};
use crate::result::trial_dir;

/// One named number at one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scalar<'a> {
    /// Its name; TensorBoard groups names by what stands before a slash.
    pub tag: &'a str,
    /// Its value, kept in single precision as TensorBoard does.
    pub value: f64,
}

/// Writes one event file.
///
/// ```
/// use air_tune::log::{EventWriter, Scalar};
/// # let dir = tempfile::tempdir()?;
/// let mut events = EventWriter::create(dir.path())?;
/// events.scalars(1, 1_700_000_000.0, &[Scalar { tag: "loss", value: 0.5 }])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EventWriter {
    file: File,
    path: PathBuf,
}

impl EventWriter {
    /// Creates an event file with a fresh name in `dir`.
    ///
    /// # Errors
    /// [`TuneError::Io`] if the file cannot be made.
    pub fn create(dir: &Path) -> Result<Self> {
        let path = dir.join(file_name());
        make_parent(&path)?;
        let file = File::options().create_new(true).append(true).open(&path).map_err(TuneError::io(&path))?;
        let mut writer = Self { file, path };
        writer.write(&version(now()))?;
        Ok(writer)
    }

    /// Appends the scalars of one step. `wall_time` is in seconds since 1970.
    ///
    /// # Errors
    /// [`TuneError::Io`] if the file cannot be written.
    pub fn scalars(&mut self, step: u64, wall_time: f64, scalars: &[Scalar]) -> Result<()> {
        self.write(&summary(wall_time, step, scalars.iter().copied()))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(TuneError::io(&self.path))
    }
}

/// Names within one folder sort by time; the process id keeps two runs in one second apart.
fn file_name() -> String {
    format!("events.out.tfevents.{:010}.air.{}", now() as u64, std::process::id())
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field with a length: text, or a message.
fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn masked_crc(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(event.len() + 16);
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked_crc(&length));
    out.extend_from_slice(event);
    out.extend_from_slice(&masked_crc(event));
    out
}

fn event(wall_time: f64) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend_from_slice(&wall_time.to_le_bytes());
    out
}

fn version(wall_time: f64) -> Vec<u8> {
    let mut out = event(wall_time);
    bytes_field(&mut out, 3, b"brain.Event:2");
    record(&out)
}

fn summary<'a>(wall_time: f64, step: u64, scalars: impl Iterator<Item = Scalar<'a>>) -> Vec<u8> {
    let mut values = Vec::new();
    for Scalar { tag, value } in scalars {
        let mut one = Vec::with_capacity(tag.len() + 8);
        bytes_field(&mut one, 1, tag.as_bytes());
        one.push(2 << 3 | 5);
        one.extend_from_slice(&(value as f32).to_le_bytes());
        bytes_field(&mut values, 1, &one);
    }
    let mut out = event(wall_time);
    out.push(2 << 3);
    varint(&mut out, step);
    bytes_field(&mut out, 5, &values);
    record(&out)
}

/// One run a trial: `trial_00000/events.out.tfevents…` with all it reported.
pub(super) struct TensorBoard {
    dir: PathBuf,
    file_name: String,
    pending: HashMap<TrialId, Vec<u8>>,
    begun: HashSet<TrialId>,
}

impl TensorBoard {
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), file_name: file_name(), pending: HashMap::new(), begun: HashSet::new() }
    }

    fn flush(&mut self) -> Result<()> {
        for (trial, bytes) in self.pending.drain() {
            append(&trial_dir(&self.dir, trial).join(&self.file_name), &bytes)?;
        }
        Ok(())
    }
}

impl Callback for TensorBoard {
    fn name(&self) -> &'static str {
        "the TensorBoard log"
    }

    fn on_events(&mut self, events: &[Event]) -> Result<(), BoxError> {
        let now = now();
        for event in events {
            match event {
                Event::Reported { trial, iteration, values, .. } => {
                    let bytes = self.pending.entry(*trial).or_default();
                    if self.begun.insert(*trial) {
                        bytes.extend(version(now));
                    }
                    let scalars = values.iter().map(|(tag, value)| Scalar { tag, value });
                    bytes.extend(summary(now, *iteration, scalars));
                }
                Event::Ended(result) => {
                    self.begun.remove(&result.trial);
                }
                Event::Started { .. } | Event::Requeued { .. } => {}
            }
        }
        self.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes written by TensorBoard's own `EventFileWriter` for the same events.
    #[test]
    fn bytes_are_those_of_tensorboard() {
        let ours =
            [version(1.5), summary(2.5, 300, [Scalar { tag: "loss", value: 0.25 }].into_iter())].concat();
        let hex: String = ours.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        assert_eq!(hex, include_str!("tensorboard.hex").trim());
    }
}
