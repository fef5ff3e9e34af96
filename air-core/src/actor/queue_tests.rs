//! The queue, step by step. (Apart from it, because the model checker includes the queue's file as it is.)
#![allow(clippy::unwrap_used)]

use std::task::{Context, Poll, Waker};

use super::queue::{NoRoom, Queue};

fn take(queue: &Queue<u32, &str>, generation: u64) -> Poll<Option<u32>> {
    queue.poll_take(generation, &mut Context::from_waker(Waker::noop()))
}

#[test]
fn room_is_exact_and_comes_back_when_an_item_is_taken() {
    let queue: Queue<u32, &str> = Queue::new(2);
    queue.own(1);
    queue.try_room().unwrap();
    queue.try_room().unwrap();
    assert_eq!(queue.try_room(), Err(NoRoom::Full));
    queue.put(1).unwrap();
    queue.put(2).unwrap();
    assert_eq!(take(&queue, 1), Poll::Ready(Some(1)));
    queue.try_room().unwrap();
    assert_eq!(queue.try_room(), Err(NoRoom::Full));
}

#[test]
fn items_survive_their_owner() {
    let queue: Queue<u32, &str> = Queue::new(4);
    queue.own(1);
    for n in 0..3 {
        queue.try_room().unwrap();
        queue.put(n).unwrap();
    }
    assert_eq!(take(&queue, 1), Poll::Ready(Some(0)));
    queue.own(2);
    assert_eq!(take(&queue, 1), Poll::Ready(None), "an abandoned life takes nothing more");
    assert_eq!(take(&queue, 2), Poll::Ready(Some(1)));
    assert_eq!(take(&queue, 2), Poll::Ready(Some(2)));
    assert_eq!(take(&queue, 2), Poll::Pending);
}

#[test]
fn finishing_drains_and_interrupting_does_not() {
    let queue: Queue<u32, &str> = Queue::new(4);
    queue.own(1);
    for n in 0..2 {
        queue.try_room().unwrap();
        queue.put(n).unwrap();
    }
    queue.finish();
    assert_eq!(queue.put(9), Err(9));
    assert_eq!(queue.try_room(), Err(NoRoom::Closed));
    assert_eq!(take(&queue, 1), Poll::Ready(Some(0)));
    queue.interrupt();
    assert_eq!(take(&queue, 1), Poll::Ready(None));
    queue.own(2);
    assert_eq!(take(&queue, 2), Poll::Ready(Some(1)));
    assert_eq!(take(&queue, 2), Poll::Ready(None));
}

#[test]
fn closing_hands_over_everything_and_keeps_the_first_reason() {
    let queue: Queue<u32, &str> = Queue::new(4);
    queue.try_room().unwrap();
    queue.put(7).unwrap();
    queue.try_room().unwrap();
    assert_eq!(queue.close("first"), [7]);
    assert_eq!(queue.put(8), Err(8), "room taken before the close does not let an item in after it");
    assert!(queue.close("second").is_empty());
    assert_eq!(queue.closed(), Some("first"));
}
