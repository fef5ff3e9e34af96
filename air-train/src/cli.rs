//! The `air-train` command line.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use air_core::checkpoint::Checkpoint;
use air_core::cli::CliError;
use air_core::{config, outln};
use clap::{Args, Parser, Subcommand};
use serde_json::json;

use crate::record::Report;
use crate::tabular::{Classifier, TabularConfig, fit};
use crate::{FailureConfig, RunConfig, ScalingConfig};

const AFTER_HELP: &str = "\
Examples:
  air-train run examples/train.toml
  air-train run examples/train.toml --set scaling.num_workers=4 --set optimizer.lr=0.003 --out runs/iris --json
  air-train predict runs/iris --input '5.1,3.5,1.4,0.2'
  air-train launch --workers 4 --max-failures 3 --out runs/mnist -- python train.py

Exit code: 0 if all went well, 1 if the training failed, 2 if the command line is wrong.";

/// Training: a classifier from a table, or any program as the ranks of a supervised group.
#[derive(Parser)]
#[command(name = "air-train", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Train a classifier of the rows of a CSV file, as a TOML file says
    Run(RunArgs),
    /// Say which class a row belongs to
    Predict(PredictArgs),
    /// Run a command on every rank, supervised and restarted as one
    #[cfg(unix)]
    Launch(LaunchArgs),
}

