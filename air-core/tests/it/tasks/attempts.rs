//! Retries, time limits and cancellation.

use super::*;

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
    until(|| runtime.task_stats().pending == 0);
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
    until(|| runtime.task_stats().pending == 0);
    let ran = ran.load(Ordering::SeqCst);
    // One that was cancelled while it ran has run all the same.
    assert!(good <= ran && ran <= 8_000, "{good} {ran}");
}
