//! Monitors, links, and the ways a worker is ended.

use super::*;
use air_core::Ended;

/// Watches whom it is told to, and passes on what it hears.
struct Watchman(mpsc::Sender<(u64, Ended)>);

impl Worker for Watchman {}

impl Handle<Ended> for Watchman {
    fn handle(&mut self, ended: Ended, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        Ok(self.0.send((cx.generation(), ended))?)
    }
}

enum Order {
    Watch(Mailbox<Probe>),
    Unwatch(Mailbox<Probe>),
    Fail,
    Wait(mpsc::Sender<()>, mpsc::Receiver<()>),
}
impl Message for Order {
    type Reply = ();
}
impl Handle<Order> for Watchman {
    fn handle(&mut self, order: Order, cx: &mut Cx<Self>) -> Result<(), BoxError> {
        match order {
            Order::Watch(other) => cx.watch(&other),
            Order::Unwatch(other) => cx.unwatch(&other),
            Order::Fail => cx.fail("blind"),
            Order::Wait(entered, released) => {
                entered.send(())?;
                let _ = released.recv();
            }
        }
        Ok(())
    }
}

fn watchman(runtime: &Runtime) -> (Mailbox<Watchman>, mpsc::Receiver<(u64, Ended)>) {
    let (hears, heard) = mpsc::channel();
    let man = eager(runtime).spawn(Spec::new("watchman"), move |_| Ok(Watchman(hears.clone()))).unwrap();
    (man, heard)
}

/// Generation, last, exit.
fn line((_, ended): (u64, Ended)) -> String {
    format!(
        "{} {} {}{}",
        ended.name,
        ended.generation,
        ended.exit,
        if ended.last { ", for good" } else { "" }
    )
}

#[test]
fn a_watcher_is_told_of_each_end_and_once_of_the_last() {
    let runtime = Runtime::start().unwrap();
    let (man, heard) = watchman(&runtime);
    let probe = eager(&runtime).spawn(Spec::new("probe"), new_probe).unwrap();
    man.ask_blocking(Order::Watch(probe.clone())).unwrap();
    man.ask_blocking(Order::Watch(probe.clone())).unwrap();
    probe.ask_blocking(boom("bad kernel")).unwrap_err();
    assert_eq!(line(heard.recv().unwrap()), "probe 1 panicked: bad kernel");
    probe.stop();
    assert_eq!(line(heard.recv().unwrap()), "probe 2 ended normally, for good");
    man.ask_blocking(Order::Watch(probe)).unwrap();
    assert_eq!(line(heard.recv().unwrap()), "probe 2 ended normally, for good", "too late, but told");
    man.stop_within_blocking(SECOND * 60);
    assert!(heard.try_recv().is_err(), "watching twice is watching once");
}

#[test]
fn a_supervisor_that_gives_up_is_the_last_thing_heard() {
    let runtime = Runtime::start().unwrap();
    let (man, heard) = watchman(&runtime);
    let storm = runtime.supervisor(SupervisorSpec::new("storm").intensity(0, SECOND)).unwrap();
    let probe = storm.spawn(Spec::new("probe"), new_probe).unwrap();
    man.ask_blocking(Order::Watch(probe.clone())).unwrap();
    probe.tell_blocking(boom("once")).unwrap();
    let mut last = heard.recv().unwrap().1;
    while !last.last {
        assert_eq!(last.exit.to_string(), "panicked: once");
        last = heard.recv().unwrap().1;
    }
    assert_eq!(last.exit.to_string(), "was given up after 0 restarts of probe, which panicked: once");
}

#[test]
fn notices_need_no_room_and_come_first_and_the_latest_stands_for_those_before() {
    let runtime = Runtime::start().unwrap();
    let (hears, heard) = mpsc::channel();
    let spec = Spec::new("watchman").capacity(1);
    let man = runtime.spawn(spec, move |_| Ok(Watchman(hears.clone()))).unwrap();
    let probe = eager(&runtime).spawn(Spec::new("probe"), new_probe).unwrap();
    man.ask_blocking(Order::Watch(probe.clone())).unwrap();
    let ((entered, is_in), (release, released)) = (mpsc::channel(), mpsc::channel());
    let held = man.send_blocking(Order::Wait(entered, released));
    is_in.recv().unwrap();
    let waiting = man.send_blocking(Order::Unwatch(probe.clone()));
    for n in 0..5 {
        probe.ask_blocking(boom("again")).unwrap_err();
        // A fresh life answers, so the end before it has been told.
        assert_eq!(probe.ask_blocking(Add(n)).unwrap(), n);
    }
    assert_eq!(man.queued(), 1);
    release.send(()).unwrap();
    held.wait().unwrap();
    waiting.wait().unwrap();
    assert_eq!(line(heard.try_recv().unwrap()), "probe 5 panicked: again");
    probe.ask_blocking(boom("unseen")).unwrap_err();
    probe.ask_blocking(Add(0)).unwrap();
    man.stop_within_blocking(SECOND * 60);
    assert!(heard.try_recv().is_err(), "one notice, and none after unwatching");
}

