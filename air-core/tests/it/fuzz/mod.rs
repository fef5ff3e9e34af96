//! The readers of bytes from elsewhere, fuzzed: valid inputs, spoilt the same way in every run.
//!
//! `AIR_FUZZ_RUNS` says how many inputs each target gets (default 3000; a tenth of them where files are written).
#![allow(clippy::unwrap_used)]

mod mutate;
mod targets;

use std::collections::BTreeMap;

use air_core::tensor::{DType, Tensor};
use air_core::wire;

use mutate::Mutator;
use targets::{Letter, NESTED, Part, SECRET, WEIGHTS};

fn runs() -> usize {
    match std::env::var("AIR_FUZZ_RUNS") {
        Ok(runs) => runs.parse().unwrap_or_else(|_| panic!("AIR_FUZZ_RUNS is `{runs}`, not a number")),
        Err(_) => 3000,
    }
}

/// Shows the input that a target panicked on.
struct Shown<'a> {
    run: usize,
    input: &'a [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let hex: Vec<String> = self.input.iter().map(|byte| format!("{byte:02x}")).collect();
            eprintln!("input {} was {} bytes: {}", self.run, hex.len(), hex.concat());
        }
    }
}

/// Gives the target the valid inputs, then spoilt ones; of these some must still be valid and some not, or nothing was tried.
fn fuzz(name: &str, runs: usize, target: fn(&[u8]) -> bool, seeds: Vec<Vec<u8>>) {
    for (run, input) in seeds.iter().enumerate() {
        let _shown = Shown { run, input };
        assert!(target(input), "{name}: seed {run} is not valid");
    }
    let mut mutator = Mutator::new(name, seeds);
    let mut valid = 0;
    for run in 0..runs {
        let input = mutator.next();
        let _shown = Shown { run, input: &input };
        valid += usize::from(target(&input));
    }
    assert!(runs < 100 || (1..runs).contains(&valid), "{name}: {valid} of {runs} inputs were valid");
}

#[test]
fn messages() {
    let letter = Letter {
        id: u128::MAX - 7,
        step: -3,
        ratio: f64::NAN,
        initial: 'ß',
        parts: vec![
            Part::Nothing,
            Part::Pair(-1, true),
            Part::Named { text: "a name".into(), bytes: vec![0, 255, 3] },
        ],
        table: [("one".to_owned(), Some(1)), ("none".to_owned(), None)].into(),
        rows: vec![vec![1.5, -0.0], vec![], vec![f32::INFINITY]],
        answer: Err("refused".into()),
    };
    let small = Letter {
        id: 0,
        parts: Vec::new(),
        table: BTreeMap::new(),
        rows: Vec::new(),
        answer: Ok(300),
        ..letter.clone()
    };
    let texts: Vec<String> = ["", "ä", "a longer text than the others"].map(String::from).into();
    let table: BTreeMap<u64, Vec<u64>> = [(1, vec![]), (u64::MAX, vec![250, 251, 1 << 40])].into();
    let seeds = vec![
        wire::encode(&letter).unwrap(),
        wire::encode(&small).unwrap(),
        wire::encode(&texts).unwrap(),
        wire::encode(&table).unwrap(),
        wire::encode(&(7_u8, Some(vec![1.0, f64::NAN]), [0_u32, 1, u32::MAX])).unwrap(),
    ];
    fuzz("messages", runs(), targets::message, seeds);
}

#[test]
fn tensors() {
    let seed = |dtype, shape: &[usize]| tensor_bytes(dtype, shape);
    let mut seeds: Vec<_> = DType::ALL.iter().map(|&dtype| seed(dtype, &[2, 3])).collect();
    seeds.push(seed(DType::F32, &[]));
    seeds.push(seed(DType::I64, &[2, 0, 4]));
    seeds.push(seed(DType::U8, &[1, 2, 1, 2, 1, 2, 1, 2]));
    fuzz("tensors", runs(), targets::tensor, seeds);
}

fn tensor_bytes(dtype: DType, shape: &[usize]) -> Vec<u8> {
    let tensor = Tensor::zeros_of(dtype, shape).unwrap();
    air_core::tensor::wire::encode(&tensor).unwrap()
}

fn file((name, content): (&str, &[u8])) -> String {
    let (size, crc) = (content.len(), crc32c::crc32c(content));
    format!(r#"{{"name":"{name}","size_bytes":{size},"crc32c":{crc}}}"#)
}

fn manifest(files: &[String]) -> Vec<u8> {
    let metrics = r#"{"loss":0.125,"worst":"inf","nothing":"NaN"}"#;
    format!(r#"{{"format":1,"step":12,"metrics":{metrics},"files":[{}]}}"#, files.join(",")).into_bytes()
}

#[test]
fn manifests() {
    let files = [file((WEIGHTS, b"12345678")), file(NESTED)];
    let seeds = vec![manifest(&files), manifest(&[]), targets::seal(&manifest(&files))];
    fuzz("manifests", runs(), targets::manifest, seeds);
}

#[test]
fn checkpoints() {
    let weights: &[u8] = b"12345678";
    let on_disk = |files: &[String]| [&manifest(files)[..], &[0], weights].concat();
    let seeds =
        vec![on_disk(&[file((WEIGHTS, weights)), file(NESTED)]), on_disk(&[file(NESTED)]), on_disk(&[])];
    fuzz("checkpoints", runs().div_ceil(10), targets::checkpoint, seeds);
    // What mutation would find late: files elsewhere, with their true size and checksum.
    for name in
        ["../secret", "../../secret", "/etc/hostname", "state/../../../secret", "state/../weights.bin"]
    {
        assert!(!targets::checkpoint(&on_disk(&[file((name, SECRET.1))])), "{name}");
    }
}
