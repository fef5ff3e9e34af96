//! A data set of any size, and the work on it that does not stream.

use std::sync::Arc;

use air_data::{DataError, Dataset, Join, Result, Session, agg, asc};
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};

/// Bytes of a row: two numbers, a text and where it ends.
pub const ROW_BYTES: u64 = 8 + 8 + 4 + TEXT_BYTES;
const TEXT_BYTES: u64 = 108;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Sort,
    Shuffle,
    Group,
    Join,
}

impl Work {
    pub const ALL: [Self; 4] = [Self::Sort, Self::Shuffle, Self::Group, Self::Join];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sort => "sort",
            Self::Shuffle => "shuffle",
            Self::Group => "group",
            Self::Join => "join",
        }
    }

    /// Does it over `rows` rows, and checks what comes out. The rows of a join are those of both sides.
    pub fn run(self, session: &Session, rows: u64) -> Result<u64> {
        match self {
            Self::Sort => {
                let (mut last, mut seen) = ((i64::MIN, i64::MIN), Seen::default());
                for batch in data(session, rows)?.sort([asc("key"), asc("id")]).batches(4096)? {
                    let batch = batch?;
                    for (id, key) in seen.add(&batch)? {
                        check(last < (key, id), || format!("{last:?} before {:?}", (key, id)))?;
                        last = (key, id);
                    }
                }
                seen.all(rows)
            }
            Self::Shuffle => {
                let (mut seen, mut last, mut in_order) = (Seen::default(), 0, 0);
                for batch in data(session, rows)?.random_shuffle(7).batches(4096)? {
                    let batch = batch?;
                    for (id, _) in seen.add(&batch)? {
                        in_order += u64::from(id == last + 1);
                        last = id;
                    }
                }
                check(in_order <= rows / 100 + 10, || format!("{in_order} of {rows} are where they were"))?;
                seen.all(rows)
            }
            Self::Group => {
                let groups = data(session, rows)?.group_by(["key"]).aggregate([
                    agg::count().alias("n"),
                    agg::max("id").alias("id"),
                    agg::max("text").alias("text"),
                ]);
                let mut seen = Seen::default();
                for batch in groups.select(["id", "key", "text", "n"]).batches(4096)? {
                    let batch = batch?;
                    let alone = batch.column(3).as_primitive::<Int64Type>().values().iter().all(|n| *n == 1);
                    check(alone, || "a key that is there more than once".to_owned())?;
                    seen.add(&batch)?;
                }
                seen.all(rows)
            }
            Self::Join => {
                let (left, right) = (data(session, rows / 2)?, data(session, rows / 2)?);
                let mut seen = Seen::default();
                for batch in left.join(&right, Join::inner(["id"])).batches(4096)? {
                    let batch = batch?;
                    check(batch.column(2) == batch.column(4), || "rows of different texts".to_owned())?;
                    seen.add(&batch)?;
                }
                seen.all(rows / 2)
            }
        }
    }
}

/// Rows whose key tells their number and whose text tells it too, in an order that is none of the keys; half of them in each of two blocks at least.
fn data(session: &Session, rows: u64) -> Result<Dataset> {
    Ok(part(session, 0, rows / 2)?.union([&part(session, rows / 2, rows - rows / 2)?]))
}

fn part(session: &Session, first: u64, rows: u64) -> Result<Dataset> {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("key", DataType::Int64, false),
        Field::new("text", DataType::Utf8, false),
    ]));
    let columns = schema.clone();
    Ok(session.range(rows)?.map_batches_to(schema, move |batch| {
        let ids: Vec<i64> =
            batch.column(0).as_primitive::<Int64Type>().values().iter().map(|id| id + first as i64).collect();
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| key(*id))));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(ids.iter().map(|id| text(*id))));
        Ok(RecordBatch::try_new(columns.clone(), vec![Arc::new(Int64Array::from(ids)), keys, texts])?)
    }))
}

/// Another number for each number: a multiplication by an odd one, and a turn, lose nothing.
fn key(id: i64) -> i64 {
    id.wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as i64).rotate_left(29)
}

fn text(id: i64) -> String {
    format!("{id:0>width$x}", width = TEXT_BYTES as usize)
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(DataError::Config { field: "the result", reason: otherwise() }) }
}

/// Which rows came out, whatever their order.
#[derive(Default)]
struct Seen {
    rows: u64,
    sum: u64,
}

impl Seen {
    /// The numbers and keys of the rows, which have to belong together.
    fn add(&mut self, batch: &RecordBatch) -> Result<Vec<(i64, i64)>> {
        let ids = batch.column(0).as_primitive::<Int64Type>();
        let keys = batch.column(1).as_primitive::<Int64Type>();
        let texts = batch.column(2).as_string::<i32>();
        let rows: Vec<(i64, i64)> = ids.values().iter().copied().zip(keys.values().iter().copied()).collect();
        for ((id, its_key), its_text) in rows.iter().zip(texts) {
            let belongs = *its_key == key(*id) && its_text == Some(&text(*id));
            check(belongs, || format!("row {id} has another row's key or text"))?;
            self.sum = self.sum.wrapping_add(hash(*id));
        }
        self.rows += rows.len() as u64;
        Ok(rows)
    }

    fn all(self, rows: u64) -> Result<u64> {
        let sum = (0..rows as i64).fold(0_u64, |sum, id| sum.wrapping_add(hash(id)));
        check((self.rows, self.sum) == (rows, sum), || {
            format!("{} of {rows} rows, or others than went in", self.rows)
        })?;
        Ok(self.sum)
    }
}

fn hash(id: i64) -> u64 {
    let x = (id as u64 ^ 0x5bf0_3635).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53)
}
