//! Failures, restarts, checkpoints, and runs that end early.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use air_core::BoxError;
use air_core::data::{Batch, BatchSource, InMemory};
use air_core::tensor::Tensor;
use air_train::nn::{Adam, Mlp, MlpConfig, load_safetensors, mse, save_safetensors};
use air_train::{
    Cause, Decision, FailureConfig, RunConfig, ScalingConfig, TrainContext, TrainError, TrainResult, Trainer,
};

const X: [f32; 8] = [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0];
const Y: [f32; 4] = [0.0, 1.0, 1.0, 0.0];

/// Ten epochs with a checkpoint of weights and optimiser after each; `fault` may fail at the start of one.
fn train(
    ctx: &mut TrainContext,
    fault: &(dyn Fn(usize, u64) -> Result<(), BoxError> + Send + Sync),
) -> Result<(), BoxError> {
    let config = MlpConfig { sizes: vec![2, 8, 1], ..MlpConfig::default() };
    let mut net = Mlp::new(&config, ctx.seed())?;
    let mut adam = Adam::new(0.05);
    if let Some(checkpoint) = ctx.checkpoint() {
        load_safetensors(&mut net, &checkpoint.read("net.safetensors")?)?;
        adam = serde_json::from_slice(&checkpoint.read("adam.json")?)?;
    }
    let mut model = ctx.prepare_model(net)?;
    let mut d = [0.0; 4];
    for epoch in ctx.iteration()..10 {
        fault(ctx.rank(), epoch)?;
        let loss = mse(model.forward(&X, 4)?, &Y, &mut d)?;
        model.backward(&d)?;
        model.step(&mut adam)?;
        let files =
            [("net.safetensors", save_safetensors(&model)?), ("adam.json", serde_json::to_vec(&adam)?)];
        ctx.report_checkpoint(&[("loss", f64::from(loss))], &files)?;
    }
    Ok(())
}

fn fit(
    max_failures: u32,
    fault: impl Fn(usize, u64) -> Result<(), BoxError> + Send + Sync + 'static,
) -> Result<TrainResult, TrainError> {
    let folder = tempfile::tempdir().unwrap();
    let run = RunConfig {
        name: "xor".into(),
        storage: Some(folder.path().to_str().unwrap().into()),
        failure: FailureConfig { max_failures },
        ..RunConfig::default()
    };
    let result = Trainer::new(move |ctx, (): &()| train(ctx, &fault), ())
        .scaling(ScalingConfig::workers(4))
        .run_config(run)
        .fit();
    // Kept until the checkpoint has been read.
    if let Ok(result) = &result {
        result.checkpoint.as_ref().unwrap().verify().unwrap();
    }
    std::mem::forget(folder);
    result
}

