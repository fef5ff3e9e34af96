#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn batcher(max_batch_size: usize, window: Duration, capacity: usize) -> Batcher<u32> {
    Batcher::new(Policy { max_batch_size, window, capacity })
}

#[test]
fn an_idle_replica_takes_what_is_there_at_once() {
    let mut batcher = batcher(8, Duration::ZERO, 10);
    batcher.push(ms(0), ms(1000), 1, 1).unwrap();
    batcher.push(ms(0), ms(1000), 1, 2).unwrap();
    assert_eq!(batcher.next(ms(0)), Next::Run(vec![1, 2]));
    assert_eq!(batcher.next(ms(0)), Next::Idle);
}

#[test]
fn what_would_be_late_gives_way_to_a_full_batch_that_would_not() {
    let mut batcher = batcher(2, Duration::ZERO, 10);
    for (item, deadline) in [(1, 10), (2, 30), (3, 10), (4, 40)] {
        batcher.push(ms(0), ms(deadline), 1, item).unwrap();
    }
    assert_eq!(batcher.hopeless(ms(9)), [] as [u32; 0]);
    assert_eq!(batcher.hopeless(ms(10)), [1, 3]);
    assert_eq!(batcher.hopeless(ms(30)), [] as [u32; 0], "one alone is no full batch");
    assert_eq!(batcher.hopeless(ms(50)), [] as [u32; 0], "nothing else is there to run");
    assert_eq!(batcher.next(ms(0)), Next::Run(vec![2, 4]));
}

#[test]
fn the_window_counts_from_the_oldest() {
    let mut batcher = batcher(3, ms(5), 10);
    batcher.push(ms(0), ms(1000), 1, 1).unwrap();
    batcher.push(ms(4), ms(1000), 1, 2).unwrap();
    assert_eq!(batcher.next(ms(4)), Next::WaitUntil(ms(5)));
    assert_eq!(batcher.next(ms(5)), Next::Run(vec![1, 2]));
}

#[test]
fn a_replica_at_work_takes_what_fits_beside() {
    let mut batcher = batcher(4, ms(5), 10);
    for (item, size) in [(1, 1), (2, 1), (3, 3), (4, 1)] {
        batcher.push(ms(0), ms(1000), size, item).unwrap();
    }
    assert_eq!(batcher.beside(4), [] as [u32; 0]);
    assert_eq!(batcher.beside(7), [] as [u32; 0], "one that was larger than a batch may be runs alone");
    assert_eq!(batcher.beside(3), [1], "company is not waited for");
    assert_eq!(batcher.beside(0), [2, 3]);
    assert_eq!((batcher.len(), batcher.batches_before(ms(9))), (1, 1));
    assert_eq!(batcher.beside(3), [4]);
}

#[test]
fn what_fits_never_passes_an_older_one_that_does_not() {
    let mut batcher = batcher(4, Duration::ZERO, 10);
    batcher.push(ms(0), ms(1000), 3, 1).unwrap();
    batcher.push(ms(0), ms(1000), 1, 2).unwrap();
    assert_eq!(batcher.beside(2), [] as [u32; 0]);
    assert_eq!(batcher.next(ms(0)), Next::Run(vec![1, 2]));
}

#[test]
fn a_full_batch_does_not_wait() {
    let mut batcher = batcher(2, ms(5), 10);
    for item in 1..=3 {
        batcher.push(ms(0), ms(1000), 1, item).unwrap();
    }
    assert_eq!(batcher.next(ms(0)), Next::Run(vec![1, 2]));
    assert_eq!(batcher.next(ms(0)), Next::WaitUntil(ms(5)));
}

#[test]
fn cancelling_makes_room_and_spares_the_model() {
    let mut batcher = batcher(4, Duration::ZERO, 2);
    let first = batcher.push(ms(0), ms(1000), 1, 1).unwrap();
    batcher.push(ms(0), ms(1000), 1, 2).unwrap();
    assert_eq!(batcher.push(ms(0), ms(1000), 1, 3), Err(Refused::Full(3)));
    assert_eq!(batcher.cancel(first), Some(1));
    assert_eq!(batcher.cancel(first), None);
    batcher.push(ms(0), ms(1000), 1, 3).unwrap();
    assert_eq!(batcher.next(ms(0)), Next::Run(vec![2, 3]));
}

