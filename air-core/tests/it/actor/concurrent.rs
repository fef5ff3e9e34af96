//! Async handlers beside blocking ones.

use std::cell::Cell;
use std::rc::Rc;

use super::*;
use air_core::{HandleAsync, Pending};
use futures::channel::oneshot;

/// Waits for whatever it is told to, and counts how many it waits for at once.
struct Waiter(Rc<Count>);

#[derive(Default)]
struct Count {
    now: Cell<usize>,
    most: Cell<usize>,
}

/// One more, until it is dropped.
struct One(Rc<Count>);

impl One {
    fn of(count: &Rc<Count>) -> Self {
        count.now.set(count.now.get() + 1);
        count.most.set(count.most.get().max(count.now.get()));
        Self(Rc::clone(count))
    }
}

impl Drop for One {
    fn drop(&mut self) {
        self.0.now.set(self.0.now.get() - 1);
    }
}

impl Worker for Waiter {}

/// Answers what it gets; a text that begins with `!` is an error, `panic` a panic.
struct Wait(oneshot::Receiver<&'static str>);
impl Message for Wait {
    type Reply = &'static str;
}

async fn answer(one: One, Wait(word): Wait) -> Result<&'static str, BoxError> {
    let word = word.await?;
    assert_ne!(word, "panic");
    drop(one);
    if word.starts_with('!') { Err(word.into()) } else { Ok(word) }
}

impl HandleAsync<Wait> for Waiter {
    fn handle_async(
        &mut self,
        wait: Wait,
        _: &mut Cx<Self>,
    ) -> impl Future<Output = Result<&'static str, BoxError>> + 'static {
        answer(One::of(&self.0), wait)
    }
}

/// The same in a group.
struct Grouped(Wait);
impl Message for Grouped {
    type Reply = &'static str;
}
impl HandleAsync<Grouped> for Waiter {
    const GROUP: &'static str = "io";

    fn handle_async(
        &mut self,
        Grouped(wait): Grouped,
        _: &mut Cx<Self>,
    ) -> impl Future<Output = Result<&'static str, BoxError>> + 'static {
        answer(One::of(&self.0), wait)
    }
}

/// How many are in progress, and how many were at most.
struct Look;
impl Message for Look {
    type Reply = (usize, usize);
}
impl Handle<Look> for Waiter {
    fn handle(&mut self, _: Look, _: &mut Cx<Self>) -> Result<(usize, usize), BoxError> {
        Ok((self.0.now.get(), self.0.most.get()))
    }
}

fn waiter(runtime: &Runtime, change: impl FnOnce(Spec) -> Spec) -> Mailbox<Waiter> {
    eager(runtime).spawn(change(Spec::new("waiter")), |_| Ok(Waiter(Rc::default()))).unwrap()
}

fn wait_for(worker: &Mailbox<Waiter>) -> (oneshot::Sender<&'static str>, Pending<Wait>) {
    let (word, waits) = oneshot::channel();
    (word, worker.send_blocking(Wait(waits)))
}

fn wait_in_group(worker: &Mailbox<Waiter>) -> (oneshot::Sender<&'static str>, Pending<Grouped>) {
    let (word, waits) = oneshot::channel();
    (word, worker.send_blocking(Grouped(Wait(waits))))
}

#[test]
fn calls_in_progress_hold_up_neither_each_other_nor_blocking_ones() {
    for shared in [false, true] {
        let runtime = Runtime::start().unwrap();
        let worker = waiter(&runtime, |spec| if shared { spec.shared() } else { spec });
        let (words, asks): (Vec<_>, Vec<_>) = (0..20).map(|_| wait_for(&worker)).unzip();
        assert_eq!(worker.ask_blocking(Look).unwrap(), (20, 20));
        // The last first.
        for (word, ask) in words.into_iter().zip(asks).rev() {
            word.send("done").unwrap();
            assert_eq!(ask.wait().unwrap(), "done");
        }
        assert_eq!(worker.ask_blocking(Look).unwrap(), (0, 20));
        worker.stop_within_blocking(SECOND * 60);
        assert_eq!(worker.handled(), 22);
    }
}

