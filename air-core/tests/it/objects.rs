//! Objects: put, get, wait, and what spills.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use air_core::object::{ObjectConfig, Spill};
use air_core::tensor::{DType, Tensor};
use air_core::{Clock, CoreError, Object, ObjectError, Runtime, RuntimeConfig, block_on};
use allocation_counter::measure;

const SECOND: Duration = Duration::from_secs(1);
const KIB: usize = 1 << 10;

fn with_memory(bytes: usize, spill_dir: &Path) -> Runtime {
    let objects = ObjectConfig::default().memory_bytes(bytes).spill_dir(spill_dir);
    Runtime::with(RuntimeConfig::default().objects(objects)).unwrap()
}

/// How many files there are, in whatever directory of the runtime's.
fn files(dir: &Path) -> usize {
    let runtimes = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    runtimes.map(|runtime| std::fs::read_dir(runtime).unwrap().count()).sum()
}

/// A task that ends when told.
fn held(runtime: &Runtime) -> (Object<i32>, mpsc::Sender<i32>) {
    let (release, released) = mpsc::channel();
    let object = runtime.task("held").spawn(move || Ok(released.recv()?));
    (object, release)
}

#[test]
fn a_value_is_put_and_got_without_a_copy() {
    let runtime = Runtime::start().unwrap();
    let values = vec![1.5_f32; 4096];
    let address = values.as_ptr();
    let plain = runtime.put(values).unwrap();
    assert_eq!(plain.get().unwrap().as_ptr(), address);
    let tensor = Tensor::zeros::<f32>(&[64, 64]).unwrap();
    let counted = runtime.put(tensor.clone()).unwrap();
    assert!(counted.get().unwrap().shares_memory_with(&tensor));
    assert!(plain.is_ready() && counted.try_get().unwrap().is_ok());
    let awaited = block_on(async { (&counted).await.unwrap().size_bytes() });
    assert_eq!(awaited, 16 * KIB);
    // A value outlives the handle and the runtime.
    let value = plain.get().unwrap();
    drop((plain, runtime));
    assert_eq!(value[4095], 1.5);
}

#[test]
fn wait_returns_what_is_ready_and_leaves_nothing_behind() {
    let (clock, manual) = Clock::manual();
    let config = RuntimeConfig::default().clock(clock);
    let runtime = Runtime::with(config.tasks(air_core::task::TaskConfig::default().threads(4))).unwrap();
    let (objects, release): (Vec<_>, Vec<_>) = (0..4).map(|_| held(&runtime)).unzip();
    assert_eq!(runtime.wait(&objects, 0, None), [0_usize; 0]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| runtime.wait(&objects, 1, Some(SECOND)));
        manual.wait_for_sleepers(1);
        manual.advance(SECOND);
        assert!(waiting.join().unwrap().is_empty(), "the limit has passed");
    });
    release[2].send(2).unwrap();
    assert_eq!(runtime.wait(&objects, 1, None), [2]);
    release[0].send(0).unwrap();
    assert_eq!(runtime.wait(&objects, 2, Some(SECOND)), [0, 2]);
    assert!(matches!(
        std::thread::scope(|scope| {
            let late = scope.spawn(|| objects[1].get_within(SECOND));
            manual.wait_for_sleepers(1);
            manual.advance(SECOND);
            late.join().unwrap()
        }),
        Err(ObjectError::Expired { waited: SECOND })
    ));
    drop(release);
    let (ready, errors): (Vec<_>, Vec<_>) = objects.iter().partition(|object| object.get().is_ok());
    assert_eq!((ready.len(), errors.len()), (2, 2), "a failed object is ready too");
    assert_eq!(runtime.wait(&objects, 9, None), [0, 1, 2, 3]);
    let all = runtime.get_all_within(&objects, SECOND).unwrap_err();
    assert_eq!(all.to_string(), "task `held` failed");
}

#[test]
fn above_the_budget_the_least_recently_used_go_to_disk_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = with_memory(3 * KIB, dir.path());
    let objects: Vec<_> = (0..3_u8).map(|n| runtime.put(vec![n; KIB]).unwrap()).collect();
    assert_eq!(runtime.objects().in_memory_bytes, 3 * KIB);
    objects[0].get().unwrap();
    let more = runtime.put(vec![3_u8; KIB]).unwrap();
    let stats = runtime.objects();
    assert_eq!((stats.in_memory_bytes, stats.spilled_bytes, stats.spilled), (3 * KIB, KIB, 1));
    assert_eq!(files(dir.path()), 1);
    // The second is the one that was not used; reading it back sends the third away.
    assert_eq!(*objects[1].get().unwrap(), vec![1_u8; KIB]);
    let stats = runtime.objects();
    assert_eq!((stats.spills_total, stats.restores_total, stats.in_memory, stats.spilled), (2, 1, 3, 1));
    assert_eq!(block_on(async { (&objects[2]).await }).unwrap()[..], vec![2_u8; KIB][..]);
    // Dropping the last handle frees memory and disk at once.
    drop((objects, more));
    let stats = runtime.objects();
    assert_eq!((stats.in_memory_bytes, stats.spilled_bytes, stats.in_memory, stats.spilled), (0, 0, 0, 0));
    assert_eq!(files(dir.path()), 0);
    drop(runtime);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the runtime's directory is gone");
}

