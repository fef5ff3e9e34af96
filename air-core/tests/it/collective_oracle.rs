//! Every verb of `air_core::collective` against what one thread computes, to the bit (invariant 1).
#![allow(clippy::unwrap_used)]

use std::fmt::Debug;

use air_core::collective::{Collective, Number, ReduceOp};
use half::{bf16, f16};
use proptest::prelude::*;

use super::collective::on_ranks;

/// What the naive side needs of a type.
trait Value: Number {
    /// Values that show a wrong order of summation: adding them in another order rounds differently.
    fn make(seed: usize) -> Self;
    fn reduced(op: ReduceOp, ranks: &[Self]) -> Self;
}

macro_rules! float {
    ($($type:ident),*) => {$(
        impl Value for $type {
            fn make(seed: usize) -> Self {
                (seed * 7 % 101) as $type * (10 as $type).powi((seed % 9) as i32 - 4)
            }

            fn reduced(op: ReduceOp, ranks: &[Self]) -> Self {
                let mut ranks = ranks.iter().copied();
                let first = ranks.next().unwrap();
                let world = (ranks.len() + 1) as $type;
                match op {
                    ReduceOp::Mean => ranks.fold(first, |sum, next| sum + next) / world,
                    ReduceOp::Max => ranks.fold(first, $type::max),
                    ReduceOp::Min => ranks.fold(first, $type::min),
                    _ => ranks.fold(first, |sum, next| sum + next),
                }
            }
        }
    )*};
}

float!(f32, f64);

macro_rules! half {
    ($($type:ident),*) => {$(
        impl Value for $type {
            fn make(seed: usize) -> Self {
                $type::from_f32(f32::make(seed))
            }

            fn reduced(op: ReduceOp, ranks: &[Self]) -> Self {
                let ranks: Vec<f32> = ranks.iter().map(|value| value.to_f32()).collect();
                $type::from_f32(f32::reduced(op, &ranks))
            }
        }
    )*};
}

half!(f16, bf16);

impl Value for i64 {
    fn make(seed: usize) -> Self {
        if seed.is_multiple_of(13) { i64::MAX } else { (seed * 7 % 101) as i64 - 50 }
    }

    fn reduced(op: ReduceOp, ranks: &[Self]) -> Self {
        let sum = || ranks.iter().fold(0_i64, |sum, next| sum.wrapping_add(*next));
        match op {
            ReduceOp::Mean => sum() / ranks.len() as i64,
            ReduceOp::Max => *ranks.iter().max().unwrap(),
            ReduceOp::Min => *ranks.iter().min().unwrap(),
            _ => sum(),
        }
    }
}

fn values<T: Value>(rank: usize, len: usize) -> Vec<T> {
    (0..len).map(|i| T::make(i + rank * 13)).collect()
}

fn reduced<T: Value>(op: ReduceOp, ranks: &[Vec<T>]) -> Vec<T> {
    (0..ranks[0].len())
        .map(|i| T::reduced(op, &ranks.iter().map(|rank| rank[i]).collect::<Vec<_>>()))
        .collect()
}

