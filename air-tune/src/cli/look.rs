//! The verbs that look at an experiment, while it runs or after.

use std::io::Write;
use std::path::{Path, PathBuf};

use air_core::cli::CliError;
use air_core::outln;
use serde_json::json;

use super::{ExportArgs, FormatArg, ListArgs, ReportArgs, ShowArgs};
use crate::error::TuneError;
use crate::result::ResultGrid;
use crate::storage::STUDY_FILE;

/// Deepest folder below the one given in which experiments are looked for, and most of them.
const MAX_DEPTH: u32 = 4;
const MAX_LISTED: usize = 10_000;

/// The folders at and below `dir` that hold an experiment.
fn experiments(dir: &Path, depth: u32, found: &mut Vec<PathBuf>) -> Result<(), TuneError> {
    if dir.join(STUDY_FILE).is_file() {
        found.push(dir.to_owned());
        return Ok(());
    }
    if depth == MAX_DEPTH {
        return Ok(());
    }
    let entries = std::fs::read_dir(dir).map_err(TuneError::io(dir))?;
    let mut dirs: Vec<PathBuf> =
        entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    dirs.sort();
    for dir in dirs {
        if found.len() >= MAX_LISTED {
            break;
        }
        // What may not be read holds none that could be listed.
        if let Err(error) = experiments(&dir, depth + 1, found) {
            tracing::debug!("{}: {error}", dir.display());
        }
    }
    Ok(())
}

pub(super) fn list(args: &ListArgs) -> Result<(), CliError> {
    if let Some(status) = &args.status
        && !["waiting", "running", "complete", "stopped", "failed"].contains(&status.as_str())
    {
        return Err(CliError::usage(format!(
            "--status {status}: expected waiting, running, complete, stopped or failed"
        )));
    }
    if args.dir.join(STUDY_FILE).is_file() {
        return trials(args);
    }
    let mut found = Vec::new();
    experiments(&args.dir, 0, &mut found)?;
    if found.is_empty() {
        return Err(TuneError::NoStudy { path: args.dir.clone() }.into());
    }
    for dir in found {
        match ResultGrid::load(&dir) {
            Ok(grid) if args.json => {
                let counts: serde_json::Map<String, serde_json::Value> =
                    grid.counts().into_iter().map(|(status, n)| (status.to_string(), n.into())).collect();
                let best = grid.best().ok();
                outln!("{}", json!({"dir": dir, "metric": grid.metric(), "trials": counts, "best": best}))?;
            }
            Ok(grid) => {
                let counts: Vec<String> =
                    grid.counts().iter().map(|(status, n)| format!("{n} {status}")).collect();
                let best = grid.best().ok().and_then(|best| best.value);
                let best = best.map_or_else(String::new, |value| format!("  best {} {value}", grid.metric()));
                outln!("{}  {}{best}", dir.display(), counts.join(", "))?;
            }
            Err(error) => outln!("{}  {error}", dir.display())?,
        }
    }
    Ok(())
}

fn trials(args: &ListArgs) -> Result<(), CliError> {
    let mut grid = ResultGrid::load(&args.dir)?;
    if let Some(status) = &args.status {
        grid.retain(|trial| trial.status.as_str() == status);
    }
    if args.json {
        for trial in &grid {
            outln!("{}", serde_json::to_string(trial)?)?;
        }
        return Ok(());
    }
    outln!("{}", grid.table().trim_end())
}

pub(super) fn show(args: &ShowArgs) -> Result<(), CliError> {
    let grid = ResultGrid::load(&args.dir)?;
    let trial = grid.iter().find(|trial| trial.trial == args.trial);
    let trial = trial.ok_or(TuneError::NoTrial { trial: args.trial, trials: grid.len() })?;
    let reports = grid.history(args.trial)?;
    if args.json {
        let mut all = serde_json::to_value(trial)?;
        all["reports"] = serde_json::to_value(&reports)?;
        return outln!("{all}");
    }
    outln!("trial {}: {}", trial.trial, trial.status)?;
    if let Some(stop) = trial.stop {
        outln!("  {stop}")?;
    }
    if let Some(cause) = &trial.cause {
        outln!("  {cause}")?;
    }
    outln!("  {} attempts, {:.3} s, {} iterations", trial.attempts, trial.seconds, trial.iterations)?;
    for (path, value) in trial.config.paths() {
        outln!("  {path} = {value}")?;
    }
    for report in &reports {
        let values: Vec<String> =
            report.values.iter().map(|(name, value)| format!("{name} {value}")).collect();
        outln!("  {:>6}  {:.3} s  {}", report.iteration, report.seconds, values.join("  "))?;
    }
    Ok(())
}

pub(super) fn report(args: &ReportArgs) -> Result<(), CliError> {
    let grid = ResultGrid::load(&args.dir)?;
    let path = args.out.clone().unwrap_or_else(|| args.dir.join("report.html"));
    grid.write_report(&path)?;
    outln!("{}", path.display())
}

pub(super) fn export(args: &ExportArgs) -> Result<(), CliError> {
    let grid = ResultGrid::load(&args.dir)?;
    let bytes = match args.format {
        FormatArg::Csv => grid.to_csv().into_bytes(),
        FormatArg::Json => grid.to_json_lines()?.into_bytes(),
        FormatArg::Parquet => parquet(&grid)?,
    };
    if let Some(path) = &args.out {
        return Ok(std::fs::write(path, bytes).map_err(TuneError::io(path))?);
    }
    Ok(std::io::stdout().lock().write_all(&bytes).map_err(TuneError::io("standard output"))?)
}

#[cfg(feature = "parquet")]
fn parquet(grid: &ResultGrid) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    grid.write_parquet(&mut bytes)?;
    Ok(bytes)
}

#[cfg(not(feature = "parquet"))]
fn parquet(_: &ResultGrid) -> Result<Vec<u8>, CliError> {
    Err(CliError::usage(
        "--format parquet: this air-tune was built without it; build it with `--features parquet`, or take csv",
    ))
}
