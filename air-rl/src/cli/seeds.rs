//! `train --seeds N`: one run a seed, and what they come to together.

use air_core::cli::CliError;
use air_core::outln;
use serde_json::json;

use super::{Run, Train};

/// Trains with each seed; an error that is not a missed goal ends it.
pub(super) fn run(args: Train, train: Run) -> Result<(), CliError> {
    let seeds = args.watching.seeds;
    if seeds == 1 {
        return train(&args);
    }
    let mut one = args;
    let (first, out, log) = (one.seed, one.out.take(), one.watching.log.take());
    let (mut steps, mut seconds, mut returns, mut missed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for seed in first..first.saturating_add(seeds) {
        one.seed = seed;
        one.out = out.as_ref().map(|out| format!("{}/seed-{seed}", out.trim_end_matches('/')));
        one.watching.log = log.as_ref().map(|dir| dir.join(format!("seed-{seed}")));
        let result = train(&one);
        let Some(ran) = one.watching.ran.take() else { return result };
        steps.push(ran.steps as f64);
        seconds.push(ran.seconds);
        returns.extend(ran.mean_return);
        if !ran.reached {
            missed.push(seed);
        }
    }
    let (steps, seconds, mean_return) = (median(steps), median(seconds), median(returns));
    if one.json {
        outln!(
            "{}",
            json!({
                "algorithm": one.setup.algorithm, "env": one.setup.env, "seeds": seeds, "missed": missed,
                "median_steps": steps, "median_seconds": seconds, "median_mean_return": mean_return,
            })
        )?;
    } else {
        let mean = mean_return.map_or("-".into(), |mean| format!("{mean:.2}"));
        let (steps, seconds) = (steps.unwrap_or_default(), seconds.unwrap_or_default());
        outln!("{seeds} seeds, medians: {steps} steps, {seconds:.2} s, mean return {mean}")?;
    }
    match one.until_return {
        Some(target) if !missed.is_empty() => {
            Err(CliError::failed(format!("mean return {target} not reached with the seeds {missed:?}")))
        }
        _ => Ok(()),
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values.get(values.len().saturating_sub(1) / 2)?, values.get(values.len() / 2)?);
    Some(f64::midpoint(*low, *high))
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
