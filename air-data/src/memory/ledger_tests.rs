//! The books against a naive account, and chains of queues that must always come to their end.
#![allow(clippy::unwrap_used)]

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::ledger::{Ledger, QueueId, Waited};
use super::parcel::{Parcel, Part};

/// Allocation `n` has always the same size.
fn part(n: usize) -> Part {
    Part { address: 1 + n, bytes: 10 + 7 * (n % 13) }
}

fn parcel(allocations: &[usize]) -> Parcel {
    let mut distinct: Vec<usize> = allocations.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    Parcel { weight: 5 * allocations.len(), parts: distinct.into_iter().map(part).collect() }
}

#[derive(Debug, Clone)]
enum Op {
    Enter(usize, Vec<usize>),
    Force(usize, Vec<usize>),
    Leave(usize),
    Withdraw(usize),
    Close(usize),
    Keep(Vec<usize>),
    Unkeep(usize),
    Reserve(usize),
    Unreserve,
}

fn op() -> impl Strategy<Value = Op> {
    let some = || prop::collection::vec(0..12_usize, 0..4);
    prop_oneof![
        6 => (0..4_usize, some()).prop_map(|(queue, parts)| Op::Enter(queue, parts)),
        1 => (0..4_usize, some()).prop_map(|(queue, parts)| Op::Force(queue, parts)),
        5 => (0..8_usize).prop_map(Op::Leave),
        1 => (0..4_usize).prop_map(Op::Withdraw),
        1 => (0..4_usize).prop_map(Op::Close),
        2 => some().prop_map(Op::Keep),
        2 => (0..4_usize).prop_map(Op::Unkeep),
        1 => (1..80_usize).prop_map(Op::Reserve),
        1 => Just(Op::Unreserve),
    ]
}

/// What the books should say, from what is there.
fn naive(inside: &[(QueueId, Parcel)], kept: &[Parcel]) -> (usize, usize) {
    let addresses = |parcels: &mut dyn Iterator<Item = &Parcel>| -> HashSet<usize> {
        parcels.flat_map(|parcel| parcel.parts.iter().map(|part| part.address)).collect()
    };
    let kept = addresses(&mut kept.iter());
    let queued = addresses(&mut inside.iter().map(|(_, parcel)| parcel));
    let bytes = |addresses: &mut dyn Iterator<Item = &usize>| addresses.map(|at| part(at - 1).bytes).sum();
    (bytes(&mut queued.difference(&kept)), bytes(&mut kept.iter()))
}

