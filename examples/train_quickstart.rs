//! Training: one function, run directly and then on four workers.
//!
//! `cargo run --release -p air-train --example train_quickstart`

use air_core::BoxError;
use air_core::seed::Seed;
use air_train::nn::{Mlp, MlpConfig, Sgd, mse};
use air_train::{ScalingConfig, TrainContext, Trainer};
use rand::RngExt;

/// 20 rows of 10 inputs and 5 labels, captured by every worker alike.
struct Data {
    input: Vec<f32>,
    labels: Vec<f32>,
}

fn train(ctx: &mut TrainContext, data: &Data) -> Result<(), BoxError> {
    let config = MlpConfig { sizes: vec![10, 15, 5], ..MlpConfig::default() };
    let mut model = ctx.prepare_model(Mlp::new(&config, ctx.seed())?)?;
    let (mut sgd, mut gradient) = (Sgd::new(0.1, 0.0), vec![0.0; data.labels.len()]);
    for epoch in 0..3 {
        let loss = mse(model.forward(&data.input, 20)?, &data.labels, &mut gradient)?;
        model.backward(&gradient)?;
        model.step(&mut sgd)?;
        println!("epoch: {epoch}, loss: {loss}");
        ctx.report(&[("loss", f64::from(loss))])?;
    }
    Ok(())
}

/// Standard normal values.
fn randn(seed: Seed, len: usize) -> Vec<f32> {
    let mut rng = seed.rng();
    let mut normal = || {
        let (u, v): (f64, f64) = (rng.random(), rng.random());
        ((-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    };
    (0..len).map(|_| normal()).collect()
}

fn main() -> Result<(), BoxError> {
    let seed = Seed::new(0);
    let data =
        || Data { input: randn(seed.child("input", 0), 200), labels: randn(seed.child("labels", 0), 100) };

    println!("one worker:");
    train(&mut TrainContext::local(0)?, &data())?;

    println!("four workers:");
    let result = Trainer::new(train, data()).scaling(ScalingConfig::workers(4)).fit()?;
    println!("result: {:?}", result.metrics);
    Ok(())
}
