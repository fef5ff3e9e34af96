//! [`Plan`]: from the file to a dataset, all of it before anything is read or written.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use air_core::BoxError;
use arrow::datatypes::{Field, Schema};

use super::error::{Refused, RunError, plain};
use super::file::{Pipeline, Read, Write};
use super::sql::Sql;
use super::verbs::Place;
use crate::{Dataset, FileFormat, Session, WriteOptions};

/// What a query calls the rows before it.
pub(super) const INPUT: &str = "input";
/// No pipeline has more steps: the engine follows them with nested calls.
const MAX_STEPS: usize = 100;
/// Nor more tables.
const MAX_TABLES: usize = 100;

/// A pipeline that can be run.
pub(super) struct Plan {
    pub(super) dataset: Dataset,
    pub(super) output: Option<Output>,
    lines: Vec<String>,
}

/// Where the rows go.
pub(super) struct Output {
    path: String,
    format: FileFormat,
    options: WriteOptions,
}

impl Plan {
    /// Plans the pipeline of a file, with `sets` in it, each `key=value`.
    pub(super) fn load(session: &Session, path: &Path, sets: &[String]) -> Result<Self, RunError> {
        let pipeline = Pipeline::load(path, sets)?;
        let (file, folder) = (path.display().to_string(), path.parent().unwrap_or(Path::new("")));
        let whole = |source| RunError::Whole { file: file.clone(), source };
        for (count, limit, what) in
            [(pipeline.steps.len(), MAX_STEPS, "steps"), (pipeline.tables.len(), MAX_TABLES, "tables")]
        {
            if count > limit {
                return Err(whole(Refused(format!("{count} {what}; at most {limit}")).into()));
            }
        }
        let table =
            |name: &str, source| RunError::Table { file: file.clone(), table: name.to_owned(), source };
        let sql = Sql::new(session, pipeline.params);
        let mut tables = BTreeMap::new();
        for (name, read) in &pipeline.tables {
            let opened = if name == INPUT {
                Err(Refused(format!("`{INPUT}` is what a query calls the rows before it; give another name"))
                    .into())
            } else {
                opened(session, &sql, read, folder)
            };
            let opened = opened.and_then(|dataset| sql.name(name, &dataset).map(|()| dataset));
            tables.insert(name.clone(), opened.map_err(|source| table(&format!("tables.{name}"), source))?);
        }
        let mut dataset =
            opened(session, &sql, &pipeline.read, folder).map_err(|source| table("read", source))?;
        let mut before = columns(&dataset);
        let mut lines = vec![format!("read: {before}")];
        let place = Place { sql: &sql, tables: &tables, folder };
        for (index, step) in pipeline.steps.iter().enumerate() {
            let (number, verb) = (index + 1, step.verb());
            dataset = place.apply(step, &dataset).map_err(|source| RunError::Step {
                file: file.clone(),
                number,
                verb,
                source,
            })?;
            let now = columns(&dataset);
            let shown = if now == before { "the same columns" } else { &now };
            lines.push(format!("step {number} ({verb}): {shown}"));
            before = now;
        }
        let output = pipeline.write.map(|write| Output::new(&write, folder, &dataset)).transpose();
        let output = output.map_err(|source| table("write", source))?;
        // What the engine finds out last.
        dataset.num_blocks().map_err(|error| whole(plain(error)))?;
        let to = output.as_ref().map_or("stdout", |output| &output.path);
        lines.push(format!("write: {to}"));
        Ok(Self { dataset, output, lines })
    }
}

/// What each step leads to, one a line.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))
    }
}

impl Output {
    fn new(write: &Write, folder: &Path, dataset: &Dataset) -> Result<Self, BoxError> {
        let format = write.format()?;
        let options = write.options(&format);
        crate::sink::check(&dataset.schema()?, &format, &options)?;
        Ok(Self { path: within(folder, &write.path), format, options })
    }

    pub(super) fn write(&self, dataset: &Dataset) -> crate::Result<Vec<String>> {
        dataset.write(&self.path, self.format.clone(), self.options.clone())
    }
}

fn opened(session: &Session, sql: &Sql, read: &Read, folder: &Path) -> Result<Dataset, BoxError> {
    let paths: Vec<String> = read.path.0.iter().map(|path| within(folder, path)).collect();
    if paths.is_empty() {
        return Err(Refused("path: an empty list names no file".to_owned()).into());
    }
    let schema = read.schema.as_ref().map(|columns| schema(sql, columns)).transpose()?;
    let dataset = session.read_with(paths.clone(), read.format(&paths)?, read.options(schema))?;
    Ok(dataset)
}

fn schema(sql: &Sql, columns: &[String]) -> Result<Schema, BoxError> {
    let fields = columns.iter().map(|text| {
        let (name, kind) = sql.column(text)?;
        Ok(Field::new(name, kind, true))
    });
    Ok(Schema::new(fields.collect::<Result<Vec<_>, BoxError>>()?))
}

/// A path of the file, which begins where the file lies.
fn within(folder: &Path, path: &str) -> String {
    if path.contains("://") { path.to_owned() } else { folder.join(path).to_string_lossy().into_owned() }
}

fn columns(dataset: &Dataset) -> String {
    dataset.to_string().replace('\n', ", ")
}
