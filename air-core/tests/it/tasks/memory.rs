//! What tasks cost, and what holds back who starts too many.

use super::*;

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
        until(|| runtime.task_stats().pending == 5);
        assert_eq!(started.load(Ordering::SeqCst), 4);
        release.send(()).unwrap();
        assert!(starter.join().unwrap().iter().all(|object| object.get().is_ok()));
    });
    until(|| runtime.task_stats().pending == 0);
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
