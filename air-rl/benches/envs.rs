//! Raw stepping: CartPole-v1 batches on one thread, items are environment steps.
#![allow(missing_docs, clippy::unwrap_used)]

use air_rl::Actions;
use air_rl::envs::Registry;
use divan::Bencher;
use divan::counter::ItemsCount;

fn main() {
    divan::main();
}

/// 100 steps of each environment, actions from a fixed pattern.
#[divan::bench(args = [1, 64, 1024])]
fn cartpole(bencher: Bencher<'_, '_>, envs: usize) {
    const STEPS: usize = 100;
    let mut batch = Registry::default().spec("CartPole-v1").unwrap().make(envs).unwrap();
    batch.reset(&(0..envs as u64).collect::<Vec<_>>()).unwrap();
    let actions: Vec<Vec<u32>> =
        (0..7).map(|t| (0..envs).map(|i| ((i * 31 + t * 17) % 5 < 2) as u32).collect()).collect();
    bencher.counter(ItemsCount::new(envs * STEPS)).bench_local(|| {
        for t in 0..STEPS {
            batch.step(Actions::Discrete(&actions[t % 7])).unwrap();
        }
        batch.batch().obs[0]
    });
}
