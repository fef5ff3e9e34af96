//! Ends, restarts and giving up: what plain actix lacks, each shown by causing it.

use super::*;

#[test]
fn a_panic_becomes_a_typed_exit_and_the_restart_has_fresh_state() {
    let runtime = Runtime::start().unwrap();
    let supervisor = eager(&runtime);
    let (probe, sibling) = (
        supervisor.spawn(Spec::new("probe"), new_probe).unwrap(),
        supervisor.spawn(Spec::new("sibling"), new_probe).unwrap(),
    );
    assert_eq!(probe.ask_blocking(Add(3)).unwrap(), 3);
    assert_eq!(sibling.ask_blocking(Add(5)).unwrap(), 5);
    let error = probe.ask_blocking(boom("bad kernel")).unwrap_err();
    assert!(
        matches!(&error, AskError::Died(Exit::Panicked(message)) if &**message == "bad kernel"),
        "{error:?}"
    );
    assert_eq!(probe.ask_blocking(Add(4)).unwrap(), 4, "the state is fresh, the mailbox the same");
    assert_eq!(sibling.ask_blocking(Add(0)).unwrap(), 5, "one-for-one leaves the sibling alone");
    assert_eq!((probe.restarts(), sibling.restarts()), (1, 0));
    let exits = probe.exits();
    assert_eq!(exits.len(), 1);
    assert_eq!((exits[0].generation, exits[0].exit.to_string()), (1, "panicked: bad kernel".into()));
    assert_eq!(runtime.counters().restarts, 1);
}

#[test]
fn a_restart_storm_is_bounded_and_its_end_says_why() {
    let runtime = Runtime::start().unwrap();
    let spec = SupervisorSpec::new("storm").intensity(5, SECOND * 60).backoff(Backoff::NONE);
    let supervisor = runtime.supervisor(spec).unwrap();
    let lives = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&lives);
    let probe = supervisor
        .spawn(Spec::new("flapping"), move |_: &mut Cx<Probe>| {
            counted.fetch_add(1, Ordering::SeqCst);
            Err("no weights".into())
        })
        .unwrap();
    let error = probe.ask_blocking(Add(1)).unwrap_err();
    let text = error.to_string();
    let AskError::Undelivered {
        message: Add(1),
        reason: Reason::Closed(Exit::Escalated { restarts: 5, .. }),
    } = error
    else {
        panic!("{text}");
    };
    assert!(text.ends_with("given up after 5 restarts of flapping, which failed: no weights"), "{text}");
    assert_eq!(lives.load(Ordering::SeqCst), 6, "the first life and five restarts");
    assert_eq!(probe.exits().len(), 6);
    assert!(runtime.workers().is_empty());
}

#[test]
fn backoff_is_kept_on_the_runtimes_clock() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let backoff = Backoff { first: SECOND, factor: 2.0, max: SECOND * 60, jitter: 0.0 };
    let supervisor = runtime.supervisor(SupervisorSpec::new("slow").backoff(backoff)).unwrap();
    let probe = supervisor.spawn(Spec::new("probe"), new_probe).unwrap();
    for (failure, delay) in [(1, SECOND), (2, SECOND * 2), (3, SECOND * 4)] {
        probe.ask_blocking(boom("again")).unwrap_err();
        manual.wait_for_sleepers(1);
        manual.advance(delay.saturating_sub(Duration::from_nanos(1)));
        manual.wait_for_sleepers(1);
        assert_eq!(probe.restarts(), failure - 1, "not before its time");
        manual.advance(Duration::from_nanos(1));
        assert_eq!(probe.ask_blocking(Add(1)).unwrap(), 1);
        assert_eq!(probe.restarts(), failure);
    }
}

#[test]
fn queued_messages_survive_a_restart() {
    let runtime = Runtime::start().unwrap();
    let probe = eager(&runtime).spawn(Spec::new("probe"), new_probe).unwrap();
    let release = hold(&probe);
    let doomed = probe.send_blocking(boom("in between"));
    let waiting: Vec<_> = (0..10).map(|_| probe.send_blocking(Add(1))).collect();
    release.send(()).unwrap();
    assert!(matches!(doomed.wait(), Err(AskError::Died(Exit::Panicked(_)))));
    let answers: Vec<_> = waiting.into_iter().map(|ask| ask.wait().unwrap()).collect();
    assert!(answers.into_iter().eq(1..=10), "in order, by the fresh life");
    assert_eq!(runtime.counters().dead_letters, 0);
}

