//! The command line of the `air-data` binary.

use std::ffi::OsString;
use std::io::Write;

use air_core::cli::{self, CliError};
use air_core::outln;
use arrow::datatypes::{DataType, Schema};
use clap::{Args, Parser, Subcommand};

use crate::{DataError, Dataset, FileFormat, Session, SessionConfig, WriteMode, WriteOptions};

#[derive(Debug, Parser)]
#[command(name = "air-data", version, about = "Look into tables, convert them, query them with SQL")]
#[command(
    after_help = "FILE is a CSV, Parquet or JSON-lines file, told by its extension; a directory or pattern of them; \
or a URL (s3://, gs://, az://, http://, https://). Results go to stdout, everything else to stderr."
)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the columns and their types, one a line
    Schema {
        #[command(flatten)]
        input: Input,
        /// Print one JSON object instead: {"columns": [{"name", "type", "nullable"}]}
        #[arg(long)]
        json: bool,
    },
    /// Print the first rows, one JSON object a line
    Head {
        #[command(flatten)]
        input: Input,
        /// How many rows
        #[arg(short = 'n', long, default_value_t = 10)]
        rows: usize,
    },
    /// Write a table in another format, told by the extension of OUT
    Convert {
        #[command(flatten)]
        input: Input,
        /// A file (.csv, .parquet, .json, .jsonl), or with --format a directory
        output: String,
        /// The format of a directory's files
        #[arg(long, value_parser = ["csv", "parquet", "json"])]
        format: Option<String>,
        /// Files to write into a directory
        #[arg(long, requires = "format")]
        files: Option<usize>,
        /// Replace what is at OUT
        #[arg(long)]
        overwrite: bool,
    },
    /// Run a query; each --table gives a file the name it has in the query
    Sql {
        /// For example: "select variety, count(*) from t group by variety"
        query: String,
        /// NAME=FILE
        #[arg(long = "table", value_name = "NAME=FILE", required = true)]
        tables: Vec<String>,
        /// Print one JSON object a line instead of a table
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Input {
    /// What to read
    file: String,
}

impl Input {
    fn open(&self, session: &Session) -> Result<Dataset, CliError> {
        open(session, &self.file)
    }
}

fn open(session: &Session, file: &str) -> Result<Dataset, CliError> {
    Ok(session.read(file, format_of(file)?)?)
}

/// The format of a file, or of the first file of known format in a directory.
fn format_of(path: &str) -> Result<FileFormat, DataError> {
    let known = FileFormat::of_path(path);
    let Ok(entries) = std::fs::read_dir(path) else {
        // A path without a known extension that is not there is above all not there.
        let missing =
            !path.contains("://") && !path.contains(['*', '?', '[']) && !std::path::Path::new(path).exists();
        return match known {
            Err(_) if missing => Err(DataError::NotFound { path: path.to_owned() }),
            known => known,
        };
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names.iter().find_map(|name| FileFormat::of_path(name).ok()).map_or(known, Ok)
}

/// Runs the program.
///
/// # Errors
/// A wrong command line, or work that failed.
pub fn run(args: Vec<OsString>) -> Result<(), CliError> {
    let command: Command = cli::parse(args)?;
    let session = Session::new(SessionConfig::default())?;
    match command.verb {
        Verb::Schema { input, json } => schema(&*input.open(&session)?.schema()?, json),
        Verb::Head { input, rows } => rows_as_json(&input.open(&session)?.limit(rows)),
        Verb::Convert { input, output, format, files, overwrite } => {
            convert(&input.open(&session)?, &output, format.as_deref(), files, overwrite)
        }
        Verb::Sql { query, tables, json } => sql(&session, &query, &tables, json),
    }
}

fn schema(schema: &Schema, json: bool) -> Result<(), CliError> {
    if json {
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

/// The name that data people know a type by.
fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".to_owned(),
        other => other.to_string().to_lowercase(),
    }
}

fn rows_as_json(dataset: &Dataset) -> Result<(), CliError> {
    for batch in dataset.batches(1024)? {
        let mut text = Vec::new();
        let mut writer = arrow::json::writer::WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, arrow::json::writer::LineDelimited>(&mut text);
        writer.write(&batch?)?;
        writer.finish()?;
        let mut out = std::io::stdout().lock();
        match out.write_all(&text) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                return Err(CliError::OutputClosed);
            }
            result => result?,
        }
    }
    Ok(())
}

fn convert(
    input: &Dataset,
    output: &str,
    format: Option<&str>,
    files: Option<usize>,
    overwrite: bool,
) -> Result<(), CliError> {
    let format = FileFormat::of_path(&format.map_or_else(|| output.to_owned(), |name| format!("x.{name}")))
        .map_err(|_| {
        CliError::usage(format!("cannot tell the format of {output}: give a known extension, or --format"))
    })?;
    let mut options = WriteOptions::default();
    if overwrite {
        options.mode = WriteMode::Overwrite;
    }
    if let FileFormat::Csv(csv) = &format {
        options.csv = csv.clone();
    }
    let dataset = files.map_or_else(|| input.clone(), |files| input.repartition(files));
    for file in dataset.write(output, format, options)? {
        outln!("{file}")?;
    }
    Ok(())
}

fn sql(session: &Session, query: &str, tables: &[String], json: bool) -> Result<(), CliError> {
    for table in tables {
        let (name, file) = table
            .split_once('=')
            .filter(|(name, file)| !name.is_empty() && !file.is_empty())
            .ok_or_else(|| CliError::usage(format!("--table takes NAME=FILE, not '{table}'")))?;
        session.register(name, &open(session, file)?)?;
    }
    let result = session.sql(query)?;
    if json {
        return rows_as_json(&result);
    }
    let batches = result.collect()?;
    let batches = if batches.is_empty() {
        vec![arrow::array::RecordBatch::new_empty(result.schema()?)]
    } else {
        batches
    };
    outln!("{}", arrow::util::pretty::pretty_format_batches(&batches)?)
}
