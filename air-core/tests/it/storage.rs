//! Files by path and URL.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use air_core::CoreError;
use air_core::storage::{Files, Storage, StorageError};
use tempfile::TempDir;

fn open(dir: &TempDir) -> Storage {
    Storage::open(dir.path().to_str().unwrap()).unwrap()
}

fn write(dir: &TempDir, names: &[&str]) {
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, name).unwrap();
    }
}

fn names(files: &Files) -> Vec<&str> {
    files.objects.iter().map(|object| object.name.as_str()).collect()
}

fn storage_error<T: std::fmt::Debug>(result: Result<T, CoreError>) -> StorageError {
    match result.unwrap_err() {
        CoreError::Storage(error) => error,
        other => panic!("not a storage error: {other}"),
    }
}

#[test]
fn what_is_put_is_got_listed_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    assert!(!storage.exists_blocking("a/b.txt").unwrap());
    storage.put_blocking("a/b.txt", "one").unwrap();
    storage.put_blocking("a/b.txt", "other").unwrap();
    storage.put_blocking("c.txt", vec![1_u8, 2]).unwrap();
    assert_eq!(storage.get_blocking("a/b.txt", 5).unwrap(), "other");
    assert_eq!(storage.size_bytes_blocking("a/b.txt").unwrap(), Some(5));
    assert_eq!(storage.checksum_blocking("c.txt").unwrap(), (2, crc32c::crc32c(&[1, 2])));
    let listed = storage.list_blocking("").unwrap();
    assert_eq!(
        listed.iter().map(|o| (o.name.as_str(), o.size_bytes)).collect::<Vec<_>>(),
        [("a/b.txt", 5), ("c.txt", 2)]
    );
    assert_eq!(storage.list_dirs_blocking().unwrap(), ["a"]);
    // The names of a listing are names for every other verb, below as well.
    assert_eq!(storage.list_blocking("a").unwrap()[0].name, "a/b.txt");
    assert_eq!(storage.join("a").unwrap().list_blocking("").unwrap()[0].name, "b.txt");

    storage.delete_blocking("c.txt").unwrap();
    storage.delete_blocking("c.txt").unwrap();
    storage.delete_dir_blocking("a").unwrap();
    assert!(storage.list_blocking("").unwrap().is_empty());
    assert!(!dir.path().join("a").exists());
}

#[test]
fn create_lets_one_of_many_win() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    let won: usize = thread::scope(|scope| {
        let tries: Vec<_> = (0..8)
            .map(|i| {
                scope.spawn({
                    let storage = &storage;
                    move || storage.create_blocking("claim", vec![i])
                })
            })
            .collect();
        tries.into_iter().map(|t| usize::from(t.join().unwrap().is_ok())).sum()
    });
    assert_eq!(won, 1);
    let error = storage_error(storage.create_blocking("claim", "again"));
    assert_eq!(error.to_string(), format!("`{}/claim` exists already", dir.path().display()));
}

/// While one thread writes 1 MiB of `a` or of `b` over and over, no reader ever sees both, or less.
#[test]
fn put_is_atomic() {
    const SIZE: usize = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    storage.put_blocking("x", vec![b'a'; SIZE]).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..40 {
                let letter = if round % 2 == 0 { b'b' } else { b'a' };
                storage.put_blocking("x", vec![letter; SIZE]).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let bytes = storage.get_blocking("x", SIZE as u64).unwrap();
            assert_eq!(bytes.len(), SIZE);
            assert!(bytes.iter().all(|byte| *byte == bytes[0]));
        }
    });
    // Nothing is left of the writing.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn get_has_a_limit() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    storage.put_blocking("big", vec![0_u8; 11]).unwrap();
    let error = storage_error(storage.get_blocking("big", 10));
    assert_eq!(
        error.to_string(),
        format!("`{}/big` is larger than the limit of 10 bytes", dir.path().display())
    );
    assert_eq!(storage.get_blocking("big", 11).unwrap().len(), 11);
}