#[derive(Args)]
struct RunArgs {
    /// The configuration: tables data, model, optimizer, scaling and run
    config: PathBuf,
    /// Change one setting
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// All random choices follow from it [default: run.seed]
    #[arg(long)]
    seed: Option<u64>,
    /// Folder or URL of the checkpoints [default: run.storage, or a temporary folder]
    #[arg(long, value_name = "DIR")]
    out: Option<String>,
    /// Go on from the last checkpoint in the folder
    #[arg(long)]
    resume: bool,
    /// Print one JSON object for each epoch; the last one names the checkpoint
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct PredictArgs {
    /// A checkpoint, or the folder of a run
    checkpoint: String,
    /// The row's numbers, with commas between, in the order of the table's columns without the label
    #[arg(long, value_name = "NUMBERS")]
    input: String,
    /// Print one JSON object with the label and all probabilities
    #[arg(long)]
    json: bool,
}

#[cfg(unix)]
#[derive(Args)]
struct LaunchArgs {
    /// How many ranks
    #[arg(long, short = 'n', default_value_t = 1)]
    workers: usize,
    /// How often the group is restarted after a failure
    #[arg(long, default_value_t = 0)]
    max_failures: u32,
    /// Folder or URL of the checkpoints [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    out: Option<String>,
    /// Go on from the last checkpoint in the folder
    #[arg(long)]
    resume: bool,
    /// The ranks find a number that follows from it in AIR_SEED
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print one JSON object for each report; the last one names the checkpoint
    #[arg(long)]
    json: bool,
    /// The command; lines of JSON with numbers on rank 0's stdout are its reports
    #[arg(last = true, value_name = "CMD", required = true)]
    command: Vec<String>,
}

/// Runs one command line, the program's name first.
///
/// # Errors
/// [`CliError::Usage`] if the command line is wrong, [`CliError::Failed`] if the work failed.
pub fn run(args: Vec<OsString>) -> Result<(), CliError> {
    let cli: Cli = air_core::cli::parse(args)?;
    match cli.verb {
        Verb::Run(args) => train(args),
        Verb::Predict(args) => predict(&args),
        #[cfg(unix)]
        Verb::Launch(args) => launch(args),
    }
}

fn train(args: RunArgs) -> Result<(), CliError> {
    let mut settings: TabularConfig = config::load(Some(&args.config), "AIR_TRAIN", &args.sets)?;
    settings.run.seed = args.seed.unwrap_or(settings.run.seed);
    settings.run.storage = args.out.or(settings.run.storage);
    settings.run.resume |= args.resume;
    let folder = args.config.parent().unwrap_or(Path::new(""));
    let start = Instant::now();
    let (json, live) = (args.json, std::io::stderr().is_terminal());
    let fitted = fit(&settings, folder, move |report| {
        if !json && live {
            eprintln!("epoch {:>4}  {}", report.iteration, listed(report));
        }
        ControlFlow::Continue(())
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let result = &fitted.result;
    let checkpoint = result.checkpoint.as_ref().map(Checkpoint::location);
    if args.json {
        for report in &result.history {
            outln!("{}", json_line(report))?;
        }
        let mut last = json!({
            "seconds": seconds,
            "epochs": result.history.last().map(|report| report.iteration),
            "workers": settings.scaling.num_workers,
            "train_rows": fitted.train_rows,
            "validation_rows": fitted.validation_rows,
            "checkpoint": checkpoint,
        });
        merge(&mut last, result.history.last());
        return outln!("{last}");
    }
    outln!(
        "{} rows to train on, {} to validate with, {} classes: {}",
        fitted.train_rows,
        fitted.validation_rows,
        fitted.classes.len(),
        shown(&fitted.classes)
    )?;
    if let Some(report) = result.history.last() {
        outln!("after {} epochs in {seconds:.2} s: {}", report.iteration, listed(report))?;
    }
    for failure in &result.failures {
        outln!("survived: {failure}")?;
    }
    outln!("checkpoint: {}", checkpoint.unwrap_or_default())
}

fn predict(args: &PredictArgs) -> Result<(), CliError> {
    let row: Result<Vec<f32>, _> = args
        .input
        .split(',')
        .map(|cell| (cell, cell.trim().parse::<f32>()))
        .try_fold(Vec::new(), |mut row, (cell, value)| match value {
            Ok(value) if value.is_finite() => {
                row.push(value);
                Ok(row)
            }
            _ => Err(CliError::usage(format!("--input: `{}` is not a number", cell.trim()))),
        });
    let row = row?;
    let classifier = Classifier::load(&Checkpoint::find(&args.checkpoint)?)?;
    let (features, needed) = (classifier.features().join(","), classifier.features().len());
    if row.len() != needed {
        let problem = format!("--input: {} numbers, a row has {needed}: {features}", row.len());
        return Err(CliError::usage(problem));
    }
    let label = classifier.label(&row)?;
    if !args.json {
        return outln!("{label}");
    }
    let probabilities: serde_json::Map<String, serde_json::Value> = classifier
        .classes()
        .iter()
        .zip(classifier.predict(&row)?)
        .map(|(class, p)| (class.clone(), json!(p)))
        .collect();
    outln!("{}", json!({"label": label, "probabilities": probabilities}))
}

#[cfg(unix)]
fn launch(args: LaunchArgs) -> Result<(), CliError> {
    let run = RunConfig {
        name: args.command.join(" "),
        storage: args.out,
        resume: args.resume,
        failure: FailureConfig { max_failures: args.max_failures },
        seed: args.seed,
        ..RunConfig::default()
    };
    let json = args.json;
    let result = crate::ProcessTrainer::new(args.command)
        .scaling(ScalingConfig::workers(args.workers))
        .run_config(run)
        .on_report(move |report| {
            // Whoever reads the reports may have gone; the training has not.
            let _ = if json { outln!("{}", json_line(report)) } else { Ok(()) };
            ControlFlow::Continue(())
        })
        .fit()?;
    let checkpoint = result.checkpoint.as_ref().map(Checkpoint::location);
    if args.json {
        let mut last = json!({"checkpoint": checkpoint, "failures": result.failures.len()});
        merge(&mut last, result.history.last());
        return outln!("{last}");
    }
    for failure in &result.failures {
        outln!("survived: {failure}")?;
    }
    if let Some(report) = result.history.last() {
        outln!("after {} reports: {}", report.iteration, listed(report))?;
    }
    checkpoint.map_or(Ok(()), |checkpoint| outln!("checkpoint: {checkpoint}"))
}

fn listed(report: &Report) -> String {
    report.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect::<Vec<_>>().join("  ")
}

fn shown(classes: &[String]) -> String {
    let more = if classes.len() > 10 { ", …" } else { "" };
    classes.iter().take(10).cloned().collect::<Vec<_>>().join(", ") + more
}

fn json_line(report: &Report) -> serde_json::Value {
    let mut line = json!({"iteration": report.iteration});
    merge(&mut line, Some(report));
    line
}

fn merge(object: &mut serde_json::Value, report: Option<&Report>) {
    for (name, value) in report.into_iter().flat_map(|report| &report.metrics) {
        object[name] = json!(value);
    }
}
