//! The queue, step by step. (Apart from it, because the model checker includes the queue's file as it is.)
#![allow(clippy::unwrap_used)]

use std::task::{Context, Poll, Waker};

use std::pin::pin;

use super::queue::{Closed, Queue, Refused, Room};

fn take(queue: &Queue<u32, &str>, generation: u64) -> Poll<Option<u32>> {
    queue.poll_take(generation, &mut Context::from_waker(Waker::noop()))
}

fn poll<'a>(
    room: std::pin::Pin<&mut Room<'a, u32, &'static str>>,
) -> Poll<Result<super::queue::Slot<'a, u32, &'static str>, Closed>> {
    std::future::Future::poll(room, &mut Context::from_waker(Waker::noop()))
}

#[test]
fn room_is_exact_and_comes_back_when_an_item_is_taken() {
    let queue: Queue<u32, &str> = Queue::new(2);
    queue.own(1);
    queue.offer(1).unwrap();
    queue.offer(2).unwrap();
    assert_eq!(queue.offer(3), Err(Refused::Full(3)));
    assert_eq!(take(&queue, 1), Poll::Ready(Some(1)));
    queue.offer(4).unwrap();
    assert_eq!(queue.offer(5), Err(Refused::Full(5)));
    assert_eq!((take(&queue, 1), take(&queue, 1)), (Poll::Ready(Some(2)), Poll::Ready(Some(4))));
}

#[test]
fn room_goes_to_the_first_in_line_and_nobody_slips_in() {
    let queue: Queue<u32, &str> = Queue::new(1);
    queue.own(1);
    queue.offer(1).unwrap();
    let (mut first, mut second) = (pin!(queue.room()), pin!(queue.room()));
    assert!(poll(first.as_mut()).is_pending());
    assert!(poll(second.as_mut()).is_pending());
    assert_eq!(take(&queue, 1), Poll::Ready(Some(1)));
    assert_eq!(queue.offer(9), Err(Refused::Full(9)), "the room is kept");
    assert!(poll(second.as_mut()).is_pending(), "not for the second");
    let Poll::Ready(Ok(slot)) = poll(first.as_mut()) else { panic!("for the first") };
    slot.put(2).unwrap();
    assert_eq!(take(&queue, 1), Poll::Ready(Some(2)));
    let Poll::Ready(Ok(slot)) = poll(second.as_mut()) else { panic!("then for the second") };
    drop(slot);
    queue.offer(3).unwrap();
}

#[test]
fn who_leaves_the_line_leaves_no_hole() {
    let queue: Queue<u32, &str> = Queue::new(1);
    queue.own(1);
    queue.offer(1).unwrap();
    let mut third = pin!(queue.room());
    {
        let (mut first, mut second) = (pin!(queue.room()), pin!(queue.room()));
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        assert_eq!(take(&queue, 1), Poll::Ready(Some(1)));
        // The first leaves with room kept for it, the second while it waits.
    }
    let Poll::Ready(Ok(slot)) = poll(third.as_mut()) else { panic!("the third is next") };
    slot.put(3).unwrap();
    assert_eq!(take(&queue, 1), Poll::Ready(Some(3)));
    queue.offer(4).unwrap();
}

#[test]
fn an_end_sends_the_line_away() {
    for end in [Queue::<u32, &str>::finish, |queue: &Queue<u32, &str>| drop(queue.close("gone"))] {
        let queue: Queue<u32, &str> = Queue::new(1);
        queue.own(1);
        queue.offer(1).unwrap();
        let (mut first, mut second) = (pin!(queue.room()), pin!(queue.room()));
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        assert_eq!(take(&queue, 1), Poll::Ready(Some(1)));
        end(&queue);
        assert!(matches!(poll(first.as_mut()), Poll::Ready(Err(Closed))), "although room was kept");
        assert!(matches!(poll(second.as_mut()), Poll::Ready(Err(Closed))));
    }
}

#[test]
fn news_come_with_whatever_ends_an_empty_take() {
    let queue: Queue<u32, &str> = Queue::new(2);
    let mut seen = queue.news();
    let mut changed = || std::mem::replace(&mut seen, queue.news()) != queue.news();
    queue.own(1);
    assert!(changed());
    queue.offer(1).unwrap();
    assert!(changed());
    assert_eq!(take(&queue, 1), Poll::Ready(Some(1)));
    assert!(!changed());
    queue.interrupt();
    assert!(changed());
    queue.finish();
    assert!(changed());
    queue.close("gone");
    assert!(changed());
}

#[test]
fn items_survive_their_owner() {
    let queue: Queue<u32, &str> = Queue::new(4);
    queue.own(1);
    for n in 0..3 {
        queue.offer(n).unwrap();
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
        queue.offer(n).unwrap();
    }
    queue.finish();
    assert_eq!(queue.offer(9), Err(Refused::Closed(9)));
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
    queue.offer(7).unwrap();
    let Poll::Ready(Ok(slot)) = poll(pin!(queue.room())) else { panic!("there is room") };
    assert_eq!(queue.close("first"), [7]);
    assert_eq!(slot.put(8), Err(8), "room taken before the close does not let an item in after it");
    assert!(queue.close("second").is_empty());
    assert_eq!(queue.closed(), Some("first"));
}
