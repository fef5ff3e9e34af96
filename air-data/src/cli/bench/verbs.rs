//! The verbs that are measured.

use super::table::Table;
use crate::expr::{DataType, cast};
use crate::{Dataset, Result, agg, col, lit};

/// Rows in a batch, as a training loop takes them.
const BATCH: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Scan,
    Filter,
    Closure,
    Group,
    Sort,
    Batches,
}

/// Their names.
pub(super) const VERBS: [&str; 6] = ["scan", "filter", "closure", "group", "sort", "batches"];

impl Verb {
    pub(super) const ALL: [Self; 6] =
        [Self::Scan, Self::Filter, Self::Closure, Self::Group, Self::Sort, Self::Batches];

    pub(super) fn name(self) -> &'static str {
        VERBS[self as usize]
    }

    /// Makes every row once and keeps none; returns how many there were.
    pub(super) fn run(self, dataset: &Dataset, table: &Table) -> Result<u64> {
        match self {
            Self::Scan => drained(dataset),
            Self::Filter => drained(&dataset.filter_expr(col(&table.sort).gt_eq(lit(table.middle.clone())))),
            Self::Closure => drained(&closed(dataset, table)),
            Self::Group => {
                let mut aggregates = vec![agg::count().alias("rows")];
                aggregates.extend(table.number.as_ref().map(|number| agg::mean(number).alias("mean")));
                drained(&dataset.group_by([&table.group]).aggregate(aggregates))
            }
            Self::Sort => drained(&dataset.sort([&table.sort])),
            Self::Batches => {
                let mut rows = 0;
                for batch in dataset.batches(BATCH)? {
                    rows += batch?.num_rows() as u64;
                }
                Ok(rows)
            }
        }
    }
}

/// A function of Rust over each row, of one column.
fn closed(dataset: &Dataset, table: &Table) -> Dataset {
    match &table.number {
        Some(number) => dataset
            .select([cast(col(number), DataType::Float64).alias("x")])
            .map(|x: Option<f64>| Ok(x.map(|x| x * 2.0 + 1.0))),
        None => dataset
            .select([cast(col(&table.sort), DataType::Utf8).alias("x")])
            .map(|x: Option<String>| Ok(x.map(|x| x.len() as f64))),
    }
}

/// Runs it to its end on the session's threads.
fn drained(dataset: &Dataset) -> Result<u64> {
    dataset.size_bytes()?;
    Ok(dataset.stats().map_or(0, |stats| stats.rows))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{measure, session};
    use super::*;

    fn rows(table: &Table) -> Vec<u64> {
        let dataset = table.dataset(&session().unwrap()).unwrap();
        Verb::ALL.iter().map(|verb| verb.run(&dataset, table).unwrap()).collect()
    }

    #[test]
    fn every_verb_makes_the_rows_it_says() {
        let table = Table::new(&session().unwrap(), None, 20_000).unwrap();
        assert_eq!((table.rows, table.bytes), (20_000, 20_000 * 24));
        assert_eq!((table.group.as_str(), table.sort.as_str()), ("key", "value"));
        let rows = rows(&table);
        assert_eq!([rows[0], rows[2], rows[3], rows[4], rows[5]], [20_000, 20_000, 1009, 20_000, 20_000]);
        // About half.
        assert!((8_000..12_000).contains(&rows[1]), "{rows:?}");
        for figure in measure(&table, &Verb::ALL, 1).unwrap() {
            assert!(figure.seconds > 0.0 && figure.rows_per_second.is_finite(), "{figure:?}");
        }
    }

    #[test]
    fn a_file_of_text_alone_is_measured_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("names.csv");
        std::fs::write(&file, "name\nb\na\n\nc\nb\n").unwrap();
        let table = Table::new(&session().unwrap(), file.to_str(), 0).unwrap();
        let table_rows = rows(&table);
        assert_eq!(table_rows.len(), 6);
        assert_eq!((table.number.clone(), table_rows[0], table_rows[4]), (None, table.rows, table.rows));
    }

    #[test]
    fn names_and_verbs_go_together() {
        let names: Vec<String> = Verb::ALL.iter().map(|verb| format!("{verb:?}").to_lowercase()).collect();
        assert_eq!(names, VERBS);
    }
}
