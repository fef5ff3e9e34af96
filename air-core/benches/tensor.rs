//! What handles and views cost, beside the copy that they save.

use air_core::tensor::Tensor;
use divan::{Bencher, black_box};

#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

/// 1 MiB of f32.
fn tensor() -> Tensor {
    Tensor::zeros::<f32>(&[512, 512]).unwrap_or_else(|_| Tensor::scalar(0f32))
}

#[divan::bench]
fn clone_handle(bencher: Bencher) {
    let tensor = tensor();
    bencher.bench_local(|| black_box(&tensor).clone());
}

#[divan::bench]
fn slice(bencher: Bencher) {
    let tensor = tensor();
    bencher.bench_local(|| black_box(&tensor).slice(0, 128..256));
}

#[divan::bench]
fn select(bencher: Bencher) {
    let tensor = tensor();
    bencher.bench_local(|| black_box(&tensor).select(0, 7));
}

#[divan::bench]
fn view_as_ndarray(bencher: Bencher) {
    let tensor = tensor();
    bencher.bench_local(|| black_box(&tensor).view::<f32>().map(|view| view.len()));
}

#[divan::bench]
fn to_arrow(bencher: Bencher) {
    let tensor = tensor();
    bencher.bench_local(|| black_box(&tensor).to_arrow());
}

#[divan::bench]
fn copy_1_mib(bencher: Bencher) {
    let tensor = tensor();
    bencher.bench_local(|| black_box(&tensor).to_vec::<f32>());
}

#[divan::bench]
fn copy_1_mib_transposed(bencher: Bencher) {
    let tensor = tensor().transpose();
    bencher.bench_local(|| black_box(&tensor).contiguous());
}
