//! Checkpoints under damage: the invariants of `air_core::checkpoint`, by number.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::thread;

use air_core::CoreError;
use air_core::checkpoint::{Checkpoint, CheckpointError, CheckpointStore, Mode, Retention};
use air_core::storage::Storage;
use tempfile::TempDir;

fn open(dir: &TempDir, retention: Retention) -> CheckpointStore {
    let storage = Storage::open(dir.path().to_str().unwrap()).unwrap();
    CheckpointStore::open(storage, retention).unwrap()
}

fn loss(value: f64) -> BTreeMap<String, f64> {
    [("loss".to_owned(), value)].into()
}

/// Saves two files whose content tells the step.
fn save(store: &CheckpointStore, step: u64, value: f64) -> Checkpoint {
    let weights = vec![step as u8; 1000];
    store.save(step, &loss(value), &[("weights.bin", weights.into()), ("state/rng", "0123".into())]).unwrap()
}

fn steps(checkpoints: &[Checkpoint]) -> Vec<u64> {
    checkpoints.iter().map(Checkpoint::step).collect()
}

fn checkpoint_error<T: std::fmt::Debug>(result: Result<T, CoreError>) -> CheckpointError {
    match result.unwrap_err() {
        CoreError::Checkpoint(error) => error,
        other => panic!("not a checkpoint error: {other}"),
    }
}

/// The reasons for which checkpoints were passed over, with the store's directory cut out.
fn skipped(store: &CheckpointStore, dir: &TempDir) -> Vec<String> {
    let root = format!("{}/", dir.path().display());
    store.skipped().iter().map(|skipped| skipped.reason.to_string().replace(&root, "")).collect()
}

#[test]
fn what_is_saved_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, Retention::default());
    assert!(store.latest().unwrap().is_none());
    assert!(store.list().unwrap().is_empty());

    save(&store, 10, 0.5);
    let saved = save(&store, 20, 0.25);
    let latest = store.latest().unwrap().unwrap();
    assert_eq!(latest.step(), 20);
    assert_eq!(latest.metrics(), &loss(0.25));
    assert_eq!(latest.read("weights.bin").unwrap(), vec![20; 1000]);
    assert_eq!(latest.read("state/rng").unwrap(), "0123");
    assert_eq!(
        latest.files().iter().map(|file| file.name.as_str()).collect::<Vec<_>>(),
        ["weights.bin", "state/rng"]
    );
    assert_eq!(latest.metadata(), saved.metadata());
    assert_eq!(latest.local_path().unwrap(), dir.path().join("checkpoint_000001"));
    assert_eq!(
        checkpoint_error(latest.read("optimizer")).to_string(),
        format!("checkpoint `{}` has no file `optimizer`; it has: weights.bin, state/rng", latest.location())
    );
    assert_eq!(steps(&store.list().unwrap()), [10, 20]);
    assert_eq!(store.skipped(), []);
}

#[test]
fn equal_saves_give_equal_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let bytes = |dir: &TempDir| {
        save(&open(dir, Retention::default()), 3, 0.1);
        fs::read(dir.path().join("checkpoint_000000/manifest.json")).unwrap()
    };
    assert_eq!(bytes(&one), bytes(&two));
}

