//! Reading TFRecord files and WebDataset shards, beside reading their bytes alone and beside Parquet of the same rows; CSV compressed as a whole, beside CSV and beside
//! unpacking alone.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use air_data::{Compression, CsvOptions, Dataset, FileFormat, Session, SessionConfig, WriteOptions};
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

/// So many files of CSV, compressed or not, and their bytes when they are not.
fn tables(compression: Compression, files: usize) -> (tempfile::TempDir, Dataset, Vec<String>, u64) {
    let session = Session::new(SessionConfig { progress: false, ..SessionConfig::default() }).unwrap();
    let lines = |row: i64| (row, (row * 2_654_435_761) as f64 / 7.0, format!("name {}", row % 1000));
    let ds =
        session.range(rows() as u64 * 64).unwrap().map(move |row: i64| Ok(lines(row))).repartition(files);
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, compression| {
        let path = dir.path().join(name).to_string_lossy().into_owned();
        let options = WriteOptions { compression, ..WriteOptions::default() };
        (ds.write(&path, FileFormat::Csv(CsvOptions::default()), options).unwrap(), path)
    };
    let plain = write("plain", Compression::None).0;
    let bytes = plain.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
    let (files, path) = write("files", compression);
    let back = session.read_csv(&path).unwrap();
    (dir, back, files, bytes)
}

/// In bytes as they are unpacked.
fn csv(bencher: Bencher, compression: Compression, files: usize) {
    let (_dir, ds, _, bytes) = tables(compression, files);
    let drain = || ds.batches(8192).unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>();
    bencher.counter(BytesCount::new(bytes)).bench_local(drain);
}

#[divan::bench(args = [1, 8])]
fn csv_plain(bencher: Bencher, files: usize) {
    csv(bencher, Compression::None, files);
}

#[divan::bench(args = [1, 8])]
fn csv_gzip(bencher: Bencher, files: usize) {
    csv(bencher, Compression::Gzip, files);
}

#[divan::bench(args = [1, 8])]
fn csv_zstd(bencher: Bencher, files: usize) {
    csv(bencher, Compression::Zstd, files);
}

#[divan::bench]
fn gunzip_alone(bencher: Bencher) {
    let (_dir, _, files, bytes) = tables(Compression::Gzip, 1);
    let mut piece = vec![0; 1 << 20];
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let file = std::io::BufReader::new(std::fs::File::open(&files[0]).unwrap());
        drain(flate2::bufread::MultiGzDecoder::new(file), &mut piece)
    });
}

fn drain(mut file: impl std::io::Read, piece: &mut [u8]) -> u64 {
    let mut sum = 0;
    loop {
        match file.read(piece).unwrap() {
            0 => return sum,
            bytes => sum += bytes as u64 + u64::from(piece[bytes / 2]),
        }
    }
}

fn main() {
    divan::main();
}