#[test]
fn what_is_held_never_spills() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = with_memory(KIB, dir.path());
    let first = runtime.put(vec![1_u8; KIB]).unwrap();
    let value = first.get().unwrap();
    let second = runtime.put(vec![2_u8; KIB]).unwrap();
    let both = second.get().unwrap();
    let stats = runtime.objects();
    assert_eq!((stats.in_memory_bytes, stats.pinned, stats.budget_bytes), (2 * KIB, 2, KIB));
    let again = value.clone();
    drop((value, both));
    let third = runtime.put(vec![3_u8; KIB]).unwrap();
    let stats = runtime.objects();
    assert_eq!((stats.in_memory_bytes, stats.pinned, stats.spilled), (KIB, 1, 2));
    assert_eq!(again[0], 1);
    assert_eq!(third.get().unwrap()[0], 3);
}

#[test]
fn tensors_of_every_type_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = with_memory(0, dir.path());
    for dtype in DType::ALL {
        let object = runtime.put(Tensor::zeros_of(dtype, &[3, 5]).unwrap()).unwrap();
        assert_eq!(runtime.objects().spilled, 1, "{dtype}");
        let back = object.get().unwrap();
        assert_eq!((back.dtype(), back.shape()), (dtype, &[3, 5][..]));
    }
    let odd = Tensor::from_vec((0..6).map(|n| n as f64).collect(), &[2, 3]).unwrap().transpose();
    let back = runtime.put(odd).unwrap().get().unwrap().to_vec::<f64>().unwrap();
    assert_eq!(back, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    let bytes = runtime.put(bytes::Bytes::from_static(b"seven")).unwrap();
    assert_eq!(bytes.get().unwrap()[..], b"seven"[..]);
}

/// A type of the user's own.
#[derive(Debug, PartialEq)]
struct Words(Vec<String>);

impl Spill for Words {
    fn size_bytes(&self) -> usize {
        self.0.iter().map(String::capacity).sum()
    }

    fn encode(&self, to: &mut dyn Write) -> std::io::Result<()> {
        to.write_all(self.0.join(" ").as_bytes())
    }

    fn decode(from: &mut dyn Read, _: u64) -> std::io::Result<Self> {
        let mut text = String::new();
        from.read_to_string(&mut text)?;
        Ok(Self(text.split(' ').map(str::to_owned).collect()))
    }
}

#[test]
fn a_type_of_ones_own_spills_where_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let words = || Words(vec!["two".into(), "words".into()]);
    let objects = ObjectConfig::default().memory_bytes(0).spill_dir(dir.path()).spill::<Words>();
    let runtime = Runtime::with(RuntimeConfig::default().objects(objects)).unwrap();
    // Put, or made by a task: both are counted.
    let put = runtime.put(words()).unwrap();
    let made = runtime.task("words").spawn(move || Ok(words()));
    assert_eq!(*made.get().unwrap(), words());
    assert_eq!(*put.get().unwrap(), words());
    assert_eq!(runtime.objects().restores_total, 2);
    let without = with_memory(0, dir.path());
    let held = without.put(words()).unwrap();
    assert_eq!((without.objects().in_memory_bytes, without.objects().spilled), (0, 0));
    assert_eq!(*held.get().unwrap(), words());
}

#[test]
fn a_disk_that_cannot_be_written_is_a_clear_error_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let runtime = with_memory(KIB, &missing);
    let first = runtime.put(vec![1_u8; KIB]).unwrap();
    let error = runtime.put(vec![2_u8; KIB]).unwrap_err();
    assert_eq!(error.value, vec![2; KIB], "the value comes back");
    assert!(matches!(&error.source, ObjectError::Spill { path, .. } if path.starts_with(&missing)));
    let text = CoreError::from(error).to_string();
    assert!(text.starts_with("cannot spill to ") && text.contains("raise `objects.memory_bytes`"), "{text}");
    assert_eq!(runtime.objects().in_memory_bytes, KIB, "what was not put is not counted");
    // A task's result has nowhere to go back to: it is kept.
    let made = runtime.task("make").spawn(|| Ok(vec![3_u8; KIB]));
    assert_eq!(made.get().unwrap()[0], 3);
    assert_eq!(first.get().unwrap()[0], 1);
    let stats = runtime.objects();
    assert_eq!((stats.in_memory_bytes, stats.spill_failures_total), (2 * KIB, 2));
    // When the disk is back, so is the budget.
    std::fs::create_dir(&missing).unwrap();
    let last = runtime.put(vec![4_u8; KIB]).unwrap();
    assert_eq!(runtime.objects().in_memory_bytes, KIB);
    assert_eq!(last.get().unwrap()[0], 4);
}

