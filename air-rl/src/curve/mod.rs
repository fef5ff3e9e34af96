//! Learning curves: the logs of several seeds as one line with a band, in SVG.

mod band;
mod svg;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Result, RlError};
use crate::train::log::PROGRESS;

pub use band::{Band, band};
pub use svg::draw;

/// What stands on the horizontal axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Along {
    /// Environment steps.
    Steps,
    /// Seconds of training.
    Seconds,
}

impl Along {
    fn key(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Seconds => "seconds",
        }
    }

    /// The axis's name.
    pub fn title(self) -> &'static str {
        match self {
            Self::Steps => "environment steps",
            Self::Seconds => "seconds",
        }
    }
}

/// Points of the horizontal axis that a band is taken at.
const POINTS: usize = 200;
/// Longest log that is read, bytes.
const LONGEST: u64 = 1 << 30;

/// The curve of the runs below a folder: of its own log, or of those in its folders, one a seed.
pub fn read(dir: &Path, along: Along) -> Result<Band> {
    let logs = logs(dir)?;
    let runs: Vec<Vec<(f64, f64)>> = logs.iter().map(|path| run(path, along)).collect::<Result<_>>()?;
    Ok(band(&runs, POINTS))
}

fn logs(dir: &Path) -> Result<Vec<PathBuf>> {
    let own = dir.join(PROGRESS);
    if own.is_file() {
        return Ok(vec![own]);
    }
    let unreadable = |e: std::io::Error| data(dir, &e);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path().join(PROGRESS);
        if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    if found.is_empty() {
        return Err(data(
            dir,
            &format!("there is no {PROGRESS} in it or in a folder of it; `train --log` writes them"),
        ));
    }
    Ok(found)
}

/// (place, mean return) of each line that has one.
fn run(path: &Path, along: Along) -> Result<Vec<(f64, f64)>> {
    let length = fs::metadata(path).map_err(|e| data(path, &e))?.len();
    if length > LONGEST {
        return Err(data(path, &format!("it has {length} bytes, more than {LONGEST}")));
    }
    let text = fs::read_to_string(path).map_err(|e| data(path, &e))?;
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let value: Value =
            serde_json::from_str(line).map_err(|e| data(path, &format!("line {} is no JSON: {e}", i + 1)))?;
        let Some(y) = value["mean_return"].as_f64() else { continue };
        let x = value[along.key()].as_f64().filter(|x| points.last().is_none_or(|(last, _)| x >= last));
        let Some(x) = x else {
            return Err(data(path, &format!("line {} has no {} after those before it", i + 1, along.key())));
        };
        points.push((x, y));
    }
    if points.is_empty() {
        return Err(data(path, &"no line has a mean_return: no episode ended"));
    }
    Ok(points)
}

fn data(place: &Path, why: &dyn std::fmt::Display) -> RlError {
    RlError::Data { place: place.display().to_string(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_logs_of_all_seeds_are_read_and_what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let says = |dir: &Path| read(dir, Along::Steps).unwrap_err().to_string();
        assert!(says(dir.path()).contains("there is no progress.jsonl"));
        for (seed, at) in [(1, 4.0), (2, 8.0)] {
            let run = dir.path().join(format!("seed-{seed}"));
            fs::create_dir(&run).unwrap();
            let lines = format!(
                "{{\"steps\": 10, \"seconds\": 1, \"mean_return\": null}}\n{{\"steps\": 20, \"seconds\": 2, \"mean_return\": {at}}}\n"
            );
            fs::write(run.join(PROGRESS), lines).unwrap();
        }
        let band = read(dir.path(), Along::Steps).unwrap();
        assert_eq!((band.seeds, band.x.last(), band.mean.last()), (2, Some(&20.0), Some(&6.0)));
        assert_eq!(read(dir.path(), Along::Seconds).unwrap().x.last(), Some(&2.0));
        let first = dir.path().join("seed-1");
        for (text, why) in [
            ("{", "line 1 is no JSON"),
            ("{\"steps\": 1}\n", "no line has a mean_return"),
            (
                "{\"steps\": 2, \"mean_return\": 1}\n{\"steps\": 1, \"mean_return\": 1}\n",
                "line 2 has no steps after",
            ),
        ] {
            fs::write(first.join(PROGRESS), text).unwrap();
            let error = says(&first);
            assert!(error.contains(why) && error.contains("seed-1"), "{error}");
        }
    }
}
