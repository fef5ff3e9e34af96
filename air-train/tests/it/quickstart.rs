//! Training on one worker, then the same function on four.

use std::sync::Arc;

use air_core::BoxError;
use air_core::data::Batch;
use air_core::seed::Seed;
use air_core::tensor::Tensor;
use air_train::nn::{Mlp, MlpConfig, Module, Sgd, accuracy, mse, softmax_cross_entropy};
use air_train::{DataLoader, RunConfig, ScalingConfig, TrainContext, Trainer};
use parking_lot::Mutex;
use rand::RngExt;

/// Standard normal values.
fn randn(seed: Seed, len: usize) -> Vec<f32> {
    let mut rng = seed.rng();
    let mut normal = || {
        let (u, v): (f64, f64) = (rng.random(), rng.random());
        ((-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
    };
    (0..len).map(|_| normal()).collect()
}

struct Task {
    input: Vec<f32>,
    labels: Vec<f32>,
    losses: Mutex<Vec<(usize, f32)>>,
}

fn train(ctx: &mut TrainContext, task: &Arc<Task>) -> Result<(), BoxError> {
    let config = MlpConfig { sizes: vec![10, 15, 5], ..MlpConfig::default() };
    // Ranks begin with different weights on purpose: `prepare_model` makes them rank 0's.
    let mut model = ctx.prepare_model(Mlp::new(&config, ctx.seed().child("model", ctx.rank() as u64))?)?;
    assert_eq!(model.params().len(), 245);
    let (mut sgd, mut d) = (Sgd::new(0.1, 0.0), vec![0.0; 20 * 5]);
    for epoch in 0..3 {
        let loss = mse(model.forward(&task.input, 20)?, &task.labels, &mut d)?;
        model.backward(&d)?;
        model.step(&mut sgd)?;
        println!("epoch: {epoch}, loss: {loss}");
        task.losses.lock().push((ctx.rank(), loss));
        ctx.report(&[("loss", f64::from(loss))])?;
    }
    Ok(())
}

fn task() -> Arc<Task> {
    let data = Seed::new(11);
    let (input, labels) = (randn(data.child("input", 0), 200), randn(data.child("labels", 0), 100));
    Arc::new(Task { input, labels, losses: Mutex::default() })
}

#[test]
fn the_same_function_on_four_workers_gives_the_single_runs_losses() {
    let single = task();
    train(&mut TrainContext::local(5).unwrap(), &single).unwrap();
    let single: Vec<f32> = single.losses.lock().iter().map(|(_, loss)| *loss).collect();
    assert_eq!(single.len(), 3);
    assert!(single[2] < single[0]);

    let four = task();
    let result = Trainer::new(train, Arc::clone(&four))
        .scaling(ScalingConfig::workers(4))
        .run_config(RunConfig { seed: 5, ..RunConfig::default() })
        .fit()
        .unwrap();
    let losses = four.losses.lock();
    for rank in 0..4 {
        let of_rank: Vec<f32> = losses.iter().filter(|(r, _)| *r == rank).map(|(_, loss)| *loss).collect();
        assert_eq!(of_rank.len(), 3, "rank {rank}");
        for (got, want) in of_rank.iter().zip(&single) {
            assert!((got - want).abs() < 1e-6, "rank {rank}: {got} {want}");
        }
    }
    assert_eq!(result.history.len(), 3);
    assert!((result.metrics["loss"] - f64::from(single[2])).abs() < 1e-6);
    assert!(result.failures.is_empty() && result.checkpoint.is_none() && !result.stopped);
}

/// Gradients averaged over the shards of a batch are the gradients of the batch.
#[test]
fn four_shards_train_like_one_batch() {
    let config = MlpConfig { sizes: vec![10, 15, 5], ..MlpConfig::default() };
    let seed = Seed::new(3);
    let table = || {
        let (x, y) = (randn(seed.child("x", 0), 400), randn(seed.child("y", 0), 200));
        let column = |values, width| Tensor::from_vec(values, &[40, width]).unwrap();
        Batch::new(vec![("x".into(), column(x, 10)), ("y".into(), column(y, 5))]).unwrap()
    };
    let run = |workers: usize| {
        let config = config.clone();
        let table = table();
        let train = move |ctx: &mut TrainContext, (): &()| -> Result<(), BoxError> {
            let mut model = ctx.prepare_model(Mlp::new(&config, ctx.seed())?)?;
            let mut loader = ctx.prepare_data_loader(DataLoader::new(table.clone(), 40 / ctx.world_size())?);
            let mut sgd = Sgd::new(0.05, 0.9);
            for epoch in 0..5 {
                for batch in loader.epoch(epoch) {
                    let batch = batch?;
                    let (x, y) = (batch.column("x")?.to_vec::<f32>()?, batch.column("y")?.to_vec::<f32>()?);
                    let mut d = vec![0.0; y.len()];
                    let loss = mse(model.forward(&x, batch.rows())?, &y, &mut d)?;
                    model.backward(&d)?;
                    model.step(&mut sgd)?;
                    let loss = ctx.mean(f64::from(loss))?;
                    ctx.report(&[("loss", loss)])?;
                }
            }
            Ok(())
        };
        Trainer::new(train, ()).scaling(ScalingConfig::workers(workers)).fit().unwrap().history
    };
    let (one, four) = (run(1), run(4));
    assert_eq!(one.len(), 5);
    assert_eq!(four.len(), 5);
    for (one, four) in one.iter().zip(&four) {
        assert!((one.metrics["loss"] - four.metrics["loss"]).abs() < 1e-5, "{one:?} {four:?}");
    }
    assert_eq!(four, run(4), "equal to the bit from run to run");
}

/// The larger form: 669 706 parameters, real digits, four workers, each on its own shard.
#[test]
fn digits_on_four_workers() {
    let Some((images, labels)) = digits() else { return };
    let rows = labels.len();
    let images = Tensor::from_vec(images, &[rows, 784]).unwrap();
    let labels = Tensor::from_vec(labels, &[rows]).unwrap();
    let table = Batch::new(vec![("x".into(), images), ("y".into(), labels)]).unwrap();
    let train = move |ctx: &mut TrainContext, (): &()| -> Result<(), BoxError> {
        let config = MlpConfig { sizes: vec![784, 512, 512, 10], ..MlpConfig::default() };
        let mut model = ctx.prepare_model(Mlp::new(&config, ctx.seed())?)?;
        assert_eq!(model.params().len(), 669_706);
        let loader = DataLoader::new(table.clone(), 64)?.shuffle(ctx.seed()).drop_last();
        let mut loader = ctx.prepare_data_loader(loader);
        let mut sgd = Sgd::new(0.01, 0.0);
        let mut d = vec![0.0; 64 * 10];
        for epoch in 0..3 {
            let (mut loss, mut right, mut batches) = (0.0, 0.0, 0.0);
            for batch in loader.epoch(epoch) {
                let batch = batch?;
                let labels = batch.column("y")?.to_vec::<u32>()?;
                let scores = model.forward(batch.column("x")?.as_slice::<f32>()?, 64)?;
                loss += f64::from(softmax_cross_entropy(scores, &labels, 10, &mut d)?);
                right += f64::from(accuracy(scores, &labels, 10)?);
                batches += 1.0;
                model.backward(&d)?;
                model.step(&mut sgd)?;
            }
            let (loss, right) = (ctx.mean(loss / batches)?, ctx.mean(right / batches)?);
            ctx.report(&[("loss", loss), ("accuracy", right)])?;
        }
        Ok(())
    };
    let result = Trainer::new(train, ()).scaling(ScalingConfig::workers(4)).fit().unwrap();
    let losses: Vec<f64> = result.history.iter().map(|report| report.metrics["loss"]).collect();
    println!("{:?}", result.history);
    assert_eq!(losses.len(), 3);
    assert!(losses[0] < 2.31 && losses[1] < losses[0] && losses[2] < losses[1], "{losses:?}");
    assert!(result.metrics["accuracy"] > 0.3, "{result:?}");
}

/// The digits that `scripts/fetch_data.py` brings: pixels within 0..=1 and labels.
fn digits() -> Option<(Vec<f32>, Vec<u32>)> {
    let folder = std::env::var("AIR_TEST_DATA").map_or_else(
        |_| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../data"),
        std::path::PathBuf::from,
    );
    let path = folder.join("digits.bin");
    let Ok(bytes) = std::fs::read(&path) else {
        println!("not checked: {} is absent; scripts/fetch_data.py brings it", path.display());
        return None;
    };
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(&bytes[..8], b"AIRDIGIT");
    let (count, pixels) = (word(8), word(12) * word(16));
    let (images, labels) = bytes[20..].split_at(count * pixels);
    assert_eq!((pixels, labels.len()), (784, count));
    Some((
        images.iter().map(|p| f32::from(*p) / 255.0).collect(),
        labels.iter().map(|l| u32::from(*l)).collect(),
    ))
}
