//! What holds whatever the bytes are, one function for each reader of bytes from elsewhere: it does not panic, it does not take more memory
//! than its limit and its input justify, and what it read can be written and read again. Each says whether the bytes were valid.
//!
//! The tests run these for a fixed count (see `mod.rs`), and `air-core/fuzz` runs the same file under cargo-fuzz.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};

use air_core::checkpoint::{Checkpoint, CheckpointStore, Manifest, Retention};
use air_core::storage::Storage;
use air_core::tensor::{DType, TensorError};
use air_core::{tensor, wire};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What the decoders are told to accept at most.
const LIMIT_BYTES: usize = 1 << 20;
/// No error is longer: it is for people, and what it quotes came from elsewhere.
const ERROR_BYTES: usize = 2048;

/// Runs something that may hold so much memory at a time.
fn within<T>(limit_bytes: usize, run: impl FnOnce() -> T) -> T {
    let mut result = None;
    let used = allocation_counter::measure(|| result = Some(run()));
    assert!(used.bytes_max <= limit_bytes as u64, "{} bytes of at most {limit_bytes}", used.bytes_max);
    result.expect("it was run")
}

/// One of everything that may be in a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Letter {
    pub id: u128,
    pub step: i64,
    pub ratio: f64,
    pub initial: char,
    pub parts: Vec<Part>,
    pub table: BTreeMap<String, Option<u64>>,
    pub rows: Vec<Vec<f32>>,
    pub answer: Result<u16, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Part {
    Nothing,
    Pair(i32, bool),
    Named { text: String, bytes: Vec<u8> },
}

/// `wire::decode`, as a message of every kind.
pub fn message(bytes: &[u8]) -> bool {
    let letter = value::<Letter>(bytes);
    let others = [
        value::<Vec<String>>(bytes),
        value::<BTreeMap<u64, Vec<u64>>>(bytes),
        value::<(u8, Option<Vec<f64>>, [u32; 3])>(bytes),
    ];
    letter || others.contains(&true)
}

fn value<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> bool {
    // A claimed length reserves at most 1 MiB for each level of the type before the elements have arrived.
    let limit_bytes = (4 << 20) + 64 * bytes.len();
    match within(limit_bytes, || wire::decode::<T>(bytes, LIMIT_BYTES)) {
        Ok(value) => {
            // A number may have been written in more bytes than it needs, and a key twice: ours are the shortest.
            let written = wire::encode(&value).unwrap();
            assert!(written.len() <= bytes.len(), "{} bytes became {}", bytes.len(), written.len());
            let read: T = wire::decode(&written, written.len()).unwrap();
            assert_eq!(wire::encode(&read).unwrap(), written);
            true
        }
        Err(error) => {
            assert!(error.to_string().len() <= ERROR_BYTES);
            false
        }
    }
}

/// `tensor::wire`: both ways to read a tensor agree, and what they read is what was written, to the byte.
pub fn tensor(bytes: &[u8]) -> bool {
    const ROOM: usize = 4096;
    let header = within(ROOM, || tensor::wire::decode_header(bytes, LIMIT_BYTES));
    let copied = within(bytes.len() + ROOM, || tensor::wire::decode(bytes, LIMIT_BYTES));
    let shared = tensor::wire::decode_shared(&Bytes::copy_from_slice(bytes), LIMIT_BYTES);
    let tensor = match (copied, shared) {
        (Ok(copied), Ok(shared)) => {
            assert_eq!(copied.as_bytes().unwrap(), shared.as_bytes().unwrap());
            copied
        }
        (Err(copied), Err(shared)) => {
            assert_eq!(copied, shared);
            assert!(copied.to_string().len() <= ERROR_BYTES);
            return false;
        }
        (copied, shared) => panic!("{copied:?} when copied, {shared:?} when shared"),
    };
    let header = header.unwrap();
    assert_eq!((header.dtype, &header.shape[..]), (tensor.dtype(), tensor.shape()));
    assert_eq!(tensor::wire::encode(&tensor).unwrap(), bytes);
    let over = tensor::wire::decode(bytes, bytes.len() - 1).unwrap_err();
    assert!(matches!(over, TensorError::OverLimit { found_bytes, .. } if found_bytes == bytes.len()));
    if tensor.dtype() == DType::Bool {
        assert_eq!(tensor.to_vec::<bool>().unwrap().len(), tensor.len());
    }
    for axis in 0..tensor.rank() {
        assert_eq!(tensor.slice(axis, ..).unwrap().len(), tensor.len());
    }
    true
}

