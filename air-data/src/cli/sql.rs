//! `sql`.

use air_core::cli::CliError;
use air_core::outln;
use clap::Args;

use super::{input, rows};
use crate::Session;

#[derive(Debug, Args)]
pub(super) struct Sql {
    /// For example: "select variety, count(*) from t group by variety"
    query: String,
    /// NAME=FILE
    #[arg(long = "table", value_name = "NAME=FILE", required = true)]
    tables: Vec<String>,
    /// Print one JSON object a line instead of a table
    #[arg(long)]
    json: bool,
}

impl Sql {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        for table in &self.tables {
            let (name, file) = table
                .split_once('=')
                .filter(|(name, file)| !name.is_empty() && !file.is_empty())
                .ok_or_else(|| CliError::usage(format!("--table takes NAME=FILE, not '{table}'")))?;
            session.register(name, &input::open(session, file)?)?;
        }
        let result = session.sql(&self.query)?;
        if self.json {
            return rows::print(&result);
        }
        let batches = result.collect()?;
        let batches = if batches.is_empty() {
            vec![arrow::array::RecordBatch::new_empty(result.schema()?)]
        } else {
            batches
        };
        outln!("{}", arrow::util::pretty::pretty_format_batches(&batches)?)
    }
}
