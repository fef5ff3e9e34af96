//! Groups of ranks: the invariants of `air_core::collective`, by number.
//!
//! `collective_oracle` holds the first for every verb, `collective_lost` the second.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::thread;

use air_core::collective::{self, Collective, CollectiveError, ReduceOp, Waiting};

type Call = fn(&mut Collective) -> Result<(), CollectiveError>;

/// Runs the same function on every rank of a new group, each on its own thread; the results by rank.
/// A rank that panics gives `None`.
pub(super) fn on_ranks<R: Send>(world: usize, run: impl Fn(Collective) -> R + Sync) -> Vec<Option<R>> {
    let run = &run;
    thread::scope(|scope| {
        let threads: Vec<_> =
            collective::in_process(world).into_iter().map(|rank| scope.spawn(move || run(rank))).collect();
        threads.into_iter().map(|thread| thread.join().ok()).collect()
    })
}

/// What all ranks are told when rank 1 of 3 makes another call than the rest.
fn told(
    usual: impl Fn(&mut Collective) -> Result<(), CollectiveError> + Sync,
    other: impl Fn(&mut Collective) -> Result<(), CollectiveError> + Sync,
) -> String {
    let results = on_ranks(3, |mut rank| {
        let error = if rank.rank() == 1 { other(&mut rank) } else { usual(&mut rank) }.unwrap_err();
        assert_eq!(rank.barrier(), Err(error.clone()));
        error
    });
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0], results[2]);
    results[0].as_ref().unwrap().to_string()
}

#[test]
fn invariant_3_a_message_and_a_call_of_all_that_wait_for_each_other_are_told_to_all() {
    const LARGE: usize = 200_000;
    let crossed = |usual: Call, other: Call, call: &str, other_call: &str| {
        let expected = format!(
            "ranks wait for each other: rank 1 for rank 2 in {call}, rank 2 for rank 1 in {other_call}; "
        );
        let text = told(usual, other);
        assert!(text.starts_with(&expected), "{text}");
    };
    let recv: Call = |rank| rank.recv(&mut [0_f32; 4], 2);
    crossed(Collective::barrier, recv, "recv of 4 f32 from rank 2", "barrier");
    let sum: Call = |rank| rank.all_reduce(&mut vec![0_f32; 1_000_000], ReduceOp::Sum);
    crossed(sum, recv, "recv of 4 f32 from rank 2", "all_reduce(Sum) of 1000000 f32");
    let sum: Call = |rank| rank.all_reduce(&mut [0_f32; 9], ReduceOp::Sum);
    // More than is on its way at a time, so that the sender waits.
    let send: Call = |rank| rank.send(&vec![1_i64; LARGE], 2);
    crossed(sum, send, "send of 200000 i64 to rank 2", "all_reduce(Sum) of 9 f32");
    let root: Call = |rank| rank.broadcast(&mut vec![1_f64; LARGE], 2);
    let both: Call = |rank| rank.send_recv(&[1_i64], 0, &mut [1_i64], 2);
    let call = "send_recv of 1 i64 to rank 0 and from rank 2";
    crossed(root, both, call, "broadcast from rank 2 of 200000 f64");
}

/// What every rank is told when it waits for the next one in a circle.
fn circle(world: usize, call: impl Fn(usize) -> String) -> Option<CollectiveError> {
    let waiting = |rank| Waiting { rank, call: call(rank), for_rank: (rank + 1) % world };
    Some(CollectiveError::Crossed { circle: (0..world).map(waiting).collect() })
}

#[test]
fn invariant_3_ranks_that_wait_for_each_other_in_a_circle_are_told_at_once() {
    const LARGE: usize = 200_000;
    for world in 2..=6 {
        let next = |rank: &Collective| (rank.rank() + 1) % world;
        let receive = |mut rank: Collective| {
            let from = next(&rank);
            rank.recv(&mut [0_f32; 4], from).err()
        };
        let expected = circle(world, |rank| format!("recv of 4 f32 from rank {}", (rank + 1) % world));
        assert_eq!(on_ranks(world, receive), vec![Some(expected); world]);
        // More than is on its way at a time.
        let send = |mut rank: Collective| {
            let to = next(&rank);
            rank.send(&vec![0_i64; LARGE], to).err()
        };
        let expected = circle(world, |rank| format!("send of {LARGE} i64 to rank {}", (rank + 1) % world));
        assert_eq!(on_ranks(world, send), vec![Some(expected); world]);
        // Each sends to itself what it would receive only later.
        let both = |mut rank: Collective| {
            let (me, from) = (rank.rank(), next(&rank));
            rank.send_recv(&vec![0_f64; LARGE], me, &mut [0_f64], from).err()
        };
        for told in on_ranks(world, both).into_iter().flatten() {
            let Some(CollectiveError::Crossed { circle }) = told else { panic!("{told:?}") };
            assert!(circle.iter().all(|waiting| (circle.len(), waiting.for_rank) == (1, waiting.rank)));
        }
    }
}

