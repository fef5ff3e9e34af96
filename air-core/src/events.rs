//! Event files that TensorBoard reads: records framed as TFRecord, holding `Event` messages of protocol buffers.
//!
//! A record is its length (u64, little-endian), a masked CRC-32C of the length, the bytes, and a masked CRC-32C of the bytes. Of
//! `tensorflow.Event` only these fields are written: `wall_time` (1, double), `step` (2, int64), `file_version` (3, string) and
//! `summary` (5), a list (1) of `Value { tag = 1, simple_value = 2 }`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

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
/// use air_core::events::{EventWriter, Scalar};
/// # let dir = tempfile::tempdir()?;
/// let mut events = EventWriter::create(dir.path())?;
/// events.scalars(1, 1_700_000_000.0, &[Scalar { tag: "loss", value: 0.5 }])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct EventWriter {
    file: File,
}

impl EventWriter {
    /// Creates an event file with a fresh name in `dir`, which is made if it is not there.
    pub fn create(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut file = File::options().create_new(true).append(true).open(dir.join(file_name()))?;
        file.write_all(&version(now()))?;
        Ok(Self { file })
    }

    /// Appends the scalars of one step. `wall_time` is in seconds since 1970.
    pub fn scalars(&mut self, step: u64, wall_time: f64, scalars: &[Scalar]) -> io::Result<()> {
        self.file.write_all(&summary(wall_time, step, scalars.iter().copied()))
    }
}

/// A name for an event file: names within one folder sort by time; the process id keeps two runs in one second apart.
pub fn file_name() -> String {
    format!("events.out.tfevents.{:010}.air.{}", now() as u64, std::process::id())
}

/// Seconds since 1970.
pub fn now() -> f64 {
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

/// The record that every event file begins with.
pub fn version(wall_time: f64) -> Vec<u8> {
    let mut out = event(wall_time);
    bytes_field(&mut out, 3, b"brain.Event:2");
    record(&out)
}

/// The record of one step's scalars.
pub fn summary<'a>(wall_time: f64, step: u64, scalars: impl Iterator<Item = Scalar<'a>>) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes written by TensorBoard's own `EventFileWriter` for the same events.
    #[test]
    fn bytes_are_those_of_tensorboard() {
        let ours =
            [version(1.5), summary(2.5, 300, [Scalar { tag: "loss", value: 0.25 }].into_iter())].concat();
        let hex: String = ours.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        assert_eq!(hex, include_str!("events.hex").trim());
    }
}
