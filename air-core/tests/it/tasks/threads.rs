//! Order, nested waits, resources and the end of the runtime.

use super::*;

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
    until(|| runtime.acquire(Resources::new().cpu(2.0).gpu(1.0)).now().is_ok());
    let never = runtime.task("never").resources(Resources::new().gpu(2.0)).spawn(|| Ok(()));
    let error = never.get().unwrap_err();
    assert_eq!(error.to_string(), "task `never` did not run: it cannot have its resources");
    assert!(error.source().unwrap().to_string().contains("can never be had"));
    let lease = runtime.acquire(Resources::new().cpu(2.0)).now().unwrap();
    let stopped = runtime.task("stopped").resources(one()).spawn(|| Ok(()));
    drop((runtime, lease));
    assert!(matches!(stopped.get(), Err(ObjectError::Stopped { .. })));
}
