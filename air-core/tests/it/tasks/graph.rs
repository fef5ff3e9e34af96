//! Graphs, errors, several results and streams.

use super::*;

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
