//! How messages wait, expire, are withdrawn and come back.

use super::*;

#[test]
fn ten_thousand_asks_against_capacity_one_wait_instead_of_queueing() {
    let runtime = Runtime::start().unwrap();
    let probe = runtime.spawn(Spec::new("narrow").capacity(1), new_probe).unwrap();
    let release = hold(&probe);
    let mut asks: Vec<_> = (0..10_000).map(|_| Box::pin(probe.ask(Add(1)))).collect();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    for ask in &mut asks {
        assert!(ask.as_mut().poll(&mut cx).is_pending());
        assert!(probe.queued() <= 1);
    }
    assert_eq!(probe.queued(), 1, "one is queued, the others wait for room");
    release.send(()).unwrap();
    let mut answers: Vec<_> =
        air_core::block_on(futures::future::join_all(asks)).into_iter().map(Result::unwrap).collect();
    answers.sort_unstable();
    assert!(answers.into_iter().eq(1..=10_000), "every ask was served, once");
}

#[test]
fn a_flooded_worker_does_not_starve_its_neighbours() {
    let runtime = Runtime::with(RuntimeConfig::default().shared_threads(1)).unwrap();
    let flooded = runtime.spawn(Spec::new("flooded").shared().capacity(1 << 16), new_probe).unwrap();
    let neighbour = runtime.spawn(Spec::new("neighbour").shared(), new_probe).unwrap();
    // Each message sends the next: without turns the thread would never come to the neighbour.
    struct Flood(Arc<AtomicBool>, Arc<AtomicU64>);
    impl Message for Flood {
        type Reply = ();
    }
    impl Handle<Flood> for Probe {
        fn handle(&mut self, Flood(on, rounds): Flood, cx: &mut Cx<Self>) -> Result<(), BoxError> {
            rounds.fetch_add(1, Ordering::Relaxed);
            if on.load(Ordering::Relaxed) {
                cx.mailbox().try_tell(Flood(on, rounds))?;
            }
            Ok(())
        }
    }
    let (on, rounds) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    for _ in 0..1000 {
        flooded.try_tell(Flood(Arc::clone(&on), Arc::clone(&rounds))).unwrap();
    }
    for n in 1..=100 {
        assert_eq!(neighbour.ask_blocking(Add(1)).unwrap(), n);
    }
    assert!(rounds.load(Ordering::Relaxed) > 0, "the flood was on");
    on.store(false, Ordering::Relaxed);
}

#[test]
fn an_error_goes_to_who_asked_and_an_unheard_error_ends_the_worker() {
    let runtime = Runtime::start().unwrap();
    let probe = eager(&runtime).spawn(Spec::new("probe"), new_probe).unwrap();
    probe.ask_blocking(Add(1)).unwrap();
    let refused = probe.ask_blocking(act(|_| Err("not today".into()))).unwrap_err();
    assert!(matches!(&refused, AskError::Failed(error) if error.to_string() == "not today"));
    assert_eq!(probe.ask_blocking(Add(1)).unwrap(), 2, "an answered error ends nothing");
    probe.tell_blocking(act(|_| Err("nobody hears this".into()))).unwrap();
    assert_eq!(probe.ask_blocking(Add(1)).unwrap(), 1, "a fresh life");
    assert_eq!(probe.exits()[0].exit.to_string(), "failed: nobody hears this");
}

#[test]
fn an_expired_message_is_never_handled_and_comes_back() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let probe = runtime.spawn(Spec::new("probe").capacity(1), new_probe).unwrap();
    let hurried = probe.within(SECOND);
    let release = hold(&probe);
    let queued = hurried.send_blocking(Add(1));
    let mut without_room = Box::pin(hurried.ask(Add(2)));
    assert!(
        without_room
            .as_mut()
            .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
            .is_pending()
    );
    let waiter = std::thread::spawn(move || queued.wait());
    manual.wait_for_sleepers(2);
    manual.advance(SECOND);
    let expired = waiter.join().unwrap().unwrap_err();
    assert!(
        matches!(expired, AskError::Undelivered { message: Add(1), reason: Reason::Expired }),
        "{expired:?}"
    );
    let expired = air_core::block_on(without_room).unwrap_err();
    assert!(
        matches!(expired, AskError::Undelivered { message: Add(2), reason: Reason::Expired }),
        "{expired:?}"
    );
    release.send(()).unwrap();
    assert_eq!(probe.ask_blocking(Add(5)).unwrap(), 5, "neither was handled");
    // A tell that expires in the mailbox has no one to go back to.
    let release = hold(&probe);
    hurried.try_tell(Add(100)).unwrap();
    manual.advance(SECOND * 2);
    release.send(()).unwrap();
    assert_eq!(probe.ask_blocking(Add(0)).unwrap(), 5);
    let letters = runtime.dead_letters();
    assert_eq!(letters.len(), 1);
    assert!(matches!(letters[0].reason, Reason::Expired) && letters[0].message_type.ends_with("Add"));
}