proptest! {
    #[test]
    fn the_books_agree_with_what_is_there(
        limit in 1..400_usize,
        limits in prop::collection::vec(1..40_usize, 4),
        ops in prop::collection::vec(op(), 0..80),
    ) {
        let mut ledger = Ledger::<usize>::new(limit);
        let queues: Vec<QueueId> = limits.iter().enumerate().map(|(at, limit)| ledger.open(at / 2, *limit)).collect();
        let mut inside: Vec<(QueueId, Parcel)> = Vec::new();
        let mut waiting: HashMap<usize, Parcel> = HashMap::new();
        let (mut kept, mut reserved, mut closed) = (Vec::<Parcel>::new(), Vec::new(), HashSet::new());
        let mut wakes = Vec::new();
        for op in ops {
            match op {
                Op::Enter(queue, parts) if !waiting.contains_key(&queue) => {
                    let parcel = parcel(&parts);
                    let was_empty = ledger.queue(queues[queue]).0 == 0;
                    match ledger.enter(queues[queue], &parcel) {
                        Waited::In => inside.push((queues[queue], parcel)),
                        Waited::Closed => prop_assert!(closed.contains(&queue)),
                        Waited::Pending => {
                            prop_assert!(!was_empty, "an empty queue takes anything");
                            ledger.wait(queues[queue], parcel.clone(), queue);
                            waiting.insert(queue, parcel);
                        }
                    }
                }
                Op::Force(queue, parts) => {
                    ledger.force(queues[queue], &parcel(&parts));
                    inside.push((queues[queue], parcel(&parts)));
                }
                Op::Leave(at) if !inside.is_empty() => {
                    let (queue, parcel) = inside.remove(at % inside.len());
                    ledger.leave(queue, &parcel, &mut wakes);
                }
                Op::Withdraw(queue) => {
                    let granted = ledger.withdraw(queues[queue], &mut wakes);
                    prop_assert!(!granted, "who is let in is told at once here");
                    waiting.remove(&queue);
                    wakes.retain(|woken| *woken != queue);
                }
                Op::Close(queue) => {
                    closed.insert(queue);
                    ledger.close(queues[queue], &mut wakes);
                }
                Op::Keep(parts) => {
                    let parcel = parcel(&parts);
                    let before = ledger.kept() + ledger.reserved();
                    if ledger.keep(&parcel.parts) {
                        kept.push(parcel);
                        prop_assert!(ledger.kept() + ledger.reserved() <= ledger.working_limit().max(before));
                    }
                }
                Op::Unkeep(at) if !kept.is_empty() => {
                    let parcel = kept.remove(at % kept.len());
                    ledger.unkeep(&parcel.parts, &mut wakes);
                }
                Op::Reserve(bytes) => {
                    if bytes <= ledger.rigid_room() {
                        ledger.reserve(bytes, false);
                        reserved.push(bytes);
                    }
                }
                Op::Unreserve => {
                    if let Some(bytes) = reserved.pop() {
                        ledger.unreserve(bytes, false, &mut wakes);
                    }
                }
                Op::Enter(..) | Op::Leave(_) | Op::Unkeep(_) => {}
            }
            for queue in wakes.drain(..) {
                match ledger.check(queues[queue], &mut 0) {
                    Waited::In => inside.push((queues[queue], waiting.remove(&queue).unwrap())),
                    Waited::Closed => {
                        prop_assert!(closed.contains(&queue));
                        waiting.remove(&queue);
                    }
                    Waited::Pending => prop_assert!(false, "woken for nothing"),
                }
            }
            let expected = naive(&inside, &kept);
            prop_assert_eq!((ledger.queued(), ledger.kept()), expected);
            prop_assert_eq!(ledger.reserved(), reserved.iter().sum::<usize>());
            prop_assert!(ledger.peak() >= ledger.in_use());
            for queue in waiting.keys() {
                prop_assert!(ledger.queue(queues[*queue]).0 > 0, "nobody waits for an empty queue");
            }
        }
        // What is let go of leaves nothing behind.
        for queue in &queues {
            ledger.close(*queue, &mut wakes);
            for woken in wakes.drain(..) {
                if ledger.check(queues[woken], &mut 0) == Waited::In {
                    inside.push((queues[woken], waiting.remove(&woken).unwrap()));
                }
            }
        }
        for (queue, parcel) in &inside {
            ledger.leave(*queue, parcel, &mut wakes);
        }
        for parcel in &kept {
            ledger.unkeep(&parcel.parts, &mut wakes);
        }
        for bytes in &reserved {
            ledger.unreserve(*bytes, false, &mut wakes);
        }
        prop_assert_eq!(ledger.in_use(), 0);
    }

    /// Stage `n` takes from queue `n` and fills queue `n - 1`; the consumer takes from queue 0. Whoever is picked moves if it can.
    #[test]
    fn a_chain_of_queues_comes_to_its_end_within_its_bounds(
        limit in 1..300_usize,
        limits in prop::collection::vec(1..60_usize, 1..5),
        sizes in prop::collection::vec(1..90_usize, 1..40),
        picks in prop::collection::vec(any::<u8>(), 64),
    ) {
        let mut ledger = Ledger::<usize>::new(limit);
        let stages = limits.len();
        let queues: Vec<QueueId> = limits.iter().enumerate().map(|(at, limit)| ledger.open(at, *limit)).collect();
        let item = |n: usize| Parcel {
            weight: sizes[n],
            parts: [Part { address: 1 + n, bytes: sizes[n] }].into(),
        };
        let largest = *sizes.iter().max().unwrap();
        let mut lanes: Vec<VecDeque<usize>> = vec![VecDeque::new(); stages];
        // What each producer has in hand, and whether it waits.
        let mut hands: Vec<Option<(usize, bool)>> = vec![None; stages];
        let (mut next, mut seen, mut idle, mut step) = (0, Vec::new(), 0, 0);
        while seen.len() < sizes.len() {
            prop_assert!(idle < 64 * (stages + 1), "nobody can move: {hands:?} {lanes:?}");
            let actor = usize::from(picks[step % picks.len()]).wrapping_add(step) % (stages + 1);
            step += 1;
            let mut wakes = Vec::new();
            let mut take = |lane: usize, ledger: &mut Ledger<usize>, lanes: &mut Vec<VecDeque<usize>>| {
                let taken = lanes[lane].pop_front()?;
                ledger.leave(queues[lane], &item(taken), &mut wakes);
                Some(taken)
            };
            let mut moved = false;
            if actor == stages {
                if let Some(taken) = take(0, &mut ledger, &mut lanes) {
                    seen.push(taken);
                    moved = true;
                }
            } else {
                match hands[actor] {
                    None if actor + 1 == stages => {
                        if next < sizes.len() {
                            hands[actor] = Some((next, false));
                            next += 1;
                            moved = true;
                        }
                    }
                    None => {
                        if let Some(taken) = take(actor + 1, &mut ledger, &mut lanes) {
                            hands[actor] = Some((taken, false));
                            moved = true;
                        }
                    }
                    Some((held, false)) => {
                        moved = true;
                        if ledger.enter(queues[actor], &item(held)) == Waited::In {
                            lanes[actor].push_back(held);
                            hands[actor] = None;
                        } else {
                            ledger.wait(queues[actor], item(held), actor);
                            hands[actor] = Some((held, true));
                        }
                    }
                    Some((_, true)) => {}
                }
            }
            for woken in wakes {
                prop_assert_eq!(ledger.check(queues[woken], &mut 0), Waited::In);
                let (held, _) = hands[woken].take().unwrap();
                lanes[woken].push_back(held);
            }
            idle = if moved { 0 } else { idle + 1 };
            prop_assert!(ledger.queued() <= limit / 2 + stages * largest);
            for (at, limit) in limits.iter().enumerate() {
                let (items, bytes) = ledger.queue(queues[at]);
                prop_assert!(bytes <= *limit || items == 1);
            }
        }
        prop_assert_eq!(seen, (0..sizes.len()).collect::<Vec<_>>());
        prop_assert_eq!(ledger.in_use(), 0);
    }
}