#[test]
fn closing_runs_what_waits_and_lets_nothing_in() {
    let mut batcher = batcher(4, ms(50), 4);
    batcher.push(ms(0), ms(1000), 1, 1).unwrap();
    batcher.close();
    assert_eq!(batcher.push(ms(0), ms(1000), 1, 2), Err(Refused::Closed(2)));
    assert_eq!(batcher.next(ms(0)), Next::Run(vec![1]));
    assert_eq!(batcher.next(ms(0)), Next::Closed);
}

#[test]
fn sizes_are_summed_and_what_is_too_large_runs_alone() {
    let mut batcher = batcher(10, ms(5), 10);
    for (item, size) in [(1, 4), (2, 5), (3, 2), (4, 50), (5, 1)] {
        batcher.push(ms(0), ms(1000), size, item).unwrap();
    }
    assert_eq!(batcher.batches_before(ms(9)), 7);
    let batches: Vec<_> = (0..4).map(|_| batcher.next(ms(if batcher.len() < 3 { 5 } else { 0 }))).collect();
    let run = |items: &[u32]| Next::Run(items.to_vec());
    assert_eq!(batches, [run(&[1, 2]), run(&[3]), run(&[4]), run(&[5])]);
    assert_eq!((batcher.batches_before(ms(9)), batcher.next(ms(9))), (0, Next::Idle));
}

/// Of items of different sizes, the size of each.
fn size_of(item: u32) -> usize {
    [1, 1, 3, 1, 2, 7][item as usize % 6]
}

#[derive(Clone, Debug)]
enum Event {
    Push { patience: u64 },
    Cancel { nth: usize },
    Replica,
    Pass { time: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1..40u64).prop_map(|patience| Event::Push { patience }),
        1 => any::<usize>().prop_map(|nth| Event::Cancel { nth }),
        2 => Just(Event::Replica),
        2 => (0..15u64).prop_map(|time| Event::Pass { time }),
    ]
}

#[test]
fn a_lower_priority_waits_only_for_those_that_come_soon_after_it() {
    let mut batcher = batcher(1, Duration::ZERO, 10);
    let aging = ms(100);
    batcher.push_behind(ms(0), ms(9000), 1, aging, 1).unwrap();
    batcher.push_behind(ms(1), ms(9000), 1, 2 * aging, 2).unwrap();
    batcher.push_behind(ms(50), ms(9000), 1, Duration::ZERO, 3).unwrap();
    batcher.push_behind(ms(101), ms(9000), 1, Duration::ZERO, 4).unwrap();
    let cancelled = batcher.push_behind(ms(101), ms(9000), 1, Duration::ZERO, 5).unwrap();
    assert_eq!(batcher.batches_before(ms(100)), 2);
    assert_eq!(batcher.cancel(cancelled), Some(5));
    let order: Vec<_> = (0..4).map(|_| batcher.next(ms(102))).collect();
    assert_eq!(order, [3, 1, 4, 2].map(|item| Next::Run(vec![item])));
}

#[test]
fn some_can_be_taken_and_the_others_keep_their_order() {
    let mut batcher = batcher(1, Duration::ZERO, 10);
    for item in 0..6 {
        batcher.push(ms(u64::from(item)), ms(1000), 1, item).unwrap();
    }
    assert_eq!(batcher.take_wanted(2, |_, item| item % 2 == 1), (vec![1, 3], Some(ms(0))));
    assert_eq!(batcher.take_wanted(9, |since, _| since == ms(0)), (vec![0], Some(ms(2))));
    assert_eq!(batcher.batches_before(ms(9)), 3);
    assert_eq!(batcher.take_wanted(9, |_, _| true), (vec![2, 4, 5], None));
    assert_eq!((batcher.len(), batcher.batches_before(ms(9))), (0, 0));
}

#[test]
fn the_window_counts_from_the_oldest_wherever_it_stands() {
    let mut batcher = batcher(3, ms(5), 10);
    batcher.push_behind(ms(0), ms(1000), 1, ms(100), 1).unwrap();
    batcher.push(ms(4), ms(1000), 1, 2).unwrap();
    assert_eq!(batcher.next(ms(4)), Next::WaitUntil(ms(5)));
    assert_eq!(batcher.next(ms(5)), Next::Run(vec![2, 1]));
}

