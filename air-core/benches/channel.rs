//! What a send costs: 8 bytes, a 64 MiB tensor, and crossbeam's bare channel beside them.

use std::thread;

use air_core::channel::{self, Limit};
use air_core::tensor::Tensor;
use divan::Bencher;
use divan::counter::ItemsCount;

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

const LIMIT: Limit = Limit { items: 64, bytes: 1 << 30 };
const BATCH: usize = 10_000;

fn main() {
    divan::main();
}

fn tensor(mebibytes: usize) -> Tensor {
    Tensor::zeros::<u8>(&[mebibytes.max(1) << 20]).unwrap_or_else(|_| Tensor::scalar(0u8))
}

/// Send and receive on one thread.
mod same_thread {
    use super::{Bencher, LIMIT, channel, tensor};

    #[divan::bench]
    fn crossbeam_8_bytes(bencher: Bencher) {
        let (tx, rx) = crossbeam_channel::bounded(LIMIT.items);
        bencher.bench_local(|| {
            let _ = tx.send(1u64);
            rx.recv()
        });
    }

    #[divan::bench]
    fn crossbeam_tensor_64_mib(bencher: Bencher) {
        let (tx, rx) = crossbeam_channel::bounded(LIMIT.items);
        let tensor = tensor(64);
        bencher.bench_local(|| {
            let _ = tx.send(tensor.clone());
            rx.recv()
        });
    }

    #[divan::bench]
    fn air_8_bytes(bencher: Bencher) {
        let (tx, rx) = channel::bounded(LIMIT);
        bencher.bench_local(|| {
            let _ = tx.send(1u64);
            rx.recv()
        });
    }

    #[divan::bench]
    fn air_tensor_64_mib(bencher: Bencher) {
        let (tx, rx) = channel::bounded(LIMIT);
        let tensor = tensor(64);
        bencher.bench_local(|| {
            let _ = tx.send(tensor.clone());
            rx.recv()
        });
    }
}

/// A stream from one thread to another.
mod two_threads {
    use super::{BATCH, Bencher, ItemsCount, LIMIT, channel, tensor, thread};

    #[divan::bench(sample_count = 20)]
    fn crossbeam_8_bytes(bencher: Bencher) {
        bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
            let (tx, rx) = crossbeam_channel::bounded(LIMIT.items);
            thread::scope(|scope| {
                scope.spawn(move || (0..BATCH as u64).all(|i| tx.send(i).is_ok()));
                rx.iter().count()
            })
        });
    }

    #[divan::bench(sample_count = 20)]
    fn air_8_bytes(bencher: Bencher) {
        bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
            let (tx, rx) = channel::bounded(LIMIT);
            thread::scope(|scope| {
                scope.spawn(move || (0..BATCH as u64).all(|i| tx.send(i).is_ok()));
                rx.iter().count()
            })
        });
    }

    #[divan::bench(sample_count = 20)]
    fn air_tensor_64_mib(bencher: Bencher) {
        let tensor = tensor(64);
        bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
            let (tx, rx) = channel::bounded(LIMIT);
            let tensor = tensor.clone();
            thread::scope(|scope| {
                scope.spawn(move || (0..BATCH).all(|_| tx.send(tensor.clone()).is_ok()));
                rx.iter().count()
            })
        });
    }
}
