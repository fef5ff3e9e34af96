//! A disk that takes no more, on spilling and on writing: an error that says what, where and how much; nothing is left, and the process goes on.
//!
//! A limit on the size of files stands for the disk: it needs no privilege. The shell sets it, and that its signal is passed over.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use air_data::{DataError, Dataset, FileFormat, Session, SessionConfig, WriteMode, WriteOptions, asc, desc};

use super::told;

fn session(spill: &Path) -> Session {
    Session::new(SessionConfig {
        parallelism: 2,
        memory_limit_bytes: 16 << 20,
        spill_dir: Some(spill.to_owned()),
        progress: false,
        ..SessionConfig::default()
    })
    .unwrap()
}

/// Everything below a directory, but for directories.
fn files(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path().to_string_lossy().into_owned());
        }
    }
    found
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_mins(2), "until {what}");
        std::thread::yield_now();
    }
}

fn large(session: &Session) -> Dataset {
    session.range(4_000_000).unwrap().map_batches(Ok)
}

#[test]
fn a_full_disk_is_told_and_nothing_is_left_on_it() {
    if std::env::var_os("AIR_TEST_FULL").is_none() {
        // In blocks of 512 bytes or 1 KiB, as the shell has it: 1 or 2 MiB.
        let limit = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\"";
        let run = Command::new("sh")
            .args(["-c", limit])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "disk_full::a_full_disk_is_told_and_nothing_is_left_on_it", "--nocapture"])
            .env("AIR_TEST_FULL", "1")
            .output()
            .unwrap();
        assert!(
            run.status.success(),
            "{}{}",
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr)
        );
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (spill, out) = (dir.path().join("spill"), dir.path().join("out"));
    std::fs::create_dir(&out).unwrap();
    let session = session(&spill);
    let ds = large(&session);

    // Writing: one file, a new directory, a directory that is there.
    let place = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let over = || WriteOptions { mode: WriteMode::Overwrite, ..WriteOptions::default() };
    std::fs::create_dir(out.join("old")).unwrap();
    std::fs::write(out.join("old/part-00000.csv"), "id\n1\n").unwrap();
    let single = ds.write_ipc(place("large.arrow")).unwrap_err();
    let directory = ds.write_ipc(place("new")).unwrap_err();
    let replaced = ds.write(&place("old"), FileFormat::Ipc, over()).unwrap_err();
    for (error, name) in [(single, "large.arrow"), (directory, "new/part-0000"), (replaced, "old/part-0000")]
    {
        let text = told(&error);
        assert!(matches!(error.root(), DataError::Write { .. }), "{error:?}");
        assert!(text.starts_with(&format!("writing {}", place(name))), "{text}");
        assert!(
            text.contains("File too large (os error 27) with ") && text.contains("of the file written"),
            "{text}"
        );
        assert!(text.contains("; free space there, or write elsewhere"), "{text}");
    }
    assert_eq!(files(&out), [place("old/part-00000.csv")], "what was there is there, and nothing else");
    assert!(!out.join("new").exists());

    // Spilling: of a sort, and of what is kept.
    let sorted = ds.sort([desc("id")]).collect().map(drop).unwrap_err();
    let kept = ds.materialize().count().unwrap_err();
    for error in [sorted, kept] {
        let text = told(&error);
        assert!(matches!(error.root(), DataError::Spill { file_bytes: 1.., .. }), "{error:?}");
        assert!(text.starts_with(&format!("cannot spill to {}/", spill.display())), "{text}");
        assert!(
            text.contains("of this file written and ") && text.contains("raise memory_limit_bytes"),
            "{text}"
        );
        assert!(text.contains("File too large (os error 27)"), "{text}");
    }
    // Threads that had more to do let go of it in their own time.
    until("the disk and the memory are free", || {
        files(&spill).is_empty() && session.budget().usage().in_use_bytes == 0
    });

    // All goes on.
    let small = session.range(1000).unwrap();
    assert_eq!(small.sort([asc("id")]).take::<i64>(2).unwrap(), [0, 1]);
    assert_eq!(small.write_csv(place("small")).unwrap().len(), 1);
    assert_eq!(ds.count().unwrap(), 4_000_000);
}