proptest! {
    /// Requests go in the order of their priority and then of their coming; none is overtaken by one that comes later than the aging of
    /// its levels; each is taken once; any can be cancelled.
    #[test]
    fn priorities_go_first_and_starve_nobody(
        events in prop::collection::vec((0..4u32, 0..30u64, 0..6usize), 1..120)
    ) {
        let aging = 20;
        let mut batcher = batcher(1, Duration::ZERO, 1000);
        let (mut now, mut waiting) = (0, Vec::<(u64, u64, u64)>::new()); // rank, since, id
        for (level, passed, then) in events {
            now += passed;
            let delay = u64::from(level) * aging;
            let id = batcher.push_behind(ms(now), ms(1 << 40), 1, ms(delay), level).unwrap();
            waiting.push((now + delay, now, id));
            if then == 0 {
                let (.., id) = waiting.swap_remove(waiting.len() / 2);
                prop_assert!(batcher.cancel(id).is_some());
            } else if then < 4 {
                let at = (0..waiting.len()).min_by_key(|at| (waiting[*at].0, waiting[*at].2)).unwrap();
                let (rank, since, _) = waiting.swap_remove(at);
                prop_assert_eq!(batcher.next(ms(now)), Next::Run(vec![((rank - since) / aging) as u32]));
                // Whoever was passed over came less than the aging of its levels before.
                prop_assert!(waiting.iter().all(|other| other.1 > since || since - other.1 <= other.0 - other.1));
            }
            prop_assert_eq!(batcher.len(), waiting.len());
            prop_assert_eq!(batcher.batches_before(ms(1 << 41)), waiting.len());
        }
    }
}

proptest! {
    /// Whatever happens in whatever order: every request ends exactly once; none runs that was cancelled or is late; batches are in
    /// order and within the limits; the queue never exceeds its capacity; a replica waits only inside the oldest one's window.
    #[test]
    fn every_request_ends_once_and_in_order(
        size in 1..6usize, window in 0..20u64, capacity in 1..12usize, events in prop::collection::vec(event(), 0..200)
    ) {
        let mut batcher = batcher(size, ms(window), capacity);
        let mut now = 0;
        let mut alive: Vec<(u64, u64, u64, u32)> = Vec::new(); // id, since, deadline, item
        let mut item = 0;
        for event in events {
            match event {
                Event::Pass { time } => now += time,
                Event::Push { patience } => {
                    item += 1;
                    match batcher.push(ms(now), ms(now + patience), size_of(item), item) {
                        Ok(id) => alive.push((id, now, now + patience, item)),
                        Err(refused) => {
                            prop_assert_eq!(refused, Refused::Full(item));
                            prop_assert_eq!(alive.len(), capacity);
                        }
                    }
                }
                Event::Cancel { nth } => {
                    if !alive.is_empty() {
                        let (id, _, _, item) = alive.remove(nth % alive.len());
                        prop_assert_eq!(batcher.cancel(id), Some(item));
                    }
                }
                Event::Replica => {
                    let late: Vec<u32> = alive.iter().filter(|a| a.2 <= now).map(|a| a.3).collect();
                    prop_assert_eq!(batcher.expire(ms(now)), late);
                    alive.retain(|a| a.2 > now);
                    match batcher.next(ms(now)) {
                        Next::Run(batch) => {
                            let total: usize = batch.iter().map(|item| size_of(*item)).sum();
                            prop_assert!(batch.len() == 1 || (!batch.is_empty() && total <= size));
                            let first: Vec<u32> = alive.drain(..batch.len()).map(|a| a.3).collect();
                            prop_assert_eq!(&batch, &first);
                            // Work-conserving: it leaves something behind only if that does not fit.
                            prop_assert!(alive.is_empty() || total + size_of(alive[0].3) > size);
                        }
                        Next::WaitUntil(at) => {
                            prop_assert!(alive.iter().map(|a| size_of(a.3)).sum::<usize>() < size);
                            prop_assert_eq!(at, ms(alive[0].1 + window));
                            prop_assert!(at > ms(now));
                        }
                        Next::Idle => prop_assert!(alive.is_empty()),
                        Next::Closed => prop_assert!(false, "never closed"),
                    }
                }
            }
            prop_assert_eq!(batcher.len(), alive.len());
            prop_assert!(batcher.len() <= capacity);
        }
    }
}
