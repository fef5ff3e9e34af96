//! A real table: 336 776 flights with strings, nulls and dates, which `scripts/fetch_data.py` brings.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::session;

/// The table in this format, or nothing, with a word on how to get it.
pub(super) fn flights(extension: &str) -> Option<String> {
    let root = std::env::var_os("AIR_TEST_DATA")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../data"), PathBuf::from);
    let path = root.join(format!("flights.{extension}"));
    if path.exists() {
        return Some(path.to_string_lossy().into_owned());
    }
    println!("skipped: {} is not there; scripts/fetch_data.py brings it", path.display());
    None
}

#[derive(Debug, Serialize, Deserialize)]
struct Delay {
    carrier: String,
    dep_delay: Option<f64>,
}

#[test]
fn flights_from_parquet() {
    let Some(path) = flights("parquet") else { return };
    let session = session();
    let ds = session.read_parquet(&path).unwrap();
    assert_eq!(ds.count().unwrap(), 336_776);
    // Figures of the table itself: 8 255 flights never left; the longest delay was of Hawaiian's flight 51.
    let cancelled = ds.filter(|f: &Delay| Ok(f.dep_delay.is_none()));
    assert_eq!(cancelled.count().unwrap(), 8255);
    session.register("flights", &ds).unwrap();
    let query = "select count(*) as n from flights where dep_delay is null";
    assert_eq!(session.sql(query).unwrap().take::<i64>(1).unwrap(), [8255]);
    let late = ds.filter(|f: &Delay| Ok(f.dep_delay == Some(1301.0)));
    let rows: Vec<Delay> = late.take_all().unwrap();
    assert_eq!((rows.len(), rows[0].carrier.as_str()), (1, "HA"));
}

#[test]
fn flights_from_csv_are_the_same() {
    let (Some(csv), Some(parquet)) = (flights("csv"), flights("parquet")) else { return };
    let session = session();
    let (csv, parquet) = (session.read_csv(&csv).unwrap(), session.read_parquet(&parquet).unwrap());
    let columns = ["year", "carrier", "tailnum", "dep_delay", "air_time", "dest"];
    let delays = |ds: &air_data::Dataset| -> (u64, i64, i64) {
        let chosen = ds.select(columns);
        let mut totals = (0, 0, 0);
        for row in chosen.batches(10_000).unwrap() {
            let batch = row.unwrap();
            totals.0 += batch.num_rows() as u64;
            totals.1 +=
                batch.columns().iter().map(|c| arrow::array::Array::null_count(c) as i64).sum::<i64>();
            totals.2 +=
                arrow::compute::sum(arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(
                    &arrow::compute::cast(batch.column(3), &arrow::datatypes::DataType::Int64).unwrap(),
                ))
                .unwrap_or(0);
        }
        totals
    };
    assert_eq!(delays(&csv), delays(&parquet));
}
