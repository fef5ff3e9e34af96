//! The command lines of a search: of `air-tune`, of a trial, of the best once more. Pure.

use std::path::{Path, absolute};

use air_core::cli::CliError;
use serde_json::Value;

use super::{Scheduler, Sweep};
use crate::cli::Setup;

/// Trials, unless told or a matter of grids.
const TRIALS: u64 = 20;
/// Reports of a trial that runs to its end: what schedulers count in.
const REPORTS: u64 = 100;
/// Reports before a trial may be stopped.
const GRACE: u64 = 10;

/// `air-tune run …`, the program's name first.
pub(super) fn line(args: &Sweep, space: &[(String, String)], dir: &Path) -> Result<Vec<String>, CliError> {
    let scheduler = match (args.scheduler, args.seeds) {
        (None, 1) => Scheduler::Asha,
        (None | Some(Scheduler::None), _) => Scheduler::None,
        (Some(scheduler), 1) => scheduler,
        _ => {
            return Err(CliError::usage(
                "trials of several seeds are not stopped early, as one seed is trained after another: leave out --scheduler",
            ));
        }
    };
    let metric = if args.seeds == 1 { "mean_return" } else { "median_mean_return" };
    let mut line = words(&["air-tune", "run"]);
    for (name, domain) in space {
        line.extend(["--param".into(), format!("{name}={domain}")]);
    }
    line.extend(words(&["--metric", metric, "--mode", "max"]));
    // With grids it says how often all combinations are tried, which air-tune has its own default for.
    let grid = space.iter().any(|(_, domain)| domain.starts_with("grid"));
    if let Some(trials) = args.trials.or((!grid).then_some(TRIALS)) {
        line.extend(["--trials".into(), trials.to_string()]);
    }
    line.extend(["--seed".into(), args.seed.to_string()]);
    let (most, grace) = (REPORTS.to_string(), GRACE.to_string());
    match scheduler {
        Scheduler::Asha => {
            line.extend(words(&["--scheduler", "asha", "--max-t", &most, "--grace-period", &grace]));
        }
        Scheduler::Median => {
            line.extend(words(&["--scheduler", "median", "--max-t", &most, "--grace-period", &grace]));
        }
        Scheduler::None => {}
    }
    line.extend(["--out".into(), dir.display().to_string()]);
    if args.json {
        line.push("--json".into());
    }
    line.extend(args.further.iter().cloned());
    line.push("--".into());
    line.extend(trial(args, space)?);
    Ok(line)
}

/// `air-rl train …` with placeholders for what is searched.
fn trial(args: &Sweep, space: &[(String, String)]) -> Result<Vec<String>, CliError> {
    let exe = std::env::current_exe()
        .map_err(|e| CliError::failed(format!("cannot tell where this program is: {e}")))?;
    let words = [train(&exe, &args.setup)?, settings(&args.setup)?].concat();
    let mut line: Vec<String> = words.iter().map(|word| literal(word)).collect();
    for (name, _) in space {
        line.extend(["--set".into(), format!("{name}={{{name}}}")]);
    }
    line.extend(["--steps".into(), args.steps.to_string(), "--seed".into(), args.seed.to_string()]);
    line.push("--quiet".into());
    if args.seeds == 1 {
        let every = args.steps.div_ceil(REPORTS);
        line.extend(["--report".into(), "--log-every".into(), every.to_string()]);
    } else {
        line.extend(["--json".into(), "--seeds".into(), args.seeds.to_string()]);
    }
    Ok(line)
}

/// What trains once more with the settings of the best trial: to the same policy, as one seed is one result.
pub(super) fn again(args: &Sweep, file: &Path) -> Result<Vec<String>, CliError> {
    let mut line = train(Path::new("air-rl"), &args.setup)?;
    line.extend(["--no-preset".into(), format!("--config={}", file.display())]);
    line.extend(["--steps".into(), args.steps.to_string(), "--seed".into(), args.seed.to_string()]);
    Ok(line)
}

/// `PROGRAM train …` as set up, but for the settings.
fn train(program: &Path, setup: &Setup) -> Result<Vec<String>, CliError> {
    let mut line =
        vec![program.display().to_string(), "train".into(), setup.algorithm.clone(), setup.env.clone()];
    line.extend(setup.env_set.iter().map(|option| format!("--env-set={option}")));
    if let Some(data) = &setup.data {
        line.push(format!("--data={}", place(Path::new(data))?));
    }
    line.extend(setup.python.words());
    Ok(line)
}

fn settings(setup: &Setup) -> Result<Vec<String>, CliError> {
    let mut line = Vec::new();
    if setup.no_preset {
        line.push("--no-preset".into());
    }
    if let Some(config) = &setup.config {
        line.push(format!("--config={}", place(config)?));
    }
    line.extend(setup.wrap.iter().map(|wrap| format!("--wrap={wrap}")));
    line.extend(setup.set.iter().map(|setting| format!("--set={setting}")));
    Ok(line)
}

/// Trials of a search that goes on may have another working directory.
fn place(path: &Path) -> Result<String, CliError> {
    let why = |e| CliError::failed(format!("cannot tell where {} is: {e}", path.display()));
    absolute(path).map(|path| path.display().to_string()).map_err(why)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// A word that holds no placeholder for `air-tune`, whatever is written in it.
fn literal(word: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(word.len()), word);
    while let Some(open) = rest.find('{') {
        let (before, after) = rest.split_at(open);
        out.push_str(before);
        let end = after[1..].find(|c: char| !(c.is_alphanumeric() || "_.-".contains(c))).map(|end| end + 1);
        match end {
            Some(end) if end > 1 && after[end..].starts_with('}') => {
                out.extend(["{", &after[..=end], "}"]);
                rest = &after[end + 1..];
            }
            _ => {
                out.push('{');
                rest = &after[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// A value as `air-tune` puts it into an argument.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Words as one would type them into a shell.
pub(super) fn shell(words: &[String]) -> String {
    let quoted = |word: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            return word.clone();
        }
        format!("'{}'", word.replace('\'', r"'\''"))
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_looks_like_a_placeholder_stands_for_itself() {
        assert_eq!(literal("desc={a}"), "desc={{a}}");
        assert_eq!(literal("x={a=1} {} {b.c}{"), "x={a=1} {} {{b.c}}{");
    }

    #[test]
    fn a_shell_reads_what_was_meant() {
        let line = words(&["air-tune", "--param", "lr=choice(1,2)", "it's", ""]);
        assert_eq!(shell(&line), r"air-tune --param 'lr=choice(1,2)' 'it'\''s' ''");
    }
}