#[test]
fn a_withdrawn_ask_is_never_handled() {
    let runtime = Runtime::start().unwrap();
    let probe = runtime.spawn(Spec::new("probe"), new_probe).unwrap();
    let release = hold(&probe);
    drop(probe.send_blocking(Add(100)));
    release.send(()).unwrap();
    assert_eq!(probe.ask_blocking(Add(1)).unwrap(), 1);
}

#[test]
fn an_ask_is_one_allocation() {
    let runtime = Runtime::start().unwrap();
    for spec in [Spec::new("own"), Spec::new("shared").shared()] {
        let probe = runtime.spawn(spec, new_probe).unwrap();
        // The first makes what lasts: this thread's parker, the mailbox's first place.
        probe.ask_blocking(Add(1)).unwrap();
        let used = allocation_counter::measure(|| {
            for n in 2..1002 {
                assert_eq!(probe.ask_blocking(Add(1)).unwrap(), n);
            }
        });
        assert_eq!(used.count_total, 1000);
    }
}

#[test]
fn a_full_mailbox_gives_the_message_back() {
    let runtime = Runtime::start().unwrap();
    let probe = runtime.spawn(Spec::new("probe").capacity(2), new_probe).unwrap();
    let release = hold(&probe);
    probe.try_tell(Add(1)).unwrap();
    probe.try_tell(Add(1)).unwrap();
    let full = probe.try_tell(Add(3)).unwrap_err();
    assert!(matches!(full.reason, Reason::Full) && full.message.0 == 3);
    release.send(()).unwrap();
    assert_eq!(probe.ask_blocking(Add(0)).unwrap(), 2);
}

#[test]
fn stopping_drains_and_is_not_a_failure() {
    let runtime = Runtime::start().unwrap();
    let (stopped, has_stopped) = mpsc::channel();
    let probe = runtime
        .spawn(Spec::new("probe").restart(Restart::Always), move |_: &mut Cx<Probe>| {
            Ok(Probe { count: 0, stopped: Some(stopped.clone()) })
        })
        .unwrap();
    let release = hold(&probe);
    let waiting: Vec<_> = (0..3).map(|_| probe.send_blocking(Add(1))).collect();
    probe.stop();
    let refused = probe.ask_blocking(Add(1)).unwrap_err();
    assert!(
        matches!(refused, AskError::Undelivered { reason: Reason::Closed(Exit::Normal), .. }),
        "{refused:?}"
    );
    release.send(()).unwrap();
    assert!(waiting.into_iter().map(|ask| ask.wait().unwrap()).eq(1..=3));
    assert_eq!(has_stopped.recv().unwrap(), 3);
    assert!(matches!(probe.wait_ended_blocking(), Exit::Normal));
    assert!(matches!(probe.ended(), Some(Exit::Normal)));
    assert_eq!(probe.restarts(), 0);
}

#[test]
fn a_message_can_be_sent_later() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let probe = runtime.spawn(Spec::new("probe"), new_probe).unwrap();
    probe
        .ask_blocking(act(|cx| {
            cx.tell_after(SECOND, Add(4));
            Ok(())
        }))
        .unwrap();
    manual.wait_for_sleepers(1);
    assert_eq!(probe.ask_blocking(Add(0)).unwrap(), 0);
    manual.advance(SECOND);
    while probe.ask_blocking(Add(0)).unwrap() != 4 {
        std::thread::yield_now();
    }
}

/// Messages that never stop coming must not keep a delayed one from its turn.
#[test]
fn a_flood_does_not_hold_up_a_workers_own_timers() {
    struct Flood(Arc<AtomicBool>);
    impl Message for Flood {
        type Reply = ();
    }
    impl Handle<Flood> for Probe {
        fn handle(&mut self, Flood(on): Flood, cx: &mut Cx<Self>) -> Result<(), BoxError> {
            if on.load(Ordering::SeqCst) {
                cx.mailbox().try_tell(Flood(on))?;
            }
            Ok(())
        }
    }
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let probe = runtime.spawn(Spec::new("probe"), new_probe).unwrap();
    let on = Arc::new(AtomicBool::new(true));
    probe.try_tell(Flood(Arc::clone(&on))).unwrap();
    let (ended, has_ended) = mpsc::channel();
    probe
        .ask_blocking(act(move |cx| {
            let end = act(move |_| {
                on.store(false, Ordering::SeqCst);
                Ok(ended.send(())?)
            });
            cx.tell_after(SECOND, end);
            Ok(())
        }))
        .unwrap();
    manual.wait_for_sleepers(1);
    manual.advance(SECOND);
    has_ended.recv_timeout(SECOND * 60).unwrap();
}
