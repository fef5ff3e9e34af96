//! Worker pools: order, states, retries, failures, and what is left when they are gone.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use air_core::resource::Resources;
use air_core::{Clock, Runtime, RuntimeConfig};
use air_data::{DataError, Dataset, Pool, RunState, Session, SessionConfig};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;

use super::{session, told};

fn numbers(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

fn batch(name: &str, values: Vec<i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from(values));
    RecordBatch::try_from_iter([(name, column)]).unwrap()
}

fn rows(ds: &Dataset) -> Vec<i64> {
    ds.take_all::<i64>().unwrap()
}

#[test]
fn all_workers_start_at_once_and_each_has_one_state() {
    let (inits, batches) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // Nobody passes before all four are there: workers that came one after the other would wait here for ever.
    let together = Arc::new(Barrier::new(4));
    let (counter, seen, all) = (inits.clone(), batches.clone(), together);
    let ds = session().range(1000).unwrap().map_batches_with(
        Pool::fixed(4).batch_size(10),
        move |worker| {
            counter.fetch_add(1, Ordering::Relaxed);
            all.wait();
            Ok((worker.rank, 0_i64))
        },
        move |(rank, count), input| {
            *count += 1;
            assert_eq!(input.num_rows(), 10);
            assert!(*rank < 4);
            seen.fetch_add(1, Ordering::Relaxed);
            Ok(input)
        },
    );
    assert_eq!(inits.load(Ordering::Relaxed), 0, "nothing runs before a terminal");
    assert_eq!(rows(&ds), (0..1000).collect::<Vec<_>>());
    assert_eq!((inits.load(Ordering::Relaxed), batches.load(Ordering::Relaxed)), (4, 100));
}

/// Batch 0 is not done before batch 1 is: with two workers at least one result waits for its turn.
fn crossed(pool: Pool) -> Vec<i64> {
    let second = Arc::new(Barrier::new(2));
    let ds = session().range(4).unwrap().map_batches_with(
        pool.batch_size(1),
        |_| Ok(()),
        move |(), input| {
            if numbers(&input)[0] < 2 {
                second.wait();
            }
            Ok(input)
        },
    );
    rows(&ds)
}

#[test]
fn results_wait_for_their_turn_unless_they_need_not() {
    assert_eq!(crossed(Pool::fixed(2)), [0, 1, 2, 3]);
    let mut any = crossed(Pool::fixed(2).as_completed());
    any.sort_unstable();
    assert_eq!(any, [0, 1, 2, 3]);
}

#[test]
fn as_completed_a_slow_batch_holds_up_nobody() {
    let (open, opened) = std::sync::mpsc::channel::<()>();
    let opened = Mutex::new(opened);
    let ds = session().range(50).unwrap().map_batches_with(
        Pool::fixed(2).batch_size(1).as_completed(),
        |_| Ok(()),
        move |(), input| {
            if numbers(&input)[0] == 0 {
                opened.lock().unwrap().recv()?;
            }
            Ok(input)
        },
    );
    let mut batches = ds.batches(1).unwrap();
    let first: Vec<i64> = batches.by_ref().take(40).map(|batch| numbers(&batch.unwrap())[0]).collect();
    assert!(!first.contains(&0), "{first:?}");
    open.send(()).unwrap();
    let mut all: Vec<i64> = batches.map(|batch| numbers(&batch.unwrap())[0]).chain(first).collect();
    all.sort_unstable();
    assert_eq!(all, (0..50).collect::<Vec<_>>());
}

#[test]
fn a_failed_batch_runs_again_in_a_fresh_life() {
    for panics in [false, true] {
        let lives = Arc::new(Mutex::new(Vec::new()));
        let seen = lives.clone();
        let ds = session().range(100).unwrap().map_batches_with(
            Pool::fixed(1).batch_size(10),
            |worker| Ok(worker.generation),
            move |life, input| {
                if numbers(&input)[0] == 50 {
                    seen.lock().unwrap().push(*life);
                    if *life == 1 {
                        assert!(!panics, "a bad batch");
                        return Err("a bad batch".into());
                    }
                }
                Ok(input)
            },
        );
        assert_eq!(rows(&ds), (0..100).collect::<Vec<_>>());
        assert_eq!(*lives.lock().unwrap(), [1, 2]);
        let stats = ds.stats().unwrap();
        let pool = stats.operators.iter().find_map(|operator| operator.pool).unwrap();
        assert_eq!((pool.workers, pool.retries, pool.skipped), (1, 1, 0));
        assert_eq!(stats.state, RunState::Finished);
    }
}

