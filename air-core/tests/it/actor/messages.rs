//! Urgent messages, batches, limits on pending asks, timers.

use super::*;
use air_core::HandleBatch;

#[test]
fn urgent_messages_overtake_normal_ones_and_keep_their_order() {
    let runtime = Runtime::start().unwrap();
    let probe = runtime.spawn(Spec::new("probe"), new_probe).unwrap();
    let release = hold(&probe);
    let (seen, order) = mpsc::channel();
    let note = |n: u32| {
        let seen = seen.clone();
        act(move |_| Ok(seen.send(n)?))
    };
    for n in [10, 11] {
        probe.tell_blocking(note(n)).unwrap();
    }
    let urgent = probe.urgent();
    for n in [1, 2, 3] {
        urgent.tell_blocking(note(n)).unwrap();
    }
    release.send(()).unwrap();
    probe.ask_blocking(Add(0)).unwrap();
    assert_eq!(order.try_iter().collect::<Vec<_>>(), [1, 2, 3, 10, 11]);
}

#[test]
fn an_urgent_message_gets_in_where_a_normal_one_waits() {
    let runtime = Runtime::start().unwrap();
    let probe = runtime.spawn(Spec::new("probe").capacity(1), new_probe).unwrap();
    let release = hold(&probe);
    probe.try_tell(Add(1)).unwrap();
    assert!(matches!(probe.try_tell(Add(1)).unwrap_err().reason, Reason::Full));
    probe.urgent().try_tell(Add(10)).unwrap();
    assert!(
        matches!(probe.urgent().try_tell(Add(10)).unwrap_err().reason, Reason::Full),
        "room for urgent ones ends too"
    );
    assert_eq!(probe.queued(), 2);
    release.send(()).unwrap();
    assert_eq!(probe.ask_blocking(Add(0)).unwrap(), 11);
}

/// Sums batches; each reply says how large its batch was.
struct Summing {
    sum: u64,
    batches: mpsc::Sender<Vec<u64>>,
}
impl Worker for Summing {}

struct Take(u64);
impl Message for Take {
    type Reply = u64;
}
impl HandleBatch<Take> for Summing {
    const MOST: usize = 4;

    fn handle_batch(&mut self, batch: Vec<Take>, _: &mut Cx<Self>) -> Vec<Result<u64, BoxError>> {
        let numbers: Vec<_> = batch.iter().map(|take| take.0).collect();
        self.batches.send(numbers).unwrap();
        match batch.iter().map(|take| take.0).max() {
            Some(666) => panic!("bad batch"),
            Some(99) => return Vec::new(),
            _ => {}
        }
        let answer = |Take(n)| if n == 13 { Err("unlucky".into()) } else { Ok(self.sum + n) };
        batch.into_iter().map(answer).collect()
    }
}

/// Another kind of message, handled one by one.
struct Gate(mpsc::Sender<()>, mpsc::Receiver<()>);
impl Message for Gate {
    type Reply = ();
}
impl Handle<Gate> for Summing {
    fn handle(&mut self, Gate(entered, released): Gate, _: &mut Cx<Self>) -> Result<(), BoxError> {
        entered.send(())?;
        let _ = released.recv();
        Ok(())
    }
}

fn summing(runtime: &Runtime) -> (Mailbox<Summing>, mpsc::Receiver<Vec<u64>>) {
    let (batches, seen) = mpsc::channel();
    let worker = eager(runtime)
        .spawn(Spec::new("summing"), move |_| Ok(Summing { sum: 1000, batches: batches.clone() }))
        .unwrap();
    (worker, seen)
}

/// Holds the worker until told otherwise; returns once it is there.
fn gate(worker: &Mailbox<Summing>) -> mpsc::Sender<()> {
    let ((entered, is_in), (release, released)) = (mpsc::channel(), mpsc::channel());
    worker.tell_blocking(Gate(entered, released)).unwrap();
    is_in.recv().unwrap();
    release
}

#[test]
fn a_batch_is_what_waits_of_one_kind_and_everyone_gets_an_answer() {
    let runtime = Runtime::start().unwrap();
    let (worker, seen) = summing(&runtime);
    assert_eq!(worker.ask_blocking(Take(1)).unwrap(), 1001, "alone, a batch of one");
    let release = gate(&worker);
    let asks: Vec<_> = (1..=6).map(|n| worker.send_blocking(Take(n))).collect();
    let withdrawn = worker.send_blocking(Take(7));
    let (entered, is_in) = mpsc::channel();
    let (again, released) = mpsc::channel();
    worker.tell_blocking(Gate(entered, released)).unwrap();
    let last = worker.send_blocking(Take(8));
    drop(withdrawn);
    release.send(()).unwrap();
    is_in.recv().unwrap();
    again.send(()).unwrap();
    assert!(asks.into_iter().map(|ask| ask.wait().unwrap()).eq(1001..=1006), "each its own");
    assert_eq!(last.wait().unwrap(), 1008);
    let batches: Vec<_> = seen.try_iter().collect();
    assert_eq!(
        batches,
        [vec![1], vec![1, 2, 3, 4], vec![5, 6], vec![8]],
        "at most four, nothing overtaken, nothing withdrawn"
    );
    // Eight takes, two gates; the withdrawn one was not handled.
    worker.stop_within_blocking(SECOND * 60);
    assert_eq!(worker.handled(), 10);
}

