//! `bench`: what the verbs cost over a table, given or generated.
//!
//! Every figure is the median of several rounds in which the verbs take turns, so what slows the machine down for a while slows down all of
//! them. Each verb has a session and a memory budget of its own, whose peak is told.

mod table;
mod verbs;

use std::time::Instant;

use air_core::cli::CliError;
use air_core::outln;
use clap::Args;
use serde::Serialize;

use crate::stats::Bytes;
use crate::{Budget, Session, SessionConfig};
use table::Table;
use verbs::{VERBS, Verb};

#[derive(Debug, Args)]
pub(super) struct Bench {
    /// The table to measure over; rows generated in memory when absent
    file: Option<String>,
    /// Rows to generate
    #[arg(long, default_value_t = 2_000_000, conflicts_with = "file", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    rows: u64,
    /// Rounds whose median is the figure
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Measure only this verb; may be given several times
    #[arg(long, value_name = "VERB", value_parser = VERBS)]
    only: Vec<String>,
    /// Print one JSON object: {"table": {"rows", "bytes", "group", "sort", "number"}, "figures": {verb: {"seconds", "rows_per_second",
    /// "bytes_per_second", "peak_bytes"}}}
    #[arg(long)]
    json: bool,
}

/// What a verb costs.
#[derive(Debug, Serialize)]
struct Figure {
    /// The median of the rounds.
    seconds: f64,
    /// Rows of the table for each of them.
    rows_per_second: f64,
    /// Bytes of the table, in Arrow's layout.
    bytes_per_second: f64,
    /// The most of the memory budget that was in use in any round.
    peak_bytes: u64,
}

#[derive(Serialize)]
struct Measured<'a> {
    table: &'a Table,
    figures: serde_json::Map<String, serde_json::Value>,
}

impl Bench {
    pub(super) fn run(self) -> Result<(), CliError> {
        let table = Table::new(&session()?, self.file.as_deref(), self.rows)?;
        let wanted = |verb: &Verb| self.only.is_empty() || self.only.iter().any(|name| name == verb.name());
        let verbs: Vec<Verb> = Verb::ALL.into_iter().filter(wanted).collect();
        let figures = measure(&table, &verbs, usize::from(self.rounds))?;
        if self.json {
            let mut told = serde_json::Map::new();
            for (verb, figure) in verbs.iter().zip(&figures) {
                told.insert(verb.name().to_owned(), serde_json::to_value(figure)?);
            }
            return outln!("{}", serde_json::to_string(&Measured { table: &table, figures: told })?);
        }
        outln!("{table}")?;
        outln!("{:8} {:>10} {:>14} {:>14} {:>12}", "verb", "seconds", "rows/s", "bytes/s", "peak memory")?;
        for (verb, figure) in verbs.iter().zip(&figures) {
            outln!(
                "{:8} {:>10.4} {:>14.4e} {:>14} {:>12}",
                verb.name(),
                figure.seconds,
                figure.rows_per_second,
                format!("{}/s", Bytes(figure.bytes_per_second as u64)),
                Bytes(figure.peak_bytes).to_string()
            )?;
        }
        Ok(())
    }
}

/// An engine with a budget of its own, as large as the one that is shared otherwise.
fn session() -> crate::Result<Session> {
    let memory_limit_bytes = Budget::shared().limit_bytes();
    Session::new(SessionConfig { memory_limit_bytes, progress: false, ..SessionConfig::default() })
}

fn measure(table: &Table, verbs: &[Verb], rounds: usize) -> crate::Result<Vec<Figure>> {
    let runs = verbs.iter().map(|verb| {
        let session = session()?;
        let dataset = table.dataset(&session)?;
        Ok((*verb, session, dataset, Vec::with_capacity(rounds)))
    });
    let mut runs: Vec<_> = runs.collect::<crate::Result<_>>()?;
    for _ in 0..rounds {
        for (verb, _, dataset, seconds) in &mut runs {
            let began = Instant::now();
            verb.run(dataset, table)?;
            seconds.push(began.elapsed().as_secs_f64());
        }
    }
    let figures = runs.into_iter().map(|(_, session, _, mut seconds)| {
        seconds.sort_by(f64::total_cmp);
        let median = seconds[seconds.len() / 2];
        Figure {
            seconds: median,
            rows_per_second: table.rows as f64 / median,
            bytes_per_second: table.bytes as f64 / median,
            peak_bytes: session.budget().usage().peak_bytes,
        }
    });
    Ok(figures.collect())
}