#[test]
fn a_batch_that_fails_for_good_is_told_with_file_rows_and_cause() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("numbers.csv");
    std::fs::write(&path, (0..30).fold("id\n".to_owned(), |text, n| format!("{text}{n}\n"))).unwrap();
    let ds = session().read_csv(path.to_str().unwrap()).unwrap();
    let with = |pool: Pool, f: fn(i64) -> bool, panics: bool| {
        ds.map_batches_with(
            pool.batch_size(10),
            |_| Ok(()),
            move |(), input| {
                if numbers(&input).into_iter().any(f) {
                    assert!(!panics, "too large");
                    return Err("too large".into());
                }
                Ok(input)
            },
        )
    };
    let file = path.to_str().unwrap().trim_start_matches('/').to_owned();
    let error = with(Pool::fixed(2), |n| n == 15, false).count().unwrap_err();
    assert_eq!(
        told(&error),
        format!("map_batches failed on rows 10..20 of {file} after 2 tries\n  caused by: too large")
    );
    let error = with(Pool::fixed(1).retries(0), |n| n == 15, true).count().unwrap_err();
    assert_eq!(
        told(&error),
        format!(
            "map_batches failed on rows 10..20 of {file} after 1 try\n  caused by: worker map_batches/0 panicked: too large"
        )
    );
    assert!(matches!(error.root(), DataError::Batch { attempts: 1, .. }));

    // Going on without what failed.
    let going_on = with(Pool::fixed(2).retries(2).max_errored_blocks(1), |n| n == 15, false);
    assert_eq!(rows(&going_on), (0..10).chain(20..30).collect::<Vec<_>>());
    let stats = going_on.stats().unwrap();
    let [skipped] = &stats.skipped[..] else { panic!("{:?}", stats.skipped) };
    assert_eq!((skipped.attempts, skipped.cause.as_str()), (3, "too large"));
    assert_eq!(skipped.places[0].to_string(), format!("rows 10..20 of {file}"));
    assert!(stats.to_string().contains(&format!("left out: rows 10..20 of {file}: too large")), "{stats}");
    // One more than may.
    let error = with(Pool::fixed(2).max_errored_blocks(1), |n| n >= 15, false).count().unwrap_err();
    assert!(matches!(error.root(), DataError::Batch { .. }), "{error:?}");
}

/// A pool whose first worker hangs over the rows 10..20, in a runtime whose time passes only once it does.
fn hanging(retries: u32) -> air_data::Result<Vec<i64>> {
    let (clock, time) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let config = SessionConfig { parallelism: 2, progress: false, ..SessionConfig::default() };
    let session = Session::with_runtime(config, runtime.handle()).unwrap();
    let (hang, hung) = std::sync::mpsc::channel();
    let (stay, stayed) = std::sync::mpsc::channel::<()>();
    let stayed = Mutex::new(stayed);
    let ds = session.range(30).unwrap().map_batches_with(
        Pool::fixed(1).batch_size(10).stall(Duration::from_secs(5)).retries(retries),
        |worker| Ok(worker.generation),
        move |life, input| {
            if numbers(&input)[0] == 10 && *life == 1 {
                hang.send(())?;
                let _ = stayed.lock().unwrap().recv();
            }
            Ok(input)
        },
    );
    let over = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        let (over, time) = (&over, &time);
        scope.spawn(move || {
            hung.recv().unwrap();
            while !over.load(Ordering::Relaxed) {
                time.advance(Duration::from_secs(5));
                std::thread::yield_now();
            }
        });
        let result = ds.take_all::<i64>();
        over.store(true, Ordering::Relaxed);
        result
    });
    // Lets the thread that was left behind go, so that the runtime can end.
    drop(stay);
    result
}

#[test]
fn a_hung_worker_is_told() {
    assert_eq!(
        told(&hanging(0).unwrap_err()),
        "map_batches failed on rows 10..20 of block 0 after 1 try\n  caused by: worker map_batches/0 stalled: one message took longer than 5s"
    );
}

#[test]
fn a_runtime_that_ends_ends_the_run() {
    let runtime = Runtime::start().unwrap();
    let config = SessionConfig { parallelism: 2, progress: false, ..SessionConfig::default() };
    let session = Session::with_runtime(config, runtime.handle()).unwrap();
    let ds = session.range(1 << 40).unwrap().map_batches_with(Pool::fixed(2), |_| Ok(()), |(), b| Ok(b));
    let mut batches = ds.batches(1000).unwrap();
    assert!(batches.next().unwrap().is_ok());
    drop(runtime);
    let error = batches.find_map(Result::err).unwrap();
    assert!(matches!(error.root(), DataError::Workers(_) | DataError::Batch { .. }), "{error:?}");
    assert!(told(&ds.count().unwrap_err()).starts_with("cannot start workers"));
}

#[test]
fn workers_that_cannot_start_end_the_run() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counter = tries.clone();
    let ds = session().range(30).unwrap().map_batches_with(
        Pool::fixed(1).retries(2),
        move |_| -> Result<(), air_core::BoxError> {
            counter.fetch_add(1, Ordering::Relaxed);
            Err("no such model".into())
        },
        |(), input| Ok(input),
    );
    let error = ds.count().unwrap_err();
    assert_eq!(told(&error), "the workers of map_batches do not start\n  caused by: no such model");
    assert!(tries.load(Ordering::Relaxed) >= 3);
    let ds = session().range(30).unwrap().map_batches_with(
        Pool::fixed(2).retries(0),
        |_| -> Result<(), air_core::BoxError> { panic!("broken file") },
        |(), input| Ok(input),
    );
    let error = told(&ds.count().unwrap_err());
    assert_eq!(error, "the workers of map_batches do not start\n  caused by: panicked: broken file");
}