#[test]
fn a_group_that_is_full_lets_the_others_pass() {
    let runtime = Runtime::start().unwrap();
    let worker = waiter(&runtime, |spec| spec.concurrency_group("io", 2).capacity(3));
    let (mut words, mut asks): (Vec<_>, Vec<_>) = (0..5).map(|_| wait_in_group(&worker)).unzip();
    assert_eq!(worker.ask_blocking(Look).unwrap(), (2, 2));
    assert_eq!(worker.queued(), 3, "three wait");
    assert_eq!(wait_for(&worker).1.call_now("no group", &worker), Ok("no group"));
    let (word, waits) = oneshot::channel();
    let full = worker.try_tell(Grouped(Wait(waits))).unwrap_err();
    assert!(matches!(full.reason, Reason::Full), "the group's room is its own");
    drop((word, full));
    // Each that is over lets the next begin.
    for _ in 0..5 {
        words.remove(0).send("done").unwrap();
        assert_eq!(asks.remove(0).wait().unwrap(), "done");
        assert!(worker.ask_blocking(Look).unwrap().0 <= 2);
    }
    worker.stop_within_blocking(SECOND * 60);
}

trait CallNow {
    fn call_now(self, word: &'static str, worker: &Mailbox<Waiter>) -> Result<&'static str, String>;
}

impl CallNow for Pending<Wait> {
    /// Drops this ask and makes one that is answered at once.
    fn call_now(self, word: &'static str, worker: &Mailbox<Waiter>) -> Result<&'static str, String> {
        drop(self);
        let (give, waits) = oneshot::channel();
        give.send(word).unwrap();
        worker.ask_blocking(Wait(waits)).map_err(|error| error.to_string())
    }
}

#[test]
fn without_a_group_the_limit_holds_up_everything_behind_it() {
    let runtime = Runtime::start().unwrap();
    let worker = waiter(&runtime, |spec| spec.max_concurrency(1));
    let ((first, is_first), (second, is_second)) = (wait_for(&worker), wait_for(&worker));
    let look = worker.send_blocking(Look);
    first.send("one").unwrap();
    assert_eq!(is_first.wait().unwrap(), "one");
    // The second begins now, and the look waits behind it.
    until(|| worker.queued() == 1);
    second.send("two").unwrap();
    assert_eq!(is_second.wait().unwrap(), "two");
    assert_eq!(look.wait().unwrap(), (0, 1));
}

#[test]
fn a_panic_in_one_ends_the_worker_and_everyone_in_progress_is_told() {
    let runtime = Runtime::start().unwrap();
    let worker = waiter(&runtime, |spec| spec.concurrency_group("io", 1));
    let ((bad, is_bad), (_kept, beside)) = (wait_for(&worker), wait_for(&worker));
    let (_never, begun) = wait_in_group(&worker);
    let (word, waits) = wait_in_group(&worker);
    worker.ask_blocking(Look).unwrap();
    bad.send("panic").unwrap();
    for died in [is_bad.wait(), beside.wait()] {
        assert!(matches!(died, Err(AskError::Died(Exit::Panicked(_)))), "{died:?}");
    }
    assert!(matches!(begun.wait(), Err(AskError::Died(Exit::Panicked(_)))));
    word.send("fresh").unwrap();
    assert_eq!(waits.wait().unwrap(), "fresh", "what had not begun is handled by the next life");
    assert_eq!(worker.restarts(), 1);
}

#[test]
fn an_error_goes_to_who_asked_and_one_nobody_waits_for_ends_the_worker() {
    let runtime = Runtime::start().unwrap();
    let worker = waiter(&runtime, |spec| spec);
    let (word, refused) = wait_for(&worker);
    word.send("!not today").unwrap();
    assert_eq!(refused.wait().unwrap_err().to_string(), "!not today");
    let (word, waits) = oneshot::channel();
    worker.tell_blocking(Wait(waits)).unwrap();
    let (_word, in_progress) = wait_for(&worker);
    assert_eq!(worker.ask_blocking(Look).unwrap().0, 2);
    word.send("!unheard").unwrap();
    assert_eq!(
        in_progress.wait().unwrap_err().to_string(),
        "the worker handling the message failed: !unheard"
    );
}

#[test]
fn a_stop_lets_calls_finish_and_a_kill_does_not() {
    let runtime = Runtime::start().unwrap();
    let worker = waiter(&runtime, |spec| spec);
    let (word, ask) = wait_for(&worker);
    worker.stop();
    assert!(worker.ended().is_none());
    word.send("done").unwrap();
    assert_eq!(ask.wait().unwrap(), "done");
    assert!(matches!(worker.wait_ended_blocking(), Exit::Normal));

    let worker = waiter(&runtime, |spec| spec);
    let (word, ask) = wait_for(&worker);
    worker.ask_blocking(Look).unwrap();
    worker.stop();
    worker.kill();
    assert!(matches!(ask.wait(), Err(AskError::Died(Exit::Killed))));
    until(|| word.is_canceled());
}

#[test]
fn a_deadline_cuts_a_call_short() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let worker = waiter(&runtime, |spec| spec);
    let (word, waits) = oneshot::channel();
    let ask = worker.within(SECOND).send_blocking(Wait(waits));
    assert_eq!(worker.ask_blocking(Look).unwrap(), (1, 1));
    manual.wait_for_sleepers(1);
    manual.advance(SECOND);
    assert!(matches!(ask.wait(), Err(AskError::Expired)));
    until(|| word.is_canceled());
    assert_eq!(worker.ask_blocking(Look).unwrap(), (0, 1));
    assert_eq!(worker.restarts(), 0);
}

#[test]
fn a_call_whose_sender_goes_away_is_dropped_and_its_place_given_on() {
    for shared in [false, true] {
        let runtime = Runtime::start().unwrap();
        let worker = waiter(&runtime, |spec| {
            let spec = spec.concurrency_group("io", 1).max_pending(3);
            if shared { spec.shared() } else { spec }
        });
        let (first_word, first) = wait_in_group(&worker);
        let (second_word, second) = wait_in_group(&worker);
        assert_eq!(worker.ask_blocking(Look).unwrap(), (1, 1));
        // Nothing else would ever wake it.
        drop(first);
        second_word.send("done").unwrap();
        assert_eq!(second.wait().unwrap(), "done");
        assert!(first_word.is_canceled(), "its future is gone");
        assert_eq!(worker.ask_blocking(Look).unwrap(), (0, 1));
        assert_eq!((runtime.counters().cancelled, runtime.counters().late_replies), (1, 0));

        // Each took one of three places, and gave it back.
        for n in 2..6 {
            let (word, ask) = wait_for(&worker);
            assert_eq!(worker.ask_blocking(Look).unwrap().0, 1);
            drop(ask);
            until(|| runtime.counters().cancelled == n);
            assert!(word.is_canceled());
        }
        // A tell has nobody who could go away.
        let (word, waits) = oneshot::channel();
        worker.tell_blocking(Wait(waits)).unwrap();
        assert_eq!(worker.ask_blocking(Look).unwrap().0, 1);
        word.send("done").unwrap();
        until(|| worker.ask_blocking(Look).unwrap().0 == 0);
        assert_eq!(runtime.counters().cancelled, 5);
    }
}

#[test]
fn a_call_that_outlasts_the_stall_limit_ends_the_worker() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let worker = waiter(&runtime, |spec| spec.stall(SECOND));
    let (_word, ask) = wait_for(&worker);
    assert_eq!(worker.ask_blocking(Look).unwrap(), (1, 1));
    // The call's own limit, and the watch over the worker.
    manual.wait_for_sleepers(2);
    // Else the time would jump while the worker is busy with the look.
    until(|| worker.handled() == 1);
    manual.advance(SECOND);
    assert!(matches!(ask.wait(), Err(AskError::Died(Exit::Stalled { limit: SECOND }))));
    assert_eq!(worker.ask_blocking(Look).unwrap(), (0, 0), "a fresh life");
    assert_eq!(runtime.counters().abandoned, 0, "it held no thread");
}