/// What one rank has in the end of every verb, by name.
type Outputs<T> = Vec<(&'static str, Vec<T>)>;

fn by_ranks<T: Value>(rank: &mut Collective, len: usize, op: ReduceOp, root: usize) -> Outputs<T> {
    let (me, world) = (rank.rank(), rank.world());
    let (own, parts) = (values::<T>(me, len), values::<T>(me, len * world));
    let zeros = |len| vec![T::zeroed(); len];
    let at_root = |len| zeros(if me == root { len } else { 0 });

    // In the background from the beginning to the end.
    let pending = rank.start_all_reduce(own.clone(), op);
    let mut all_reduced = own.clone();
    rank.all_reduce(&mut all_reduced, op).unwrap();
    let mut part = zeros(len);
    rank.reduce_scatter(&parts, &mut part, op).unwrap();
    let mut all = zeros(len * world);
    rank.all_gather(&own, &mut all).unwrap();
    let mut copied = own.clone();
    rank.broadcast(&mut copied, root).unwrap();
    let mut gathered = at_root(len * world);
    rank.gather(&own, &mut gathered, root).unwrap();
    let mut scattered = zeros(len);
    rank.scatter(if me == root { &parts } else { &[] }, &mut scattered, root).unwrap();
    let mut exchanged = zeros(len * world);
    rank.all_to_all(&parts, &mut exchanged).unwrap();
    let mut passed_on = zeros(len);
    rank.send_recv(&own, (me + 1) % world, &mut passed_on, (me + world - 1) % world).unwrap();
    let mut received = zeros(if me == (root + 1) % world && world > 1 { len } else { 0 });
    if world > 1 && me == root {
        rank.send(&own, (root + 1) % world).unwrap();
    } else if !received.is_empty() || (len == 0 && world > 1 && me == (root + 1) % world) {
        rank.recv(&mut received, root).unwrap();
    }
    let background = pending.wait().unwrap();
    rank.barrier().unwrap();
    vec![
        ("all_reduce", all_reduced),
        ("reduce_scatter", part),
        ("all_gather", all),
        ("broadcast", copied),
        ("gather", gathered),
        ("scatter", scattered),
        ("all_to_all", exchanged),
        ("send_recv", passed_on),
        ("recv", received),
        ("start_all_reduce", background),
    ]
}

fn by_hand<T: Value>(me: usize, world: usize, len: usize, op: ReduceOp, root: usize) -> Outputs<T> {
    let own: Vec<Vec<T>> = (0..world).map(|rank| values(rank, len)).collect();
    let parts: Vec<Vec<T>> = (0..world).map(|rank| values(rank, len * world)).collect();
    let (sum, everything) = (reduced(op, &own), own.concat());
    let mine = me * len..(me + 1) * len;
    let if_me = |is_me: bool, values: &[T]| if is_me { values.to_vec() } else { Vec::new() };
    vec![
        ("all_reduce", sum.clone()),
        ("reduce_scatter", reduced(op, &parts)[mine.clone()].to_vec()),
        ("all_gather", everything.clone()),
        ("broadcast", own[root].clone()),
        ("gather", if_me(me == root, &everything)),
        ("scatter", parts[root][mine.clone()].to_vec()),
        ("all_to_all", parts.iter().flat_map(|parts| parts[mine.clone()].to_vec()).collect()),
        ("send_recv", own[(me + world - 1) % world].clone()),
        ("recv", if_me(world > 1 && me == (root + 1) % world, &own[root])),
        ("start_all_reduce", sum),
    ]
}

fn bytes<T: Value + Debug>(outputs: &Outputs<T>) -> Vec<(&'static str, &[u8])> {
    outputs.iter().map(|(name, values)| (*name, bytemuck::cast_slice(values))).collect()
}

fn check<T: Value>(world: usize, len: usize, op: ReduceOp, root: usize) {
    let results = on_ranks(world, |mut rank| by_ranks::<T>(&mut rank, len, op, root));
    for (rank, result) in results.into_iter().enumerate() {
        let (found, expected) = (result.unwrap(), by_hand::<T>(rank, world, len, op, root));
        for (found, expected) in bytes(&found).into_iter().zip(bytes(&expected)) {
            let name = found.0;
            assert!(found == expected, "{name} of {len} {} on rank {rank} of {world}, {op:?}", T::DTYPE);
        }
    }
}

/// Lengths around every boundary of the implementation: empty, one, the whole path, one block, several.
fn lengths() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => 0..20_usize,
        2 => 1000..10_000_usize,
        1 => Just((128 << 10) / 4 - 1),
        1 => Just((128 << 10) / 4),
        1 => Just((128 << 10) / 4 + 1),
        1 => 60_000..70_000_usize,
    ]
}

fn ops() -> impl Strategy<Value = ReduceOp> {
    prop_oneof![Just(ReduceOp::Sum), Just(ReduceOp::Mean), Just(ReduceOp::Max), Just(ReduceOp::Min)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn invariant_1_every_verb_gives_every_rank_the_same_bits_as_one_thread(
        world in 1..=5_usize, len in lengths(), op in ops(), root in 0..5_usize, dtype in 0..5_usize,
    ) {
        let root = root % world;
        match dtype {
            0 => check::<f32>(world, len, op, root),
            1 => check::<f64>(world, len, op, root),
            2 => check::<f16>(world, len, op, root),
            3 => check::<bf16>(world, len, op, root),
            _ => check::<i64>(world, len, op, root),
        }
    }
}

#[test]
fn several_blocks_of_every_type() {
    check::<f32>(2, 100_000, ReduceOp::Mean, 1);
    check::<f64>(3, 50_001, ReduceOp::Sum, 2);
    check::<bf16>(2, 70_001, ReduceOp::Sum, 1);
    check::<i64>(2, 50_001, ReduceOp::Mean, 0);
}
