//! Collectives between threads, beside what the memory itself can do.
//!
//! `cargo bench -p air-core --bench collective`
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use air_core::collective::{self, Collective, ReduceOp};
use divan::Bencher;
use divan::counter::BytesCount;

fn main() {
    divan::main();
}

const SIZES: [usize; 4] = [4 << 10, 64 << 10, 4 << 20, 64 << 20];

/// Times `call` on rank 0; the other ranks make the same calls until rank 0 leaves.
fn on_ranks(
    bencher: Bencher,
    world: usize,
    bytes: usize,
    call: impl Fn(&mut Collective, &mut [f32]) -> bool + Sync,
) {
    let mut ranks = collective::in_process(world);
    let mut first = ranks.remove(0);
    let call = &call;
    std::thread::scope(|scope| {
        for mut other in ranks {
            scope.spawn(move || {
                let mut data = vec![1.0; bytes / 4];
                while call(&mut other, &mut data) {}
            });
        }
        let mut data = vec![1.0; bytes / 4];
        bencher.counter(BytesCount::new(bytes)).bench_local(|| assert!(call(&mut first, &mut data)));
        drop(first);
    });
}

#[divan::bench(args = SIZES)]
fn all_reduce_mean_f32(bencher: Bencher, bytes: usize) {
    on_ranks(bencher, 2, bytes, |rank, data| rank.all_reduce(data, ReduceOp::Mean).is_ok());
}

#[divan::bench(args = SIZES)]
fn broadcast_f32(bencher: Bencher, bytes: usize) {
    on_ranks(bencher, 2, bytes, |rank, data| rank.broadcast(data, 0).is_ok());
}

#[divan::bench(args = [2, 4, 8])]
fn barrier(bencher: Bencher, world: usize) {
    on_ranks(bencher, world, 0, |rank, _| rank.barrier().is_ok());
}

/// As many ranks as the quick start of air-train has, on however many cores there are.
#[divan::bench(args = [1 << 10, 2 << 20])]
fn all_reduce_mean_f32_over_4_ranks(bencher: Bencher, bytes: usize) {
    on_ranks(bencher, 4, bytes, |rank, data| rank.all_reduce(data, ReduceOp::Mean).is_ok());
}

/// The floor of a copy: one thread, from one buffer to another.
#[divan::bench(args = SIZES)]
fn floor_memcpy(bencher: Bencher, bytes: usize) {
    let from = vec![1.0_f32; bytes / 4];
    let mut into = vec![0.0_f32; bytes / 4];
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| black_box(&mut into).copy_from_slice(black_box(&from)));
}

/// The floor of a reduction: two threads, each of which adds a half of two buffers and writes the result to both,
/// all memory being writable by all.
#[divan::bench(args = SIZES)]
fn floor_reduce_in_place(bencher: Bencher, bytes: usize) {
    let half = bytes / 8;
    let mut ranks = collective::in_process(2);
    let (mut other, mut first) = (ranks.pop().unwrap(), ranks.pop().unwrap());
    let add = |one: &mut [f32], two: &mut [f32]| {
        for (a, b) in one.iter_mut().zip(two) {
            let mean = (*a + *b) * 0.5;
            (*a, *b) = (mean, mean);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (mut one, mut two) = (vec![1.0; half], vec![1.0; half]);
            while other.barrier().is_ok() {
                add(black_box(&mut one), black_box(&mut two));
                if other.barrier().is_err() {
                    break;
                }
            }
        });
        let (mut one, mut two) = (vec![1.0; half], vec![1.0; half]);
        bencher.counter(BytesCount::new(bytes)).bench_local(|| {
            first.barrier().unwrap();
            add(black_box(&mut one), black_box(&mut two));
            first.barrier().unwrap();
        });
        drop(first);
    });
}