#[test]
fn a_stalled_worker_is_replaced_and_its_late_reply_dropped() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let probe = eager(&runtime).spawn(Spec::new("probe").stall(SECOND), new_probe).unwrap();
    assert_eq!(probe.ask_blocking(Add(7)).unwrap(), 7);
    let (entered, is_in) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let stuck = probe.send_blocking(act(move |_| {
        entered.send(())?;
        let _ = released.recv();
        Ok(())
    }));
    let queued = probe.send_blocking(Add(1));
    is_in.recv().unwrap();
    // The watch sleeps once or twice before it sees that this message is overdue; the next sleeper is the watch over the next life.
    while runtime.counters().abandoned == 0 {
        manual.wait_for_sleepers(1);
        if runtime.counters().abandoned == 0 {
            manual.advance(SECOND);
        }
    }
    let error = stuck.wait().unwrap_err();
    assert!(matches!(error, AskError::Died(Exit::Stalled { limit: SECOND })), "{error:?}");
    assert_eq!(queued.wait().unwrap(), 1, "a fresh life handles what waited");
    assert_eq!(runtime.counters().abandoned, 1);
    assert_eq!(runtime.counters().late_replies, 0);
    release.send(()).unwrap();
    until(|| runtime.counters().late_replies == 1);
    assert_eq!(probe.ask_blocking(Add(0)).unwrap(), 1, "the abandoned life touched nothing");
    assert!(matches!(probe.exits()[0].exit, Exit::Stalled { .. }));
}

#[test]
fn a_supervisor_forgets_workers_that_have_ended_and_the_state_keeps_the_last_of_them() {
    let runtime = Runtime::start().unwrap();
    let supervisor = eager(&runtime);
    let held = Arc::new(());
    let spawn = |name: String| {
        let held = Arc::clone(&held);
        let factory = move |cx: &mut Cx<Probe>| {
            assert!(Arc::strong_count(&held) > 1);
            new_probe(cx)
        };
        supervisor.spawn(Spec::new(name).shared(), factory).unwrap()
    };
    let stays = spawn("stays".into());
    for n in 0..300 {
        let probe = spawn(format!("w{n}"));
        assert_eq!(probe.ask_blocking(Add(1)).unwrap(), 1);
        match n % 3 {
            0 => probe.stop(),
            1 => probe.kill(),
            _ => {
                let stop = act(|cx| {
                    cx.stop();
                    Ok(())
                });
                probe.tell_blocking(stop).unwrap();
            }
        }
        probe.wait_ended_blocking();
    }
    // A supervisor holds the factory of everyone it may have to start again, and a killed one until its thread has seen it.
    until(|| Arc::strong_count(&held) == 2);
    let state = runtime.state();
    assert_eq!(state.workers.len(), 1);
    assert_eq!(state.ended.len(), 64);
    assert!(state.ended.iter().all(|worker| worker.phase == WorkerPhase::Ended && worker.handled > 0));
    let how = |name: &str| state.ended.iter().find(|worker| &*worker.name == name).unwrap().last_exit.clone();
    assert_eq!((how("w297"), how("w298")), (Some("ended normally".into()), Some("was killed".into())));
    assert!(state.summary().contains("ended"), "{}", state.summary());
    stays.ask_blocking(boom("it is still supervised")).unwrap_err();
    assert_eq!(stays.ask_blocking(Add(5)).unwrap(), 5);
    assert_eq!(stays.restarts(), 1);
}

#[test]
fn one_for_all_restarts_every_rank_and_tells_them_why() {
    let runtime = Runtime::start().unwrap();
    let spec = GroupSpec::new("ranks", 3).supervisor(|s| s.backoff(Backoff::NONE));
    let group = runtime.group(spec, |_| Ok(Probe { count: 0, stopped: None })).unwrap();
    let ask = |n| group.ranks().iter().map(|rank| rank.ask_blocking(Add(n)).unwrap()).collect::<Vec<_>>();
    assert_eq!(ask(1), [1, 1, 1]);
    group.rank(1).unwrap().ask_blocking(boom("rank 1")).unwrap_err();
    // Ranks 0 and 2 may answer once more before they are stopped; then all are fresh.
    until(|| group.ranks().iter().all(|rank| rank.restarts() == 1));
    assert_eq!(ask(1), [1, 1, 1]);
    let exit = group.rank(2).unwrap().exits().remove(0).exit.to_string();
    assert_eq!(exit, "stopped with its sibling ranks/1, which panicked: rank 1");
}

#[test]
fn rest_for_one_spares_the_elder() {
    let runtime = Runtime::start().unwrap();
    let spec = SupervisorSpec::new("chain").strategy(Strategy::RestForOne).backoff(Backoff::NONE);
    let supervisor = runtime.supervisor(spec).unwrap();
    let chain: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|name| supervisor.spawn(Spec::new(name), new_probe).unwrap())
        .collect();
    for link in &chain {
        link.ask_blocking(Add(1)).unwrap();
    }
    chain[1].ask_blocking(boom("b")).unwrap_err();
    until(|| chain[2].restarts() == 1);
    let counts: Vec<_> = chain.iter().map(|link| link.ask_blocking(Add(1)).unwrap()).collect();
    assert_eq!(counts, [2, 1, 1]);
}

