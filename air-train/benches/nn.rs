//! One training step, one inference and one optimiser step of two networks.
#![allow(clippy::unwrap_used)]

use air_core::seed::Seed;
use air_train::nn::{Adam, Mlp, MlpConfig, Module, Optimizer, Scratch, softmax_cross_entropy};
use divan::Bencher;

fn main() {
    divan::main();
}

const SMALL: (&[usize], usize) = (&[4, 64, 64, 2], 64);
const LARGE: (&[usize], usize) = (&[784, 512, 512, 10], 256);

fn net(sizes: &[usize], threads: usize) -> Mlp {
    let config = MlpConfig { sizes: sizes.to_vec(), threads, ..MlpConfig::default() };
    Mlp::new(&config, Seed::new(1)).unwrap()
}

fn step(bencher: Bencher, (sizes, batch): (&[usize], usize), threads: usize) {
    let (mut net, mut adam) = (net(sizes, threads), Adam::new(1e-3));
    let classes = net.outputs();
    let x = vec![0.5; batch * net.inputs()];
    let labels: Vec<u32> = (0..batch).map(|i| (i % classes) as u32).collect();
    let mut d = vec![0.0; batch * classes];
    bencher.bench_local(|| {
        let loss = softmax_cross_entropy(net.forward(&x, batch).unwrap(), &labels, classes, &mut d).unwrap();
        net.zero_grads();
        net.backward(&d).unwrap();
        let (params, grads) = net.params_and_grads();
        adam.step(params, grads).unwrap();
        loss
    });
}

#[divan::bench(args = [1, 2])]
fn step_small(bencher: Bencher, threads: usize) {
    step(bencher, SMALL, threads);
}

#[divan::bench(args = [1, 2])]
fn step_large(bencher: Bencher, threads: usize) {
    step(bencher, LARGE, threads);
}

#[divan::bench(args = [1, 8, 64])]
fn infer_small(bencher: Bencher, batch: usize) {
    let (net, mut scratch) = (net(SMALL.0, 1), Scratch::default());
    let x = vec![0.5; batch * net.inputs()];
    bencher.bench_local(|| net.infer(&x, batch, &mut scratch).unwrap()[0]);
}

#[divan::bench]
fn adam_large(bencher: Bencher) {
    let (mut net, mut adam) = (net(LARGE.0, 1), Adam::new(1e-3));
    bencher.bench_local(|| {
        let (params, grads) = net.params_and_grads();
        adam.step(params, grads).unwrap();
    });
}
