//! Channels: bounds, fairness, cancellation, disconnection, many threads. (Every interleaving of small cases is
//! checked beside the gate itself.)
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use air_core::channel::{self, Limit, MAX_ITEMS, RecvError, SendError, Weigh};
use futures::executor::block_on;
use futures::{FutureExt, StreamExt};
use proptest::prelude::*;

/// An item of a chosen weight.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Heavy(u64, usize);

impl Weigh for Heavy {
    fn weight_bytes(&self) -> usize {
        self.1
    }
}

/// Counts how often it was woken.
#[derive(Default)]
struct Bell(AtomicU64);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Bell {
    fn rung(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll_with<F: Future + Unpin>(future: &mut F, bell: &Arc<Bell>) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(&Waker::from(Arc::clone(bell))))
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn bounds_hold_in_items_and_in_bytes() {
    let (tx, rx) = channel::bounded(Limit { items: 3, bytes: 10 });
    tx.try_send(Heavy(0, 6)).unwrap();
    assert_eq!(tx.try_send(Heavy(1, 5)), Err(SendError::Full(Heavy(1, 5))));
    tx.try_send(Heavy(2, 4)).unwrap();
    assert_eq!((rx.queued_items(), rx.queued_bytes()), (2, 10));
    assert_eq!(rx.try_recv(), Ok(Heavy(0, 6)));
    tx.try_send(Heavy(3, 0)).unwrap();
    tx.try_send(Heavy(4, 0)).unwrap();
    assert_eq!(tx.try_send(Heavy(5, 0)), Err(SendError::Full(Heavy(5, 0))));
    assert_eq!((tx.queued_items(), tx.queued_bytes()), (3, 4));
}

#[test]
fn an_item_over_the_byte_limit_passes_alone() {
    let (tx, rx) = channel::bounded(Limit { items: 8, bytes: 10 });
    tx.try_send(Heavy(0, usize::MAX)).unwrap();
    assert_eq!(tx.try_send(Heavy(1, 0)), Err(SendError::Full(Heavy(1, 0))));
    assert_eq!(rx.recv(), Ok(Heavy(0, usize::MAX)));
    tx.try_send(Heavy(1, 1)).unwrap();
    assert_eq!(tx.try_send(Heavy(2, 11)), Err(SendError::Full(Heavy(2, 11))));
}

#[test]
#[cfg_attr(miri, ignore = "makes a great many slots, one by one")]
fn limits_are_brought_into_range() {
    let (tx, _rx) = channel::bounded::<u8>(Limit { items: 0, bytes: 0 });
    assert_eq!(tx.limit(), Limit { items: 1, bytes: 0 });
    tx.try_send(1).unwrap();
    let (tx, _rx) = channel::bounded::<()>(Limit::items(usize::MAX));
    assert_eq!(tx.limit().items, MAX_ITEMS);
}

#[test]
fn a_heavy_item_is_not_overtaken_by_light_ones() {
    let (tx, rx) = channel::bounded(Limit { items: 8, bytes: 10 });
    for id in 0..3 {
        tx.try_send(Heavy(id, 3)).unwrap();
    }
    let mut heavy = tx.send_async(Heavy(9, 8));
    assert!(poll(&mut heavy).is_pending());
    // There is room for this one, but it came later.
    assert_eq!(tx.try_send(Heavy(10, 1)), Err(SendError::Full(Heavy(10, 1))));
    let mut light = tx.send_async(Heavy(11, 1));
    assert!(poll(&mut light).is_pending());
    let order: Vec<u64> = (0..5).map(|_| rx.try_recv().unwrap().0).collect();
    assert_eq!(order, [0, 1, 2, 9, 11]);
    assert_eq!((poll(&mut heavy), poll(&mut light)), (Poll::Ready(Ok(())), Poll::Ready(Ok(()))));
}

#[test]
fn ten_thousand_senders_wait_outside_a_channel_of_one() {
    const SENDERS: u64 = if cfg!(miri) { 50 } else { 10_000 };
    let (tx, rx) = channel::bounded(Limit::items(1));
    let mut sends: Vec<_> = (0..SENDERS).map(|i| tx.send_async(Heavy(i, 1))).collect();
    let inside = sends.iter_mut().map(poll).filter(Poll::is_ready).count();
    assert_eq!((inside, rx.queued_items(), rx.queued_bytes()), (1, 1, 1));
    for i in 0..SENDERS {
        assert_eq!(rx.try_recv(), Ok(Heavy(i, 1)));
    }
    assert_eq!(rx.try_recv(), Err(RecvError::Empty));
}

#[test]
fn a_blocked_sender_goes_on_when_there_is_room() {
    let (tx, rx) = channel::bounded(Limit::items(1));
    tx.send(Heavy(0, 1)).unwrap();
    let sender = thread::spawn(move || tx.send(Heavy(1, 1)));
    assert_eq!(rx.recv(), Ok(Heavy(0, 1)));
    assert_eq!(rx.recv(), Ok(Heavy(1, 1)));
    assert_eq!(sender.join().unwrap(), Ok(()));
}

#[test]
fn deadlines_pass_and_the_item_comes_back() {
    let (tx, rx) = channel::bounded(Limit::items(1));
    let soon = || Instant::now() + Duration::from_millis(5);
    tx.send_deadline(Heavy(0, 1), Instant::now()).unwrap();
    assert_eq!(tx.send_deadline(Heavy(1, 1), soon()), Err(SendError::Expired(Heavy(1, 1))));
    assert_eq!(rx.recv_deadline(soon()), Ok(Heavy(0, 1)));
    assert_eq!(rx.recv_deadline(soon()), Err(RecvError::Expired));
    // The sender that gave up left nothing behind.
    assert_eq!((rx.queued_items(), rx.queued_bytes()), (0, 0));
}

#[test]
fn a_cancelled_send_gives_the_item_back_and_lets_others_in() {
    let (tx, rx) = channel::bounded(Limit { items: 8, bytes: 10 });
    tx.try_send(Heavy(0, 6)).unwrap();
    let mut heavy = tx.send_async(Heavy(1, 8));
    assert!(poll(&mut heavy).is_pending());
    let bell = Arc::new(Bell::default());
    let mut light = tx.send_async(Heavy(2, 2));
    assert!(poll_with(&mut light, &bell).is_pending());
    assert_eq!(heavy.cancel(), Some(Heavy(1, 8)));
    assert_eq!(bell.rung(), 1);
    assert_eq!(poll(&mut light), Poll::Ready(Ok(())));
    assert_eq!(light.cancel(), None);
    assert_eq!(rx.queued_bytes(), 8);
}

#[test]
fn a_dropped_send_takes_its_item_along() {
    let (tx, rx) = channel::bounded(Limit::items(1));
    let item = Arc::new(7u8);
    tx.try_send(Arc::clone(&item)).unwrap();
    let mut waiting = tx.send_async(Arc::clone(&item));
    assert!(poll(&mut waiting).is_pending());
    let unpolled = tx.send_async(Arc::clone(&item));
    drop((waiting, unpolled));
    assert_eq!(Arc::strong_count(&item), 2);
    drop(rx.recv());
    assert_eq!((rx.try_recv(), Arc::strong_count(&item)), (Err(RecvError::Empty), 1));
}

#[test]
fn a_cancelled_receive_passes_its_wake_up_on() {
    let (tx, rx) = channel::bounded(Limit::items(4));
    let bells = [Arc::new(Bell::default()), Arc::new(Bell::default())];
    let mut first = rx.recv_async();
    let mut second = rx.recv_async();
    assert!(poll_with(&mut first, &bells[0]).is_pending());
    assert!(poll_with(&mut second, &bells[1]).is_pending());
    tx.try_send(Heavy(1, 1)).unwrap();
    assert_eq!((bells[0].rung(), bells[1].rung()), (1, 0));
    drop(first);
    assert_eq!(bells[1].rung(), 1);
    assert_eq!(poll(&mut second), Poll::Ready(Ok(Heavy(1, 1))));
}

/// A waker whose last handle owns an end of the channel, as an executor's may own the task that waits.
struct Owner(#[expect(dead_code)] channel::Receiver<Heavy>);

impl Wake for Owner {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn wakers_are_dropped_outside_the_lock() {
    let (tx, rx) = channel::bounded(Limit::items(1));
    let poll_owned = |future: &mut (dyn Future<Output = _> + Unpin)| {
        let waker = Waker::from(Arc::new(Owner(rx.clone())));
        pin!(future).poll(&mut Context::from_waker(&waker))
    };
    // Each of these replaces or drops the last handle of a waker, whose drop takes the channel's lock.
    let mut waiting = rx.recv_async();
    let mut receive = (&mut waiting).map(drop);
    assert!(poll_owned(&mut receive).is_pending());
    assert!(poll_owned(&mut receive).is_pending());
    drop(waiting);
    tx.try_send(Heavy(0, 1)).unwrap();
    let mut waiting = tx.send_async(Heavy(1, 1));
    let mut send = (&mut waiting).map(drop);
    assert!(poll_owned(&mut send).is_pending());
    assert!(poll_owned(&mut send).is_pending());
    assert_eq!(waiting.cancel(), Some(Heavy(1, 1)));
    assert_eq!(rx.try_recv(), Ok(Heavy(0, 1)));
}

#[test]
fn receivers_drain_the_channel_and_then_learn_that_senders_are_gone() {
    let (tx, rx) = channel::bounded(Limit::items(4));
    let other = tx.clone();
    tx.send(Heavy(1, 1)).unwrap();
    drop(tx);
    other.send(Heavy(2, 1)).unwrap();
    drop(other);
    assert_eq!(rx.recv(), Ok(Heavy(1, 1)));
    assert_eq!(block_on(rx.recv_async()), Ok(Heavy(2, 1)));
    assert_eq!(rx.recv(), Err(RecvError::Disconnected));
    assert_eq!(rx.try_recv(), Err(RecvError::Disconnected));
    assert_eq!(block_on(rx.recv_async()), Err(RecvError::Disconnected));
}

#[test]
fn waiting_receivers_wake_when_the_last_sender_goes() {
    let (tx, rx) = channel::bounded::<Heavy>(Limit::items(4));
    let bell = Arc::new(Bell::default());
    let mut waiting = rx.recv_async();
    assert!(poll_with(&mut waiting, &bell).is_pending());
    let blocked = thread::spawn({
        let rx = rx.clone();
        move || rx.recv()
    });
    drop(tx);
    assert_eq!(blocked.join().unwrap(), Err(RecvError::Disconnected));
    assert_eq!(bell.rung(), 1);
    assert_eq!(poll(&mut waiting), Poll::Ready(Err(RecvError::Disconnected)));
}

#[test]
fn senders_get_their_items_back_when_the_last_receiver_goes() {
    let (tx, rx) = channel::bounded(Limit::items(1));
    let inside = Arc::new(0u8);
    tx.send(Arc::clone(&inside)).unwrap();
    let bell = Arc::new(Bell::default());
    let mut waiting = tx.send_async(Arc::new(1));
    assert!(poll_with(&mut waiting, &bell).is_pending());
    let blocked = thread::spawn({
        let tx = tx.clone();
        move || tx.send(Arc::new(2))
    });
    drop(rx.clone());
    drop(rx);
    assert_eq!(blocked.join().unwrap(), Err(SendError::Disconnected(Arc::new(2))));
    assert_eq!(bell.rung(), 1);
    assert_eq!(poll(&mut waiting), Poll::Ready(Err(SendError::Disconnected(Arc::new(1)))));
    assert_eq!(tx.try_send(Arc::new(3)), Err(SendError::Disconnected(Arc::new(3))));
    // What was inside is dropped with the receivers.
    assert_eq!((Arc::strong_count(&inside), tx.queued_items(), tx.queued_bytes()), (1, 0, 0));
}

#[test]
fn a_forgotten_send_stops_nobody() {
    let (tx, rx) = channel::bounded(Limit::items(1));
    tx.try_send(Heavy(0, 1)).unwrap();
    let mut forgotten = tx.send_async(Heavy(1, 1));
    assert!(poll(&mut forgotten).is_pending());
    std::mem::forget(forgotten);
    let mut behind = tx.send_async(Heavy(2, 1));
    assert!(poll(&mut behind).is_pending());
    // Receivers let items in themselves; the sender need not run.
    assert_eq!([(); 3].map(|()| rx.try_recv().unwrap().0), [0, 1, 2]);
}

#[test]
fn items_come_as_an_iterator_and_as_a_stream() {
    let (tx, rx) = channel::bounded(Limit::items(8));
    for i in 0..4 {
        tx.send(Heavy(i, 1)).unwrap();
    }
    assert_eq!(rx.iter().take(2).map(|item| item.0).collect::<Vec<_>>(), [0, 1]);
    let stream = rx.clone().into_stream();
    drop(tx);
    assert_eq!(block_on(stream.map(|item| item.0).collect::<Vec<_>>()), [2, 3]);
    assert_eq!(rx.into_iter().count(), 0);
}

#[test]
fn many_threads_of_every_kind_lose_and_double_nothing() {
    const EACH: u64 = if cfg!(miri) { 30 } else { 4_000 };
    let (tx, rx) = channel::bounded(Limit { items: 7, bytes: 64 });
    // Light, heavy and over-heavy items.
    let weight = |i: u64| [1, 3, 40, 9, 100][(i % 5) as usize];
    let senders: Vec<_> = (0..4u64)
        .map(|kind| {
            let tx = tx.clone();
            thread::spawn(move || {
                for i in 0..EACH {
                    let item = Heavy(kind * EACH + i, weight(i));
                    match kind {
                        0 | 1 => tx.send(item).unwrap(),
                        2 => block_on(tx.send_async(item)).unwrap(),
                        _ => {
                            let mut item = item;
                            while let Err(error) = tx.send_deadline(item, Instant::now()) {
                                item = error.into_inner();
                                thread::yield_now();
                            }
                        }
                    }
                }
            })
        })
        .collect();
    drop(tx);
    let receivers: Vec<_> = (0..3)
        .map(|kind| {
            let rx = rx.clone();
            thread::spawn(move || {
                let mut seen = Vec::new();
                loop {
                    assert!(rx.queued_items() <= 7);
                    let received = if kind == 0 { rx.recv() } else { block_on(rx.recv_async()) };
                    match received {
                        Ok(item) => seen.push(item.0),
                        Err(error) => break assert_eq!(error, RecvError::Disconnected),
                    }
                }
                seen
            })
        })
        .collect();
    for sender in senders {
        sender.join().unwrap();
    }
    let mut seen: Vec<u64> = receivers.into_iter().flat_map(|receiver| receiver.join().unwrap()).collect();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..4 * EACH));
    assert_eq!((rx.queued_items(), rx.queued_bytes()), (0, 0));
}

proptest! {
    /// Any sequence of immediate verbs, against a plain queue.
    #[test]
    fn accounting_is_exact(
        items in 1usize..5,
        bytes in 0usize..30,
        steps in prop::collection::vec(prop::option::weighted(0.6, 0usize..20), 1..60),
    ) {
        let (tx, rx) = channel::bounded(Limit { items, bytes });
        let mut plain: VecDeque<Heavy> = VecDeque::new();
        for (id, step) in steps.into_iter().enumerate() {
            let held: usize = plain.iter().map(|item| item.1).sum();
            if let Some(weight) = step {
                let item = Heavy(id as u64, weight);
                let fits = plain.is_empty() || (plain.len() < items && held + weight <= bytes);
                prop_assert_eq!(tx.try_send(item.clone()).is_ok(), fits);
                if fits {
                    plain.push_back(item);
                }
            } else {
                prop_assert_eq!(rx.try_recv().ok(), plain.pop_front());
            }
            prop_assert_eq!(rx.queued_bytes(), plain.iter().map(|item| item.1).sum::<usize>());
            prop_assert_eq!(tx.queued_items(), plain.len());
        }
    }
}