#[test]
fn a_watch_ends_with_the_life_that_asked_for_it() {
    let runtime = Runtime::start().unwrap();
    let (man, heard) = watchman(&runtime);
    let probe = eager(&runtime).spawn(Spec::new("probe"), new_probe).unwrap();
    man.ask_blocking(Order::Watch(probe.clone())).unwrap();
    man.ask_blocking(Order::Fail).unwrap();
    let other = eager(&runtime).spawn(Spec::new("other"), new_probe).unwrap();
    man.ask_blocking(Order::Watch(other.clone())).unwrap();
    probe.ask_blocking(boom("unseen")).unwrap_err();
    probe.stop_within_blocking(SECOND * 60);
    other.stop();
    let (generation, ended) = heard.recv().unwrap();
    assert_eq!(
        (generation, &*ended.name),
        (2, "other"),
        "the second life hears what it asked for and nothing else"
    );
}

#[test]
fn linked_workers_end_together_and_come_back_separately() {
    let runtime = Runtime::start().unwrap();
    let (left, right) = (
        eager(&runtime).spawn(Spec::new("left"), new_probe).unwrap(),
        eager(&runtime).spawn(Spec::new("right"), new_probe).unwrap(),
    );
    let link = |to: &Mailbox<Probe>| {
        let to = to.clone();
        act(move |cx| {
            cx.link(&to);
            Ok(())
        })
    };
    left.ask_blocking(link(&right)).unwrap();
    let release = hold(&right);
    let waiting = right.send_blocking(Add(7));
    left.ask_blocking(boom("bad kernel")).unwrap_err();
    assert_eq!(left.ask_blocking(Add(1)).unwrap(), 1, "restarted, so the link is broken by now");
    release.send(()).unwrap();
    assert_eq!(waiting.wait().unwrap(), 7, "handled by a fresh life");
    let exit = right.exits().remove(0);
    assert_eq!(
        (exit.generation, exit.exit.to_string()),
        (1, "ended with left, to which it was linked and which panicked: bad kernel".into())
    );
    assert_eq!((left.restarts(), right.restarts()), (1, 1));
    // The link ended with them; a new one works the other way round too, and an orderly end is one for both.
    right.ask_blocking(boom("alone")).unwrap_err();
    assert_eq!(right.ask_blocking(Add(1)).unwrap(), 1);
    assert_eq!(left.ask_blocking(Add(1)).unwrap(), 2);
    left.ask_blocking(link(&right)).unwrap();
    right.stop();
    assert!(
        matches!(left.wait_ended_blocking(), Exit::Linked { cause, .. } if matches!(*cause, Exit::Normal))
    );
    assert_eq!(left.restarts(), 1);
}

#[test]
fn linking_with_a_worker_that_is_gone_ends_this_one() {
    let runtime = Runtime::start().unwrap();
    let (probe, gone) = (
        runtime.spawn(Spec::new("probe"), new_probe).unwrap(),
        runtime.spawn(Spec::new("gone"), new_probe).unwrap(),
    );
    gone.stop_within_blocking(SECOND * 60);
    probe
        .ask_blocking(act(move |cx| {
            cx.link(&gone);
            Ok(())
        }))
        .unwrap();
    assert!(matches!(probe.wait_ended_blocking(), Exit::Linked { .. }));
}

#[test]
fn killing_answers_everyone_at_once_and_is_final() {
    let runtime = Runtime::start().unwrap();
    let (stopped, has_stopped) = mpsc::channel();
    let probe = eager(&runtime)
        .spawn(Spec::new("probe").restart(Restart::Always), move |_: &mut Cx<Probe>| {
            Ok(Probe { count: 0, stopped: Some(stopped.clone()) })
        })
        .unwrap();
    let ((entered, is_in), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
    let running = probe.send_blocking(act(move |_| {
        entered.send(())?;
        let _ = released.recv();
        Ok(())
    }));
    is_in.recv().unwrap();
    let waiting = probe.send_blocking(Add(3));
    probe.tell_blocking(Add(4)).unwrap();
    probe.kill();
    assert!(matches!(running.wait(), Err(AskError::Died(Exit::Killed))));
    let back = waiting.wait().unwrap_err();
    assert!(
        matches!(back, AskError::Undelivered { message: Add(3), reason: Reason::Closed(Exit::Killed) }),
        "{back:?}"
    );
    assert_eq!(runtime.counters().dead_letters, 1, "the tell");
    assert!(matches!(probe.wait_ended_blocking(), Exit::Killed));
    release.send(()).unwrap();
    drop(runtime);
    assert!(has_stopped.try_recv().is_err(), "`stopped` is for orderly ends");
    assert_eq!(probe.restarts(), 0);
    assert_eq!(probe.exits()[0].exit.to_string(), "was killed");
}

#[test]
fn a_killed_worker_that_does_not_return_is_left_behind_after_the_stop_limit() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let supervisor = runtime.supervisor(SupervisorSpec::new("s").stop_limit(SECOND)).unwrap();
    let probe = supervisor.spawn(Spec::new("probe"), new_probe).unwrap();
    let sibling = supervisor.spawn(Spec::new("sibling"), new_probe).unwrap();
    let release = hold(&probe);
    probe.kill();
    manual.wait_for_sleepers(1);
    manual.advance(SECOND);
    until(|| runtime.counters().abandoned == 1);
    assert_eq!(sibling.ask_blocking(Add(1)).unwrap(), 1, "the supervisor goes on");
    assert!(matches!(probe.exits()[0].exit, Exit::Stalled { limit: SECOND }));
    assert!(matches!(probe.ended(), Some(Exit::Killed)));
    release.send(()).unwrap();
}

