//! Tasks: graphs, errors, retries, time, order, nesting, streams, and their end.
#![allow(clippy::unwrap_used)]

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use air_core::object::{ObjectConfig, Value};
use air_core::resource::Resources;
use air_core::task::{self, Priority, Retry, TaskConfig, Unheard};
use air_core::{Backoff, Clock, ManualClock, Object, ObjectError, Runtime, RuntimeConfig, block_on};
use allocation_counter::measure;

const SECOND: Duration = Duration::from_secs(1);

fn with_threads(threads: usize, threads_max: usize) -> Runtime {
    let tasks = TaskConfig::default().threads(threads).threads_max(threads_max);
    Runtime::with(RuntimeConfig::default().tasks(tasks)).unwrap()
}

fn with_clock() -> (Runtime, ManualClock) {
    let (clock, manual) = Clock::manual();
    let config = RuntimeConfig::default().clock(clock).tasks(TaskConfig::default().threads(1));
    (Runtime::with(config).unwrap(), manual)
}

/// Keeps one thread busy until told; returns once it is.
fn hold(runtime: &Runtime) -> (Object<()>, mpsc::Sender<()>) {
    let (entered, is_in) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let object = runtime.task("hold").spawn(move || {
        entered.send(())?;
        let _ = released.recv();
        Ok(())
    });
    is_in.recv().unwrap();
    (object, release)
}

fn root<T: Send + Sync + 'static>(object: &Object<T>) -> ObjectError {
    object.get().err().unwrap().root().clone()
}

