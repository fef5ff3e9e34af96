//! What moves memory: tensors by handle, collectives, and the bare copy they are held against.

use std::thread;
use std::time::Instant;

use crate::channel::{Limit, bounded};
use crate::collective::{ReduceOp, in_process};
use crate::error::{CoreError, Result};
use crate::tensor::Tensor;

const ELEMENTS: usize = 16 << 20;
const GIB: f64 = (1_u64 << 30) as f64;
const SIZE_GIB: f64 = (ELEMENTS * 4) as f64 / GIB;

/// GiB copied per second from one 64 MiB buffer to another.
pub(super) fn copy() -> Result<f64> {
    let from = vec![1.0_f32; ELEMENTS];
    let mut to = vec![0.0_f32; ELEMENTS];
    let began = Instant::now();
    to.copy_from_slice(std::hint::black_box(&from));
    std::hint::black_box(&to);
    Ok(SIZE_GIB / began.elapsed().as_secs_f64())
}

/// Sends per second of a 64 MiB tensor to another thread.
pub(super) fn tensor_send(sends: u32) -> Result<f64> {
    let tensor = Tensor::from_vec(vec![0.0_f32; ELEMENTS], &[ELEMENTS])?;
    let (sender, receiver) = bounded::<Tensor>(Limit { items: 256, bytes: usize::MAX });
    let sink =
        thread::spawn(move || receiver.iter().map(|tensor| u64::from(tensor.len() == ELEMENTS)).sum::<u64>());
    let began = Instant::now();
    for _ in 0..sends {
        if sender.send(tensor.clone()).is_err() {
            break;
        }
    }
    drop(sender);
    let arrived = sink.join().unwrap_or(0);
    let took = began.elapsed().as_secs_f64();
    if arrived == u64::from(sends) { Ok(f64::from(sends) / took) } else { Ok(0.0) }
}

/// Sends per second of eight bytes over the bare channel.
pub(super) fn bare_send(sends: u32) -> Result<f64> {
    let (sender, receiver) = crossbeam_channel::bounded::<u64>(256);
    let sink = thread::spawn(move || receiver.iter().sum::<u64>());
    let began = Instant::now();
    for _ in 0..sends {
        let _ = sender.send(1);
    }
    drop(sender);
    let arrived = sink.join().unwrap_or(0);
    let took = began.elapsed().as_secs_f64();
    if arrived == u64::from(sends) { Ok(f64::from(sends) / took) } else { Ok(0.0) }
}

/// GiB of a 64 MiB buffer reduced per second over so many ranks.
pub(super) fn all_reduce(ranks: usize) -> Result<f64> {
    const TIMES: usize = 3;
    let began_and_took = in_process(ranks).into_iter().map(|mut rank| {
        thread::spawn(move || {
            let mut data = vec![1.0_f32; ELEMENTS];
            rank.all_reduce(&mut data, ReduceOp::Sum)?;
            rank.barrier()?;
            let began = Instant::now();
            for _ in 0..TIMES {
                rank.all_reduce(&mut data, ReduceOp::Mean)?;
            }
            Ok::<_, crate::collective::CollectiveError>(began.elapsed().as_secs_f64() / TIMES as f64)
        })
    });
    let threads: Vec<_> = began_and_took.collect();
    let mut slowest: f64 = 0.0;
    for thread in threads {
        let took = thread.join().map_err(|_| CoreError::Stopped)??;
        slowest = slowest.max(took);
    }
    Ok(SIZE_GIB / slowest)
}