#[test]
fn what_is_missing_or_a_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, &["sub/x"]);
    let storage = open(&dir);
    let place = dir.path().display();
    let error = |name: &str| storage_error(storage.get_blocking(name, 10)).to_string();
    assert_eq!(error("nothing"), format!("no such file: `{place}/nothing`"));
    assert_eq!(error("sub"), format!("`{place}/sub` is a directory, not a file"));
    assert!(!storage.exists_blocking("sub").unwrap());
    let under_a_file = storage_error(storage.put_blocking("sub/x/y", "z")).to_string();
    assert!(under_a_file.starts_with("cannot write `"), "{under_a_file}");
}

#[test]
fn a_name_cannot_leave_the_storage() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    for name in ["../x", "a/../../x", "/etc/passwd", "a//b", "./x"] {
        let error = storage_error(storage.put_blocking(name, "x"));
        assert!(matches!(error, StorageError::BadName { .. }), "{name}: {error}");
    }
    assert!(storage.join("..").is_err());
}

#[test]
fn names_with_odd_letters_survive() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    for name in ["a b.txt", "100%.csv", "ü/ñ", "x=1/y&z", "semi;colon", "hash#tag", "{braces}"] {
        storage.put_blocking(name, name.to_owned()).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), name);
        assert_eq!(storage.get_blocking(name, 100).unwrap(), name);
    }
    for object in storage.list_blocking("").unwrap() {
        assert_eq!(storage.get_blocking(&object.name, 100).unwrap(), object.name);
    }
}

#[test]
fn expand_finds_a_file_a_directory_and_a_pattern() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, &["b.csv", "a.csv", "c.parquet", "sub/d.csv", "_tmp/e.csv", ".hidden", "odd[1].csv"]);
    let root = dir.path().display();
    let expand = |what: &str| Storage::expand_blocking(&format!("{root}/{what}"));

    let all = expand("").unwrap();
    assert_eq!(names(&all), ["a.csv", "b.csv", "c.parquet", "odd[1].csv", "sub/d.csv"]);
    assert_eq!(names(&expand("*.csv").unwrap()), ["a.csv", "b.csv", "odd[1].csv"]);
    assert_eq!(
        names(&expand("**/*.csv").unwrap()),
        ["_tmp/e.csv", "a.csv", "b.csv", "odd[1].csv", "sub/d.csv"]
    );
    assert_eq!(names(&expand("[ab].csv").unwrap()), ["a.csv", "b.csv"]);
    assert_eq!(names(&expand("?.parquet").unwrap()), ["c.parquet"]);
    assert_eq!(names(&expand("s*/d.csv").unwrap()), ["sub/d.csv"]);

    // A file is a file even where its name looks like a pattern; and it can be read where it was found.
    for name in ["a.csv", "odd[1].csv", "sub/d.csv"] {
        let files = expand(name).unwrap();
        let [object] = files.objects.as_slice() else { panic!("{name}: {files:?}") };
        assert_eq!(files.storage.get_blocking(&object.name, 100).unwrap(), name);
        assert_eq!(object.size_bytes, name.len() as u64);
    }
    let url = format!("file://{root}/a.csv");
    assert_eq!(names(&Storage::expand_blocking(&url).unwrap()), ["a.csv"]);

    let error = |what: &str| storage_error(expand(what)).to_string();
    assert_eq!(error("*.json"), format!("no file matches `{root}/*.json`"));
    assert_eq!(error("nothing.csv"), format!("no such file: `{root}/nothing.csv`"));
    fs::create_dir(dir.path().join("empty")).unwrap();
    assert_eq!(error("empty"), format!("no file matches `{root}/empty`"));
    assert!(error("[a.csv").contains("is not a valid location: Pattern syntax error"));
}

#[test]
fn relative_paths_are_relative_to_the_working_directory() {
    // The working directory of a test is the crate's folder.
    let files = Storage::expand_blocking("src/s?ed.rs").unwrap();
    assert_eq!(names(&files), ["seed.rs"]);
    let manifest = Storage::open(".").unwrap().get_blocking("Cargo.toml", 1 << 20).unwrap();
    assert_eq!(manifest, fs::read("Cargo.toml").unwrap());
    assert_eq!(names(&Storage::expand_blocking("Cargo.toml").unwrap()), ["Cargo.toml"]);
}