#[test]
fn a_batch_can_fail_for_one_for_all_and_by_panic() {
    let runtime = Runtime::start().unwrap();
    let (worker, _seen) = summing(&runtime);
    let batch = |numbers: [u64; 3]| {
        let release = gate(&worker);
        let asks = numbers.map(|n| worker.send_blocking(Take(n)));
        release.send(()).unwrap();
        asks.map(|ask| ask.wait().map_err(|error| error.to_string()))
    };
    assert_eq!(batch([1, 13, 2]), [Ok(1001), Err("unlucky".into()), Ok(1002)]);
    let miscounted = "`handle_batch` must return one result for each message, in order: it returned 0 for 3";
    assert_eq!(batch([1, 99, 2]), [(); 3].map(|()| Err(miscounted.to_owned())));
    let died = "the worker handling the message panicked: bad batch";
    assert_eq!(batch([1, 666, 2]), [(); 3].map(|()| Err(died.to_owned())));
    assert_eq!(batch([1, 2, 3]), [Ok(1001), Ok(1002), Ok(1003)]);
    worker.tell_blocking(Take(13)).unwrap();
    // The first may still be in the batch of the one nobody waits for.
    assert_eq!(worker.ask_blocking(Take(1)).unwrap(), 1001);
    assert_eq!(worker.ask_blocking(Take(1)).unwrap(), 1001);
    let exits: Vec<_> = worker.exits().iter().map(|record| record.exit.to_string()).collect();
    assert_eq!(exits, ["panicked: bad batch", "failed: unlucky"]);
}

#[test]
fn what_expired_is_not_in_the_batch() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let (worker, seen) = summing(&runtime);
    let release = gate(&worker);
    worker.tell_blocking(Take(1)).unwrap();
    let expired = worker.within(SECOND).send_blocking(Take(2));
    worker.within(SECOND).tell_blocking(Take(3)).unwrap();
    let kept = worker.send_blocking(Take(4));
    manual.advance(SECOND);
    release.send(()).unwrap();
    assert_eq!(kept.wait().unwrap(), 1004);
    assert!(matches!(
        expired.wait(),
        Err(AskError::Undelivered { message: Take(2), reason: Reason::Expired })
    ));
    assert_eq!(seen.try_iter().collect::<Vec<_>>(), [vec![1, 4]]);
    assert_eq!(runtime.counters().dead_letters, 1, "the tell");
}

#[test]
fn asks_beyond_the_limit_come_back_at_once() {
    let runtime = Runtime::start().unwrap();
    let probe = runtime.spawn(Spec::new("probe").capacity(1).max_pending(3), new_probe).unwrap();
    let release = hold(&probe);
    let mut asks: Vec<_> = (0..3).map(|_| Box::pin(probe.ask(Add(1)))).collect();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    // One waits in the mailbox, two for room.
    assert!(asks.iter_mut().all(|ask| ask.as_mut().poll(&mut cx).is_pending()));
    let refused = probe.ask_blocking(Add(5)).unwrap_err();
    assert!(
        matches!(
            refused,
            AskError::Undelivered { message: Add(5), reason: Reason::TooManyPending { limit: 3 } }
        ),
        "{refused:?}"
    );
    // Whoever gives up makes room for another, in the mailbox or before it.
    for given_up in [0, 1] {
        drop(asks.remove(given_up));
        let mut another = Box::pin(probe.ask(Add(1)));
        assert!(another.as_mut().poll(&mut cx).is_pending());
        asks.push(another);
    }
    release.send(()).unwrap();
    let mut answers: Vec<_> =
        air_core::block_on(futures::future::join_all(asks)).into_iter().map(Result::unwrap).collect();
    answers.sort_unstable();
    assert_eq!(answers, [1, 2, 3]);
    for n in 4..10 {
        assert_eq!(probe.ask_blocking(Add(1)).unwrap(), n, "an answer makes room for another");
    }
}

#[test]
fn a_timer_ticks_at_multiples_of_its_period_until_its_life_ends() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let probe = runtime.spawn(Spec::new("probe"), new_probe).unwrap();
    let (ticks, ticked) = mpsc::channel();
    probe
        .ask_blocking(act(move |cx| {
            cx.tell_every(SECOND, move || {
                let ticks = ticks.clone();
                act(move |cx| Ok(ticks.send(cx.now())?))
            });
            Ok(())
        }))
        .unwrap();
    for n in 1..=3 {
        manual.wait_for_sleepers(1);
        manual.advance(SECOND);
        assert_eq!(ticked.recv().unwrap(), SECOND * n);
    }
    manual.wait_for_sleepers(1);
    manual.advance(SECOND * 10 + SECOND / 2);
    assert_eq!(ticked.recv().unwrap(), SECOND * 13 + SECOND / 2, "those missed are not made up for");
    manual.wait_for_sleepers(1);
    manual.advance(SECOND / 2);
    assert_eq!(ticked.recv().unwrap(), SECOND * 14);
    probe.ask_blocking(boom("end of this life")).unwrap_err();
    // The timer holds the sender: with the life it is gone.
    assert!(ticked.recv().is_err());
}

#[test]
fn a_timer_can_be_stopped() {
    let (clock, manual) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    let probe = runtime.spawn(Spec::new("probe").shared(), new_probe).unwrap();
    let (give, timer) = mpsc::channel();
    let (ticks, ticked) = mpsc::channel::<()>();
    probe
        .ask_blocking(act(move |cx| {
            let timer = cx.tell_every(SECOND, move || {
                let ticks = ticks.clone();
                act(move |_| Ok(ticks.send(())?))
            });
            Ok(give.send(timer)?)
        }))
        .unwrap();
    manual.wait_for_sleepers(1);
    manual.advance(SECOND);
    ticked.recv().unwrap();
    timer.recv().unwrap().stop();
    assert!(ticked.recv().is_err(), "it has let go of what it sent");
    probe.ask_blocking(Add(1)).unwrap();
}
