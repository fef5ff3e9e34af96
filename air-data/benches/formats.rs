//! Reading TFRecord files and WebDataset shards, beside reading their bytes alone and beside Parquet of the same rows.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use air_data::{Dataset, FileFormat, Session, SessionConfig, WriteOptions};
use arrow::array::{ArrayRef, BinaryArray, Float32Array, Int64Array, RecordBatch, StringArray};
use divan::Bencher;
use divan::counter::BytesCount;

/// Rows of 16 KiB; few when the bench only shows that it runs.
fn rows() -> usize {
    if std::env::args().any(|arg| arg == "--test") { 100 } else { 16_384 }
}

/// Samples as of small images, written in a format.
fn written(format: FileFormat) -> (tempfile::TempDir, Dataset, Vec<String>) {
    let session = Session::new(SessionConfig { progress: false, ..SessionConfig::default() }).unwrap();
    let image: Vec<u8> = (0..16_384_u32).map(|x| (x.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let batches = (0..rows()).step_by(64).map(|start| {
        let ids = start..rows().min(start + 64);
        let columns: [(&str, ArrayRef); 4] = [
            ("__key__", Arc::new(StringArray::from_iter_values(ids.clone().map(|id| format!("{id:08}"))))),
            ("jpg", Arc::new(BinaryArray::from_iter_values(ids.clone().map(|_| &image)))),
            ("cls", Arc::new(Int64Array::from_iter_values(ids.clone().map(|id| id as i64 % 10)))),
            ("w", Arc::new(Float32Array::from_iter_values(ids.map(|id| id as f32)))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    });
    let ds = session.from_batches(batches.collect()).unwrap().repartition(4);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("files").to_string_lossy().into_owned();
    let files = ds.write(&path, format.clone(), WriteOptions::default()).unwrap();
    let back = session.read(&path, format).unwrap();
    (dir, back, files)
}

fn read(bencher: Bencher, format: FileFormat) {
    let (_dir, ds, files) = written(format);
    let bytes: u64 = files.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    let drain = || ds.batches(256).unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>();
    bencher.counter(BytesCount::new(bytes)).bench_local(drain);
}

#[divan::bench]
fn tfrecord(bencher: Bencher) {
    read(bencher, FileFormat::TfRecord);
}

#[divan::bench]
fn webdataset(bencher: Bencher) {
    read(bencher, FileFormat::WebDataset);
}

#[divan::bench]
fn parquet(bencher: Bencher) {
    read(bencher, FileFormat::Parquet);
}

/// The bytes of the records alone, in pieces of 4 MiB, on one thread.
#[divan::bench]
fn bytes_alone(bencher: Bencher) {
    let (_dir, _, files) = written(FileFormat::TfRecord);
    let bytes: u64 = files.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    let mut piece = vec![0; 4 << 20];
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        files.iter().map(|file| drain(std::fs::File::open(file).unwrap(), &mut piece)).sum::<u64>()
    });
}

fn drain(mut file: std::fs::File, piece: &mut [u8]) -> u64 {
    let mut sum = 0;
    loop {
        match std::io::Read::read(&mut file, piece).unwrap() {
            0 => return sum,
            bytes => sum += bytes as u64 + u64::from(piece[bytes / 2]),
        }
    }
}

fn main() {
    divan::main();
}
