//! What a lease costs.
//!
//! `cargo bench -p air-core --bench resource`
#![allow(clippy::unwrap_used)]

use air_core::resource::{Lease, Placement, Resources};
use air_core::{Runtime, RuntimeConfig};
use divan::Bencher;

fn main() {
    divan::main();
}

fn runtime() -> Runtime {
    let machine = Resources::new().cpu(64.0).gpu(8.0).memory_bytes(1 << 36);
    Runtime::with(RuntimeConfig::default().resources(machine)).unwrap()
}

/// Taken and given back at once, as for a task.
#[divan::bench]
fn acquire_and_release_a_cpu(bencher: Bencher) {
    let runtime = runtime();
    bencher.bench_local(|| runtime.acquire(Resources::new().cpu(1.0)).now().unwrap());
}

#[divan::bench]
fn acquire_and_release_a_quarter_gpu(bencher: Bencher) {
    let runtime = runtime();
    bencher.bench_local(|| runtime.acquire(Resources::new().gpu(0.25)).now().unwrap());
}

/// The same through the waiting form.
#[divan::bench]
fn wait_for_a_free_cpu(bencher: Bencher) {
    let runtime = runtime();
    bencher.bench_local(|| runtime.acquire(Resources::new().cpu(1.0)).wait().unwrap());
}

/// Made and removed, as Ray's own microbenchmark does with one bundle.
#[divan::bench(args = [1, 16])]
fn placement_group(bencher: Bencher, bundles: usize) {
    let runtime = runtime();
    let bundles = vec![Resources::new().cpu(1.0); bundles];
    bencher.bench_local(|| runtime.place(Placement::Pack, &bundles).wait().unwrap());
}

/// Given back while so many equal requests wait: the next of them is served.
#[divan::bench(args = [1, 1000, 100_000])]
fn hand_over(bencher: Bencher, waiting: usize) {
    let runtime = runtime();
    let all = runtime.acquire(Resources::new().cpu(64.0)).now().unwrap();
    let ask = || Box::pin(IntoFuture::into_future(runtime.acquire(Resources::new().cpu(64.0))));
    let mut queue: std::collections::VecDeque<_> = (0..waiting).map(|_| ask()).collect();
    // Polled once, each waits.
    for request in &mut queue {
        assert!(futures::FutureExt::now_or_never(request).is_none());
    }
    let mut held: Option<Lease> = Some(all);
    bencher.bench_local(|| {
        let mut last = ask();
        assert!(futures::FutureExt::now_or_never(&mut last).is_none());
        queue.push_back(last);
        drop(held.take());
        let next = queue.pop_front().unwrap();
        held = Some(futures::FutureExt::now_or_never(next).unwrap().unwrap());
    });
}