/// Copies the first `count` files, in the order in which a save writes them.
fn partial_copy(from: &Path, to: &Path, count: usize) {
    for name in ["claim", "weights.bin", "state/rng", "manifest.json"].iter().take(count) {
        fs::create_dir_all(to.join(name).parent().unwrap()).unwrap();
        fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn invariant_1_a_save_cut_off_anywhere_leaves_the_one_before() {
    for written in 0..=4 {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir, Retention::default());
        save(&store, 1, 0.5);
        let (whole, cut) = (dir.path().join("checkpoint_000000"), dir.path().join("checkpoint_000001"));
        fs::create_dir(&cut).unwrap();
        partial_copy(&whole, &cut, written);

        let found = store.latest().unwrap().unwrap();
        let complete = written == 4;
        assert_eq!(found.local_path().unwrap(), if complete { cut } else { whole });
        let reason = "checkpoint `checkpoint_000001` is incomplete: \
                      its manifest is missing, so its save did not finish";
        let expected = if complete { vec![] } else { vec![reason] };
        assert_eq!(skipped(&store, &dir), expected, "after {written} files");

        // The next save takes another number, and goes through.
        assert_eq!(save(&store, 2, 0.4).local_path().unwrap(), dir.path().join("checkpoint_000002"));
        assert_eq!(store.latest().unwrap().unwrap().step(), 2);
        let expected = if complete { vec![] } else { vec!["checkpoint_000001"] };
        assert_eq!(store.delete_incomplete().unwrap(), expected);
        assert_eq!(dir.path().join("checkpoint_000001").exists(), complete);
    }
}

#[test]
fn invariant_2_damage_is_named_and_passed_over() {
    let change = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    type Damage<'a> = Box<dyn Fn(&Path) + 'a>;
    let damages: Vec<(Damage, &str)> = vec![
        (
            Box::new(|dir| change(&dir.join("weights.bin"), &|bytes| bytes.truncate(999))),
            "`weights.bin` has 999 bytes, 1000 were saved",
        ),
        (
            Box::new(|dir| change(&dir.join("weights.bin"), &|bytes| bytes.push(0))),
            "`weights.bin` has 1001 bytes, 1000 were saved",
        ),
        (
            Box::new(|dir| change(&dir.join("state/rng"), &|bytes| bytes[2] ^= 1)),
            "`state/rng` has checksum 159bface, 063962b9 was saved",
        ),
        (Box::new(|dir| fs::remove_file(dir.join("state/rng")).unwrap()), "`state/rng` is missing"),
        (
            Box::new(|dir| change(&dir.join("manifest.json"), &|bytes| bytes.truncate(100))),
            "`manifest.json` cannot be read: EOF while parsing",
        ),
        (
            Box::new(|dir| fs::write(dir.join("manifest.json"), "").unwrap()),
            "`manifest.json` cannot be read: EOF",
        ),
        (
            Box::new(|dir| {
                change(&dir.join("manifest.json"), &|bytes| {
                    let text = String::from_utf8(bytes.clone()).unwrap();
                    *bytes = text.replace("\"step\": 2", "\"step\": 3").into_bytes();
                });
            }),
            "`manifest.json` has checksum ",
        ),
        (
            Box::new(|dir| fs::write(dir.join("manifest.json"), vec![b' '; 5 << 20]).unwrap()),
            "`manifest.json` is larger than 4194304 bytes",
        ),
    ];
    for (damage, reason) in damages {
        let dir = tempfile::tempdir().unwrap();
        let store = open(&dir, Retention::best(5, "loss", Mode::Min));
        save(&store, 1, 0.5);
        let damaged = save(&store, 2, 0.1);
        damage(&damaged.local_path().unwrap());

        assert_eq!(store.latest().unwrap().unwrap().step(), 1, "{reason}");
        assert_eq!(store.best().unwrap().unwrap().step(), 1, "{reason}");
        let [told] = &skipped(&store, &dir)[..] else { panic!("{reason}: {:?}", store.skipped()) };
        let start = format!("checkpoint `checkpoint_000001` is corrupt: {reason}");
        assert!(told.starts_with(&start), "{told} is not {start}");
        // Whoever names it gets the same answer.
        let error = checkpoint_error(Checkpoint::find(&damaged.location()));
        assert_eq!(error, store.skipped()[0].reason);
    }
}

#[test]
fn a_handle_notices_damage_after_it_was_made() {
    let dir = tempfile::tempdir().unwrap();
    let saved = save(&open(&dir, Retention::default()), 1, 0.5);
    let path = saved.local_path().unwrap();
    fs::write(path.join("weights.bin"), vec![9; 1000]).unwrap();
    fs::write(path.join("state/rng"), "01234").unwrap();
    let text = checkpoint_error(saved.read("weights.bin")).to_string();
    assert!(text.contains("`weights.bin` has checksum"), "{text}");
    let text = checkpoint_error(saved.read("state/rng")).to_string();
    assert!(text.ends_with("`state/rng` has more bytes than the 4 saved"), "{text}");
}

#[test]
fn invariant_3_the_newest_and_the_best_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, Retention::best(2, "loss", Mode::Min));
    for (step, value) in [0.5, 0.1, f64::NAN, 0.3, 0.9].into_iter().enumerate() {
        let saved = save(&store, step as u64, value);
        assert_eq!(store.latest().unwrap().unwrap().location(), saved.location());
    }
    assert_eq!(steps(&store.list().unwrap()), [1, 3, 4]);
    assert_eq!(store.best().unwrap().unwrap().step(), 1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    assert_eq!(store.skipped(), []);

    // Where nothing was ever good, the newest is the best.
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, Retention::best(1, "loss", Mode::Max));
    save(&store, 1, f64::NAN);
    save(&store, 2, f64::NAN);
    assert_eq!(steps(&store.list().unwrap()), [2]);
    assert!(store.best().unwrap().unwrap().metrics()["loss"].is_nan());
    let without_score = open(&dir, Retention::newest(1));
    assert_eq!(checkpoint_error(without_score.best()), CheckpointError::NoScore);
}

