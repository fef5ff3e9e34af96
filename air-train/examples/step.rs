//! Times one training step (forward, loss, backward, Adam) of the two networks of `bench/train`; prints one JSON object.
//!
//! `cargo run --release -p air-train --example step -- [THREADS]`

use std::time::Instant;

use air_core::BoxError;
use air_core::seed::Seed;
use air_train::nn::{Activation, Adam, Mlp, MlpConfig, Module, Optimizer, Scratch, softmax_cross_entropy};
use rand::RngExt;

fn main() -> Result<(), BoxError> {
    let threads: usize = std::env::args().nth(1).map_or(Ok(1), |t| t.parse())?;
    let small = measure(&[4, 64, 64, 2], Activation::Tanh, 64, threads, 400)?;
    let large = measure(&[784, 512, 512, 10], Activation::Relu, 256, threads, 4)?;
    let report = serde_json::json!({
        "threads": threads,
        "mlp_4_64_64_2_batch_64": small,
        "mlp_784_512_512_10_batch_256": large,
    });
    println!("{report}");
    Ok(())
}

/// Medians over 21 groups of `steps` steps, in microseconds a step.
fn measure(
    sizes: &[usize],
    hidden: Activation,
    batch: usize,
    threads: usize,
    steps: usize,
) -> Result<serde_json::Value, BoxError> {
    let config = MlpConfig { sizes: sizes.to_vec(), hidden, threads, ..MlpConfig::default() };
    let mut net = Mlp::new(&config, Seed::new(1))?;
    let mut rng = Seed::new(2).rng();
    let x: Vec<f32> = (0..batch * net.inputs()).map(|_| rng.random::<f32>() - 0.5).collect();
    let classes = net.outputs();
    let labels: Vec<u32> = (0..batch).map(|_| rng.random_range(0..classes as u32)).collect();
    let mut d = vec![0.0; batch * classes];
    let mut adam = Adam::new(1e-3).threads(threads)?;
    let mut last_loss = 0.0;
    let mut step = || -> Result<(), BoxError> {
        last_loss = softmax_cross_entropy(net.forward(&x, batch)?, &labels, classes, &mut d)?;
        net.backward_from_zero(&d)?;
        let (params, grads) = net.params_and_grads();
        adam.step(params, grads)?;
        Ok(())
    };
    let train_us = median_us(steps, &mut step)?;
    let mut scratch = Scratch::default();
    let infer_us = median_us(steps, &mut || {
        net.infer(&x, batch, &mut scratch)?;
        Ok(())
    })?;
    let one_row_us = median_us(steps * 4, &mut || {
        net.infer(&x[..net.inputs()], 1, &mut scratch)?;
        Ok(())
    })?;
    Ok(serde_json::json!({
        "train_us": train_us, "infer_us": infer_us, "infer_one_row_us": one_row_us, "last_loss": last_loss,
    }))
}

fn median_us(steps: usize, step: &mut dyn FnMut() -> Result<(), BoxError>) -> Result<f64, BoxError> {
    for _ in 0..steps {
        step()?;
    }
    let mut groups = Vec::new();
    for _ in 0..21 {
        let start = Instant::now();
        for _ in 0..steps {
            step()?;
        }
        groups.push(start.elapsed().as_secs_f64() * 1e6 / steps as f64);
    }
    groups.sort_by(f64::total_cmp);
    Ok(groups[groups.len() / 2])
}
