//! Groups of ranks: the invariants of `air_core::collective`, by number.
#![allow(clippy::unwrap_used)]

use std::sync::mpsc;
use std::thread;

use air_core::collective::{self, Collective, CollectiveError, Number, ReduceOp};
use proptest::prelude::*;

/// Runs the same function on every rank of a new group, each on its own thread; the results by rank.
/// A rank that panics gives `None`.
fn on_ranks<R: Send>(world: usize, run: impl Fn(Collective) -> R + Sync) -> Vec<Option<R>> {
    let run = &run;
    thread::scope(|scope| {
        let threads: Vec<_> =
            collective::in_process(world).into_iter().map(|rank| scope.spawn(move || run(rank))).collect();
        threads.into_iter().map(|thread| thread.join().ok()).collect()
    })
}

/// Values that show a wrong order of summation: adding them in another order rounds differently.
fn values(rank: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7 + rank * 13) % 101) as f32 * 10_f32.powi(((i + rank) % 9) as i32 - 4)).collect()
}

fn reduce_by_hand(world: usize, len: usize, op: ReduceOp) -> Vec<f32> {
    let mut result = values(0, len);
    for rank in 1..world {
        f32::fold(op, &mut result, &values(rank, len));
    }
    f32::finish(op, &mut result, world);
    result
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Lengths around every boundary of the implementation: empty, one, the whole path, one block, several.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..20_usize,
        Just(65_536 - 1),
        Just(65_536),
        Just(65_536 + 1),
        16_000..17_000_usize,
        150_000..300_000_usize
    ]
}

fn ops() -> impl Strategy<Value = ReduceOp> {
    prop_oneof![Just(ReduceOp::Sum), Just(ReduceOp::Mean), Just(ReduceOp::Max), Just(ReduceOp::Min)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn invariant_1_every_rank_has_the_sum_in_rank_order_to_the_bit(
        world in 1..6_usize, len in lengths(), op in ops(),
    ) {
        let expected = bits(&reduce_by_hand(world, len, op));
        let results = on_ranks(world, |mut rank| {
            let mut data = values(rank.rank(), len);
            rank.all_reduce(&mut data, op).unwrap();
            rank.barrier().unwrap();
            bits(&data)
        });
        for result in results {
            prop_assert!(result.as_ref() == Some(&expected), "world {}, len {}, {:?}", world, len, op);
        }
    }

    #[test]
    fn broadcast_and_all_gather_copy_exactly(world in 1..5_usize, len in lengths(), root in 0..4_usize) {
        let root = root % world;
        let everything: Vec<f32> = (0..world).flat_map(|rank| values(rank, len)).collect();
        let results = on_ranks(world, |mut rank| {
            let mut data = values(rank.rank(), len);
            let gathered = rank.all_gather(&data).unwrap();
            rank.broadcast(&mut data, root).unwrap();
            rank.barrier().unwrap();
            (data, gathered)
        });
        for result in results {
            let (data, gathered) = result.unwrap();
            prop_assert!(data == values(root, len));
            prop_assert!(gathered == everything);
        }
    }
}

#[test]
fn other_element_types_are_reduced_too() {
    let results = on_ranks(3, |mut rank| {
        let mut counts = vec![rank.rank() as i64; 100_000];
        let mut losses = vec![rank.rank() as f64 / 4.0; 3];
        rank.all_reduce(&mut counts, ReduceOp::Sum).unwrap();
        rank.all_reduce(&mut losses, ReduceOp::Mean).unwrap();
        rank.barrier().unwrap();
        (counts, losses)
    });
    for result in results {
        assert_eq!(result, Some((vec![3; 100_000], vec![0.25; 3])));
    }
}

/// One call of a program that all ranks run: every kind, in both sizes.
fn step(rank: &mut Collective, k: usize) -> Result<(), CollectiveError> {
    let mut small = vec![k as f32; 10];
    let mut large = vec![k as f32; 200_000];
    match k % 6 {
        0 => rank.barrier(),
        1 => rank.all_reduce(&mut small, ReduceOp::Sum),
        2 => rank.broadcast(&mut small, k % rank.world()),
        3 => rank.all_reduce(&mut large, ReduceOp::Mean),
        4 => rank.all_gather(&small).map(drop),
        _ => rank.broadcast(&mut large, 0),
    }
}

#[test]
fn invariant_2_a_rank_that_panics_at_any_step_is_named_to_all_others() {
    const STEPS: usize = 13;
    for world in [2, 4] {
        for dies_at in 0..STEPS {
            let victim = dies_at % world;
            let results = on_ranks(world, |mut rank| {
                for k in 0..STEPS {
                    assert!(rank.rank() != victim || k != dies_at, "told to die");
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
fn invariant_2_abort_frees_ranks_that_wait_already() {
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

/// What all ranks are told when rank 1 of 3 makes another call than the rest.
fn mismatch(
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
fn invariant_3_different_calls_are_told_to_all() {
    let sum = |len: usize| move |rank: &mut Collective| rank.all_reduce(&mut vec![0_f32; len], ReduceOp::Sum);
    let text = "the ranks made different calls: rank 0 called ";
    assert_eq!(
        mismatch(sum(4), sum(5)),
        format!("{text}all_reduce(Sum) of 4 f32, rank 1 called all_reduce(Sum) of 5 f32")
    );
    assert_eq!(
        mismatch(sum(1_000_000), sum(3)),
        format!("{text}all_reduce(Sum) of 1000000 f32, rank 1 called all_reduce(Sum) of 3 f32")
    );
    assert_eq!(
        mismatch(sum(4), |rank| rank.all_reduce(&mut [0_f32; 4], ReduceOp::Max)),
        format!("{text}all_reduce(Sum) of 4 f32, rank 1 called all_reduce(Max) of 4 f32")
    );
    assert_eq!(
        mismatch(sum(4), |rank| rank.all_reduce(&mut [0_f64; 4], ReduceOp::Sum)),
        format!("{text}all_reduce(Sum) of 4 f32, rank 1 called all_reduce(Sum) of 4 f64")
    );
    assert_eq!(
        mismatch(sum(4), Collective::barrier),
        format!("{text}all_reduce(Sum) of 4 f32, rank 1 called barrier")
    );
    assert_eq!(
        mismatch(|rank| rank.all_gather(&[0_i64; 2]).map(drop), |rank| rank.broadcast(&mut [0_i64; 2], 0)),
        format!("{text}all_gather of 2 i64, rank 1 called broadcast from rank 0 of 2 i64")
    );
}

#[test]
fn a_root_outside_the_group_is_an_error_on_every_rank() {
    let results = on_ranks(2, |mut rank| rank.broadcast(&mut [0_f32; 2], 2).unwrap_err().to_string());
    for result in results {
        let text = result.unwrap();
        assert!(text.ends_with("is lost: it called broadcast from rank 2 in a group of 2"), "{text}");
    }
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
