//! A rank is lost: every other rank is told at once, whatever it is doing (invariant 2 of `air_core::collective`).
#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use air_core::collective::{self, Collective, CollectiveError, ReduceOp};

use super::collective::on_ranks;

type Call = fn(&mut Collective, usize) -> Result<(), CollectiveError>;

type Leave = fn(Collective);

const LARGE: usize = 200_000;

fn at_root(rank: &Collective, root: usize, len: usize) -> Vec<f32> {
    vec![0.0; if rank.rank() == root { len * rank.world() } else { 0 }]
}

/// Every verb, so that each rank of three needs rank 2, or rank 2 needs it.
const VERBS: [(&str, Call); 17] = [
    ("barrier", |rank, _| rank.barrier()),
    ("all_reduce", |rank, len| rank.all_reduce(&mut vec![1.0_f32; len], ReduceOp::Sum)),
    ("start_all_reduce", |rank, len| rank.start_all_reduce(vec![0_f32; len], ReduceOp::Sum).wait().map(drop)),
    ("start", |rank, _| rank.start(Collective::barrier).wait()),
    ("reduce_scatter", |rank, len| {
        rank.reduce_scatter(&vec![1_i64; len * rank.world()], &mut vec![0; len], ReduceOp::Max)
    }),
    ("all_gather", |rank, len| rank.all_gather(&vec![1_i64; len], &mut vec![0; len * rank.world()])),
    ("all_to_all", |rank, len| {
        rank.all_to_all(&vec![1_i64; len * rank.world()], &mut vec![0; len * rank.world()])
    }),
    ("broadcast from here", |rank, len| rank.broadcast(&mut vec![1.0_f32; len], 0)),
    ("broadcast from there", |rank, len| rank.broadcast(&mut vec![1.0_f32; len], 2)),
    ("gather to here", |rank, len| {
        let mut all = at_root(rank, 0, len);
        rank.gather(&vec![1.0; len], &mut all, 0)
    }),
    ("gather to there", |rank, len| {
        let mut all = at_root(rank, 2, len);
        rank.gather(&vec![1.0; len], &mut all, 2)
    }),
    ("scatter from here", |rank, len| {
        let all = at_root(rank, 0, len);
        rank.scatter(&all, &mut vec![1.0; len], 0)
    }),
    ("scatter from there", |rank, len| {
        let all = at_root(rank, 2, len);
        rank.scatter(&all, &mut vec![1.0; len], 2)
    }),
    // More than is on its way at a time, so that the sender waits.
    ("send", |rank, _| rank.send(&vec![1.0_f32; LARGE], 2)),
    ("recv", |rank, len| rank.recv(&mut vec![1.0_f32; len], 2)),
    ("send_recv, waiting for both", |rank, _| {
        rank.send_recv(&vec![1.0_f32; LARGE], 2, &mut vec![1.0_f32; LARGE], 2)
    }),
    // What it sends to itself is on its way.
    ("send_recv, waiting for one", |rank, len| {
        rank.send_recv(&[1.0_f32; 3], rank.rank(), &mut vec![1.0_f32; len], 2)
    }),
];

/// The ways to be lost, and what the others are told.
const WAYS: [(Leave, &str); 3] = [
    (drop, "its handle was dropped"),
    (
        |rank| {
            let died = thread::spawn(move || {
                let _in_the_group = rank;
                // Without a message on standard error, unlike `panic!`.
                std::panic::resume_unwind(Box::new("told to die"));
            });
            assert!(died.join().is_err());
        },
        "its thread panicked",
    ),
    (|rank| rank.abort("it gave up"), "it gave up"),
];

/// Ranks 0 and 1 make a call that needs rank 2, which is lost while they wait; the longest anyone had to wait on after that.
fn lose(call: Call, len: usize, leave: Leave, reason: &str, name: &str) -> Duration {
    let mut ranks = collective::in_process(3);
    let victim = ranks.pop().unwrap();
    let lost = CollectiveError::Lost { rank: 2, reason: reason.into() };
    let (ready, is_ready) = mpsc::channel();
    thread::scope(|scope| {
        let threads: Vec<_> = ranks
            .into_iter()
            .map(|mut rank| {
                let (ready, lost) = (ready.clone(), &lost);
                scope.spawn(move || {
                    ready.send(()).unwrap();
                    let pending = call(&mut rank, len);
                    let told_at = Instant::now();
                    assert_eq!(pending.as_ref(), Err(lost), "{name} of {len}");
                    for (later, call) in VERBS {
                        assert_eq!(call(&mut rank, 3).as_ref(), Err(lost), "{later} after {name}");
                    }
                    assert_eq!(rank.failure().as_ref(), Some(lost));
                    told_at
                })
            })
            .collect();
        is_ready.recv().unwrap();
        is_ready.recv().unwrap();
        let left_at = Instant::now();
        leave(victim);
        let waits = threads.into_iter().map(|thread| thread.join().unwrap().duration_since(left_at));
        waits.max().unwrap()
    })
}

