//! The queue, step by step. (Apart from it, because the model checker includes the queue's file as it is.)
#![allow(clippy::unwrap_used)]

use std::task::{Context, Poll, Waker};

use std::pin::pin;

use super::queue::{Closed, Full, JUMPS, Lane, Queue, Refused, Room};

const NORMAL: Lane = Lane { group: 0, urgent: false };
const URGENT: Lane = Lane { group: 0, urgent: true };

fn take(queue: &Queue<u32, &str>, generation: u64) -> Poll<Option<u32>> {
    take_unless(Full::default(), queue, generation)
}

fn take_unless(full: Full, queue: &Queue<u32, &str>, generation: u64) -> Poll<Option<u32>> {
    queue.poll_take(generation, full, &mut Context::from_waker(Waker::noop()))
}

fn poll<'a>(
    room: std::pin::Pin<&mut Room<'a, u32, &'static str>>,
) -> Poll<<Room<'a, u32, &'static str> as Future>::Output> {
    Future::poll(room, &mut Context::from_waker(Waker::noop()))
}

#[test]
fn room_is_exact_and_comes_back_when_an_item_is_taken() {
    let queue: Queue<u32, &str> = Queue::new(2, 1);
    queue.own(1);
    queue.offer(NORMAL, 1).unwrap();
    queue.offer(NORMAL, 2).unwrap();
    assert_eq!(queue.offer(NORMAL, 3), Err(Refused::Full(3)));
    assert_eq!(take(&queue, 1), Poll::Ready(Some(1)));
    queue.offer(NORMAL, 4).unwrap();
    assert_eq!(queue.offer(NORMAL, 5), Err(Refused::Full(5)));
    assert_eq!((take(&queue, 1), take(&queue, 1)), (Poll::Ready(Some(2)), Poll::Ready(Some(4))));
}

#[test]
fn room_goes_to_the_first_in_line_and_nobody_slips_in() {
    let queue: Queue<u32, &str> = Queue::new(1, 1);
    queue.own(1);
    queue.offer(NORMAL, 1).unwrap();
    let (mut first, mut second) = (pin!(queue.room(NORMAL)), pin!(queue.room(NORMAL)));
    assert!(poll(first.as_mut()).is_pending());
    assert!(poll(second.as_mut()).is_pending());
    assert_eq!(take(&queue, 1), Poll::Ready(Some(1)));
    assert_eq!(queue.offer(NORMAL, 9), Err(Refused::Full(9)), "the room is kept");
    assert!(poll(second.as_mut()).is_pending(), "not for the second");
    let Poll::Ready(Ok(slot)) = poll(first.as_mut()) else { panic!("for the first") };
    slot.put(2).unwrap();
    assert_eq!(take(&queue, 1), Poll::Ready(Some(2)));
    let Poll::Ready(Ok(slot)) = poll(second.as_mut()) else { panic!("then for the second") };
    drop(slot);
    queue.offer(NORMAL, 3).unwrap();
}

#[test]
fn who_leaves_the_line_leaves_no_hole() {
    let queue: Queue<u32, &str> = Queue::new(1, 1);
    queue.own(1);
    queue.offer(NORMAL, 1).unwrap();
    let mut third = pin!(queue.room(NORMAL));
    {
        let (mut first, mut second) = (pin!(queue.room(NORMAL)), pin!(queue.room(NORMAL)));
        assert!(poll(first.as_mut()).is_pending());
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        assert_eq!(take(&queue, 1), Poll::Ready(Some(1)));
        // The first leaves with room kept for it, the second while it waits.
    }
    let Poll::Ready(Ok(slot)) = poll(third.as_mut()) else { panic!("the third is next") };
    slot.put(3).unwrap();
    assert_eq!(take(&queue, 1), Poll::Ready(Some(3)));
    queue.offer(NORMAL, 4).unwrap();
}

