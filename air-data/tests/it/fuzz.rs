//! The readers of our own formats, fuzzed: valid files, spoilt the same way in every run, are read or refused with the file's name and the place in it.
//!
//! `AIR_FUZZ_RUNS` says how many inputs each format gets (default 400).

use air_core::seed::Seed;
use air_data::{FileFormat, Session};
use arrow::array::RecordBatch;
use rand::{Rng, RngExt};

use super::compressed::{gzip, zstandard};
use super::formats::fixture;
use super::{session, told};

fn runs() -> usize {
    match std::env::var("AIR_FUZZ_RUNS") {
        Ok(runs) => runs.parse().unwrap_or_else(|_| panic!("AIR_FUZZ_RUNS is `{runs}`, not a number")),
        Err(_) => 400,
    }
}

/// What length fields lie with.
const LIES: [u64; 8] = [0, 1, 127, 255, 1 << 16, u32::MAX as u64, i64::MAX as u64, u64::MAX];

/// Spoils a file in one to four ways.
fn spoil(rng: &mut impl Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..=bytes.len());
        let end = rng.random_range(at..=bytes.len().min(at + 600));
        match rng.random_range(0..6) {
            0 | 1 => bytes.get_mut(at).map_or((), |byte| *byte ^= 1 << rng.random_range(0..8)),
            2 => bytes.truncate(at),
            3 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            4 => {
                bytes.drain(at..end);
            }
            _ => {
                let lie = LIES[rng.random_range(0..LIES.len())].to_le_bytes();
                let lie = &lie[..1 << rng.random_range(0..4)];
                let end = bytes.len().min(at + lie.len());
                bytes.splice(at..end, lie.iter().copied());
            }
        }
    }
}

/// Reads spoilt files, all columns and none; `mend` may set right what would otherwise hide all else, such as checksums.
fn fuzz(name: &str, format: FileFormat, seeds: &[Vec<u8>], mend: fn(&mut [u8])) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(format!("spoilt.{name}"));
    let path = path.to_str().unwrap();
    let session = session();
    let mut rng = Seed::new(7).child(name, 0).rng();
    for seed in seeds {
        std::fs::write(path, seed).unwrap();
        assert!(read(&session, path, &format).is_ok(), "{name}: a seed is not valid");
    }
    let (mut good, mut placed) = (0, 0);
    for run in 0..runs() {
        let mut bytes = seeds[rng.random_range(0..seeds.len())].clone();
        spoil(&mut rng, &mut bytes);
        mend(&mut bytes);
        std::fs::write(path, &bytes).unwrap();
        match read(&session, path, &format) {
            Ok(()) => good += 1,
            Err(error) => {
                assert!(error.contains(path), "{name} {run}: no word of the file: {error}");
                assert!(!error.contains("panicked"), "{name} {run}: {error}");
                placed += usize::from(error.chars().any(|letter| letter.is_ascii_digit()));
            }
        }
    }
    assert!(runs() < 100 || (good > 0 && placed > 0), "{name}: {good} of {} were good", runs());
}

fn read(session: &Session, path: &str, format: &FileFormat) -> Result<(), String> {
    let ds = session.read(path, format.clone()).map_err(|error| told(&error))?;
    let rows = ds.collect().map_err(|error| told(&error))?.iter().map(RecordBatch::num_rows).sum::<usize>();
    assert_eq!(
        ds.count().map_err(|error| told(&error))?,
        rows as u64,
        "{path} is counted otherwise than it is read"
    );
    Ok(())
}

fn masked(data: &[u8]) -> [u8; 4] {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// The checksums of records set right as far as their lengths lead.
fn sum_records(bytes: &mut [u8]) {
    let mut at = 0;
    while bytes.len() >= at + 16 {
        let length: [u8; 8] = bytes[at..at + 8].try_into().unwrap();
        let sum = masked(&length);
        bytes[at + 8..at + 12].copy_from_slice(&sum);
        let length = u64::from_le_bytes(length);
        if length > (bytes.len() - at - 16) as u64 {
            return;
        }
        let end = at + 12 + length as usize;
        let sum = masked(&bytes[at + 12..end]);
        bytes[end..end + 4].copy_from_slice(&sum);
        at = end + 4;
    }
}

/// The checksums of tar headers set right, wherever a block looks like one.
fn sum_headers(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fn seed(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

#[test]
fn tfrecords() {
    fuzz("tfrecord", FileFormat::TfRecord, &[seed("examples.tfrecord")], |_| {});
}

#[test]
fn tfrecords_whose_checksums_are_right() {
    fuzz("tfrecord", FileFormat::TfRecord, &[seed("examples.tfrecord")], sum_records);
}

#[test]
fn archives() {
    fuzz("tar", FileFormat::WebDataset, &[seed("samples.tar"), seed("gnu.tar"), seed("pax.tar")], |_| {});
}

#[test]
fn archives_whose_checksums_are_right() {
    fuzz(
        "tar",
        FileFormat::WebDataset,
        &[seed("samples.tar"), seed("gnu.tar"), seed("pax.tar")],
        sum_headers,
    );
}

#[test]
fn compressed_lines() {
    let text = ["one\ntwo\n", "", "three\n3\n3\n3\n3\n"];
    fuzz("txt.gz", FileFormat::Text, &[text.map(|text| gzip(text, 6)).concat(), gzip("a\n", 0)], |_| {});
    fuzz("txt.zst", FileFormat::Text, &[text.map(zstandard).concat(), zstandard("a\n")], |_| {});
}

#[test]
fn json_arrays() {
    let seeds = [
        br#"[{"a": 1, "b": [1, 2.5, null], "c": {"d": "x\"]}"}}, {"a": -1, "b": []}, {}]"#.to_vec(),
        br#" [ {"t": "abc", "u": true } , {"t": null, "v": [[1], [2, 3]]} ] "#.to_vec(),
    ];
    fuzz("json", FileFormat::JsonArray, &seeds, |_| {});
}