#[test]
fn invariant_2_every_verb_ends_within_100_ms_of_the_loss() {
    for (name, call) in VERBS {
        for len in [10, LARGE] {
            for (leave, reason) in WAYS {
                // A busy machine may hold up a thread for longer; not time after time.
                let told = (0..20).any(|_| lose(call, len, leave, reason, name) < Duration::from_millis(100));
                assert!(told, "{name} of {len} took longer than 100 ms, 20 times ({reason})");
            }
        }
    }
}

/// One call of a program that all ranks run: every kind, small and large.
fn step(rank: &mut Collective, k: usize) -> Result<(), CollectiveError> {
    let (me, world) = (rank.rank(), rank.world());
    let len = if k.is_multiple_of(2) { 10 } else { LARGE / 4 };
    let root = k % world;
    let own = vec![k as f32; len];
    let mut into = own.clone();
    let mut all = vec![0.0; len * world];
    match k / 2 {
        0 => rank.barrier(),
        1 => rank.all_reduce(&mut into, ReduceOp::Mean),
        2 => rank.broadcast(&mut into, root),
        3 => rank.all_gather(&own, &mut all),
        4 => rank.all_reduce(&mut into, ReduceOp::Max),
        5 => rank.reduce_scatter(&all, &mut into, ReduceOp::Min),
        6 => rank.gather(&own, if me == root { &mut all } else { &mut [] }, root),
        7 => rank.scatter(if me == root { &all } else { &[] }, &mut into, root),
        8 => rank.all_to_all(&all.clone(), &mut all),
        9 => rank.start_all_reduce(own.clone(), ReduceOp::Sum).wait().map(drop),
        _ => rank.send_recv(&own, (me + 1) % world, &mut into, (me + world - 1) % world),
    }
}

#[test]
fn invariant_2_a_rank_that_panics_at_any_step_is_named_to_all_others() {
    // The last two pass values round, where a rank waits for its neighbours only.
    const STEPS: usize = 20;
    for world in [2, 4] {
        for dies_at in 0..STEPS {
            let victim = dies_at % world;
            let results = on_ranks(world, |mut rank| {
                for k in 0..STEPS + 2 {
                    if rank.rank() == victim && k == dies_at {
                        std::panic::resume_unwind(Box::new("told to die"));
                    }
                    if let Err(error) = step(&mut rank, k) {
                        // The group is finished: any later call says the same.
                        assert_eq!(rank.barrier(), Err(error.clone()));
                        assert_eq!(rank.failure(), Some(error.clone()));
                        return (k, error);
                    }
                }
                unreachable!("a rank finished without its dead neighbour")
            });
            let lost = CollectiveError::Lost { rank: victim, reason: "its thread panicked".into() };
            for (rank, result) in results.into_iter().enumerate() {
                let expected = (rank != victim).then(|| (dies_at, lost.clone()));
                assert_eq!(result, expected, "rank {rank} of {world}, victim {victim} at step {dies_at}");
            }
        }
    }
}

/// Every rank leaves as soon as its own call is done, at a different moment than the others.
#[test]
fn invariant_2_a_call_complete_on_one_rank_is_complete_on_all() {
    for k in 0..20 {
        for _ in 0..5 {
            let results = on_ranks(3, |mut rank| step(&mut rank, k));
            assert_eq!(results, [Some(Ok(())), Some(Ok(())), Some(Ok(()))], "step {k}");
        }
    }
}