fn settles(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < SECOND * 30, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn objects_as_arguments_form_a_graph() {
    let runtime = Runtime::start().unwrap();
    assert_eq!(runtime.task_stats().threads, 0, "an idle runtime has no threads for tasks");
    let two = runtime.put(2_u64).unwrap();
    let left = runtime.task("left").arg(&two).spawn(|n| Ok(*n * 10));
    let right = runtime.task("right").arg(&two).spawn(|n| Ok(*n + 1));
    let both = runtime.task("both").arg(&left).arg(&right).spawn(|a, b| Ok(*a + *b));
    let many = vec![both.clone(), left, right];
    let sum = runtime.task("sum").arg(&many).arg(&two).arg(many.as_slice()).arg(both).spawn(
        |all: Vec<Value<u64>>, two, again, last| {
            Ok(all.iter().chain(&again).map(|n| **n).sum::<u64>() + *two + *last)
        },
    );
    assert_eq!(sum.get().unwrap(), 2 * (23 + 20 + 3) + 2 + 23);
    assert_eq!(block_on(async { (&sum).await.unwrap() }), 117);
    // An empty list is there at once.
    let none = runtime.task("none").arg(Vec::<Object<u8>>::new()).spawn(|all| Ok(all.len()));
    assert_eq!(none.get().unwrap(), 0);
    assert!(runtime.task_stats().threads <= 2 * std::thread::available_parallelism().unwrap().get());
}

#[test]
fn an_error_reaches_every_dependant_with_its_causes() {
    let runtime = Runtime::start().unwrap();
    let read = runtime.task("read").spawn(|| Ok(std::fs::read("/nowhere/at/all")?));
    let fine = runtime.put(1).unwrap();
    let parse = runtime.task("parse").arg(&fine).arg(&read).spawn(|_, bytes| Ok(bytes.len()));
    let report = runtime.task(String::from("report")).arg(vec![parse.clone()]).spawn(|lens| Ok(lens.len()));
    let error = report.get().unwrap_err();
    let mut chain = vec![error.to_string()];
    let mut cause = error.source();
    let mut last = None;
    while let Some(error) = cause {
        chain.push(error.to_string());
        (last, cause) = (Some(error), error.source());
    }
    let did_not = |task| format!("task `{task}` did not run: an argument of it has no value");
    assert_eq!(chain[..3], [did_not("report"), did_not("parse"), "task `read` failed".to_owned()]);
    let original = last.unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(original.kind(), std::io::ErrorKind::NotFound, "what the task returned, itself");
    assert_eq!((error.task(), error.root().task()), (Some("report"), Some("read")));
    // Who comes later gets the same.
    let late = runtime.task("late").arg(&report).spawn(|_| Ok(()));
    assert_eq!(root(&late).task(), Some("read"));
}

#[test]
fn a_failure_does_not_wait_for_the_other_arguments() {
    let runtime = with_threads(2, 8);
    let (held, release) = hold(&runtime);
    let fails = runtime.task("fails").spawn(|| Err::<(), _>("no".into()));
    let both = runtime.task("both").arg(&held).arg(&fails).spawn(|_, _| Ok(()));
    assert_eq!(root(&both).task(), Some("fails"));
    assert!(!held.is_ready());
    drop(release);
}

#[test]
fn a_panic_is_an_error_with_its_message_and_takes_no_thread_along() {
    let runtime = with_threads(1, 1);
    let number = 7;
    let boom = runtime.task("boom").spawn(move || -> Result<(), _> { panic!("at {number}") });
    // Waited for on the pool's thread rather than run by this one.
    assert_eq!(block_on(async { boom.await }).unwrap_err().to_string(), "task `boom` panicked: at 7");
    let alive = runtime.task("alive").spawn(|| Ok(std::thread::current().name().map(str::to_owned)));
    let name = block_on(async { alive.await }).unwrap();
    assert!(name.as_deref().unwrap().starts_with("air-task-"), "{name:?}");
    // A value that panics when it is dropped is nobody's thread either.
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let bad = Bad;
    let done = runtime.task("bad").retry(Retry::times(0)).spawn(move || {
        let _bad = &bad;
        Ok(5)
    });
    assert_eq!(block_on(async { done.await }).unwrap(), 5);
    assert_eq!(runtime.task("alive").spawn(|| Ok(1)).get().unwrap(), 1);
}

#[test]
fn a_task_is_tried_again_as_its_policy_says() {
    let runtime = Runtime::start().unwrap();
    let flaky = |fails: u32| {
        move || match task::attempt() {
            n if n > fails => Ok(n),
            n if n % 2 == 0 => panic!("{n}"),
            n => Err(std::io::Error::other(n.to_string()).into()),
        }
    };
    let eager = Retry::times(3).backoff(Backoff::NONE);
    let good = runtime.task("flaky").retry(eager.clone()).spawn(flaky(3));
    assert_eq!(good.get().unwrap(), 4);
    let bad = runtime.task("flaky").retry(eager.clone()).spawn(flaky(4));
    assert_eq!(bad.get().unwrap_err().to_string(), "task `flaky` panicked: 4, the last of 4 times");
    let picky = eager.on(|error| error.source().is_some_and(<dyn Error>::is::<std::io::Error>));
    let panicked = runtime.task("flaky").retry(picky).spawn(flaky(9));
    assert_eq!(panicked.get().unwrap_err().to_string(), "task `flaky` panicked: 2, the last of 2 times");
    assert_eq!(task::attempt(), 0);
}

#[test]
fn between_attempts_it_waits_and_can_be_cancelled() {
    let (runtime, clock) = with_clock();
    let backoff = Backoff { first: SECOND, jitter: 0.0, ..Backoff::default() };
    let task = || {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let object = runtime.task("t").retry(Retry::times(1).backoff(backoff)).spawn(move || {
            counted.fetch_add(1, Ordering::SeqCst);
            Err::<(), _>("no".into())
        });
        (object, tries)
    };
    let (object, tries) = task();
    clock.wait_for_sleepers(1);
    assert_eq!((tries.load(Ordering::SeqCst), object.is_ready()), (1, false));
    clock.advance(SECOND);
    assert!(object.get().is_err());
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    let (object, tries) = task();
    clock.wait_for_sleepers(1);
    assert!(object.cancel() && !object.cancel());
    clock.advance(SECOND * 2);
    settles("the cancelled task is gone", || runtime.task_stats().pending == 0);
    assert!(matches!(root(&object), ObjectError::Cancelled { .. }));
    assert_eq!(tries.load(Ordering::SeqCst), 1);
    // One that waits when the runtime ends is ended too.
    let (object, _) = task();
    clock.wait_for_sleepers(1);
    drop(runtime);
    assert!(matches!(root(&object), ObjectError::Stopped { .. }));
}

#[test]
fn a_task_out_of_time_is_left_behind_and_told() {
    let (runtime, clock) = with_clock();
    let (said, hears) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let slow = runtime.task("slow").timeout(SECOND).spawn(move || {
        let _ = released.recv();
        said.send(task::is_cancelled())?;
        Ok(1)
    });
    clock.wait_for_sleepers(1);
    clock.advance(SECOND);
    assert_eq!(
        block_on(async { (&slow).await }).unwrap_err().to_string(),
        "task `slow` did not end within 1s"
    );
    // Its thread, the only one, does not keep others from running.
    let other = runtime.task("other").spawn(|| Ok(2));
    assert_eq!(block_on(async { other.await }).unwrap(), 2);
    release.send(()).unwrap();
    assert_eq!(hears.recv(), Ok(true));
    assert!(slow.get().is_err(), "what it returned came too late");
    let quick = runtime.task("quick").timeout(SECOND).spawn(|| Ok(task::is_cancelled()));
    assert_eq!(quick.get().unwrap(), false);
    clock.advance(SECOND * 5);
    assert!(quick.get().is_ok());
}

#[test]
fn what_is_cancelled_does_not_run_and_nothing_that_depends_on_it() {
    let runtime = with_threads(1, 1);
    let (held, release) = hold(&runtime);
    let ran = Arc::new(AtomicUsize::new(0));
    let count = |object: &Object<()>, name| {
        let ran = Arc::clone(&ran);
        runtime.task(name).arg(object).spawn(move |_| {
            ran.fetch_add(1, Ordering::SeqCst);
            Ok(())
        })
    };
    let dropped = Arc::new(());
    let kept = Arc::clone(&dropped);
    let first = runtime.task("first").spawn(move || {
        drop(kept);
        Ok(())
    });
    let (second, other) = (count(&first, "second"), count(&held, "other"));
    let third = count(&second, "third");
    assert!(first.cancel());
    assert_eq!(Arc::strong_count(&dropped), 1, "what it held is dropped at once");
    release.send(()).unwrap();
    for object in [&first, &second, &third] {
        assert!(matches!(root(object), ObjectError::Cancelled { task } if task == "first"));
    }
    other.get().unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 1);
    assert!(!other.cancel(), "it has a result");
}