#[test]
fn an_end_sends_the_line_away() {
    for end in [Queue::<u32, &str>::finish, |queue: &Queue<u32, &str>| drop(queue.close("gone"))] {
        let queue: Queue<u32, &str> = Queue::new(1, 1);
        queue.own(1);
        queue.offer(NORMAL, 1).unwrap();
        let (mut first, mut second) = (pin!(queue.room(NORMAL)), pin!(queue.room(NORMAL)));
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
    let queue: Queue<u32, &str> = Queue::new(2, 1);
    let mut seen = queue.news();
    let mut changed = || std::mem::replace(&mut seen, queue.news()) != queue.news();
    queue.own(1);
    assert!(changed());
    queue.offer(NORMAL, 1).unwrap();
    assert!(changed());
    assert_eq!(take(&queue, 1), Poll::Ready(Some(1)));
    assert!(!changed());
    queue.interrupt("sibling");
    assert!(changed());
    queue.finish();
    assert!(changed());
    queue.close("gone");
    assert!(changed());
}

#[test]
fn items_survive_their_owner() {
    let queue: Queue<u32, &str> = Queue::new(4, 1);
    queue.own(1);
    for n in 0..3 {
        queue.offer(NORMAL, n).unwrap();
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
    let queue: Queue<u32, &str> = Queue::new(4, 1);
    queue.own(1);
    for n in 0..2 {
        queue.offer(NORMAL, n).unwrap();
    }
    queue.finish();
    assert_eq!(queue.offer(NORMAL, 9), Err(Refused::Closed(9)));
    assert_eq!(take(&queue, 1), Poll::Ready(Some(0)));
    queue.interrupt("sibling");
    assert_eq!(take(&queue, 1), Poll::Ready(None));
    queue.own(2);
    assert_eq!(take(&queue, 2), Poll::Ready(Some(1)));
    assert_eq!(take(&queue, 2), Poll::Ready(None));
}

#[test]
fn closing_hands_over_everything_and_keeps_the_first_reason() {
    let queue: Queue<u32, &str> = Queue::new(4, 1);
    queue.offer(NORMAL, 7).unwrap();
    let Poll::Ready(Ok(slot)) = poll(pin!(queue.room(NORMAL))) else { panic!("there is room") };
    assert_eq!(queue.close("first"), [7]);
    assert_eq!(slot.put(8), Err(8), "room taken before the close does not let an item in after it");
    assert!(queue.close("second").is_empty());
    assert_eq!(queue.closed(), Some("first"));
}

#[test]
fn urgent_items_go_first_in_order_and_let_a_normal_one_through_now_and_then() {
    let queue: Queue<u32, &str> = Queue::new(64, 1);
    queue.own(1);
    queue.offer(NORMAL, 1000).unwrap();
    queue.offer(NORMAL, 1001).unwrap();
    let urgent = u32::try_from(JUMPS).unwrap() + 2;
    for n in 0..urgent {
        queue.offer(URGENT, n).unwrap();
    }
    queue.notify(9).unwrap();
    let taken: Vec<_> = std::iter::from_fn(|| match take(&queue, 1) {
        Poll::Ready(item) => item,
        Poll::Pending => None,
    })
    .collect();
    let jumped = u32::try_from(JUMPS).unwrap();
    let expected: Vec<_> = [9].into_iter().chain(0..jumped).chain([1000, jumped, jumped + 1, 1001]).collect();
    assert_eq!(taken, expected);
}

#[test]
fn each_lane_has_room_of_its_own_and_notices_need_none() {
    let queue: Queue<u32, &str> = Queue::new(1, 1);
    queue.own(1);
    queue.offer(NORMAL, 1).unwrap();
    let mut normal = pin!(queue.room(NORMAL));
    assert!(poll(normal.as_mut()).is_pending());
    queue.offer(URGENT, 2).unwrap();
    let mut urgent = pin!(queue.room(URGENT));
    assert!(poll(urgent.as_mut()).is_pending());
    queue.notify(3).unwrap();
    assert_eq!(queue.len(), 2);
    assert_eq!(take(&queue, 1), Poll::Ready(Some(3)));
    assert!(
        poll(normal.as_mut()).is_pending() && poll(urgent.as_mut()).is_pending(),
        "a notice gives back no room"
    );
    assert_eq!(take(&queue, 1), Poll::Ready(Some(2)));
    assert!(poll(normal.as_mut()).is_pending());
    assert!(matches!(poll(urgent.as_mut()), Poll::Ready(Ok(_))));
}

#[test]
fn a_run_of_alike_items_is_taken_from_the_lane_of_the_first() {
    let queue: Queue<u32, &str> = Queue::new(5, 1);
    queue.own(1);
    for n in [2, 4, 6, 7, 8] {
        queue.offer(NORMAL, n).unwrap();
    }
    assert_eq!(take(&queue, 1), Poll::Ready(Some(2)));
    queue.offer(URGENT, 10).unwrap();
    let even = |n: &u32| n.is_multiple_of(2);
    assert!(queue.take_alike(2, 9, even).is_empty(), "only its owner takes");
    queue.offer(NORMAL, 9).unwrap();
    let mut lines = [pin!(queue.room(NORMAL)), pin!(queue.room(NORMAL)), pin!(queue.room(NORMAL))];
    assert!(lines.iter_mut().all(|room| poll(room.as_mut()).is_pending()));
    assert_eq!(queue.take_alike(1, 1, even), [4]);
    assert_eq!(queue.take_alike(1, 9, even), [6], "the first that is not alike ends it");
    assert!(queue.take_alike(1, 9, even).is_empty());
    let let_in =
        lines.map(|mut room| poll(room.as_mut()).map(|room| room.is_ok_and(|slot| slot.put(0).is_ok())));
    assert_eq!(
        let_in,
        [Poll::Ready(true), Poll::Ready(true), Poll::Pending],
        "room for as many as were taken"
    );
    queue.interrupt("sibling");
    assert!(queue.take_alike(1, 9, |_| true).is_empty());
    assert_eq!(queue.why_stopped(1), Some("sibling"));
}

#[test]
fn a_closed_queue_has_no_owner_any_more() {
    let queue: Queue<u32, &str> = Queue::new(1, 1);
    queue.close("killed");
    queue.own(1);
    assert_eq!(take(&queue, 1), Poll::Ready(None));
    assert_eq!(queue.why_stopped(1), Some("killed"));
}

#[test]
fn groups_keep_the_order_of_arrival_until_the_taker_is_full_for_one() {
    let queue: Queue<u32, &str> = Queue::new(8, 3);
    queue.own(1);
    for (n, group) in [(1, 0), (2, 1), (3, 2), (4, 1), (5, 0), (6, 2)] {
        queue.offer(Lane { group, urgent: false }, n).unwrap();
    }
    assert_eq!(take(&queue, 1), Poll::Ready(Some(1)));
    assert!(queue.take_alike(1, 9, |_| true).is_empty(), "2 came before 5");
    assert_eq!(take(&queue, 1), Poll::Ready(Some(2)));
    let mut full = Full::default();
    full.set(1, true);
    assert_eq!(take_unless(full, &queue, 1), Poll::Ready(Some(3)));
    assert_eq!(take_unless(full, &queue, 1), Poll::Ready(Some(5)));
    full.set(2, true);
    queue.finish();
    assert_eq!(
        take_unless(full, &queue, 1),
        Poll::Pending,
        "what waits for room keeps it from being drained"
    );
    assert!(!queue.drained_by(1));
    full.set(1, false);
    assert_eq!(take_unless(full, &queue, 1), Poll::Ready(Some(4)));
    assert_eq!(take(&queue, 1), Poll::Ready(Some(6)));
    assert_eq!(take(&queue, 1), Poll::Ready(None));
    assert!(queue.drained_by(1));
}

#[test]
fn closing_hands_over_in_the_order_of_arrival() {
    let queue: Queue<u32, &str> = Queue::new(8, 2);
    for (n, group, urgent) in [(1, 1, false), (2, 0, true), (3, 0, false), (4, 1, true)] {
        queue.offer(Lane { group, urgent }, n).unwrap();
    }
    queue.notify(0).unwrap();
    assert_eq!(queue.close("over"), [0, 1, 2, 3, 4]);
    assert_eq!(queue.len(), 0);
}

#[test]
fn what_was_taken_is_in_hand_until_the_next_take_and_only_its_taker_lets_go() {
    let queue: Queue<u32, &str> = Queue::new(8, 1);
    queue.own(1);
    for n in 1..=4 {
        queue.offer(NORMAL, n).unwrap();
    }
    assert!(!queue.is_busy());
    assert_eq!(take(&queue, 1), Poll::Ready(Some(1)));
    assert_eq!((queue.is_busy(), queue.in_hand(1), queue.in_hand(2)), (true, Some(1), None));
    assert_eq!(queue.take_alike(1, 1, |_| true), [2]);
    assert!(queue.let_go(2).next().is_none(), "another life's");
    assert_eq!(queue.let_go(1).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(take(&queue, 1), Poll::Ready(Some(3)));
    assert_eq!(take(&queue, 1), Poll::Ready(Some(4)));
    assert_eq!(queue.in_hand(1), Some(4), "3 was let go of");
    queue.own(2);
    assert_eq!(queue.take_from_hand().collect::<Vec<_>>(), [4], "of a life left behind");
    assert_eq!(take(&queue, 1), Poll::Ready(None));
    assert_eq!(take(&queue, 2), Poll::Pending);
    queue.offer(NORMAL, 5).unwrap();
    assert_eq!(take(&queue, 2), Poll::Ready(Some(5)));
    assert!(queue.let_go(1).next().is_none(), "a life left behind lets go of nothing of its successor's");
    queue.close("over");
    assert_eq!(queue.let_go(2).collect::<Vec<_>>(), [5], "also after the end");
    assert!(!queue.is_busy());
}

#[test]
fn an_urgent_item_overtakes_those_that_came_in_before_it_in_any_order_of_takes() {
    let queue: Queue<u32, &str> = Queue::new(8, 1);
    queue.own(1);
    for n in 1..=3 {
        queue.offer(NORMAL, n).unwrap();
    }
    assert_eq!(take(&queue, 1), Poll::Ready(Some(1)), "the others have come across with it");
    queue.offer(NORMAL, 4).unwrap();
    queue.offer(URGENT, 9).unwrap();
    let taken: Vec<_> = (0..4).map(|_| take(&queue, 1)).collect();
    assert_eq!(taken, [9, 2, 3, 4].map(|n| Poll::Ready(Some(n))));
    assert_eq!(queue.len(), 0);
}
