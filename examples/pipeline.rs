//! All together: a file becomes a dataset, a tuner looks for the best of many data-parallel trainings, the winner's checkpoint is
//! served, and one HTTP request is answered.
//!
//! `cargo run --release --bin pipeline [IRIS.csv]`

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs};

use air_core::BoxError;
use air_core::checkpoint::{Checkpoint, Mode as Keep, Retention};
use air_core::data::BatchSource;
use air_core::seed::Seed;
use air_data::{Dataset, TensorSpec};
use air_serve::{App, Deployment, each};
use air_train::nn::{Adam, Mlp, MlpConfig, Scratch, accuracy, save_safetensors, softmax_cross_entropy};
use air_train::{RunConfig, ScalingConfig, TrainContext, Trainer};
use air_tune::schedule::{AshaConfig, SchedulerConfig};
use air_tune::space::{Space, choice, log_uniform};
use air_tune::{Mode, Trial, TuneConfig, Tuner};
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

const WORKERS: usize = 4;
const EPOCHS: u64 = 30;
const FEATURES: [&str; 4] = ["sepal.length", "sepal.width", "petal.length", "petal.width"];
const CLASSES: [&str; 3] = ["setosa", "versicolor", "virginica"];

/// One line of the file.
#[derive(Clone, Serialize, Deserialize)]
struct Flower {
    #[serde(rename = "sepal.length")]
    sepal_length: f64,
    #[serde(rename = "sepal.width")]
    sepal_width: f64,
    #[serde(rename = "petal.length")]
    petal_length: f64,
    #[serde(rename = "petal.width")]
    petal_width: f64,
    variety: String,
}

impl Flower {
    fn features(&self) -> [f64; 4] {
        [self.sepal_length, self.sepal_width, self.petal_length, self.petal_width]
    }

    fn class(&self) -> Result<u32, BoxError> {
        let at = CLASSES.iter().position(|class| class.eq_ignore_ascii_case(&self.variety));
        at.map(|class| class as u32).ok_or_else(|| format!("no such variety: {}", self.variety).into())
    }
}

/// What is learned from the training rows and applied to all others, also when serving.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct Scaler {
    mean: [f64; 4],
    deviation: [f64; 4],
}

impl Scaler {
    fn fit(rows: &[Flower]) -> Self {
        let count = rows.len() as f64;
        let mean = |f: &dyn Fn(&Flower) -> f64| rows.iter().map(f).sum::<f64>() / count;
        let means: [f64; 4] = std::array::from_fn(|i| mean(&|row| row.features()[i]));
        let deviation = std::array::from_fn(|i| mean(&|row| (row.features()[i] - means[i]).powi(2)).sqrt());
        Self { mean: means, deviation }
    }

    fn apply(&self, features: [f64; 4]) -> [f32; 4] {
        std::array::from_fn(|i| ((features[i] - self.mean[i]) / self.deviation[i]) as f32)
    }
}

/// A row as the network sees it.
#[derive(Serialize, Deserialize)]
struct Sample {
    #[serde(rename = "sepal.length")]
    sepal_length: f32,
    #[serde(rename = "sepal.width")]
    sepal_width: f32,
    #[serde(rename = "petal.length")]
    petal_length: f32,
    #[serde(rename = "petal.width")]
    petal_width: f32,
    class: u32,
}

/// What every training of the search shares.
struct Task {
    train: Vec<Dataset>,
    validation: Vec<([f32; 4], u32)>,
    scaler: Scaler,
}

/// What the search decides.
struct Choice {
    lr: f32,
    units: usize,
}

/// The training function, run by each of the workers: a pass over its shard, then a report with a checkpoint.
fn train(ctx: &mut TrainContext, (task, choice): &(Arc<Task>, Choice)) -> Result<(), BoxError> {
    let shape = MlpConfig { sizes: vec![4, choice.units, 3], ..MlpConfig::default() };
    let mut model = ctx.prepare_model(Mlp::new(&shape, ctx.seed())?)?;
    let (mut adam, mut gradient, mut scratch) = (Adam::new(choice.lr), Vec::new(), Scratch::default());
    let mut shard = ctx.dataset_shard("train")?;
    for epoch in 0..EPOCHS {
        shard.restart(epoch)?;
        while let Some(batch) = shard.next_batch()? {
            let labels = batch.column("y")?.to_vec::<u32>()?;
            gradient.resize(labels.len() * 3, 0.0);
            let scores = model.forward(batch.column("x")?.as_slice()?, labels.len())?;
            softmax_cross_entropy(scores, &labels, 3, &mut gradient)?;
            model.backward(&gradient)?;
            model.step(&mut adam)?;
        }
        let (rows, labels): (Vec<_>, Vec<_>) = task.validation.iter().copied().unzip();
        let scores = model.infer(rows.as_flattened(), labels.len(), &mut scratch)?;
        gradient.resize(scores.len(), 0.0);
        let loss = softmax_cross_entropy(scores, &labels, 3, &mut gradient)?;
        let metrics = [("loss", f64::from(loss)), ("accuracy", f64::from(accuracy(scores, &labels, 3)?))];
        let files = [
            ("model.safetensors", save_safetensors(&model)?),
            ("scaler.json", serde_json::to_vec(&task.scaler)?),
        ];
        ctx.report_checkpoint(&metrics, &files)?;
    }
    Ok(())
}