#[test]
fn a_running_task_learns_that_it_is_cancelled() {
    let runtime = Runtime::start().unwrap();
    let (entered, is_in) = mpsc::channel();
    let (left, is_out) = mpsc::channel();
    let task = runtime.task("long").spawn(move || {
        entered.send(())?;
        while !task::is_cancelled() {
            std::thread::yield_now();
        }
        left.send(())?;
        Ok(())
    });
    is_in.recv().unwrap();
    assert!(task.cancel());
    assert_eq!(is_out.recv_timeout(SECOND * 30), Ok(()));
    assert!(!task::is_cancelled());
}

#[test]
fn the_urgent_go_first_and_the_patient_last() {
    let runtime = with_threads(1, 1);
    let (_held, release) = hold(&runtime);
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |priority| {
        let order = Arc::clone(&order);
        runtime.task("note").priority(priority).spawn(move || {
            order.lock().unwrap().push(priority);
            Ok(())
        })
    };
    let (low, normal, high) = (note(Priority::Low), note(Priority::Normal), note(Priority::High));
    release.send(()).unwrap();
    block_on(async {
        for object in [low, normal, high] {
            object.await.unwrap();
        }
    });
    assert_eq!(*order.lock().unwrap(), [Priority::High, Priority::Normal, Priority::Low]);
}

#[test]
fn the_patient_do_not_wait_for_ever() {
    let runtime = with_threads(1, 1);
    let (_held, release) = hold(&runtime);
    let low = runtime.task("low").priority(Priority::Low).spawn(|| Ok(()));
    let waiting: Vec<_> = (0..200)
        .map(|_| {
            let low = low.clone();
            runtime.task("normal").spawn(move || Ok(low.is_ready()))
        })
        .collect();
    release.send(()).unwrap();
    let after = block_on(async {
        let mut after = 0;
        for object in waiting {
            after += usize::from(*object.await.unwrap());
        }
        after
    });
    assert!(after > 0, "it ran before the last of the others");
}

