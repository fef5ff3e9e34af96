//! Workers and supervision: what plain actix lacks, each shown by causing it.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use air_core::{
    AskError, Backoff, BoxError, Clock, Cx, Exit, GroupSpec, Handle, Mailbox, Message, Reason, Restart,
    Runtime, RuntimeConfig, Spec, Strategy, SupervisorSpec, Worker,
};

const SECOND: Duration = Duration::from_secs(1);

/// Counts, and does on request whatever can go wrong.
struct Probe {
    count: u64,
    stopped: Option<mpsc::Sender<u64>>,
}

impl Worker for Probe {
    fn stopped(&mut self) {
        if let Some(stopped) = &self.stopped {
            stopped.send(self.count).unwrap();
        }
    }
}

struct Add(u64);
impl Message for Add {
    type Reply = u64;
}
impl Handle<Add> for Probe {
    fn handle(&mut self, Add(n): Add, _: &mut Cx<Self>) -> Result<u64, BoxError> {
        self.count += n;
        Ok(self.count)
    }
}

type Act = Box<dyn FnOnce(&mut Cx<Probe>) -> Result<(), BoxError> + Send>;

/// Runs a closure inside the worker.
struct Do(Act);
impl Message for Do {
    type Reply = ();
}
impl Handle<Do> for Probe {
    fn handle(&mut self, Do(run): Do, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        run(cx)
    }
}

fn act(run: impl FnOnce(&mut Cx<Probe>) -> Result<(), BoxError> + Send + 'static) -> Do {
    Do(Box::new(run))
}

fn boom(message: &'static str) -> Do {
    act(move |_| panic!("{message}"))
}

fn new_probe(_: &mut Cx<Probe>) -> Result<Probe, BoxError> {
    Ok(Probe { count: 0, stopped: None })
}

/// Holds the worker in its handler until told otherwise; returns once it is there.
fn hold(mailbox: &Mailbox<Probe>) -> mpsc::Sender<()> {
    let (entered, is_in) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let held = act(move |_| {
        entered.send(())?;
        let _ = released.recv();
        Ok(())
    });
    mailbox.tell_blocking(held).unwrap();
    is_in.recv().unwrap();
    release
}

/// A runtime whose restarts are immediate.
fn eager(runtime: &Runtime) -> air_core::Supervisor {
    runtime.supervisor(SupervisorSpec::new("eager").backoff(Backoff::NONE)).unwrap()
}

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
    // The watch sleeps at most two limits before it sees that this message is overdue.
    let mut stuck = Box::pin(stuck);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let error = loop {
        manual.advance(SECOND);
        match stuck.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(result) => break result.unwrap_err(),
            std::task::Poll::Pending => std::thread::yield_now(),
        }
    };
    assert!(matches!(error, AskError::Died(Exit::Stalled { limit: SECOND })), "{error:?}");
    assert_eq!(queued.wait().unwrap(), 1, "a fresh life handles what waited");
    assert_eq!(runtime.counters().abandoned, 1);
    assert_eq!(runtime.counters().late_replies, 0);
    release.send(()).unwrap();
    while runtime.counters().late_replies == 0 {
        std::thread::yield_now();
    }
    assert_eq!(probe.ask_blocking(Add(0)).unwrap(), 1, "the abandoned life touched nothing");
    assert!(matches!(probe.exits()[0].exit, Exit::Stalled { .. }));
}

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
                "actor::dropping_the_runtime_leaves_no_thread_and_answers_everyone",
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
fn one_for_all_restarts_every_rank_and_tells_them_why() {
    let runtime = Runtime::start().unwrap();
    let spec = GroupSpec::new("ranks", 3).supervisor(|s| s.backoff(Backoff::NONE));
    let group = runtime.group(spec, |_| Ok(Probe { count: 0, stopped: None })).unwrap();
    let ask = |n| group.ranks().iter().map(|rank| rank.ask_blocking(Add(n)).unwrap()).collect::<Vec<_>>();
    assert_eq!(ask(1), [1, 1, 1]);
    group.rank(1).unwrap().ask_blocking(boom("rank 1")).unwrap_err();
    // Ranks 0 and 2 may answer once more before they are stopped; then all are fresh.
    while group.ranks().iter().any(|rank| rank.restarts() < 1) {
        std::thread::yield_now();
    }
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
    while chain[2].restarts() < 1 {
        std::thread::yield_now();
    }
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
        "message was not handled: the worker is gone: it given up after 1 restarts of child, which given up after 1 restarts of \
         probe, which panicked: again"
    );
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
    while probe.ended().is_none() {
        std::thread::yield_now();
    }
    assert!(matches!(probe.ended(), Some(Exit::Normal)));
    assert_eq!(probe.restarts(), 0);
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