/// One trial: a training on four workers, each of whose reports the tuner may answer with an early end.
fn trial(trial: &mut Trial, choice: Choice, task: &Arc<Task>) -> Result<(), BoxError> {
    let folder = trial.dir().ok_or("the experiment has a folder")?.join("train");
    let run = RunConfig {
        storage: Some(folder.display().to_string()),
        checkpoint: Retention::best(1, "loss", Keep::Min),
        seed: trial.seed().value(),
        ..RunConfig::default()
    };
    let shards = Arc::clone(task);
    let trainer = Trainer::new(train, (Arc::clone(task), choice))
        .scaling(ScalingConfig::workers(WORKERS))
        .run_config(run)
        .dataset("train", move |rank, _| {
            let spec = TensorSpec::new(8).features(FEATURES).label("class").drop_last();
            Ok(Box::new(shards.train[rank].batch_source(spec)?) as Box<dyn BatchSource>)
        });
    trainer.fit_reporting(trial)?;
    Ok(())
}

#[derive(Deserialize)]
struct Request {
    vector: [f64; 4],
}

#[derive(Serialize)]
struct Response {
    result: &'static str,
}

/// A trained checkpoint, ready to be served.
fn load(
    checkpoint: &Checkpoint,
) -> Result<impl FnMut(Request) -> Result<Response, BoxError> + use<>, BoxError> {
    let net = Mlp::from_safetensors(&checkpoint.read("model.safetensors")?)?;
    let scaler: Scaler = serde_json::from_slice(&checkpoint.read("scaler.json")?)?;
    let mut scratch = Scratch::default();
    Ok(move |request: Request| {
        let scores = net.infer(&scaler.apply(request.vector), 1, &mut scratch)?;
        let best = (0..3).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap_or(0);
        Ok(Response { result: CLASSES[best] })
    })
}

fn main() -> Result<(), BoxError> {
    air_core::log::init();
    let mut began = Instant::now();
    let mut stage = |name: &str, what: String| {
        println!("{name:6} {:7.1} ms  {what}", began.elapsed().as_secs_f64() * 1e3);
        began = Instant::now();
    };

    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/iris.csv");
    let file = env::args().nth(1).unwrap_or_else(|| bundled.display().to_string());
    let mut flowers: Vec<Flower> = air_data::read_csv(&file)?.take_all()?;
    flowers.shuffle(&mut Seed::new(7).rng());
    let validation = flowers.split_off(flowers.len() * 4 / 5);
    let scaler = Scaler::fit(&flowers);
    let rows = flowers.len();
    let prepared = air_data::from_items(flowers)?
        .map(move |flower: Flower| {
            let [sepal_length, sepal_width, petal_length, petal_width] = scaler.apply(flower.features());
            Ok(Sample { sepal_length, sepal_width, petal_length, petal_width, class: flower.class()? })
        })
        .repartition(WORKERS)
        .materialize();
    let train = prepared.split(WORKERS);
    let held_out = validation.iter().map(|flower| Ok((scaler.apply(flower.features()), flower.class()?)));
    let task = Arc::new(Task { train, validation: held_out.collect::<Result<_, BoxError>>()?, scaler });
    stage(
        "data",
        format!("{rows} rows to train on in {WORKERS} shards, {} held out, from {file}", validation.len()),
    );

    let folder = env::temp_dir().join(format!("air-pipeline-{}", std::process::id()));
    let space = Space::new().with("lr", log_uniform(1e-3, 1e-1)).with("units", choice([8, 16, 32]));
    let results = Tuner::new(space, move |t: &mut Trial, config: air_tune::Config| {
        trial(t, Choice { lr: config.f64("lr")? as f32, units: config.usize("units")? }, &task)
    })
    .tune_config(TuneConfig {
        metric: "loss".into(),
        mode: Mode::Min,
        num_samples: 12,
        scheduler: SchedulerConfig::Asha(AshaConfig {
            max_t: EPOCHS,
            grace_period: 3,
            ..AshaConfig::default()
        }),
        seed: 1,
        ..TuneConfig::default()
    })
    .run_config(air_tune::RunConfig { dir: Some(folder.clone()), ..air_tune::RunConfig::default() })
    .quiet()
    .fit()?;
    let best = results.best()?;
    let counts: Vec<_> = results.counts().iter().map(|(status, n)| format!("{n} {status}")).collect();
    stage("tune", format!("{} trials of {WORKERS} workers each: {}", results.len(), counts.join(", ")));

    let home = best.dir.as_ref().ok_or("the experiment has a folder")?.join("train");
    let checkpoint = Checkpoint::find(&home.display().to_string())?;
    stage(
        "best",
        format!(
            "trial {} with lr {:.4} and {} units: {:?}",
            best.trial,
            best.config.f64("lr")?,
            best.config.usize("units")?,
            checkpoint.metrics()
        ),
    );

    let model = move || Ok(each(load(&checkpoint)?));
    let app = App::new().with_http(|http| http.port = 0).route("/iris", Deployment::new("iris", model));
    let server = air_serve::run(app)?;
    let url = format!("http://{}/iris", server.addr());
    stage("serve", format!("listening on {url}"));

    let flower = r#"{"vector": [6.0, 2.9, 4.5, 1.5]}"#;
    let answer =
        ureq::post(&url).content_type("application/json").send(flower)?.body_mut().read_to_string()?;
    stage("ask", format!("POST {flower}"));
    println!("{answer}");

    server.shutdown();
    fs::remove_dir_all(folder)?;
    Ok(())
}