fn fibonacci(runtime: &air_core::RuntimeHandle, n: u64) -> Object<u64> {
    let inner = runtime.clone();
    runtime.task("fibonacci").spawn(move || {
        if n < 2 {
            return Ok(n);
        }
        let (a, b) = (fibonacci(&inner, n - 1), fibonacci(&inner, n - 2));
        Ok(*a.get()? + *b.get()?)
    })
}

#[test]
fn tasks_may_start_tasks_and_wait_for_them() {
    for threads in [1, 3] {
        let runtime = with_threads(threads, 64);
        assert_eq!(fibonacci(&runtime, 12).get().unwrap(), 144);
        let all: Vec<_> = (0..50).map(|_| fibonacci(&runtime, 6)).collect();
        assert!(
            block_on(async { futures::future::try_join_all(all.iter().map(IntoFuture::into_future)).await })
                .unwrap()
                .iter()
                .all(|n| *n == 8)
        );
    }
}

fn depth(runtime: &air_core::RuntimeHandle, n: u32) -> Object<u32> {
    let inner = runtime.clone();
    runtime.task("depth").spawn(move || if n == 0 { Ok(0) } else { Ok(*depth(&inner, n - 1).get()? + 1) })
}

#[test]
fn waits_may_lie_deep_on_one_another() {
    let runtime = with_threads(1, 256);
    assert_eq!(depth(&runtime, 1000).get().unwrap(), 1000);
    assert!(runtime.task_stats().threads <= 256);
}

#[test]
fn the_last_thread_is_refused_to_wait_rather_than_left_waiting() {
    let run = |threads_max| {
        let runtime = with_threads(1, threads_max);
        let handle = runtime.handle();
        let outer = runtime.task("outer").spawn(move || {
            let inner = handle.task("inner").spawn(|| Ok(1));
            let after = handle.task("after").arg(&inner).spawn(|n| Ok(*n + 1));
            // `after` is not ready, so this thread cannot begin it: another one has to.
            Ok(*after.get()?)
        });
        block_on(async { outer.await.map(|value| *value) })
    };
    let refused = run(1).unwrap_err();
    let reason = refused.source().unwrap().downcast_ref::<ObjectError>().unwrap();
    assert!(matches!(reason, ObjectError::Starved { threads: 1 }), "{reason}");
    assert_eq!(run(2).unwrap(), 2);
}

#[test]
fn blocking_in_a_task_keeps_no_thread_from_the_others() {
    let runtime = with_threads(1, 8);
    let (sender, receiver) = mpsc::channel();
    let blocks = runtime.task("blocks").spawn(move || Ok(task::blocking(|| receiver.recv())?));
    let (one, other) = tokio::sync::oneshot::channel();
    let waits = runtime.task("waits").spawn(move || Ok(block_on(other)?));
    let frees = runtime.task("frees").spawn(move || {
        sender.send(1)?;
        one.send(2).map_err(|_| "nobody waits".into())
    });
    block_on(async {
        frees.await.unwrap();
        assert_eq!((*blocks.await.unwrap(), *waits.await.unwrap()), (1, 2));
    });
}

