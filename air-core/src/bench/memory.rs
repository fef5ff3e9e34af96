//! What moves memory: tensors by handle, collectives, and the bare copy they are held against.

use std::thread;
use std::time::Instant;

use super::calls::{Call, Echo};
use crate::channel::{Limit, bounded};
use crate::collective::{Collective, CollectiveError, ReduceOp, in_process};
use crate::error::{CoreError, Result};
use crate::tensor::Tensor;
use crate::{Runtime, Spec};

const ELEMENTS: usize = 16 << 20;
const GIB: f64 = (1_u64 << 30) as f64;
const SIZE_GIB: f64 = (ELEMENTS * 4) as f64 / GIB;

/// MiB resident once a runtime with one worker has been started and asked; `None` where the system does not say.
pub(super) fn idle_runtime() -> Result<Option<f64>> {
    let runtime = Runtime::start()?;
    runtime.spawn(Spec::new("echo"), |_| Ok(Echo))?.ask_blocking(Call)?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<f64> = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
    Ok(kib.map(|kib| kib / 1024.0))
}

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

/// How often a buffer of so many bytes is reduced for one figure.
fn repetitions(bytes: usize) -> u32 {
    ((256 << 20) / bytes).clamp(4, 20_000) as u32
}

/// GiB of a buffer reduced per second over two ranks: of each rank's own buffer, as the slowest rank sees it.
fn over_two_ranks<V: Send>(
    bytes: usize,
    values: impl Fn() -> V + Sync,
    call: impl Fn(&mut Collective, V) -> std::result::Result<V, CollectiveError> + Sync,
) -> Result<f64> {
    let times = repetitions(bytes);
    let run = |mut rank: Collective| {
        let mut data = call(&mut rank, values())?;
        rank.barrier()?;
        let began = Instant::now();
        for _ in 0..times {
            data = call(&mut rank, data)?;
        }
        let took = began.elapsed().as_secs_f64();
        std::hint::black_box(&data);
        Ok::<_, CollectiveError>(took / f64::from(times))
    };
    let run = &run;
    let took = thread::scope(|scope| {
        let ranks: Vec<_> = in_process(2).into_iter().map(|rank| scope.spawn(move || run(rank))).collect();
        ranks
            .into_iter()
            .map(|rank| Ok(rank.join().map_err(|_| CoreError::Stopped)??))
            .collect::<Result<Vec<_>>>()
    })?;
    Ok(bytes as f64 / GIB / took.into_iter().fold(0.0, f64::max))
}

/// [`Collective::all_reduce`].
pub(super) fn all_reduce(bytes: usize) -> Result<f64> {
    let values = || vec![1.0_f32; bytes / 4];
    over_two_ranks(bytes, values, |rank, mut data| {
        rank.all_reduce(&mut data, ReduceOp::Mean)?;
        Ok(data)
    })
}

/// What the memory allows: both ranks at once read and write a half of each buffer, every byte once, and never meet.
pub(super) fn reduce_limit(bytes: usize) -> Result<f64> {
    let values = || (vec![1.0_f32; bytes / 8], vec![1.0_f32; bytes / 8]);
    over_two_ranks(bytes, values, |_, (mut one, mut two)| {
        for (a, b) in std::hint::black_box(&mut one).iter_mut().zip(std::hint::black_box(&mut two)) {
            let mean = (*a + *b) * 0.5;
            (*a, *b) = (mean, mean);
        }
        Ok((one, two))
    })
}