/// A long circle of which one rank is in a call of all.
#[test]
fn invariant_3_a_circle_through_a_call_of_all_is_told_at_once() {
    for _ in 0..20 {
        let results = on_ranks(5, |mut rank| match rank.rank() {
            4 => rank.barrier().err(),
            me => rank.recv(&mut [0_f32; 4], me + 1).err(),
        });
        let told = results[0].clone().flatten();
        assert!(results.iter().all(|result| *result == Some(told.clone())), "{results:?}");
        let Some(CollectiveError::Crossed { circle }) = told else { panic!("{told:?}") };
        // From whichever rank closed it: it was the last, so it is the shortest one through that rank.
        assert_eq!(circle.last().map(|last| (last.rank, last.call.as_str())), Some((4, "barrier")));
        for (waiting, next) in circle.iter().zip(circle.iter().skip(1)) {
            assert_eq!((waiting.for_rank, next.rank), (waiting.rank + 1, waiting.rank + 1));
        }
    }
}

/// Ranks that wait for each other all the time, and never in a circle: a message is on its way, or its sender is.
#[test]
fn no_circle_is_seen_where_there_is_none() {
    let results = on_ranks(3, |mut rank| {
        let (me, next, last) = (rank.rank(), (rank.rank() + 1) % 3, (rank.rank() + 2) % 3);
        let (own, mut got) = (vec![me as i64; 50_000], vec![0_i64; 50_000]);
        for round in 0..300 {
            let len = if round % 3 == 0 { 50_000 } else { 1 };
            rank.send_recv(&own[..len], next, &mut got[..len], last)?;
            if me == 0 {
                rank.send(&own[..1], 1)?;
                rank.recv(&mut got[..1], 2)?;
            } else {
                rank.recv(&mut got[..1], last)?;
                rank.send(&own[..1], next)?;
            }
            rank.all_reduce(&mut got[..1], ReduceOp::Sum)?;
            assert_eq!(got[0], 3);
        }
        Ok::<_, CollectiveError>(())
    });
    assert_eq!(results, [Some(Ok(())), Some(Ok(())), Some(Ok(()))]);
}

#[test]
fn a_message_may_wait_while_all_ranks_make_a_call() {
    let results = on_ranks(3, |mut rank| {
        let me = rank.rank();
        rank.send(&[me as i64], (me + 1) % 3)?;
        rank.all_reduce(&mut vec![1_f32; 100_000], ReduceOp::Sum)?;
        // In the background they do not wait for those in the foreground.
        let beside = rank.start(Collective::barrier);
        let mut from = [0_i64];
        rank.recv(&mut from, (me + 2) % 3)?;
        beside.wait()?;
        Ok::<_, CollectiveError>(from[0])
    });
    assert_eq!(results, [Some(Ok(2)), Some(Ok(0)), Some(Ok(1))]);
}

#[test]
fn invariant_3_different_calls_are_told_to_all() {
    let sum = |len: usize| move |rank: &mut Collective| rank.all_reduce(&mut vec![0_f32; len], ReduceOp::Sum);
    let text = "the ranks made different calls: rank 0 called ";
    assert_eq!(
        told(sum(4), |rank| rank.all_reduce(&mut [0_f32; 4], ReduceOp::Max)),
        format!("{text}all_reduce(Sum) of 4 f32, rank 1 called all_reduce(Max) of 4 f32")
    );
    assert_eq!(
        told(sum(4), |rank| rank.all_reduce(&mut [0_f64; 4], ReduceOp::Sum)),
        format!("{text}all_reduce(Sum) of 4 f32, rank 1 called all_reduce(Sum) of 4 f64")
    );
    assert_eq!(
        told(sum(1_000_000), Collective::barrier),
        format!("{text}all_reduce(Sum) of 1000000 f32, rank 1 called barrier")
    );
    assert_eq!(
        told(
            |rank| rank.all_gather(&[0_i64; 2], &mut [0; 6]),
            |rank| rank.broadcast(&mut vec![0_i64; 100_000], 0)
        ),
        format!("{text}all_gather of 2 i64, rank 1 called broadcast from rank 0 of 100000 i64")
    );
    assert_eq!(
        told(
            |rank| rank.all_reduce(&mut [0_f32; 100], ReduceOp::Sum),
            |rank| rank.gather(&[0_f32; 100], &mut [0.0; 300], 1)
        ),
        format!("{text}all_reduce(Sum) of 100 f32, rank 1 called gather to rank 1 of 100 f32")
    );
    assert_eq!(
        told(
            |rank| rank.scatter(if rank.rank() == 0 { &[0.0; 3] } else { &[] }, &mut [0_f32; 1], 0),
            |rank| rank.scatter(if rank.rank() == 1 { &[0.0; 3] } else { &[] }, &mut [0_f32; 1], 1)
        ),
        format!("{text}scatter from rank 0 of 1 f32, rank 1 called scatter from rank 1 of 1 f32")
    );
}

