//! What a run writes while it goes: JSON lines, comma-separated values, and scalars for TensorBoard.
//!
//! | file | content |
//! |---|---|
//! | `progress.jsonl` | one [`Iteration`] a line, with the last evaluation's mean return as `evaluation` |
//! | `progress.csv` | the same in columns; what is inside `learner` is `learner.NAME` |
//! | `events.out.tfevents…` | the same, by environment steps |

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use air_core::events::{EventWriter, Scalar, now};
use serde::Serialize;
use serde_json::Value;

use crate::error::{Result, RlError};
use crate::train::algorithm::Iteration;

/// The file that curves are drawn from.
pub(crate) const PROGRESS: &str = "progress.jsonl";

/// The logs of one run, in a folder of their own.
///
/// ```
/// use air_rl::{Algorithm, Ppo, PpoConfig, Registry, Stop, log::RunLog};
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path();
/// let mut log = RunLog::create(path, 1000)?;
/// let mut ppo = Ppo::new(PpoConfig::default(), Registry::default().spec("CartPole-v1")?, 1)?;
/// ppo.train_watching(&Stop::default().or_steps(5000), |_, now| log.iteration(now, None))?;
/// // The first iteration, and the next one after each 1000 steps.
/// assert_eq!(std::fs::read_to_string(path.join("progress.jsonl"))?.lines().count(), 6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RunLog {
    dir: PathBuf,
    lines: File,
    sheet: File,
    events: EventWriter,
    /// Columns of the sheet, once the first line has said them.
    columns: Vec<String>,
    every: u64,
    next: u64,
}

impl RunLog {
    /// Begins logs in `dir`, which is made; those of an earlier run there are replaced. An iteration is written if `every` steps
    /// have been taken since the last that was.
    pub fn create(dir: impl AsRef<Path>, every: u64) -> Result<Self> {
        let dir = dir.as_ref();
        let open = || -> io::Result<Self> {
            fs::create_dir_all(dir)?;
            Ok(Self {
                dir: dir.to_owned(),
                lines: File::create(dir.join(PROGRESS))?,
                sheet: File::create(dir.join("progress.csv"))?,
                events: EventWriter::create(dir)?,
                columns: Vec::new(),
                every,
                next: 0,
            })
        };
        open().map_err(|source| failed(dir, source))
    }

    /// Writes an iteration if it is time to, or if there is an evaluation: its mean return.
    pub fn iteration<S: Serialize>(&mut self, now: &Iteration<S>, evaluation: Option<f64>) -> Result<()> {
        if now.steps < self.next && evaluation.is_none() {
            return Ok(());
        }
        self.next = (now.steps / self.every.max(1) + 1) * self.every.max(1);
        self.write(now, evaluation).map_err(|source| failed(&self.dir, source))
    }

    fn write<S: Serialize>(&mut self, iteration: &Iteration<S>, evaluation: Option<f64>) -> io::Result<()> {
        let mut value = serde_json::to_value(iteration)?;
        value["evaluation"] = evaluation.into();
        self.lines.write_all(format!("{value}\n").as_bytes())?;

        let mut fields = Vec::new();
        flatten("", &value, &mut fields);
        if self.columns.is_empty() {
            self.columns = fields.iter().map(|(name, _)| name.clone()).collect();
            self.sheet.write_all(format!("{}\n", self.columns.join(",")).as_bytes())?;
        }
        let cell = |column: &String| {
            let found = fields.iter().find(|(name, _)| name == column).and_then(|(_, number)| *number);
            found.map_or(String::new(), |number| number.to_string())
        };
        let row: Vec<String> = self.columns.iter().map(cell).collect();
        self.sheet.write_all(format!("{}\n", row.join(",")).as_bytes())?;

        let tagged: Vec<(String, f64)> =
            fields.into_iter().filter_map(|(name, number)| Some((tag(&name), number?))).collect();
        let scalars: Vec<Scalar<'_>> =
            tagged.iter().map(|(tag, value)| Scalar { tag, value: *value }).collect();
        self.events.scalars(iteration.steps, now(), &scalars)
    }
}

/// Names as TensorBoard groups them.
fn tag(name: &str) -> String {
    match name.split_once('.') {
        Some((group, name)) => format!("{group}/{name}"),
        None => format!("train/{name}"),
    }
}

/// The numbers in a value, or where one might be; those inside others with a dot in their names.
fn flatten(prefix: &str, value: &Value, fields: &mut Vec<(String, Option<f64>)>) {
    let Value::Object(entries) = value else { return };
    for (key, value) in entries {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Object(_) => flatten(&name, value, fields),
            Value::Number(number) => fields.push((name, number.as_f64())),
            Value::Null => fields.push((name, None)),
            _ => {}
        }
    }
}

fn failed(dir: &Path, source: io::Error) -> RlError {
    RlError::Log { dir: dir.to_owned(), source }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[derive(Serialize)]
    struct Stats {
        kl: f32,
        updates: u32,
    }

    fn at(steps: u64, mean_return: Option<f64>) -> Iteration<Stats> {
        Iteration {
            iteration: steps / 100,
            steps,
            episodes: 2,
            seconds: 0.5,
            playing_seconds: 0.25,
            mean_return,
            mean_length: mean_return,
            peak_return: None,
            learner: Stats { kl: 0.5, updates: 4 },
        }
    }

    #[test]
    fn lines_and_columns_say_the_same_at_every_so_many_steps() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = RunLog::create(dir.path(), 250).unwrap();
        for steps in (100..=600).step_by(100) {
            log.iteration(&at(steps, (steps > 200).then_some(7.5)), None).unwrap();
        }
        log.iteration(&at(650, Some(8.0)), Some(9.25)).unwrap();
        let lines: Vec<Value> = fs::read_to_string(dir.path().join(PROGRESS))
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let of = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
        assert_eq!(of("steps"), [100, 300, 500, 650]);
        assert_eq!(of("evaluation"), [Value::Null, Value::Null, Value::Null, 9.25.into()]);
        assert_eq!(lines[3]["learner"]["updates"], 4);

        let sheet = fs::read_to_string(dir.path().join("progress.csv")).unwrap();
        let rows: Vec<Vec<&str>> = sheet.lines().map(|line| line.split(',').collect()).collect();
        let column = |name: &str| {
            let at = rows[0].iter().position(|&column| column == name).unwrap();
            rows[1..].iter().map(|row| row[at]).collect::<Vec<_>>()
        };
        assert_eq!(column("steps"), ["100", "300", "500", "650"]);
        assert_eq!(column("mean_return"), ["", "7.5", "7.5", "8"]);
        assert_eq!(column("learner.kl"), ["0.5"; 4]);
        assert_eq!(column("evaluation"), ["", "", "", "9.25"]);

        let events: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        let events = events.iter().find(|name| name.to_string_lossy().starts_with("events.")).unwrap();
        let bytes = fs::read(dir.path().join(events)).unwrap();
        let has = |tag: &str| bytes.windows(tag.len()).any(|window| window == tag.as_bytes());
        assert!(has("train/mean_return") && has("learner/kl") && has("brain.Event:2"));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = RunLog::create(file.path(), 1).err().unwrap().to_string();
        assert!(error.contains(&*file.path().to_string_lossy()), "{error}");
    }
}