#[test]
fn the_async_verbs_and_the_blocking_ones_work_inside_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        storage.put("x", "async").await.unwrap();
        assert_eq!(storage.get("x", 10).await.unwrap(), "async");
        storage.put_blocking("x", "blocking").unwrap();
        assert_eq!(storage.get_blocking("x", 10).unwrap(), "blocking");
        assert_eq!(storage.list("").await.unwrap().len(), 1);
    });
}

#[test]
fn memory_is_a_store_too() {
    let storage = Storage::open("memory:///run").unwrap();
    storage.put_blocking("a/b", "c").unwrap();
    assert_eq!(storage.clone().get_blocking("a/b", 1).unwrap(), "c");
    assert_eq!(storage.list_dirs_blocking().unwrap(), ["a"]);
    assert_eq!(storage.local_path("a"), None);
    assert_eq!(storage_error(storage.get_blocking("x", 1)).to_string(), "no such file: `memory:///run/x`");
}

#[test]
fn an_engine_finds_the_same_object() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(&dir);
    storage.put_blocking("a/b", "c").unwrap();
    assert_eq!(storage.base_url().as_str(), "file:///");
    let path = storage.path("a/b").unwrap();
    assert_eq!(Path::new("/").join(path.as_ref()), dir.path().join("a/b"));
    assert_eq!(storage.local_path("a/b").unwrap(), dir.path().join("a/b"));
    assert_eq!(storage.list_blocking("").unwrap()[0].path, path);
}

/// A worker's handler is one task of a runtime on its thread, however often it reads.
#[test]
fn a_thread_inside_a_runtime_may_block_on_many_reads() {
    let dir = tempfile::tempdir().unwrap();
    write(&dir, &["a"]);
    let storage = open(&dir);
    let (done, ended) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(async { (0..500).all(|_| storage.get_blocking("a", 10).is_ok()) });
        done.send(read).unwrap();
    });
    assert_eq!(ended.recv_timeout(std::time::Duration::from_mins(1)), Ok(true));
}

#[cfg(feature = "cloud")]
mod cloud {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// A web server with one file, `/data/x.csv`; it serves until the test ends.
    fn serve(content: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines: Vec<String> = BufReader::new(&stream)
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let Some((verb, path)) = lines.first().and_then(|line| line.split_once(' ')) else {
                    continue;
                };
                let found = path.starts_with("/data/x.csv ");
                let (status, body) = if found { ("200 OK", content) } else { ("404 Not Found", "") };
                let body_sent = if verb == "HEAD" { "" } else { body };
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                // A client may be gone already.
                let _ = stream.write_all(format!("{head}{body_sent}").as_bytes());
            }
        });
        format!("http://{address}")
    }

    #[test]
    fn a_file_on_a_web_server_is_read() {
        let url = serve("a,b\n1,2\n");
        let files = Storage::expand_blocking(&format!("{url}/data/x.csv")).unwrap();
        assert_eq!(names(&files), ["x.csv"]);
        assert_eq!(files.storage.get_blocking("x.csv", 100).unwrap(), "a,b\n1,2\n");
        assert!(matches!(
            storage_error(files.storage.get_blocking("x.csv", 3)),
            StorageError::TooLarge { .. }
        ));
        let missing = storage_error(files.storage.get_blocking("y.csv", 100)).to_string();
        assert_eq!(missing, format!("no such file: `{url}/data/y.csv`"));
        let pattern = storage_error(Storage::expand_blocking(&format!("{url}/data/*.csv"))).to_string();
        assert!(pattern.ends_with("a web server cannot be listed: name each file"), "{pattern}");

        // From a worker's thread, which is inside a runtime of its own.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(files.storage.get_blocking("x.csv", 100).unwrap().len(), 8);
            assert_eq!(files.storage.get("x.csv", 100).await.unwrap().len(), 8);
        });
    }
}