#[test]
fn invariant_3_different_lengths_are_told_to_all() {
    let check =
        |verb: &str, call: &(dyn Fn(&mut Collective, usize) -> Result<(), CollectiveError> + Sync)| {
            for (usual, other) in [(4, 5), (500_000, 3), (3, 500_000), (0, 1)] {
                assert_eq!(
                    told(|rank| call(rank, usual), |rank| call(rank, other)),
                    format!("rank 1 called {verb} with {other} values where {usual} are expected")
                );
            }
        };
    check("all_reduce", &|rank, len| rank.all_reduce(&mut vec![0_f32; len], ReduceOp::Sum));
    check("reduce_scatter", &|rank, len| {
        rank.reduce_scatter(&vec![0_f32; 3 * len], &mut vec![0_f32; len], ReduceOp::Sum)
    });
    check("all_gather", &|rank, len| rank.all_gather(&vec![0_f32; len], &mut vec![0_f32; 3 * len]));
    check("all_to_all", &|rank, len| rank.all_to_all(&vec![0_f32; 3 * len], &mut vec![0_f32; 3 * len]));
    check("broadcast", &|rank, len| rank.broadcast(&mut vec![0_f32; len], 2));
    check("gather", &|rank, len| {
        let mut all = vec![0_f32; if rank.rank() == 1 { 3 * len } else { 0 }];
        rank.gather(&vec![0_f32; len], &mut all, 1)
    });
    check("scatter", &|rank, len| {
        let all = vec![0_f32; if rank.rank() == 0 { 3 * len } else { 0 }];
        rank.scatter(&all, &mut vec![0_f32; len], 0)
    });
}

#[test]
fn invariant_3_a_buffer_that_does_not_fit_the_others_is_told_to_all() {
    let wrong: [(&str, Call, usize, usize); 8] = [
        ("reduce_scatter", |rank| rank.reduce_scatter(&[0_f32; 7], &mut [0.0; 3], ReduceOp::Sum), 7, 9),
        ("all_gather", |rank| rank.all_gather(&[0_f32; 2], &mut [0.0; 5]), 5, 6),
        ("all_to_all", |rank| rank.all_to_all(&[0_f32; 7], &mut [0.0; 7]), 7, 6),
        ("all_to_all", |rank| rank.all_to_all(&[0_f32; 6], &mut [0.0; 5]), 5, 6),
        ("gather", |rank| rank.gather(&[0_f32; 2], &mut [0.0; 5], 1), 5, 6),
        ("gather", |rank| rank.gather(&[0_f32; 2], &mut [0.0; 6], 0), 6, 0),
        ("scatter", |rank| rank.scatter(&[0.0; 5], &mut [0_f32; 2], 1), 5, 6),
        ("scatter", |rank| rank.scatter(&[0.0; 6], &mut [0_f32; 2], 0), 6, 0),
    ];
    for (verb, call, found, expected) in wrong {
        let text = format!("rank 1 called {verb} with {found} values where {expected} are expected");
        assert_eq!(told(Collective::barrier, call), text);
    }
}