/// A message that is nothing to a worker that is gone.
struct Hint;

impl Message for Hint {
    type Reply = ();
    const MATTERS: bool = false;
}

impl Handle<Hint> for Probe {
    fn handle(&mut self, _: Hint, _: &mut Cx<Self>) -> Result<(), BoxError> {
        Ok(())
    }
}

#[test]
fn what_does_not_matter_is_no_dead_letter() {
    let runtime = Runtime::start().unwrap();
    let probe = runtime.spawn(Spec::new("probe"), new_probe).unwrap();
    let release = hold(&probe);
    probe.tell_blocking(Hint).unwrap();
    probe.tell_blocking(Add(1)).unwrap();
    probe.kill();
    assert_eq!(runtime.counters().dead_letters, 1, "the other one");
    assert!(runtime.dead_letters()[0].message_type.ends_with("Add"), "{:?}", runtime.dead_letters());
    release.send(()).unwrap();
}

#[test]
fn a_worker_that_is_abandoned_holds_up_nothing() {
    let (clock, manual) = Clock::manual();
    // Time stands still, and the runtime would wait for a worker that runs for an hour of the machine's.
    let config = RuntimeConfig::default().clock(clock).shutdown_grace(Duration::from_hours(1));
    let runtime = Runtime::with(config).unwrap();
    let probe = runtime.spawn(Spec::new("probe"), new_probe).unwrap();
    let release = hold(&probe);
    let waiting = probe.send_blocking(Add(1));
    probe.abandon();
    assert!(matches!(
        waiting.wait(),
        Err(AskError::Undelivered { reason: Reason::Closed(Exit::Killed), .. })
    ));
    until(|| runtime.counters().abandoned == 1);
    assert!(matches!(probe.ended(), Some(Exit::Killed)));
    drop(runtime);
    release.send(()).unwrap();
    drop(manual);
}

#[test]
fn a_runtime_can_be_given_less_time_to_end_than_it_was_started_with() {
    let runtime = Runtime::with(RuntimeConfig::default().shutdown_grace(Duration::from_hours(1))).unwrap();
    let probe = runtime.spawn(Spec::new("probe"), new_probe).unwrap();
    let release = hold(&probe);
    runtime.shutdown_within(Duration::ZERO);
    assert!(matches!(probe.exits()[0].exit, Exit::Stalled { limit: Duration::ZERO }));
    release.send(()).unwrap();
}

#[test]
fn a_worker_waiting_out_a_back_off_can_be_killed() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let probe = runtime.spawn(Spec::new("probe"), new_probe).unwrap();
    probe.ask_blocking(boom("once")).unwrap_err();
    manual.wait_for_sleepers(1);
    let waiting = probe.send_blocking(Add(1));
    probe.kill();
    assert!(matches!(
        waiting.wait(),
        Err(AskError::Undelivered { reason: Reason::Closed(Exit::Killed), .. })
    ));
    // Its supervisor goes with it.
    until(|| runtime.workers().is_empty());
}

#[test]
fn stopping_within_a_limit_drains_or_kills() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let probe = runtime.spawn(Spec::new("probe"), new_probe).unwrap();
    let waiting = probe.send_blocking(Add(1));
    assert!(matches!(probe.stop_within_blocking(SECOND), Exit::Normal));
    assert_eq!(waiting.wait().unwrap(), 1);
    let probe = runtime.spawn(Spec::new("probe"), new_probe).unwrap();
    let release = hold(&probe);
    let waiting = probe.send_blocking(Add(1));
    let stopping = {
        let probe = probe.clone();
        std::thread::spawn(move || probe.stop_within_blocking(SECOND))
    };
    manual.wait_for_sleepers(1);
    manual.advance(SECOND);
    assert!(matches!(stopping.join().unwrap(), Exit::Killed));
    assert!(matches!(waiting.wait(), Err(AskError::Undelivered { message: Add(1), .. })));
    release.send(()).unwrap();
}