fn weights(result: &TrainResult) -> Vec<u8> {
    result.checkpoint.as_ref().unwrap().read("net.safetensors").unwrap().to_vec()
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one_bit_for_bit() {
    let whole = fit(0, |_, _| Ok(())).unwrap();
    let faults = AtomicUsize::new(0);
    let broken = fit(2, move |rank, epoch| {
        let fault = faults.load(Ordering::SeqCst);
        if (rank, epoch, fault) == (2, 4, 0) || (rank, epoch, fault) == (0, 7, 1) {
            faults.fetch_add(1, Ordering::SeqCst);
            panic!("bad luck in epoch {epoch}");
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(broken.failures.len(), 2);
    assert_eq!(weights(&broken), weights(&whole));
    assert_eq!(broken.history, whole.history);
    assert_eq!(whole.history.iter().map(|r| r.iteration).collect::<Vec<_>>(), (1..=10).collect::<Vec<_>>());
    let first = &broken.failures[0];
    assert_eq!(first.rank, 2);
    assert!(matches!(&first.cause, Cause::Panicked(text) if text == "bad luck in epoch 4"));
    // Rank 0 may or may not have finished epoch 4 when rank 2 panicked, but it cannot have gone further.
    assert!(matches!(first.decision, Decision::Restart { from: Some(4) }), "{first}");
}

#[test]
fn a_rank_that_keeps_panicking_fails_the_run_with_its_history() {
    let error = fit(2, |rank, _| if rank == 2 { panic!("no such gpu") } else { Ok(()) }).unwrap_err();
    let TrainError::Failed { failures, .. } = &error else { panic!("{error}") };
    assert_eq!(failures.len(), 3);
    assert!(failures.iter().all(|failure| failure.rank == 2));
    assert_eq!(failures[2].decision, Decision::GiveUp);
    assert_eq!(
        error.to_string(),
        "run `xor` failed: rank 2 panicked: no such gpu; all ranks were restarted from the beginning; \
         then rank 2 panicked: no such gpu; all ranks were restarted from the beginning; \
         then rank 2 panicked: no such gpu; the run was given up"
    );
}

#[test]
fn an_error_of_one_rank_is_kept_as_it_was() {
    let error = fit(
        0,
        |rank, epoch| {
            if (rank, epoch) == (1, 3) { Err("the loss is not finite".into()) } else { Ok(()) }
        },
    )
    .unwrap_err();
    let text = "run `xor` failed: rank 1 failed: the loss is not finite; the run was given up";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_second_run_goes_on_where_the_first_ended() {
    let folder = tempfile::tempdir().unwrap();
    let run = |resume| RunConfig {
        storage: Some(folder.path().to_str().unwrap().into()),
        resume,
        ..RunConfig::default()
    };
    let stop_at = |at| {
        move |ctx: &mut TrainContext, (): &()| {
            train(ctx, &move |_, epoch| if epoch == at { Err("out of time".into()) } else { Ok(()) })
        }
    };
    Trainer::new(stop_at(6), ()).run_config(run(false)).fit().unwrap_err();
    let rest = Trainer::new(stop_at(99), ()).run_config(run(true)).fit().unwrap();
    assert_eq!(rest.history.iter().map(|r| r.iteration).collect::<Vec<_>>(), [7, 8, 9, 10]);
    let whole = fit(0, |_, _| Ok(())).unwrap();
    assert_eq!(weights(&rest), weights(&whole), "one rank trains what four alike do");
}

#[test]
fn a_listener_can_end_a_run_early() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&seen);
    let result = Trainer::new(|ctx: &mut TrainContext, (): &()| train(ctx, &|_, _| Ok(())), ())
        .scaling(ScalingConfig::workers(3))
        .on_report(move |report| {
            count.fetch_add(1, Ordering::SeqCst);
            if report.iteration == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .fit()
        .unwrap();
    assert!(result.stopped);
    assert_eq!((result.history.len(), seen.load(Ordering::SeqCst)), (4, 4));
    assert_eq!(result.checkpoint.unwrap().step(), 4);
    std::fs::remove_dir_all(result.storage).unwrap();
}

/// The reporter borrows the test's own variables: it is called on this thread, while the ranks wait for its answer.
#[test]
fn a_reporter_judges_every_report_and_ends_the_run() {
    let mut seen = Vec::new();
    let mut judge = |iteration: u64, metrics: &BTreeMap<String, f64>| {
        seen.push((iteration, metrics["loss"]));
        Ok(if iteration == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    };
    let result = Trainer::new(|ctx: &mut TrainContext, (): &()| train(ctx, &|_, _| Ok(())), ())
        .scaling(ScalingConfig::workers(2))
        .fit_reporting(&mut judge)
        .unwrap();
    assert!(result.stopped);
    let history: Vec<_> = result.history.iter().map(|r| (r.iteration, r.metrics["loss"])).collect();
    assert_eq!((seen.len(), seen), (3, history));
    std::fs::remove_dir_all(result.storage).unwrap();
}

#[test]
fn a_report_that_is_not_taken_ends_the_run_with_the_reason() {
    let mut refuse = |iteration: u64, _: &BTreeMap<String, f64>| {
        if iteration == 2 { Err("the disk is full".into()) } else { Ok(ControlFlow::Continue(())) }
    };
    let error = Trainer::new(|ctx: &mut TrainContext, (): &()| train(ctx, &|_, _| Ok(())), ())
        .scaling(ScalingConfig::workers(2))
        .fit_reporting(&mut refuse)
        .unwrap_err();
    assert_eq!(error.to_string(), "the report of iteration 2 was not taken");
    assert!(
        matches!(&error, TrainError::Report { iteration: 2, source } if source.to_string() == "the disk is full")
    );
}

#[test]
fn each_rank_reads_its_own_shard() {
    let shard = |rank: usize, world: usize| -> Result<Box<dyn BatchSource>, BoxError> {
        let x = Tensor::from_vec(vec![rank as f32, world as f32], &[2])?;
        Ok(Box::new(InMemory::new(vec![Batch::new(vec![("x".into(), x)])?])))
    };
    let train = |ctx: &mut TrainContext, (): &()| -> Result<(), BoxError> {
        let mut shard = ctx.dataset_shard("train")?;
        shard.restart(0)?;
        let batch = shard.next_batch()?.ok_or("no batch")?;
        assert_eq!(batch.column("x")?.to_vec::<f32>()?, [ctx.rank() as f32, 3.0]);
        let mean = ctx.mean(ctx.rank() as f64)?;
        let unknown = ctx.dataset_shard("test").err().ok_or("found")?.to_string();
        assert_eq!(unknown, "dataset `test`: is not known; there are: train");
        ctx.report(&[("mean rank", mean)])?;
        Ok(())
    };
    let result =
        Trainer::new(train, ()).scaling(ScalingConfig::workers(3)).dataset("train", shard).fit().unwrap();
    assert_eq!(result.metrics["mean rank"], 1.0);
}

#[test]
fn a_width_of_zero_is_refused() {
    let error = Trainer::new(|_, (): &()| Ok(()), ()).scaling(ScalingConfig::workers(0)).fit().unwrap_err();
    assert_eq!(error.to_string(), "num_workers: must be between 1 and 1024, not 0");
}
