//! `schema` and `head`.

use air_core::cli::CliError;
use air_core::outln;
use arrow::datatypes::DataType;
use clap::Args;

use super::input::Input;
use super::rows;
use crate::Session;

#[derive(Debug, Args)]
pub(super) struct Schema {
    #[command(flatten)]
    input: Input,
    /// Print one JSON object instead: {"columns": [{"name", "type", "nullable"}]}
    #[arg(long)]
    json: bool,
}

impl Schema {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        let schema = self.input.open(session)?.schema()?;
        if self.json {
            let columns: Vec<serde_json::Value> = schema
                .fields()
                .iter()
                .map(|f| serde_json::json!({"name": f.name(), "type": type_name(f.data_type()), "nullable": f.is_nullable()}))
                .collect();
            return outln!("{}", serde_json::json!({ "columns": columns }));
        }
        for field in schema.fields() {
            outln!("{}: {}", field.name(), type_name(field.data_type()))?;
        }
        Ok(())
    }
}

/// The name that data people know a type by.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

#[derive(Debug, Args)]
pub(super) struct Head {
    #[command(flatten)]
    input: Input,
    /// How many rows
    #[arg(short = 'n', long, default_value_t = 10)]
    rows: usize,
}

impl Head {
    pub(super) fn run(self, session: &Session) -> Result<(), CliError> {
        rows::print(&self.input.open(session)?.limit(self.rows))
    }
}
