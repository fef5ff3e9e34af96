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
fn on_ranks<V>(
    bencher: Bencher,
    world: usize,
    bytes: usize,
    values: impl Fn() -> V + Sync,
    call: impl Fn(&mut Collective, &mut V) -> bool + Sync,
) {
    let mut ranks = collective::in_process(world);
    let mut first = ranks.remove(0);
    let (values, call) = (&values, &call);
    std::thread::scope(|scope| {
        for mut other in ranks {
            scope.spawn(move || {
                let mut data = values();
                while call(&mut other, &mut data) {}
            });
        }
        let mut data = values();
        bencher.counter(BytesCount::new(bytes)).bench_local(|| assert!(call(&mut first, &mut data)));
        drop(first);
    });
}

fn ones(bytes: usize) -> Vec<f32> {
    vec![1.0; bytes / 4]
}

#[divan::bench(args = SIZES)]
fn all_reduce_mean_f32(bencher: Bencher, bytes: usize) {
    on_ranks(bencher, 2, bytes, || ones(bytes), |rank, data| rank.all_reduce(data, ReduceOp::Mean).is_ok());
}

#[divan::bench(args = SIZES)]
fn all_reduce_mean_bf16(bencher: Bencher, bytes: usize) {
    let values = || vec![half::bf16::from_f32(1.0); bytes / 2];
    on_ranks(bencher, 2, bytes, values, |rank, data| rank.all_reduce(data, ReduceOp::Mean).is_ok());
}

#[divan::bench(args = SIZES)]
fn broadcast_f32(bencher: Bencher, bytes: usize) {
    on_ranks(bencher, 2, bytes, || ones(bytes), |rank, data| rank.broadcast(data, 0).is_ok());
}

#[divan::bench(args = SIZES)]
fn all_to_all_f32(bencher: Bencher, bytes: usize) {
    let values = || (ones(bytes), ones(bytes));
    on_ranks(bencher, 2, bytes, values, |rank, (data, all)| rank.all_to_all(data, all).is_ok());
}

#[divan::bench(args = SIZES)]
fn send_recv_f32(bencher: Bencher, bytes: usize) {
    let values = || (ones(bytes), ones(bytes));
    on_ranks(bencher, 2, bytes, values, |rank, (data, into)| {
        let other = 1 - rank.rank();
        rank.send_recv(data, other, into, other).is_ok()
    });
}

#[divan::bench(args = [2, 4, 8])]
fn barrier(bencher: Bencher, world: usize) {
    on_ranks(bencher, world, 0, || (), |rank, ()| rank.barrier().is_ok());
}

/// As many ranks as the quick start of air-train has, on however many cores there are.
#[divan::bench(args = [1 << 10, 2 << 20])]
fn all_reduce_mean_f32_over_4_ranks(bencher: Bencher, bytes: usize) {
    on_ranks(bencher, 4, bytes, || ones(bytes), |rank, data| rank.all_reduce(data, ReduceOp::Mean).is_ok());
}

/// The floor of a copy: one thread, from one buffer to another.
#[divan::bench(args = SIZES)]
fn floor_memcpy(bencher: Bencher, bytes: usize) {
    let from = ones(bytes);
    let mut into = ones(bytes);
    bencher
        .counter(BytesCount::new(bytes))
        .bench_local(|| black_box(&mut into).copy_from_slice(black_box(&from)));
}

/// The floor of a reduction: two threads, each of which adds a half of two buffers and writes the result to both,
/// all memory being writable by all.
#[divan::bench(args = SIZES)]
fn floor_reduce_in_place(bencher: Bencher, bytes: usize) {
    let values = || (ones(bytes / 2), ones(bytes / 2));
    on_ranks(bencher, 2, bytes, values, |rank, (one, two)| {
        for (a, b) in black_box(one).iter_mut().zip(black_box(two)) {
            let mean = (*a + *b) * 0.5;
            (*a, *b) = (mean, mean);
        }
        rank.barrier().is_ok()
    });
}
