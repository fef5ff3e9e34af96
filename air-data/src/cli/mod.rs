//! The command line of the `air-data` binary, a file for each family of verbs.
//!
//! | file | verbs |
//! |---|---|
//! | `look` | `schema`, `head` |
//! | `stats` | `stats` |
//! | `convert` | `convert` |
//! | `sql` | `sql` |
//! | `run` | `run`: a pipeline as a file |
//! | `bench` | `bench` |
//! | `input` | what they all read |
//! | `rows` | rows as JSON lines on stdout |

mod bench;
mod convert;
mod input;
mod look;
mod rows;
mod run;
mod sql;
mod stats;

use std::ffi::OsString;

use air_core::cli::{self, CliError};
use clap::{Parser, Subcommand};

use crate::{Session, SessionConfig};

#[derive(Debug, Parser)]
#[command(
    name = "air-data",
    version,
    about = "Look into tables, convert them, query them with SQL, run pipelines over them"
)]
#[command(
    after_help = "FILE is a CSV, Parquet, JSON-lines or Arrow file, told by its extension (.csv.gz and .zst of CSV, JSON and text, too); a directory or pattern of them; \
or a URL (s3://, gs://, az://, http://, https://). Results go to stdout, everything else to stderr."
)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the columns and their types, one a line
    Schema(look::Schema),
    /// Print the first rows, one JSON object a line
    Head(look::Head),
    /// Print each column in numbers: type, nulls, distinct values, minimum, maximum, mean, deviation
    Stats(stats::Stats),
    /// Write a table in another format, told by the extension of OUT
    Convert(convert::Convert),
    /// Run a query; each --table gives a file the name it has in the query
    Sql(sql::Sql),
    /// Run a pipeline: a TOML file that says what to read, what to do with it, step by step, and what to write
    Run(run::Run),
    /// Measure reading, filtering, a closure, grouping, sorting and batches, over a file or over generated rows
    Bench(bench::Bench),
}

/// Runs the program.
///
/// # Errors
/// A wrong command line, or work that failed.
pub fn run(args: Vec<OsString>) -> Result<(), CliError> {
    let command: Command = cli::parse(args)?;
    let session = || Session::new(SessionConfig::default());
    match command.verb {
        Verb::Schema(verb) => verb.run(&session()?),
        Verb::Head(verb) => verb.run(&session()?),
        Verb::Stats(verb) => verb.run(&session()?),
        Verb::Convert(verb) => verb.run(&session()?),
        Verb::Sql(verb) => verb.run(&session()?),
        Verb::Run(verb) => verb.run(&session()?),
        // Each measurement has a session of its own.
        Verb::Bench(verb) => verb.run(),
    }
}
