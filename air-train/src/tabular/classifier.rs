//! Training a classifier of rows, and using it.

use std::ops::ControlFlow;
use std::path::Path;

use air_core::BoxError;
use air_core::checkpoint::Checkpoint;
use air_core::data::Batch;
use air_core::seed::Seed;
use air_core::tensor::Tensor;
use rand::RngExt;
use serde::{Deserialize, Serialize};

use super::{Table, TabularConfig};
use crate::nn::{
    Adam, Mlp, MlpConfig, Optimizer, Scratch, accuracy, load_safetensors, save_safetensors, softmax,
    softmax_cross_entropy,
};
use crate::record::Report;
use crate::{DataLoader, Result, TrainContext, TrainError, TrainResult, Trainer};

const WEIGHTS: &str = "model.safetensors";
const ABOUT: &str = "classifier.json";
const OPTIMIZER: &str = "optimizer.json";

/// What is kept beside the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    features: Vec<String>,
    label: String,
    classes: Vec<String>,
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

/// A trained network with the names and the standardisation of its table.
#[derive(Clone, Debug)]
pub struct Classifier {
    net: Mlp,
    about: About,
}

impl Classifier {
    /// The classifier in a checkpoint of [`fit`].
    pub fn load(checkpoint: &Checkpoint) -> Result<Self> {
        let about: About = serde_json::from_slice(&checkpoint.read(ABOUT)?)
            .map_err(|e| TrainError::weights(format!("{ABOUT}: {e}")))?;
        let net = Mlp::from_safetensors(&checkpoint.read(WEIGHTS)?)?;
        let fits = net.inputs() == about.features.len()
            && about.mean.len() == net.inputs()
            && about.deviation.len() == net.inputs()
            && net.outputs() == about.classes.len();
        if !fits {
            return Err(TrainError::weights(format!("{ABOUT} does not belong to {WEIGHTS}")));
        }
        Ok(Self { net, about })
    }

    /// The columns a row needs, in this order.
    pub fn features(&self) -> &[String] {
        &self.about.features
    }

    /// The labels it tells apart.
    pub fn classes(&self) -> &[String] {
        &self.about.classes
    }

    /// The probability of each class for one row, as it stands in the file.
    pub fn predict(&self, row: &[f32]) -> Result<Vec<f32>> {
        crate::nn::expect("values of a row", self.about.features.len(), row.len())?;
        let mut row = row.to_vec();
        standardise(&mut row, &self.about.mean, &self.about.deviation);
        let mut scratch = Scratch::default();
        let mut scores = self.net.infer(&row, 1, &mut scratch)?.to_vec();
        softmax(&mut scores, self.about.classes.len())?;
        Ok(scores)
    }

    /// The most probable class of a row.
    pub fn label(&self, row: &[f32]) -> Result<&str> {
        let scores = self.predict(row)?;
        let best = (1..scores.len()).fold(0, |best, i| if scores[i] > scores[best] { i } else { best });
        Ok(self.about.classes.get(best).map_or("", String::as_str))
    }
}

/// What [`fit`] came to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Fitted {
    /// The run: its last metrics are `loss`, `accuracy` and, with validation rows, `val_loss` and `val_accuracy`.
    pub result: TrainResult,
    /// Rows trained on.
    pub train_rows: usize,
    /// Rows kept apart.
    pub validation_rows: usize,
    /// The labels.
    pub classes: Vec<String>,
}

/// One part of the table, standardised.
#[derive(Clone)]
struct Part {
    values: Vec<f32>,
    labels: Vec<u32>,
}

struct Task {
    config: TabularConfig,
    about: About,
    train: Batch,
    validation: Part,
}

/// Trains a classifier; `folder` is where relative paths of the configuration start, and `tell` hears of each epoch.
pub fn fit(
    config: &TabularConfig,
    folder: &Path,
    tell: impl Fn(&Report) -> ControlFlow<()> + Send + Sync + 'static,
) -> Result<Fitted> {
    config.validate()?;
    let table = Table::read_csv(&folder.join(&config.data.path), config.data.label.as_deref())?;
    let (mut train, mut validation) = split(&table, config.data.validation, Seed::new(config.run.seed));
    let (mean, deviation) = moments(&train.values, table.features.len());
    standardise(&mut train.values, &mean, &deviation);
    standardise(&mut validation.values, &mean, &deviation);
    let (train_rows, validation_rows) = (train.labels.len(), validation.labels.len());
    if train_rows == 0 {
        return Err(TrainError::config("data.validation", "leaves no rows to train on"));
    }
    let columns = table.features.len();
    let x = Tensor::from_vec(train.values, &[train_rows, columns]).map_err(air_core::CoreError::from)?;
    let y = Tensor::from_vec(train.labels, &[train_rows]).map_err(air_core::CoreError::from)?;
    let batch =
        Batch::new(vec![("x".to_owned(), x), ("y".to_owned(), y)]).map_err(air_core::CoreError::from)?;
    let classes = table.classes.clone();
    let about =
        About { features: table.features, label: table.label, classes: table.classes, mean, deviation };
    let task = Task { config: config.clone(), about, train: batch, validation };
    let result = Trainer::new(epochs, task)
        .scaling(config.scaling.clone())
        .run_config(config.run.clone())
        .on_report(tell)
        .fit()?;
    Ok(Fitted { result, train_rows, validation_rows, classes })
}

