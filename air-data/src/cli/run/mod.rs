//! `run`: a pipeline as a file.
//!
//! | file | idea |
//! |---|---|
//! | `file` | what the file may say |
//! | `step` | a step of it: exactly one verb |
//! | `written` | values that may be written in more than one way |
//! | `plan` | from the file to a dataset, all of it before anything is read |
//! | `verbs` | from a step to the verb of [`Dataset`](crate::Dataset) |
//! | `sql` | texts of SQL to expressions and sort keys |
//! | `error` | which file, which step, which verb, and why |

mod error;
mod file;
mod plan;
mod sql;
mod step;
mod verbs;
mod written;

use std::io::Write as _;
use std::path::PathBuf;

use air_core::cli::CliError;
use air_core::outln;
use clap::Args;

use super::rows;
use crate::Session;
use plan::Plan;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The pipeline, in TOML; paths in it are relative to it
    #[arg(value_name = "PIPELINE.toml")]
    file: PathBuf,
    /// Set a key of the file, such as read.path=new.csv or params.least=3; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Print the plan instead of running it
    #[arg(long)]
    explain: bool,
    /// Print what each step leads to instead of running it
    #[arg(long = "dry-run")]
    dry: bool,
}

impl Run {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        let plan = planned(session, self.file, self.sets)?;
        if self.dry {
            outln!("{plan}")?;
        }
        if self.explain {
            outln!("{}", plan.dataset.explain()?)?;
        }
        if self.dry || self.explain {
            return Ok(());
        }
        let result = match &plan.output {
            Some(output) => output
                .write(&plan.dataset)
                .map_err(CliError::from)
                .and_then(|files| files.into_iter().try_for_each(|file| outln!("{file}"))),
            None => rows::print(&plan.dataset),
        };
        // A failed run is told of by its error.
        if result.is_ok()
            && let Some(stats) = plan.dataset.stats()
        {
            // Nothing can be done about a closed stderr.
            let _ = write!(std::io::stderr(), "{stats}");
        }
        result
    }
}

/// Plans on a thread of the session, which has room for the engine's nested calls.
fn planned(session: &Session, file: PathBuf, sets: Vec<String>) -> Result<Plan, CliError> {
    let engine = session.clone();
    let plan = session.block_on(async move { Ok(Plan::load(&engine, &file, &sets)) })?;
    Ok(plan?)
}