#[test]
fn a_stream_waits_for_its_receiver() {
    let runtime = Runtime::start().unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let from = runtime.put(10).unwrap();
    let stream = runtime.task("count").arg(&from).stream(3, move |out, from| {
        for n in 0..100 {
            out.send(*from + n)?;
            counted.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    let mut received = 0;
    for (n, item) in stream.into_iter().enumerate() {
        assert_eq!(item.unwrap(), 10 + n);
        received += 1;
        // What was received, what waits, and the one being sent.
        assert!(sent.load(Ordering::SeqCst) <= received + 3 + 1);
    }
    assert_eq!(received, 100);
}

#[test]
fn a_stream_ends_with_the_error_of_its_task_or_with_its_receiver() {
    use futures::StreamExt as _;
    let runtime = Runtime::start().unwrap();
    let stream = runtime.task("breaks").stream(8, |out| {
        out.send(1)?;
        Err("broken".into())
    });
    let items: Vec<_> = block_on(futures::StreamExt::collect(stream));
    assert_eq!(items.len(), 2);
    assert_eq!(*items[0].as_ref().unwrap(), 1);
    assert_eq!(items[1].as_ref().unwrap_err().source().unwrap().to_string(), "broken");
    let (end, ended) = mpsc::channel();
    let mut endless = runtime.task("endless").stream(1, move |out| {
        loop {
            if out.send(0) == Err(Unheard) {
                end.send(())?;
                return Err(Unheard.into());
            }
        }
    });
    assert!(block_on(endless.by_ref().take(5).all(|item| async move { item.is_ok() })));
    drop(endless);
    assert_eq!(ended.recv_timeout(SECOND * 30), Ok(()));
}

#[test]
fn several_results_are_objects_of_their_own() {
    let runtime = Runtime::start().unwrap();
    let (words, count) = runtime.task("split").spawn_parts(|| {
        let words = vec!["a".to_owned(), "b".to_owned()];
        let count = words.len();
        Ok((words, count))
    });
    let twice = runtime.task("twice").arg(&count).spawn(|n| Ok(*n * 2));
    assert_eq!((words.get().unwrap()[1].as_str(), *twice.get().unwrap()), ("b", 4));
    let retry = Retry::times(1).backoff(Backoff::NONE);
    let (a, b, c) = runtime.task("fails").retry(retry).spawn_parts(|| Err::<(u8, u8, u8), _>("no".into()));
    assert_eq!(root(&b).to_string(), "task `fails` failed, the last of 2 times");
    assert!(a.get().is_err() && c.get().is_err());
    let (big, small) = runtime.task("sizes").spawn_parts(|| Ok((vec![0_u8; 4096], 1_u8)));
    assert_eq!((*small.get().unwrap(), runtime.objects().in_memory_bytes), (1, 4096));
    drop(big);
    assert_eq!(runtime.objects().in_memory_bytes, 0, "one is freed without the other");
}

/// Counts the threads that end.
struct OnExit(Arc<AtomicUsize>);
impl Drop for OnExit {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn the_end_of_the_runtime_is_an_error_for_what_has_not_begun() {
    thread_local! {
        static GUARD: std::cell::RefCell<Option<OnExit>> = const { std::cell::RefCell::new(None) };
    }
    let runtime = with_threads(1, 1);
    let exits = Arc::new(AtomicUsize::new(0));
    let guard = OnExit(Arc::clone(&exits));
    let (_, release) = hold(&runtime);
    let queued = runtime.task("queued").spawn(move || {
        GUARD.set(Some(guard));
        Ok(())
    });
    release.send(()).unwrap();
    block_on(async { queued.await }).unwrap();
    let (held, release) = hold(&runtime);
    // A chain as long as a recursion could not be, and handles of it everywhere.
    let mut chain = vec![runtime.task("first").spawn(|| Ok(0_u64))];
    for n in 0..20_000 {
        let next = runtime.task("next").arg(&chain[n]).spawn(|n| Ok(*n + 1));
        chain.push(next);
    }
    let waiter = std::thread::spawn({
        let last = chain[chain.len() - 1].clone();
        move || block_on(async { last.await.map(|value| *value) })
    });
    let handle = runtime.handle();
    let ended = std::thread::spawn(move || drop(runtime));
    assert!(waiter.join().unwrap().is_err_and(|error| matches!(error.root(), ObjectError::Stopped { .. })));
    assert_eq!(exits.load(Ordering::SeqCst), 0, "the task that runs is waited for");
    release.send(()).unwrap();
    ended.join().unwrap();
    assert_eq!(exits.load(Ordering::SeqCst), 1, "every thread is joined");
    held.get().unwrap();
    assert!(chain.iter().all(|object| matches!(root(object), ObjectError::Stopped { .. })));
    let late = handle.task("late").spawn(|| Ok(()));
    assert!(matches!(late.get(), Err(ObjectError::Stopped { .. })));
    assert_eq!(handle.task_stats().pending, 0);
}

#[test]
fn a_runtime_may_be_dropped_by_a_task_of_its_own() {
    let runtime = with_threads(2, 4);
    let (hand, handed) = mpsc::channel::<Runtime>();
    let (done, is_done) = mpsc::channel();
    runtime.task("drops").spawn(move || {
        drop(handed.recv()?);
        done.send(())?;
        Ok(())
    });
    hand.send(runtime).unwrap();
    assert_eq!(is_done.recv_timeout(SECOND * 30), Ok(()));
}

#[test]
fn who_starts_too_many_tasks_waits() {
    let tasks = TaskConfig::default().threads(1).pending_max(4);
    let runtime = Runtime::with(RuntimeConfig::default().tasks(tasks)).unwrap();
    let (_held, release) = hold(&runtime);
    let started = AtomicUsize::new(1);
    std::thread::scope(|scope| {
        let starter = scope.spawn(|| {
            let start = |_| {
                let object = runtime.task("t").spawn(|| Ok(()));
                started.fetch_add(1, Ordering::SeqCst);
                object
            };
            (0..40).map(start).collect::<Vec<_>>()
        });
        settles("the limit is reached", || runtime.task_stats().pending == 5);
        assert_eq!(started.load(Ordering::SeqCst), 4);
        release.send(()).unwrap();
        assert!(starter.join().unwrap().iter().all(|object| object.get().is_ok()));
    });
    settles("all have ended", || runtime.task_stats().pending == 0);
}

#[test]
fn a_million_tasks_run_in_bounded_memory() {
    const LIMIT: usize = 10_000;
    let runtime =
        Runtime::with(RuntimeConfig::default().tasks(TaskConfig::default().pending_max(LIMIT))).unwrap();
    let mut last = runtime.put(0_u32).unwrap();
    let mut most = 0;
    for n in 1..=1_000_000 {
        // A chain, with a leaf on every tenth node.
        if n % 10 == 0 {
            let _ = runtime.task("leaf").arg(&last).spawn(|n| Ok(*n));
        } else {
            last = runtime.task("link").arg(last).spawn(|n| Ok(*n + 1));
        }
        if n % 1000 == 0 {
            most = most.max(runtime.task_stats().pending);
        }
    }
    assert_eq!(last.get().unwrap(), 900_000);
    assert!(most <= LIMIT, "{most}");
}

#[test]
fn a_task_costs_little_memory() {
    let runtime = with_threads(1, 1);
    let (held, release) = hold(&runtime);
    let mut objects = Vec::with_capacity(2000);
    let mut start = |count: u64, graph: bool| {
        let used = measure(|| {
            for n in 0..count {
                let task = runtime.task("small");
                objects.push(if graph {
                    task.arg(&held).spawn(move |_| Ok(n))
                } else {
                    task.spawn(move || Ok(n))
                });
            }
        });
        (used.count_total as f64 / count as f64, used.bytes_current / count as i64)
    };
    let (allocations, bytes) = start(1000, false);
    assert!(allocations < 1.1 && bytes < 500, "{allocations} allocations, {bytes} bytes a task");
    let (allocations, bytes) = start(1000, true);
    assert!(allocations < 1.1 && bytes < 500, "{allocations} allocations, {bytes} bytes a node");
    release.send(()).unwrap();
    assert!(objects.iter().all(|object| object.get().is_ok()));
}

#[test]
fn arguments_and_results_spill_like_any_object() {
    let dir = tempfile::tempdir().unwrap();
    let objects = ObjectConfig::default().memory_bytes(0).spill_dir(dir.path());
    let runtime = Runtime::with(RuntimeConfig::default().objects(objects)).unwrap();
    let mut last = runtime.put(vec![0_u8; 1000]).unwrap();
    for _ in 0..20 {
        last = runtime
            .task("add")
            .arg(&last)
            .spawn(|bytes| Ok(bytes.iter().map(|byte| byte + 1).collect::<Vec<u8>>()));
    }
    assert_eq!(last.get().unwrap(), vec![20_u8; 1000]);
    let stats = runtime.objects();
    assert_eq!((stats.pinned, stats.spills_total >= 20), (0, true), "{stats:?}");
}

#[test]
fn a_task_runs_when_it_has_its_resources_and_gives_them_back() {
    let config = RuntimeConfig::default().resources(Resources::new().cpu(2.0).gpu(1.0));
    let runtime = Runtime::with(config.tasks(TaskConfig::default().threads(4))).unwrap();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let shares: Vec<_> = (0..12)
        .map(|_| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            runtime.task("share").resources(Resources::new().gpu(0.5)).spawn(move || {
                most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                std::thread::yield_now();
                running.fetch_sub(1, Ordering::SeqCst);
                Ok(task::devices())
            })
        })
        .collect();
    for share in &shares {
        assert_eq!(share.get().unwrap(), vec![air_core::device::Device::Cuda(0)]);
    }
    assert!(most.load(Ordering::SeqCst) <= 2, "half a device each");
    let lease = runtime.acquire(Resources::new().cpu(2.0)).now().unwrap();
    let one = || Resources::new().cpu(1.0);
    let waits = runtime.task("waits").arg(&shares[0]).resources(one()).spawn(|_| Ok(task::devices().len()));
    let ended = runtime.task("ended").resources(one()).spawn(|| Ok(()));
    assert!(!waits.is_ready() && ended.cancel());
    drop(lease);
    assert_eq!(waits.get().unwrap(), 0);
    // What was cancelled, and what has run, holds nothing.
    settles("all is given back", || runtime.acquire(Resources::new().cpu(2.0).gpu(1.0)).now().is_ok());
    let never = runtime.task("never").resources(Resources::new().gpu(2.0)).spawn(|| Ok(()));
    let error = never.get().unwrap_err();
    assert_eq!(error.to_string(), "task `never` did not run: it cannot have its resources");
    assert!(error.source().unwrap().to_string().contains("can never be had"));
    let lease = runtime.acquire(Resources::new().cpu(2.0)).now().unwrap();
    let stopped = runtime.task("stopped").resources(one()).spawn(|| Ok(()));
    drop((runtime, lease));
    assert!(matches!(stopped.get(), Err(ObjectError::Stopped { .. })));
}

/// Whatever is cancelled whenever, every task comes to one outcome, and a body runs at most once and not without one.
#[test]
fn cancelling_at_random_loses_no_task() {
    let runtime = with_threads(3, 16);
    let ran = AtomicUsize::new(0);
    let ran: &'static AtomicUsize = Box::leak(Box::new(ran));
    let good: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u64)
            .map(|thread| {
                let runtime = &runtime;
                scope.spawn(move || {
                    let mut good = 0;
                    let mut random = thread * 977 + 1;
                    let mut recent: Vec<Object<u64>> = Vec::new();
                    for _ in 0..2_000 {
                        random = random
                            .wrapping_mul(6_364_136_223_846_793_005)
                            .wrapping_add(1_442_695_040_888_963_407);
                        let dice = (random >> 33) as usize;
                        let body = move || {
                            ran.fetch_add(1, Ordering::SeqCst);
                            random
                        };
                        let task = runtime.task("t");
                        recent.push(match recent.get(dice % 8) {
                            Some(argument) if dice.is_multiple_of(3) => {
                                task.arg(argument).spawn(move |_| Ok(body()))
                            }
                            _ => task.spawn(move || Ok(body())),
                        });
                        if dice.is_multiple_of(5) {
                            recent[dice % recent.len()].cancel();
                        }
                        if recent.len() == 8 {
                            for object in recent.drain(..) {
                                match object.get() {
                                    Ok(_) => good += 1,
                                    Err(error) => {
                                        assert!(matches!(error.root(), ObjectError::Cancelled { .. }));
                                    }
                                }
                            }
                        }
                    }
                    good
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    settles("nothing is left", || runtime.task_stats().pending == 0);
    let ran = ran.load(Ordering::SeqCst);
    // One that was cancelled while it ran has run all the same.
    assert!(good <= ran && ran <= 8_000, "{good} {ran}");
}