#[test]
fn a_growing_pool_grows_while_batches_wait() {
    let workers = Arc::new(AtomicUsize::new(0));
    let (counter, gate) = (workers.clone(), Arc::new(Barrier::new(3)));
    let passed = Arc::new(AtomicUsize::new(0));
    let ds = session().range(30).unwrap().map_batches_with(
        Pool::growing(1..=3).batch_size(1),
        move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(())
        },
        move |(), input| {
            // The first three calls need three workers at once.
            if passed.fetch_add(1, Ordering::Relaxed) < 3 {
                gate.wait();
            }
            Ok(input)
        },
    );
    assert_eq!(ds.take_all::<i64>().unwrap().len(), 30);
    assert_eq!(workers.load(Ordering::Relaxed), 3);
}

#[test]
fn workers_hold_their_share_of_the_runtime() {
    let machine = Resources::new().cpu(2.0).custom("seat", 1.0);
    let runtime = Runtime::with(RuntimeConfig::default().resources(machine)).unwrap();
    let config = SessionConfig { parallelism: 2, progress: false, ..SessionConfig::default() };
    let session = Session::with_runtime(config, runtime.handle()).unwrap();
    let held = Arc::new(Mutex::new(0.0));
    let (seen, handle) = (held.clone(), runtime.handle());
    let ds = session.range(10).unwrap().map_batches_with(
        Pool::fixed(1).num_cpus(2.0),
        |_| Ok(()),
        move |(), input| {
            let state = handle.resources();
            *seen.lock().unwrap() = state.total.cpu - state.free.cpu;
            Ok(input)
        },
    );
    assert_eq!(ds.count().unwrap(), 10);
    assert_eq!(*held.lock().unwrap(), 2.0);
    let ds = session.range(10).unwrap().map_batches_with(
        Pool::fixed(1).num_gpus(1.0),
        |_| Ok(()),
        |(), input| Ok(input),
    );
    let error = told(&ds.count().unwrap_err());
    assert_eq!(error, "bad setting pool: its workers hold 1 gpu at the same time, and there is 0");
    // Two that would wait for each other.
    let one = |ds: &Dataset| ds.map_batches_with(Pool::fixed(1).num_cpus(1.5), |_| Ok(()), |(), b| Ok(b));
    assert_eq!(one(&session.range(10).unwrap()).count().unwrap(), 10);
    let error = told(&one(&one(&session.range(10).unwrap())).count().unwrap_err());
    assert_eq!(error, "bad setting pool: its workers hold 3 cpu at the same time, and there is 2");
}

#[test]
fn a_pool_may_return_other_columns_and_says_which_when_it_does_not() {
    let ds = session().range(5).unwrap();
    let double = |(): &mut (), input: RecordBatch| {
        Ok(batch("double", numbers(&input).into_iter().map(|n| 2 * n).collect()))
    };
    let schema = batch("double", vec![]).schema();
    let doubled = ds.map_batches_with(Pool::fixed(1).returns(schema), |_| Ok(()), double);
    assert_eq!(rows(&doubled), [0, 2, 4, 6, 8]);
    assert_eq!(doubled.schema().unwrap().field(0).name(), "double");
    let wrong = ds.map_batches_with(Pool::fixed(1).retries(0), |_| Ok(()), double);
    let error = told(&wrong.count().unwrap_err());
    assert!(error.contains("expected columns (id: Int64), got (double: Int64)"), "{error}");
}

#[test]
fn an_early_end_ends_the_workers() {
    let alive = Arc::new(AtomicUsize::new(0));
    struct Held(Arc<AtomicUsize>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let counter = alive.clone();
    let own = session();
    let ds = own.range(1 << 40).unwrap().map_batches_with(
        Pool::fixed(3).batch_size(100),
        move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(Held(counter.clone()))
        },
        |_, input| Ok(input),
    );
    let mut batches = ds.batches(100).unwrap();
    assert_eq!(numbers(&batches.next().unwrap().unwrap())[99], 99);
    drop(batches);
    // Joins the threads of the session, and of its workers.
    drop((ds, own));
    assert_eq!(alive.load(Ordering::Relaxed), 0);
}

#[test]
fn pools_out_of_range_are_refused() {
    let ds = session().range(5).unwrap();
    let refused =
        |pool: Pool| told(&ds.map_batches_with(pool, |_| Ok(()), |(), b| Ok(b)).count().unwrap_err());
    assert_eq!(refused(Pool::fixed(0)), "bad setting pool: between 1 and 1024 workers, not 0..=0");
    assert_eq!(
        refused(Pool::growing(1..=1025)),
        "bad setting pool: between 1 and 1024 workers, not 1..=1025"
    );
    assert_eq!(refused(Pool::fixed(1).batch_size(0)), "bad setting batch_size: a batch has at least one row");
    assert!(refused(Pool::fixed(1).num_gpus(1.5)).starts_with("bad setting pool: cannot ask for 1.5 gpu"));
}
