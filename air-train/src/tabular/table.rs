//! A CSV file as features and labels.

use std::collections::BTreeSet;
use std::path::Path;

use crate::{Result, TrainError};

/// The most numbers read from one file: 4 GiB of `f32`.
const MAX_CELLS: usize = 1 << 30;
/// The most distinct labels.
const MAX_CLASSES: usize = 10_000;

/// Rows of numbers, each with a label.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// The names of the numeric columns.
    pub features: Vec<String>,
    /// The name of the label's column.
    pub label: String,
    /// The distinct labels, sorted.
    pub classes: Vec<String>,
    /// The numbers, `[rows, features]`.
    pub values: Vec<f32>,
    /// Each row's label, as an index into `classes`.
    pub labels: Vec<u32>,
}

impl Table {
    /// Reads a CSV file with a header. An error names the file, the line and the column.
    pub fn read_csv(path: &Path, label: Option<&str>) -> Result<Self> {
        let file = std::fs::File::open(path).map_err(|source| TrainError::File {
            path: path.to_owned(),
            problem: "cannot be opened".to_owned(),
            source: Some(source),
        })?;
        Self::from_reader(file, path, label)
    }

    fn from_reader(reader: impl std::io::Read, path: &Path, label: Option<&str>) -> Result<Self> {
        let wrong = |problem: String| TrainError::File { path: path.to_owned(), problem, source: None };
        let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(reader);
        let header = reader.headers().map_err(|e| wrong(e.to_string()))?.clone();
        if header.len() < 2 {
            return Err(wrong("needs a header with a label and at least one feature".to_owned()));
        }
        let at = match label {
            None => header.len() - 1,
            Some(name) => header.iter().position(|column| column == name).ok_or_else(|| {
                let columns = header.iter().collect::<Vec<_>>().join(", ");
                wrong(format!("has no column `{name}`; there are: {columns}"))
            })?,
        };
        let mut table = Self {
            features: header
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != at)
                .map(|(_, name)| name.to_owned())
                .collect(),
            label: header[at].to_owned(),
            classes: Vec::new(),
            values: Vec::new(),
            labels: Vec::new(),
        };
        let mut names = Vec::new();
        let mut record = csv::StringRecord::new();
        while reader.read_record(&mut record).map_err(|e| wrong(e.to_string()))? {
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() != header.len() {
                let problem =
                    format!("line {line}: {} fields, the header has {}", record.len(), header.len());
                return Err(wrong(problem));
            }
            for (column, cell) in record.iter().enumerate() {
                let place = || format!("line {line}, column {} (`{}`)", column + 1, &header[column]);
                if column == at {
                    names.push(cell.to_owned());
                    continue;
                }
                match cell.parse::<f32>() {
                    Ok(value) if value.is_finite() => table.values.push(value),
                    _ if cell.is_empty() => return Err(wrong(format!("{}: is empty", place()))),
                    _ => return Err(wrong(format!("{}: `{}` is not a number", place(), shorten(cell)))),
                }
            }
            if table.values.len() > MAX_CELLS {
                return Err(wrong(format!("line {line}: more than {MAX_CELLS} numbers")));
            }
        }
        let classes: BTreeSet<&String> = names.iter().collect();
        if classes.len() < 2 || classes.len() > MAX_CLASSES {
            let problem = format!(
                "column `{}` has {} distinct labels; a classifier needs 2 to {MAX_CLASSES}",
                table.label,
                classes.len()
            );
            return Err(wrong(problem));
        }
        table.classes = classes.into_iter().cloned().collect();
        let index = |name| table.classes.binary_search(name).map_or(0, |i| i as u32);
        table.labels = names.iter().map(index).collect();
        Ok(table)
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.labels.len()
    }
}

fn shorten(cell: &str) -> String {
    if cell.chars().count() <= 40 { cell.to_owned() } else { cell.chars().take(40).chain(['…']).collect() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn read(text: &str, label: Option<&str>) -> Result<Table, String> {
        Table::from_reader(text.as_bytes(), Path::new("t.csv"), label).map_err(|e| e.to_string())
    }

    #[test]
    fn numbers_and_sorted_classes() {
        let table = read("a,b,kind\n1,2,x\n3, 4.5 ,w\n5,6,x\n", None).unwrap();
        assert_eq!(table.features, ["a", "b"]);
        assert_eq!(table.classes, ["w", "x"]);
        assert_eq!((table.values, table.labels), (vec![1.0, 2.0, 3.0, 4.5, 5.0, 6.0], vec![1, 0, 1]));
        let table = read("kind,a\nx,1\ny,2\n", Some("kind")).unwrap();
        assert_eq!((table.features[0].as_str(), table.values), ("a", vec![1.0, 2.0]));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, label, want) in [
            ("a,b,k\n1,2,x\n1,2,x,9\n", None, "`t.csv`: line 3: 4 fields, the header has 3"),
            ("a,b,k\n1,2\n", None, "`t.csv`: line 2: 2 fields, the header has 3"),
            ("a,b,k\n1,no,x\n", None, "`t.csv`: line 2, column 2 (`b`): `no` is not a number"),
            ("a,b,k\n1,,x\n", None, "`t.csv`: line 2, column 2 (`b`): is empty"),
            ("a,b,k\n1,inf,x\n", None, "`t.csv`: line 2, column 2 (`b`): `inf` is not a number"),
            ("a,k\n1,x\n", Some("z"), "`t.csv`: has no column `z`; there are: a, k"),
            ("a,k\n1,x\n", None, "`t.csv`: column `k` has 1 distinct labels; a classifier needs 2 to 10000"),
            ("", None, "`t.csv`: needs a header with a label and at least one feature"),
        ] {
            assert_eq!(read(text, label).unwrap_err(), want);
        }
    }
}
