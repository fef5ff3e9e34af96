//! Tar archives, read and written from the beginning to the end: POSIX's `ustar` and `pax`, and GNU's long names.
//!
//! POSIX.1-2017, "pax - portable archive interchange"; GNU tar's manual, "Basic Tar Format".

use air_core::BoxError;

use crate::format::bytes::Window;

const BLOCK: usize = 512;

/// Longer extensions of a header, which say the file's name, are an error.
const EXTENSION_BYTES: u64 = 1 << 20;

/// More extensions before one file are an error.
const MAX_EXTENSIONS: usize = 16;

/// What the header of a file says.
#[derive(Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) bytes: u64,
    /// Where the header is.
    pub(super) at: u64,
}

/// The files of an archive. What is no file is passed over.
pub(super) struct Tar {
    pub(super) window: Window,
    /// Bytes of the last file that were not taken, and those that fill its last block.
    rest: u64,
}

impl Tar {
    pub(super) fn new(window: Window) -> Self {
        Self { window, rest: 0 }
    }

    /// The next file; none at the end of the archive.
    pub(super) async fn next(&mut self) -> Result<Option<Entry>, BoxError> {
        let mut extended = Extended::default();
        let mut extensions = 0;
        loop {
            self.window.skip(std::mem::take(&mut self.rest)).await?;
            let at = self.window.at();
            let on = move |error: BoxError| -> BoxError { format!("header at byte {at}: {error}").into() };
            if self.window.left() == 0 {
                // Two blocks of zeroes are the end, which not everybody writes.
                return Ok(None);
            }
            if self.window.left() < BLOCK as u64 {
                return Err(on(
                    format!("cut short: {} bytes are left of the file", self.window.left()).into()
                ));
            }
            let block = self.window.take(BLOCK).await?;
            if block.iter().all(|byte| *byte == 0) {
                return Ok(None);
            }
            let header = Header::parse(&block).map_err(on)?;
            let bytes = extended.bytes.unwrap_or(header.bytes);
            // A header without a file is no part of the last file of the archive.
            let body = bytes.checked_next_multiple_of(BLOCK as u64);
            let left = self.window.left();
            match header.kind {
                b'x' | b'g' | b'L' | b'K' => {
                    extensions += 1;
                    if header.bytes > EXTENSION_BYTES || extensions > MAX_EXTENSIONS {
                        return Err(on("more of extended headers than are read".into()));
                    }
                    if header.bytes > left {
                        return Err(on(
                            format!("cut short: {left} of {} bytes are left", header.bytes).into()
                        ));
                    }
                    let content = self.window.take(header.bytes as usize).await?;
                    self.rest =
                        (header.bytes.next_multiple_of(BLOCK as u64) - header.bytes).min(self.window.left());
                    match header.kind {
                        b'x' => extended.pax(&content).map_err(on)?,
                        b'L' => extended.name = Some(text(until_zero(&content)).map_err(on)?),
                        // What holds for all files, and where links go, is not needed.
                        _ => {}
                    }
                }
                b'0' | b'7' | 0 => {
                    let name = match extended.name.take() {
                        Some(name) => name,
                        None => header.name().map_err(on)?,
                    };
                    // Some old archives have directories as files whose names end so.
                    let directory = name.ends_with('/');
                    if bytes > left {
                        return Err(on(
                            format!("'{name}' is cut short: {left} of {bytes} bytes are left").into()
                        ));
                    }
                    self.rest = body.unwrap_or(u64::MAX).min(left);
                    if !directory {
                        return Ok(Some(Entry { name, bytes, at }));
                    }
                    extended = Extended::default();
                }
                b'S' => {
                    return Err(on(
                        "a sparse file, which is not read; make the archive without --sparse".into()
                    ));
                }
                // Links, directories and devices have no content.
                b'1'..=b'6' => extended = Extended::default(),
                other => {
                    return Err(on(format!("a file of kind {:?} is not known", char::from(other)).into()));
                }
            }
        }
    }

    /// The content of the file that came last. It may be taken once; what is not is passed over.
    pub(super) async fn content(&mut self, entry: &Entry) -> Result<bytes::Bytes, BoxError> {
        let content = self.window.take(usize::try_from(entry.bytes)?).await?;
        self.rest = self.rest.saturating_sub(entry.bytes);
        Ok(content)
    }
}