#[test]
fn the_one_nearest_to_the_consumer_comes_first_and_is_not_overtaken() {
    let part = |address, bytes| Parcel { weight: bytes, parts: [Part { address, bytes }].into() };
    let mut ledger = Ledger::<&str>::new(200);
    let (near, far) = (ledger.open(0, 1000), ledger.open(1, 1000));
    assert_eq!(ledger.enter(near, &part(1, 10)), Waited::In);
    assert_eq!(ledger.enter(far, &part(2, 80)), Waited::In);
    // The far one has come first, and would fit first.
    assert_eq!(ledger.enter(far, &part(3, 20)), Waited::Pending);
    ledger.wait(far, part(3, 20), "far");
    assert_eq!(ledger.enter(near, &part(4, 85)), Waited::Pending);
    ledger.wait(near, part(4, 85), "near");
    let mut wakes = Vec::new();
    ledger.leave(far, &part(2, 80), &mut wakes);
    assert_eq!(wakes, ["near", "far"], "the far queue is empty now, and takes one whatever its size");
    let mut ledger = Ledger::<&str>::new(200);
    let (near, far) = (ledger.open(0, 1000), ledger.open(1, 1000));
    for (queue, parcel) in [(near, part(1, 10)), (far, part(2, 40)), (far, part(3, 40))] {
        assert_eq!(ledger.enter(queue, &parcel), Waited::In);
    }
    ledger.wait(far, part(4, 20), "far");
    ledger.wait(near, part(5, 60), "near");
    ledger.leave(far, &part(2, 40), &mut wakes);
    assert_eq!(wakes[2..], [] as [&str; 0], "the near one does not fit, and the far one waits behind it");
    assert_eq!(ledger.enter(far, &part(6, 1)), Waited::Pending, "nor does anybody else overtake it");
    ledger.leave(near, &part(1, 10), &mut wakes);
    assert_eq!(wakes[2..], ["near"]);
}