/// A group ended from outside, at any moment of a call that works on the slices of all ranks.
#[test]
fn a_slice_that_came_back_is_touched_by_nobody() {
    const MINE: f32 = -1.0;
    for round in 0..60 {
        let mut ranks = collective::in_process(3);
        let aborter = ranks[0].aborter();
        let all_have_returned = std::sync::Barrier::new(3);
        thread::scope(|scope| {
            for mut rank in ranks.drain(..) {
                let all_have_returned = &all_have_returned;
                scope.spawn(move || {
                    let mut data = vec![rank.rank() as f32; LARGE];
                    let mut all = vec![0.0; if round % 2 == 0 { 0 } else { LARGE * 3 }];
                    let error = loop {
                        let called = match round % 2 {
                            0 => rank.all_reduce(&mut data, ReduceOp::Max),
                            _ => rank.all_gather(&data, &mut all),
                        };
                        if let Err(error) = called {
                            break error;
                        }
                    };
                    data.fill(MINE);
                    all.fill(MINE);
                    all_have_returned.wait();
                    assert!(data.iter().chain(&all).all(|&value| value == MINE), "round {round}");
                    assert_eq!(error, CollectiveError::Lost { rank: 0, reason: "from outside".into() });
                });
            }
            for _ in 0..round * 1500 {
                std::hint::spin_loop();
            }
            assert!(aborter.abort(0, "from outside"));
        });
    }
}

#[test]
fn what_was_sent_before_a_rank_left_still_arrives() {
    let mut ranks = collective::in_process(2);
    let (mut receiver, mut sender) = (ranks.remove(0), ranks.remove(0));
    sender.send(&[1_i64, 2, 3], 0).unwrap();
    drop(sender);
    let mut values = [0_i64; 3];
    receiver.recv(&mut values, 1).unwrap();
    assert_eq!(values, [1, 2, 3]);
    let lost = CollectiveError::Lost { rank: 1, reason: "its handle was dropped".into() };
    assert_eq!(receiver.recv(&mut values, 1), Err(lost));
}

#[test]
fn invariant_2_leaving_early_is_a_loss() {
    let results = on_ranks(3, |mut rank| {
        rank.barrier().unwrap();
        if rank.rank() == 1 { Ok(()) } else { rank.barrier() }
    });
    let lost = CollectiveError::Lost { rank: 1, reason: "its handle was dropped".into() };
    assert_eq!(results, [Some(Err(lost.clone())), Some(Ok(())), Some(Err(lost))]);
}

#[test]
fn invariant_2_the_first_reason_stays() {
    let mut ranks = collective::in_process(3);
    let silent = ranks.pop().unwrap();
    let aborter = silent.aborter();
    let (send, results) = mpsc::channel();
    thread::scope(|scope| {
        for mut rank in ranks {
            let send = send.clone();
            scope.spawn(move || send.send(rank.all_reduce(&mut [1.0_f32; 1000], ReduceOp::Sum)).unwrap());
        }
        assert!(results.try_recv().is_err(), "nobody can be done before all are there");
        assert!(aborter.abort(2, "it stalled for 5 s"));
        assert!(!aborter.abort(0, "too late: the first reason stays"));
        let lost = Err(CollectiveError::Lost { rank: 2, reason: "it stalled for 5 s".into() });
        assert_eq!(results.recv().unwrap(), lost);
        assert_eq!(results.recv().unwrap(), lost);
    });
    assert_eq!(silent.failure().unwrap().to_string(), "rank 2 is lost: it stalled for 5 s");
}

#[test]
fn a_panic_in_the_background_ends_the_group() {
    let results = on_ranks(2, |mut rank| {
        let is_victim = rank.rank() == 1;
        let pending = rank.start(move |rank| {
            if is_victim {
                std::panic::resume_unwind(Box::new("no gradient"));
            }
            rank.barrier()
        });
        (pending.wait(), rank.barrier())
    });
    let reason = "its call in the background panicked: no gradient".into();
    let lost = Err(CollectiveError::Lost { rank: 1, reason });
    assert_eq!(results, [Some((lost.clone(), lost.clone())), Some((lost.clone(), lost))]);
}

#[test]
fn a_rank_that_leaves_takes_its_background_with_it() {
    let mut ranks = collective::in_process(2);
    let (mut leaves, mut stays) = (ranks.remove(0), ranks.remove(0));
    // Needs a rank that never makes the call; dropping the handle ends it, and joins the thread.
    let pending = leaves.start(Collective::barrier);
    let waiting = leaves.start(Collective::barrier);
    drop(leaves);
    let lost = Err(CollectiveError::Lost { rank: 0, reason: "its handle was dropped".into() });
    assert_eq!(pending.wait(), lost);
    assert_eq!(waiting.wait(), lost);
    assert_eq!(stays.start(Collective::barrier).wait(), lost);
}
