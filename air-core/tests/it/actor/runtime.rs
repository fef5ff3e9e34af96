//! The runtime as a whole: its threads, its limits, its end.

use super::*;

#[test]
fn dropping_the_runtime_leaves_no_thread_and_answers_everyone() {
    fn threads() -> std::collections::BTreeSet<String> {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .map(|task| task.unwrap().file_name().into_string().unwrap())
            .collect()
    }
    // Other tests run beside this one, so count in a process of its own.
    if std::env::var_os("AIR_TEST_THREADS").is_none() {
        let me = std::env::current_exe().unwrap();
        let run = std::process::Command::new(me)
            .args([
                "--exact",
                "actor::runtime::dropping_the_runtime_leaves_no_thread_and_answers_everyone",
                "--test-threads=1",
            ])
            .env("AIR_TEST_THREADS", "1")
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        return;
    }
    let before = threads();
    let runtime = Runtime::start().unwrap();
    let (stopped, has_stopped) = mpsc::channel();
    let own = runtime
        .spawn(Spec::new("own"), move |_: &mut Cx<Probe>| {
            Ok(Probe { count: 0, stopped: Some(stopped.clone()) })
        })
        .unwrap();
    let shared = runtime.spawn(Spec::new("shared").shared(), new_probe).unwrap();
    let group = runtime.group(GroupSpec::new("ranks", 3), |_| Ok(Probe { count: 0, stopped: None })).unwrap();
    own.ask_blocking(Add(2)).unwrap();
    shared.ask_blocking(Add(1)).unwrap();
    group
        .gather(group.ranks().iter().map(|rank| rank.send_blocking(Add(1))).collect())
        .into_iter()
        .for_each(|answer| assert_eq!(answer.unwrap(), 1));
    assert!(threads().len() >= before.len() + 6);
    let release = hold(&own);
    let never_ran = own.send_blocking(Add(9));
    let dropped = std::thread::spawn(move || drop(runtime));
    release.send(()).unwrap();
    dropped.join().unwrap();
    // The end came before or after this message's turn; either way its sender knows which.
    let count = match never_ran.wait() {
        Ok(count) => count,
        Err(AskError::Undelivered { message: Add(9), reason: Reason::Closed(Exit::Normal) }) => 2,
        Err(other) => panic!("{other:?}"),
    };
    assert_eq!(has_stopped.recv().unwrap(), count, "an orderly end calls `stopped`");
    // A joined thread may stay listed for an instant until the kernel has let go of it.
    let began = std::time::Instant::now();
    while threads() != before && began.elapsed() < SECOND * 10 {
        std::thread::yield_now();
    }
    assert_eq!(threads(), before);
    assert!(matches!(own.try_tell(Add(1)), Err(error) if matches!(error.reason, Reason::Closed(_))));
}

#[test]
fn ten_thousand_shared_workers_all_answer() {
    let runtime = Runtime::start().unwrap();
    let workers: Vec<_> = (0..10_000)
        .map(|n| runtime.spawn(Spec::new(format!("light/{n}")).shared(), new_probe).unwrap())
        .collect();
    let asks: Vec<_> = workers.iter().map(|worker| worker.send_blocking(Add(1))).collect();
    assert!(asks.into_iter().all(|ask| ask.wait().unwrap() == 1));
    assert_eq!(runtime.workers().len(), 10_000);
}

#[test]
fn what_cannot_be_run_is_refused_with_the_reason() {
    let runtime = Runtime::start().unwrap();
    let refuse = |spec: Spec| runtime.spawn(spec, new_probe).unwrap_err().to_string();
    assert_eq!(refuse(Spec::new("w").capacity(0)), "worker `w`: capacity 0 is not within 1..=1048576");
    assert!(refuse(Spec::new("w").shared().stall(SECOND)).contains("cannot have a stall limit"));
    let none = runtime.group(GroupSpec::new("g", 0), |_| Ok(Probe { count: 0, stopped: None })).unwrap_err();
    assert_eq!(none.to_string(), "group `g`: a group needs at least one worker");
    let handle = runtime.handle();
    drop(runtime);
    assert_eq!(handle.spawn(Spec::new("late"), new_probe).unwrap_err().to_string(), "the runtime has ended");
}
