//! The mailbox's queue, model-checked: loom runs the shipping file through every interleaving.
#![allow(clippy::unwrap_used)]

mod sync {
    pub(super) use crate::loom_mutex::Mutex;
    pub(super) use loom::sync::atomic::{AtomicUsize, Ordering};
}

#[allow(dead_code)]
#[path = "../../src/actor/queue/mod.rs"]
mod queue;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use queue::{Full, Lane, Queue, Refused};
use std::task::{Context, Poll, Waker};

const NORMAL: Lane = Lane { group: 0, urgent: false };
const URGENT: Lane = Lane { group: 0, urgent: true };

fn take(queue: &Queue<usize, ()>, generation: u64) -> Option<usize> {
    match queue.poll_take(generation, Full::default(), &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(item) => item,
        Poll::Pending => None,
    }
}

/// A dying mailbox: whatever the interleaving, each item is handled, handed to the closer or given back; one of these, once.
#[test]
fn putting_against_taking_and_closing_loses_and_doubles_nothing() {
    loom::model(|| {
        let queue = Arc::new(Queue::<usize, ()>::new(2, 1));
        let given_back = Arc::new(AtomicUsize::new(0));
        queue.own(1);
        let putters: Vec<_> = [1, 2]
            .map(|item| {
                let (queue, given_back) = (queue.clone(), given_back.clone());
                loom::thread::spawn(move || {
                    if let Err(Refused::Closed(item) | Refused::Full(item)) = queue.offer(NORMAL, item) {
                        given_back.fetch_add(item, Ordering::SeqCst);
                    }
                })
            })
            .into();
        let handled = take(&queue, 1).unwrap_or(0);
        let closed: usize = queue.close(()).into_iter().sum();
        for putter in putters {
            putter.join().unwrap();
        }
        assert_eq!(handled + closed + given_back.load(Ordering::SeqCst), 3);
        assert_eq!(queue.len(), 0);
    });
}

/// A restart while messages come in: the old life and the new one never take the same item, and none is left behind.
#[test]
fn two_lives_share_the_queue_without_sharing_an_item() {
    loom::model(|| {
        let queue = Arc::new(Queue::<usize, ()>::new(2, 1));
        queue.own(1);
        queue.offer(NORMAL, 1).unwrap();
        let old = {
            let queue = queue.clone();
            loom::thread::spawn(move || take(&queue, 1).unwrap_or(0))
        };
        let putter = {
            let queue = queue.clone();
            loom::thread::spawn(move || queue.offer(NORMAL, 2).unwrap())
        };
        queue.own(2);
        let new = take(&queue, 2).unwrap_or(0);
        let handled = old.join().unwrap();
        putter.join().unwrap();
        let rest: usize = std::iter::from_fn(|| take(&queue, 2)).sum();
        assert_eq!(handled + new + rest, 3);
    });
}

/// Room for one: who waits in line gets in, leaves, or is sent away by the close; the room is never lost and never given twice.
#[test]
fn a_line_against_taking_and_closing_loses_and_doubles_nothing() {
    loom::model(|| {
        let queue = Arc::new(Queue::<usize, ()>::new(1, 1));
        queue.own(1);
        queue.offer(NORMAL, 1).unwrap();
        let waiter = {
            let queue = queue.clone();
            loom::thread::spawn(move || {
                let mut room = std::pin::pin!(queue.room(NORMAL));
                let polled = room.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                match polled {
                    Poll::Ready(Ok(slot)) => slot.put(2).err().unwrap_or(0),
                    // Leaves the line, or the room that was kept meanwhile.
                    _ => 2,
                }
            })
        };
        let taken = take(&queue, 1).unwrap_or(0);
        let given_back = waiter.join().unwrap();
        let rest: usize = std::iter::from_fn(|| take(&queue, 1)).sum();
        assert_eq!(taken + given_back + rest, 3);
        queue.offer(NORMAL, 5).unwrap();
        assert!(queue.offer(NORMAL, 6).is_err(), "room for exactly one");
    });
}

/// A batch on a dying mailbox, over two lanes: each item is in the batch, handed to the closer or given back; one of these, once.
#[test]
fn taking_a_batch_against_putting_and_closing_loses_and_doubles_nothing() {
    loom::model(|| {
        let queue = Arc::new(Queue::<usize, ()>::new(4, 1));
        queue.own(1);
        queue.offer(NORMAL, 1).unwrap();
        queue.offer(NORMAL, 2).unwrap();
        let putter = {
            let queue = queue.clone();
            loom::thread::spawn(move || if queue.offer(URGENT, 4).is_err() { 4 } else { 0 })
        };
        let taker = {
            let queue = queue.clone();
            loom::thread::spawn(move || {
                let first = take(&queue, 1).unwrap_or(0);
                let batch: usize = queue.take_alike(1, 2, |_| true).into_iter().sum();
                first + batch
            })
        };
        let closed: usize = queue.close(()).into_iter().sum();
        let given_back = putter.join().unwrap();
        assert_eq!(taker.join().unwrap() + closed + given_back, 7);
        assert_eq!(queue.len(), 0);
    });
}

/// Room for one, and a sender that stands in line while the taker takes: the room is always told of.
#[test]
fn who_stands_in_line_learns_of_room() {
    loom::model(|| {
        let queue = Arc::new(Queue::<usize, ()>::new(1, 1));
        queue.own(1);
        queue.offer(NORMAL, 1).unwrap();
        let taker = {
            let queue = queue.clone();
            loom::thread::spawn(move || take(&queue, 1))
        };
        let woken = std::sync::Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let mut room = std::pin::pin!(queue.room(NORMAL));
        let first = room.as_mut().poll(&mut Context::from_waker(&waker));
        assert_eq!(taker.join().unwrap(), Some(1));
        let slot = match first {
            Poll::Ready(slot) => slot,
            Poll::Pending => {
                assert!(woken.0.load(std::sync::atomic::Ordering::SeqCst), "the item is taken");
                match room.as_mut().poll(&mut Context::from_waker(&waker)) {
                    Poll::Ready(slot) => slot,
                    Poll::Pending => panic!("room was kept"),
                }
            }
        };
        slot.unwrap_or_else(|_| panic!("open")).put(2).unwrap();
        assert_eq!(take(&queue, 1), Some(2));
    });
}

/// A taker that has taken the last item, a sender and an end: the taker is told of whatever comes after its last look.
#[test]
fn who_took_the_last_item_is_told_of_the_next_and_of_the_end() {
    loom::model(|| {
        let queue = Arc::new(Queue::<usize, ()>::new(2, 1));
        queue.own(1);
        queue.offer(NORMAL, 1).unwrap();
        let putter = {
            let queue = queue.clone();
            loom::thread::spawn(move || {
                queue.offer(NORMAL, 2).unwrap();
                queue.finish();
            })
        };
        let woken = std::sync::Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        let poll = || queue.poll_take(1, Full::default(), &mut Context::from_waker(&waker));
        let mut taken = 0;
        let told = || woken.0.swap(false, std::sync::atomic::Ordering::SeqCst);
        let mut next = poll();
        while let Poll::Ready(Some(item)) = next {
            taken += item;
            next = poll();
        }
        putter.join().unwrap();
        while next.is_pending() {
            assert!(told(), "there is something new");
            next = poll();
            while let Poll::Ready(Some(item)) = next {
                taken += item;
                next = poll();
            }
        }
        assert_eq!((next, taken), (Poll::Ready(None), 3));
    });
}

#[derive(Default)]
struct Woken(std::sync::atomic::AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}