#[test]
fn a_supervisor_that_gives_up_is_restarted_by_its_parent_until_that_gives_up_too() {
    let runtime = Runtime::start().unwrap();
    let parent = runtime
        .supervisor(SupervisorSpec::new("parent").intensity(1, SECOND * 60).backoff(Backoff::NONE))
        .unwrap();
    let child = parent
        .supervisor(SupervisorSpec::new("child").intensity(1, SECOND * 60).backoff(Backoff::NONE))
        .unwrap();
    let probe = child.spawn(Spec::new("probe"), new_probe).unwrap();
    // Lives: first, restart; escalation; first, restart under the revived child; escalation of both.
    for life in 1..=4 {
        assert_eq!(probe.ask_blocking(Add(1)).unwrap(), 1, "life {life}");
        probe.ask_blocking(boom("again")).unwrap_err();
    }
    let error = probe.ask_blocking(Add(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "message was not handled: the worker is gone: it was given up after 1 restart of child, which was given up after 1 restart of \
         probe, which panicked: again"
    );
}

#[test]
fn a_worker_can_end_itself_fail_and_lose_its_device() {
    let runtime = Runtime::start().unwrap();
    let probe = eager(&runtime).spawn(Spec::new("probe"), new_probe).unwrap();
    probe
        .ask_blocking(act(|cx| {
            cx.fail("diverged");
            Ok(())
        }))
        .unwrap();
    probe
        .ask_blocking(act(|cx| {
            cx.device_lost("illegal address");
            Ok(())
        }))
        .unwrap();
    probe.ask_blocking(Add(1)).unwrap();
    let exits: Vec<_> = probe.exits().iter().map(|record| record.exit.to_string()).collect();
    assert_eq!(exits, ["failed: diverged", "lost its device: illegal address"]);
    probe
        .ask_blocking(act(|cx| {
            cx.stop();
            Ok(())
        }))
        .unwrap();
    let gone = probe.ask_blocking(Add(1)).unwrap_err();
    assert!(matches!(gone.into_message(), Some(Add(1))));
}

#[test]
fn a_thousand_restarts_leave_the_neighbours_alone() {
    let runtime = Runtime::with(RuntimeConfig::default().shared_threads(1)).unwrap();
    let spec = SupervisorSpec::new("tough").intensity(usize::MAX, SECOND).backoff(Backoff::NONE);
    let supervisor = runtime.supervisor(spec).unwrap();
    // One on the neighbour's thread, one on threads of its own, all under one supervisor.
    let flapping = ["shared", "own"].map(|name| {
        let spec = if name == "shared" { Spec::new(name).shared() } else { Spec::new(name) };
        supervisor.spawn(spec.capacity(500), new_probe).unwrap()
    });
    let neighbour = supervisor.spawn(Spec::new("neighbour").shared(), new_probe).unwrap();
    for probe in &flapping {
        for _ in 0..500 {
            let fail = act(|cx| {
                cx.fail("again");
                Ok(())
            });
            probe.try_tell(fail).unwrap();
        }
    }
    for n in 1..=1000 {
        assert_eq!(neighbour.ask_blocking(Add(1)).unwrap(), n);
    }
    // Behind all the failures, and handled by the last of the lives.
    for probe in &flapping {
        assert_eq!(probe.ask_blocking(Add(1)).unwrap(), 1);
        assert_eq!(probe.restarts(), 500);
    }
    assert_eq!((neighbour.restarts(), runtime.counters().restarts), (0, 1000));
}

#[test]
fn a_nested_supervisor_whose_workers_do_not_return_ends_with_the_runtime() {
    let runtime = Runtime::with(RuntimeConfig::default().shutdown_grace(Duration::ZERO)).unwrap();
    let outer = runtime.supervisor(SupervisorSpec::new("outer")).unwrap();
    let inner = outer.supervisor(SupervisorSpec::new("inner")).unwrap();
    let stuck = inner.spawn(Spec::new("stuck"), new_probe).unwrap();
    let beside = outer.spawn(Spec::new("beside"), new_probe).unwrap();
    beside.ask_blocking(Add(1)).unwrap();
    let release = hold(&stuck);
    let waiting = stuck.send_blocking(Add(1));
    let handle = runtime.handle();
    drop(runtime);
    assert!(matches!(waiting.wait(), Err(AskError::Undelivered { reason: Reason::Closed(_), .. })));
    assert!(
        stuck.exits().iter().any(|record| matches!(record.exit, Exit::Stalled { .. })),
        "{:?}",
        stuck.exits()
    );
    assert!(beside.ended().is_some() && handle.counters().abandoned >= 1);
    release.send(()).unwrap();
}