/// The training function: one epoch, one report, one checkpoint.
fn epochs(ctx: &mut TrainContext, task: &Task) -> Result<(), BoxError> {
    let Task { config, about, validation, .. } = task;
    let classes = about.classes.len();
    let mut sizes = vec![about.features.len()];
    sizes.extend(&config.model.hidden);
    sizes.push(classes);
    let shape = MlpConfig { sizes, hidden: config.model.activation, ..MlpConfig::default() };
    let mut net = Mlp::new(&shape, ctx.seed().child("model", 0))?;
    let mut adam = Adam::decoupled(config.optimizer.lr, config.optimizer.weight_decay);
    if let Some(checkpoint) = ctx.checkpoint() {
        load_safetensors(&mut net, &checkpoint.read(WEIGHTS)?)?;
        adam = serde_json::from_slice(&checkpoint.read(OPTIMIZER)?)?;
    }
    let mut model = ctx.prepare_model(net)?;
    let loader = DataLoader::new(task.train.clone(), config.optimizer.batch_rows)?.shuffle(ctx.seed());
    let mut loader = ctx.prepare_data_loader(loader);
    let mut step = ctx.iteration() * loader.batches() as u64;
    let (mut d, mut scratch) = (Vec::new(), Scratch::default());
    for epoch in ctx.iteration()..config.optimizer.epochs {
        let (mut loss, mut right, mut rows) = (0.0, 0.0, 0.0);
        for batch in loader.epoch(epoch) {
            let batch = batch?;
            let labels = batch.column("y")?.to_vec::<u32>()?;
            d.resize(labels.len() * classes, 0.0);
            let scores = model.forward(batch.column("x")?.as_slice::<f32>()?, labels.len())?;
            let count = labels.len() as f64;
            loss += count * f64::from(softmax_cross_entropy(scores, &labels, classes, &mut d)?);
            right += count * f64::from(accuracy(scores, &labels, classes)?);
            rows += count;
            model.backward(&d)?;
            adam.set_lr(config.optimizer.lr * config.optimizer.schedule.factor(step));
            model.step(&mut adam)?;
            step += 1;
        }
        let (loss, right) = (ctx.mean(loss / rows)?, ctx.mean(right / rows)?);
        let mut metrics = vec![("loss", loss), ("accuracy", right)];
        if !validation.labels.is_empty() {
            let scores = model.infer(&validation.values, validation.labels.len(), &mut scratch)?;
            d.resize(scores.len(), 0.0);
            let loss = softmax_cross_entropy(scores, &validation.labels, classes, &mut d)?;
            let right = accuracy(scores, &validation.labels, classes)?;
            metrics.extend([("val_loss", f64::from(loss)), ("val_accuracy", f64::from(right))]);
        }
        if ctx.rank() == 0 {
            let files = [
                (WEIGHTS, save_safetensors(&model)?),
                (ABOUT, serde_json::to_vec_pretty(about)?),
                (OPTIMIZER, serde_json::to_vec(&adam)?),
            ];
            ctx.report_checkpoint(&metrics, &files)?;
        } else {
            ctx.report(&metrics)?;
        }
    }
    Ok(())
}

/// Rows in a drawn order: those to train on, then those to validate with.
fn split(table: &Table, validation: f64, seed: Seed) -> (Part, Part) {
    let (rows, width) = (table.rows(), table.features.len());
    let mut order: Vec<usize> = (0..rows).collect();
    let mut rng = seed.child("split", 0).rng();
    for i in (1..rows).rev() {
        order.swap(i, rng.random_range(0..=i));
    }
    let kept = rows - (rows as f64 * validation).round() as usize;
    let part = |rows: &[usize]| Part {
        values: rows.iter().flat_map(|row| &table.values[row * width..(row + 1) * width]).copied().collect(),
        labels: rows.iter().map(|row| table.labels[*row]).collect(),
    };
    (part(&order[..kept]), part(&order[kept..]))
}

/// Each column's mean and standard deviation; a column that does not vary gets 1.
fn moments(values: &[f32], width: usize) -> (Vec<f32>, Vec<f32>) {
    let rows = (values.len() / width).max(1) as f64;
    let (mut mean, mut deviation) = (vec![0.0; width], vec![1.0; width]);
    for column in 0..width {
        let of_column = || values.iter().skip(column).step_by(width).map(|value| f64::from(*value));
        let center = of_column().sum::<f64>() / rows;
        let spread = (of_column().map(|value| (value - center).powi(2)).sum::<f64>() / rows).sqrt();
        mean[column] = center as f32;
        if spread > f64::from(f32::EPSILON) * center.abs() {
            deviation[column] = spread as f32;
        }
    }
    (mean, deviation)
}

fn standardise(values: &mut [f32], mean: &[f32], deviation: &[f32]) {
    for row in values.chunks_exact_mut(mean.len()) {
        for ((value, mean), deviation) in row.iter_mut().zip(mean).zip(deviation) {
            *value = (*value - mean) / deviation;
        }
    }
}