#[test]
fn a_poll_that_does_not_return_is_a_stall() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    struct Stuck;
    impl Worker for Stuck {}
    struct Block(mpsc::Sender<()>, mpsc::Receiver<()>);
    impl Message for Block {
        type Reply = ();
    }
    impl HandleAsync<Block> for Stuck {
        fn handle_async(
            &mut self,
            Block(entered, released): Block,
            _: &mut Cx<Self>,
        ) -> impl Future<Output = Result<(), BoxError>> + 'static {
            futures::future::lazy(move |_| {
                entered.send(())?;
                let _ = released.recv();
                Ok(())
            })
        }
    }
    let worker = eager(&runtime).spawn(Spec::new("stuck").stall(SECOND), |_| Ok(Stuck)).unwrap();
    let ((entered, is_in), (release, released)) = (mpsc::channel(), mpsc::channel());
    let mut ask = Box::pin(worker.send_blocking(Block(entered, released)));
    is_in.recv().unwrap();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let died = loop {
        manual.advance(SECOND);
        match ask.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(result) => break result.unwrap_err(),
            std::task::Poll::Pending => std::thread::yield_now(),
        }
    };
    assert!(matches!(died, AskError::Died(Exit::Stalled { .. })), "{died:?}");
    until(|| runtime.counters().abandoned == 1);
    release.send(()).unwrap();
    until(|| runtime.counters().late_replies == 1);
}