#[test]
fn a_full_disk_leaves_no_part_of_a_file() {
    struct Full;
    impl Spill for Full {
        fn size_bytes(&self) -> usize {
            1
        }
        fn encode(&self, to: &mut dyn Write) -> std::io::Result<()> {
            to.write_all(&vec![0; 1 << 17])?;
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn decode(_: &mut dyn Read, _: u64) -> std::io::Result<Self> {
            Ok(Self)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let objects = ObjectConfig::default().memory_bytes(0).spill_dir(dir.path()).spill::<Full>();
    let runtime = Runtime::with(RuntimeConfig::default().objects(objects)).unwrap();
    let error = runtime.put(Full).unwrap_err();
    assert!(
        matches!(&error.source, ObjectError::Spill { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
    );
    assert_eq!(files(dir.path()), 0);
}

#[test]
fn a_file_that_was_changed_is_an_error_not_a_value() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = with_memory(0, dir.path());
    let object = runtime.put(vec![7_u8; KIB]).unwrap();
    let runtimes = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let file = std::fs::read_dir(runtimes).unwrap().next().unwrap().unwrap().path();
    let good = std::fs::read(&file).unwrap();
    for spoilt in [good[..KIB - 1].to_vec(), [&good[..KIB - 1], &[8]].concat(), [&good[..], &[7]].concat()] {
        std::fs::write(&file, spoilt).unwrap();
        assert!(matches!(object.get(), Err(ObjectError::Restore { .. })));
    }
    std::fs::write(&file, good).unwrap();
    assert_eq!(object.get().unwrap()[..], [7; KIB]);
}

#[test]
fn what_is_on_disk_ends_with_the_runtime_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = with_memory(KIB, dir.path());
    let (gone, kept) = (runtime.put(vec![1_u8; KIB]).unwrap(), runtime.put(vec![2_u8; KIB]).unwrap());
    drop(runtime);
    assert_eq!(kept.get().unwrap()[0], 2);
    assert!(matches!(gone.get(), Err(ObjectError::Gone)));
    assert!(matches!(block_on(async { gone.await }), Err(ObjectError::Gone)));
}

/// The sum of what is accounted is what the allocator says the values take.
#[test]
fn the_accounting_is_exact() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = with_memory(usize::MAX, dir.path());
    let bytes_of = |len: usize| {
        let mut objects = Vec::with_capacity(64);
        let used = measure(|| {
            for n in 0..32 {
                objects.push(runtime.put(vec![0_u8; n * len]).unwrap());
            }
        });
        (used.bytes_current, runtime.objects().in_memory_bytes as i64)
    };
    // The same objects with next to nothing in them: what is left is what an object costs besides its value.
    bytes_of(1);
    let ((small, small_counted), (large, large_counted)) = (bytes_of(1), bytes_of(4096));
    assert_eq!(large - small, large_counted - small_counted);
    let per_object = (small - small_counted) / 32;
    assert!(per_object < 512, "{per_object} bytes an object");
    assert_eq!(runtime.objects().in_memory_bytes, 0);
}

#[test]
fn getting_and_spilling_from_many_threads_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = with_memory(4 * KIB, dir.path());
    let objects: Vec<_> = (0..16_u8).map(|n| runtime.put(vec![n; KIB]).unwrap()).collect();
    let objects = Arc::new(objects);
    std::thread::scope(|scope| {
        for thread in 0..4_usize {
            let (objects, runtime) = (&objects, &runtime);
            scope.spawn(move || {
                for step in 0..200_usize {
                    let n = (step * (2 * thread + 3) + thread) % 16;
                    assert_eq!(objects[n].get().unwrap()[..], [n as u8; KIB][..]);
                    assert!(runtime.objects().in_memory_bytes <= 16 * KIB);
                }
            });
        }
    });
    // Room is made for what is put or read, not when it is let go of: one more put brings it within the budget.
    let last = runtime.put(vec![0_u8; KIB]).unwrap();
    let stats = runtime.objects();
    assert!(stats.in_memory_bytes <= 4 * KIB, "{stats:?}");
    assert_eq!(stats.in_memory_bytes + stats.spilled_bytes, 17 * KIB);
    assert_eq!(files(dir.path()), stats.spilled);
    drop((objects, last));
    assert_eq!(files(dir.path()), 0);
}
