//! A ring all-reduce, written out: data-parallel training of a linear model on four ranks.
//!
//! `cargo run --release -p air-core --example ring_all_reduce`
//!
//! The ranks stand in a circle. Gradients are cut into as many parts as there are ranks; each part goes once around to be added up
//! and once more to be handed out, while every rank sends one part and receives another. So a rank sends twice its gradient, however many ranks
//! there are. (`rank.all_reduce(..)` does the same between threads with less copying; this is how it is done where there is only a wire.)

use std::ops::Range;
use std::thread;

use air_core::BoxError;
use air_core::collective::{Collective, CollectiveError, ReduceOp, in_process};
use air_core::seed::Seed;
use rand::RngExt;

type Trained = (Vec<f32>, Vec<f32>);

const FEATURES: usize = 1000;
const ROWS: usize = 64;

/// Replaces the values of every rank by the sum over all ranks.
fn ring_all_reduce(rank: &mut Collective, values: &mut [f32]) -> Result<(), CollectiveError> {
    let (me, world, len) = (rank.rank(), rank.world(), values.len());
    let (next, previous) = ((me + 1) % world, (me + world - 1) % world);
    let part = |part: usize| -> Range<usize> { part % world * len / world..(part % world + 1) * len / world };
    let mut received = vec![0.0; len.div_ceil(world)];

    // After the last turn this rank has the whole sum of part `me + 1`.
    for turn in 0..world - 1 {
        let (gives, takes) = (part(me + world - turn), part(me + 2 * world - turn - 1));
        let received = &mut received[..takes.len()];
        rank.send_recv(&values[gives], next, received, previous)?;
        for (value, received) in values[takes].iter_mut().zip(received) {
            *value += *received;
        }
    }
    for turn in 0..world - 1 {
        let (gives, takes) = (part(me + world + 1 - turn), part(me + world - turn));
        let received = &mut received[..takes.len()];
        rank.send_recv(&values[gives], next, received, previous)?;
        values[takes].copy_from_slice(received);
    }
    Ok(())
}

/// One rank's rows of `label = sum(row)`: the weights to find are all 1.
fn shard(seed: Seed) -> (Vec<f32>, Vec<f32>) {
    let mut rng = seed.rng();
    let rows: Vec<f32> = (0..ROWS * FEATURES).map(|_| rng.random::<f32>() - 0.5).collect();
    let labels = rows.chunks(FEATURES).map(|row| row.iter().sum()).collect();
    (rows, labels)
}

/// Trains this rank's copy of the weights, which stays equal to all others; the mean loss of each step.
fn train(rank: &mut Collective, steps: usize) -> Result<Trained, CollectiveError> {
    let (rows, labels) = shard(Seed::new(0).child("rank", rank.rank() as u64));
    let (mut weights, mut losses) = (vec![0.0; FEATURES], Vec::new());
    for _ in 0..steps {
        let (mut gradient, mut loss) = (vec![0.0; FEATURES], [0.0]);
        for (row, label) in rows.chunks(FEATURES).zip(&labels) {
            let error = row.iter().zip(&weights).map(|(x, w)| x * w).sum::<f32>() - label;
            gradient.iter_mut().zip(row).for_each(|(g, x)| *g += error * x);
            loss[0] += error * error / ROWS as f32;
        }
        ring_all_reduce(rank, &mut gradient)?;
        rank.all_reduce(&mut loss, ReduceOp::Mean)?;
        let rate = 0.8 / (ROWS * rank.world()) as f32;
        weights.iter_mut().zip(&gradient).for_each(|(w, g)| *w -= rate * g);
        losses.push(loss[0]);
    }
    Ok((weights, losses))
}

/// The weights and losses of every rank.
pub fn run(world: usize, steps: usize) -> Result<Vec<Trained>, BoxError> {
    let work = |mut rank| thread::spawn(move || train(&mut rank, steps));
    let ranks: Vec<_> = in_process(world).into_iter().map(work).collect();
    ranks.into_iter().map(|rank| Ok(rank.join().map_err(|_| "a rank panicked")??)).collect()
}

fn main() -> Result<(), BoxError> {
    let ranks = run(4, 20)?;
    let (_, losses) = &ranks[0];
    for (step, loss) in losses.iter().enumerate() {
        println!("step {step}: loss {loss}");
    }
    let equal = ranks.iter().all(|rank| rank == &ranks[0]);
    println!("the weights of all ranks are {}", if equal { "equal to the bit" } else { "different" });
    Ok(())
}