/// The manifest of a checkpoint, with its seal as it stands and, so that more than the checksum is tried, sealed anew.
pub fn manifest(bytes: &[u8]) -> bool {
    let as_is = manifest_text(bytes);
    let sealed = seal(bytes);
    as_is || manifest_text(&sealed)
}

fn manifest_text(text: &[u8]) -> bool {
    let limit_bytes = (64 << 10) + 64 * text.len();
    match within(limit_bytes, || Manifest::from_text(text, "here")) {
        Ok(manifest) => {
            let written = serde_json::to_vec(&manifest).unwrap();
            let read = Manifest::from_text(&seal(&written), "here").unwrap();
            assert_eq!(serde_json::to_vec(&read).unwrap(), written);
            true
        }
        Err(error) => {
            assert!(error.to_string().len() <= ERROR_BYTES, "{} bytes", error.to_string().len());
            false
        }
    }
}

/// A manifest's text with its checksum.
pub fn seal(manifest: &[u8]) -> Vec<u8> {
    let mut text = format!("{{\"crc32c\":\"{:08x}\",\"manifest\":", crc32c::crc32c(manifest)).into_bytes();
    text.extend_from_slice(manifest);
    text.push(b'}');
    text
}

/// The names in [`checkpoint`]'s directory, and a file beside it that no checkpoint may show.
pub const WEIGHTS: &str = "weights.bin";
pub const NESTED: (&str, &[u8]) = ("state/rng", b"0123");
pub const SECRET: (&str, &[u8]) = ("secret", b"not yours");

/// A whole checkpoint on disk: up to the first zero byte its manifest (sealed), after it the content of [`WEIGHTS`].
///
/// Whatever they say, the store returns only what has the checksums that the manifest promises, and nothing from outside of its directory.
pub fn checkpoint(bytes: &[u8]) -> bool {
    static DIR: OnceLock<Mutex<tempfile::TempDir>> = OnceLock::new();
    let dir = DIR.get_or_init(|| Mutex::new(tempfile::tempdir().unwrap()));
    let dir = dir.lock().unwrap_or_else(PoisonError::into_inner);
    let (manifest, weights) = match bytes.iter().position(|&byte| byte == 0) {
        Some(zero) => (&bytes[..zero], &bytes[zero + 1..]),
        None => (bytes, &[][..]),
    };
    let store = dir.path().join("store");
    let inside = store.join("checkpoint_000000");
    fs::create_dir_all(inside.join(Path::new(NESTED.0).parent().unwrap())).unwrap();
    fs::write(dir.path().join(SECRET.0), SECRET.1).unwrap();
    fs::write(inside.join(NESTED.0), NESTED.1).unwrap();
    fs::write(inside.join(WEIGHTS), weights).unwrap();
    fs::write(inside.join("manifest.json"), seal(manifest)).unwrap();

    let opened = Storage::open(store.to_str().unwrap()).unwrap();
    let store = CheckpointStore::open(opened, Retention::default()).unwrap();
    let Some(latest) = store.latest().unwrap() else {
        assert_eq!(store.skipped().len(), 1, "what is passed over is said");
        let error = Checkpoint::find(inside.to_str().unwrap()).unwrap_err();
        assert!(error.to_string().len() <= ERROR_BYTES);
        return false;
    };
    for entry in latest.files() {
        let content = latest.read(&entry.name).unwrap();
        assert_eq!((content.len() as u64, crc32c::crc32c(&content)), (entry.size_bytes, entry.crc32c));
        assert!(content == weights || content == NESTED.1, "`{}` is none of its files", entry.name);
    }
    let found = Checkpoint::find(inside.to_str().unwrap()).unwrap();
    assert_eq!(serde_json::to_vec(found.metadata()).unwrap(), serde_json::to_vec(latest.metadata()).unwrap());
    true
}
