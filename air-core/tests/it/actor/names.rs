//! Finding workers by name.

use super::*;

#[test]
fn of_many_who_ask_for_a_name_one_starts_the_worker_and_all_get_it() {
    let runtime = Runtime::start().unwrap();
    let lives = Arc::new(AtomicUsize::new(0));
    let barrier = std::sync::Barrier::new(16);
    let found: Vec<Mailbox<Probe>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|_| {
                let (runtime, lives, barrier) = (runtime.handle(), Arc::clone(&lives), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    let probe = runtime
                        .get_or_start(Spec::new("trial-7/replay"), move |cx: &mut Cx<Probe>| {
                            lives.fetch_add(1, Ordering::SeqCst);
                            new_probe(cx)
                        })
                        .unwrap();
                    probe.ask_blocking(Add(1)).unwrap();
                    probe
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(found.iter().all(|probe| probe.same_worker(&found[0])));
    assert_eq!(found[0].ask_blocking(Add(0)).unwrap(), 16);
    assert_eq!((lives.load(Ordering::SeqCst), runtime.workers().len()), (1, 1));
    assert!(runtime.find::<Probe>("trial-7/replay").unwrap().unwrap().same_worker(&found[0]));
    assert!(runtime.find::<Probe>("trial-8/replay").unwrap().is_none());
}

#[test]
fn a_name_is_kept_over_a_restart_and_free_after_the_end() {
    let runtime = Runtime::start().unwrap();
    let supervisor = eager(&runtime);
    let start = || supervisor.get_or_start(Spec::new("cache"), new_probe).unwrap();
    let first = start();
    first.ask_blocking(boom("again")).unwrap_err();
    assert!(start().same_worker(&first));
    first.stop();
    first.wait_ended_blocking();
    assert!(runtime.find::<Probe>("cache").unwrap().is_none());
    let second = start();
    assert!(!second.same_worker(&first));
    assert_eq!(second.ask_blocking(Add(1)).unwrap(), 1);
    second.kill();
    assert!(runtime.find::<Probe>("cache").unwrap().is_none());
}

#[test]
fn a_name_of_another_type_is_refused() {
    struct Other;
    impl Worker for Other {}
    let runtime = Runtime::start().unwrap();
    let probe = runtime.get_or_start(Spec::new("cache"), new_probe).unwrap();
    let refused = runtime.get_or_start(Spec::new("cache"), |_| Ok(Other)).unwrap_err().to_string();
    assert!(
        refused.starts_with("the name `cache` belongs to a worker of type ") && refused.contains("Probe"),
        "{refused}"
    );
    assert_eq!(runtime.find::<Other>("cache").unwrap_err().to_string(), refused);
    assert_eq!(probe.ask_blocking(Add(1)).unwrap(), 1, "the worker is not touched");
    assert_eq!(runtime.workers().len(), 1);
}

#[test]
fn a_namespace_lists_its_names_and_spawned_workers_have_none() {
    let runtime = Runtime::start().unwrap();
    runtime.spawn(Spec::new("b/spawned"), new_probe).unwrap();
    for name in ["b/two", "a/one", "b/one"] {
        runtime.get_or_start(Spec::new(name), new_probe).unwrap();
    }
    let names = |prefix| runtime.names(prefix).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names("b/"), ["b/one", "b/two"]);
    assert_eq!(names(""), ["a/one", "b/one", "b/two"]);
    let handle = runtime.handle();
    drop(runtime);
    assert!(handle.names("").is_empty(), "the end of the runtime frees all");
    assert!(handle.get_or_start(Spec::new("late"), new_probe).is_err());
    assert!(handle.names("").is_empty());
}