/// What extended headers say of the file that comes next.
#[derive(Debug, Default)]
struct Extended {
    name: Option<String>,
    bytes: Option<u64>,
}

impl Extended {
    /// Records `LENGTH KEY=VALUE\n`, where the length counts itself.
    fn pax(&mut self, mut records: &[u8]) -> Result<(), BoxError> {
        while !records.is_empty() {
            let bad = || BoxError::from("a record of its pax header is none");
            let space = records.iter().take(20).position(|byte| *byte == b' ').ok_or_else(bad)?;
            let length: usize = std::str::from_utf8(&records[..space])?.parse().map_err(|_| bad())?;
            let record = records.get(space + 1..length).ok_or_else(bad)?;
            let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.name = Some(text(value)?),
                b"size" => self.bytes = Some(text(value)?.parse().map_err(|_| bad())?),
                key if key.starts_with(b"GNU.sparse") => {
                    return Err("a sparse file, which is not read; make the archive without --sparse".into());
                }
                _ => {}
            }
            records = &records[length..];
        }
        Ok(())
    }
}

/// A header's block.
struct Header<'a> {
    block: &'a [u8],
    kind: u8,
    bytes: u64,
}

impl<'a> Header<'a> {
    fn parse(block: &'a [u8]) -> Result<Self, BoxError> {
        let stored = octal(&block[148..156]).ok_or("no tar archive: its checksum is no number")?;
        if stored != checksum(block) {
            return Err("its checksum is wrong; the file is spoilt, or no tar archive".into());
        }
        let bytes = number(&block[124..136]).ok_or("its size is no number")?;
        Ok(Self { block, kind: block[156], bytes })
    }

    fn name(&self) -> Result<String, BoxError> {
        let name = text(until_zero(&self.block[..100]))?;
        // GNU's own format has other things in the place of the prefix.
        let prefix =
            if &self.block[257..263] == b"ustar\0" { until_zero(&self.block[345..500]) } else { &[] };
        Ok(if prefix.is_empty() { name } else { format!("{}/{name}", text(prefix)?) })
    }
}

/// The sum of a header's bytes, its own place counted as spaces.
fn checksum(block: &[u8]) -> u64 {
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u64::from(*byte)).sum::<u64>();
    sum(&block[..148]) + 8 * u64::from(b' ') + sum(&block[156..])
}

fn until_zero(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

fn text(bytes: &[u8]) -> Result<String, BoxError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(format!("the name {:?} is not UTF-8", String::from_utf8_lossy(bytes)).into()),
    }
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(until_zero(field)).ok()?.trim_matches(' ');
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

/// Octal digits, or, where the first bit is set, a big-endian number.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 == 0 {
        return octal(field);
    }
    let (high, low) = field.split_at(field.len() - 8);
    let small = high[0] == 0x80 && high[1..].iter().all(|byte| *byte == 0);
    small.then(|| low.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Puts a file behind what is there.
pub(super) fn put(out: &mut Vec<u8>, name: &str, content: &[u8]) {
    if name.len() > 100 || content.len() as u64 > 0o777_7777_7777 {
        let record = |key: &str, value: &str| {
            // The length counts its own digits.
            let rest = key.len() + value.len() + 3;
            let length =
                (1..20).map(|digits| rest + digits).find(|length| rest + length.to_string().len() == *length);
            format!("{} {key}={value}\n", length.unwrap_or(rest))
        };
        let records = record("path", name) + &record("size", &content.len().to_string());
        header(out, "PaxHeader", records.len(), b'x');
        body(out, records.as_bytes());
    }
    let cut = (0..=100.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    header(out, &name[..cut], content.len(), b'0');
    body(out, content);
}

/// Ends an archive.
pub(super) fn end(out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * BLOCK, 0);
}

fn header(out: &mut Vec<u8>, name: &str, bytes: usize, kind: u8) {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", bytes.min(0o777_7777_7777)).as_bytes());
    put(136, b"00000000000\0");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum = format!("{:06o}\0 ", checksum(&block));
    block[148..156].copy_from_slice(sum.as_bytes());
    out.extend_from_slice(&block);
}

fn body(out: &mut Vec<u8>, content: &[u8]) {
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}