#[test]
fn invariant_3_a_rank_outside_the_group_is_told_to_all() {
    let wrong: [(&str, Call, usize); 9] = [
        ("broadcast", |rank| rank.broadcast(&mut [0_f32; 2], 3), 3),
        ("gather", |rank| rank.gather(&[0_f32; 2], &mut [], 4), 4),
        ("scatter", |rank| rank.scatter(&[], &mut [0_f32; 2], usize::MAX), usize::MAX),
        ("send", |rank| rank.send(&[0_f32; 2], 3), 3),
        ("send", |rank| rank.send(&[0_f32; 2], 1), 1),
        ("recv", |rank| rank.recv(&mut [0_f32; 2], 3), 3),
        ("recv", |rank| rank.recv(&mut [0_f32; 2], 1), 1),
        ("send_recv", |rank| rank.send_recv(&[0_f32; 2], 3, &mut [0_f32; 2], 0), 3),
        ("send_recv", |rank| rank.send_recv(&[0_f32; 2], 0, &mut [0_f32; 2], 5), 5),
    ];
    for (verb, call, named) in wrong {
        let text = format!("rank 1 called {verb} with rank {named} in a group of 3");
        assert_eq!(told(Collective::barrier, call), text);
    }
}

#[test]
fn invariant_3_messages_that_do_not_match_are_told_to_all() {
    let results = on_ranks(3, |mut rank| match rank.rank() {
        0 => rank.send(&[0_f32; 4], 1).and_then(|()| rank.barrier()).unwrap_err().to_string(),
        1 => rank.recv(&mut [0_f32; 5], 0).unwrap_err().to_string(),
        _ => rank.barrier().unwrap_err().to_string(),
    });
    let text = "rank 1 called recv with 5 values where 4 are expected".to_owned();
    assert_eq!(results, [Some(text.clone()), Some(text.clone()), Some(text)]);

    let results = on_ranks(2, |mut rank| match rank.rank() {
        0 => rank.send(&vec![0_f32; 200_000], 1).unwrap_err().to_string(),
        _ => rank.recv(&mut [0_f64; 4], 0).unwrap_err().to_string(),
    });
    let text =
        "the ranks made different calls: rank 0 called send of 200000 f32, rank 1 called recv of 4 f64";
    assert_eq!(results, [Some(text.to_owned()), Some(text.to_owned())]);
}

#[test]
fn invariant_5_the_background_and_the_foreground_do_not_wait_for_each_other() {
    let (go, gone) = mpsc::channel();
    let (go, gone) = (std::sync::Mutex::new(go), std::sync::Mutex::new(gone));
    let results = on_ranks(2, |mut rank| {
        if rank.rank() == 0 {
            // Under way before the other rank even knows of it, and while the foreground calls.
            let first = rank.start(|rank| rank.all_reduce(&mut [1_i64], ReduceOp::Sum));
            let second = rank.start_all_reduce(vec![1_i64, 2], ReduceOp::Sum);
            rank.barrier().unwrap();
            go.lock().unwrap().send(()).unwrap();
            first.wait().unwrap();
            second.wait().unwrap()
        } else {
            rank.barrier().unwrap();
            gone.lock().unwrap().recv().unwrap();
            let first = rank.start(|rank| rank.all_reduce(&mut [1_i64], ReduceOp::Sum));
            let second = rank.start_all_reduce(vec![10_i64, 20], ReduceOp::Sum);
            // Awaited by whatever executor there is.
            futures::executor::block_on(async { first.await.unwrap() });
            second.wait().unwrap()
        }
    });
    assert_eq!(results, [Some(vec![11, 22]), Some(vec![11, 22])]);
}

#[test]
fn a_call_started_in_the_background_of_the_background_is_made_there() {
    let results = on_ranks(2, |mut rank| {
        rank.start(|rank| {
            let inner = rank.start_all_reduce(vec![1_i64], ReduceOp::Sum);
            rank.barrier()?;
            Ok(inner.wait()?[0])
        })
        .wait()
    });
    assert_eq!(results, [Some(Ok(2)), Some(Ok(2))]);
}

/// Many quick calls in a row, more ranks than cores: where a slip between two steps would show.
#[test]
fn ten_thousand_meetings() {
    let results = on_ranks(4, |mut rank| {
        for k in 0..10_000_i64 {
            let mut data = [k + rank.rank() as i64, 1];
            rank.all_reduce(&mut data, ReduceOp::Sum).unwrap();
            assert_eq!(data, [4 * k + 6, 4]);
        }
        rank.barrier().unwrap();
    });
    assert_eq!(results, [Some(()); 4]);
}

/// Ranks that send as fast as they can are held up by who receives.
#[test]
fn messages_keep_their_order() {
    let results = on_ranks(2, |mut rank| {
        for k in 0..1000_i64 {
            if rank.rank() == 0 {
                rank.send(&[k], 1).unwrap();
            } else {
                let mut got = [0];
                rank.recv(&mut got, 0).unwrap();
                assert_eq!(got, [k]);
            }
        }
        rank.barrier().unwrap();
    });
    assert_eq!(results, [Some(()), Some(())]);
}