#[test]
fn many_threads_and_stores_save_at_once() {
    let dir = tempfile::tempdir().unwrap();
    // Two stores on one directory are what two processes are.
    let stores = [open(&dir, Retention::default()), open(&dir, Retention::default())];
    thread::scope(|scope| {
        for thread in 0..8_u64 {
            let store = &stores[thread as usize % 2];
            scope.spawn(move || (0..5).for_each(|i| drop(save(store, thread * 5 + i, 0.0))));
        }
    });
    let all = stores[0].list().unwrap();
    assert_eq!(steps(&all).into_iter().collect::<BTreeSet<_>>(), (0..40).collect());
    for checkpoint in &all {
        assert_eq!(checkpoint.read("weights.bin").unwrap(), vec![checkpoint.step() as u8; 1000]);
    }
    assert_eq!(all.last().unwrap().local_path().unwrap(), dir.path().join("checkpoint_000039"));
}

#[test]
fn saving_and_deleting_at_once_keeps_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, Retention::newest(2));
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..5 {
                    save(store, thread * 5 + i, 0.0);
                    store.latest().unwrap();
                }
            });
        }
    });
    save(&store, 100, 0.0);
    assert_eq!(store.list().unwrap().len(), 2);
    assert_eq!(store.latest().unwrap().unwrap().step(), 100);
}

#[test]
fn a_save_that_fails_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir, Retention::default());
    // The second file needs a directory where the first is a file.
    let error = store.save(1, &loss(0.0), &[("a", "x".into()), ("a/b", "y".into())]).unwrap_err();
    assert!(error.to_string().starts_with("cannot write `"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let error = checkpoint_error(store.save(1, &loss(0.0), &[("../escape", "x".into())]));
    assert!(matches!(error, CheckpointError::BadName { .. }));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    assert!(store.latest().unwrap().is_none());
}

#[test]
fn a_checkpoint_is_found_by_its_own_path_and_by_its_stores() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    let error = checkpoint_error(Checkpoint::find(root)).to_string();
    assert_eq!(error, format!("no checkpoint in `{root}`"));
    let store = open(&dir, Retention::default());
    let first = save(&store, 1, 0.5);
    save(&store, 2, 0.5);
    assert_eq!(Checkpoint::find(root).unwrap().step(), 2);
    assert_eq!(Checkpoint::find(&first.location()).unwrap().step(), 1);
    fs::remove_file(first.local_path().unwrap().join("manifest.json")).unwrap();
    let error = checkpoint_error(Checkpoint::find(&first.location()));
    assert_eq!(error, CheckpointError::Incomplete { checkpoint: first.location() });
}

#[test]
fn other_stores_than_files_hold_checkpoints_too() {
    let storage = Storage::open("memory:///run").unwrap();
    let store = CheckpointStore::open(storage, Retention::newest(2)).unwrap();
    for step in 0..4 {
        save(&store, step, 0.0);
    }
    assert_eq!(steps(&store.list().unwrap()), [2, 3]);
    assert_eq!(store.latest().unwrap().unwrap().read("state/rng").unwrap(), "0123");
}
