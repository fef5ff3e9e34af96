//! Records behind each other, each with its length and two checksums.

use air_core::BoxError;
use bytes::Bytes;

use crate::format::VALUE_BYTES;
use crate::format::bytes::Window;

/// Length and its checksum before a record, the record's own after it.
const HEAD_BYTES: u64 = 12;
const FOOT_BYTES: u64 = 4;

/// The checksum as it is stored: CRC-32C, turned and moved, so that a checksum of data that has checksums is another.
pub(super) fn masked(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// Puts a record behind what is there.
pub(super) fn put(out: &mut Vec<u8>, record: &[u8]) {
    let length = (record.len() as u64).to_le_bytes();
    out.extend_from_slice(&length);
    out.extend_from_slice(&masked(&length).to_le_bytes());
    out.extend_from_slice(record);
    out.extend_from_slice(&masked(record).to_le_bytes());
}

/// The records of a file.
pub(super) struct Frames {
    window: Window,
    /// Records that came so far.
    number: u64,
    /// Where the last one began.
    begin: u64,
}

impl Frames {
    pub(super) fn new(window: Window) -> Self {
        Self { window, number: 0, begin: 0 }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn at(&self) -> u64 {
        self.window.at()
    }

    /// An error with the record that came last.
    pub(super) fn on(&self, error: BoxError) -> BoxError {
        format!("record {} at byte {}: {error}", self.number.saturating_sub(1), self.begin).into()
    }

    /// The next record; none at the end of the file.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        if self.window.left() == 0 {
            return Ok(None);
        }
        self.begin = self.window.at();
        self.number += 1;
        if self.window.left() < HEAD_BYTES {
            return Err(
                self.on(format!("cut short: {} bytes are left of the file", self.window.left()).into())
            );
        }
        let head = self.window.take(HEAD_BYTES as usize).await?;
        let (length, stored) = head.split_at(8);
        if masked(length).to_le_bytes() != stored {
            return Err(
                self.on("the checksum of its length is wrong; the file is spoilt, or no TFRecord".into())
            );
        }
        let length = length.try_into().map_or(0, u64::from_le_bytes);
        if length > VALUE_BYTES {
            return Err(self.on(format!("{length} bytes; a record has at most {VALUE_BYTES}").into()));
        }
        let left = self.window.left();
        if length + FOOT_BYTES > left {
            return Err(
                self.on(format!("cut short: {left} of {} bytes are left", length + FOOT_BYTES).into())
            );
        }
        let mut record = self.window.take((length + FOOT_BYTES) as usize).await?;
        let stored = record.split_off(length as usize);
        if masked(&record).to_le_bytes() != stored[..] {
            return Err(self.on("its checksum is wrong; the file is spoilt".into()));
        }
        Ok(Some(record))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::format::bytes::tests::file;
    use futures::executor::block_on;

    #[test]
    fn the_checksum_is_tensorflow_s() {
        // A record of nothing, as `tf.io.TFRecordWriter` writes it.
        let mut out = Vec::new();
        put(&mut out, b"");
        assert_eq!(out[..8], [0; 8]);
        assert_eq!(out[12..], masked(b"").to_le_bytes());
        assert_eq!(masked(b""), 0xa282_ead8);
        // RFC 3720, B.4: 32 bytes of zeroes have the CRC 0x8a9136aa.
        assert_eq!(crc32c::crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(masked(&[0; 32]), 0x8a91_36aa_u32.rotate_right(15).wrapping_add(0xa282_ead8));
    }

    #[test]
    fn what_is_spoilt_is_told_with_its_place() {
        let mut bytes = Vec::new();
        for record in [&b"first"[..], b"", b"third record"] {
            put(&mut bytes, record);
        }
        let read = |bytes: &[u8]| {
            let mut frames = Frames::new(file(bytes).window());
            let mut records = Vec::new();
            loop {
                match block_on(frames.next()) {
                    Ok(Some(record)) => records.push(record),
                    Ok(None) => return Ok(records),
                    Err(error) => return Err(error.to_string()),
                }
            }
        };
        assert_eq!(read(&bytes).unwrap(), [&b"first"[..], b"", b"third record"]);
        // Any byte matters.
        for at in 0..bytes.len() {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 4;
            let error = read(&spoilt).unwrap_err();
            let (record, begin) =
                [(0, 0), (1, 21), (2, 37)].into_iter().rfind(|(_, begin)| *begin <= at).unwrap();
            assert!(error.starts_with(&format!("record {record} at byte {begin}: ")), "{at}: {error}");
        }
        for end in (1..bytes.len()).filter(|end| ![21, 37].contains(end)) {
            assert!(read(&bytes[..end]).unwrap_err().contains("cut short"), "{end}");
        }
        let mut long = Vec::new();
        long.extend(u64::MAX.to_le_bytes());
        long.extend(masked(&u64::MAX.to_le_bytes()).to_le_bytes());
        assert!(read(&long).unwrap_err().contains("a record has at most"));
    }
}
