#![allow(clippy::unwrap_used)]

use arrow::compute::SortOptions;
use datafusion::physical_expr::expressions::col;
use serde::{Deserialize, Serialize};

use super::*;
use crate::rows::Reader;
use crate::{Dataset, Session, SessionConfig};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Item {
    id: i64,
    key: Option<i64>,
    text: String,
}

fn item(id: i64) -> Item {
    let mixed = (id * 7919) % 100_003;
    let text = format!("{:>width$}", mixed % 37, width = 60 + (mixed % 5) as usize);
    Item { id, key: (mixed % 11 != 0).then_some(mixed % 1000), text }
}

/// The keys falling, nulls first, then the texts rising.
fn sorted_within(ds: &Dataset, most_bytes: usize) -> Vec<Item> {
    let ds = ds.clone();
    let batches = ds.session().clone().block_on(async move {
        let (plan, context) = ds.physical().await?;
        let schema = plan.schema();
        let key = |name, descending| PhysicalSortExpr {
            expr: col(name, &schema).unwrap(),
            options: SortOptions { descending, nulls_first: true },
        };
        let keys = LexOrdering::new([key("key", true), key("text", false)]).unwrap();
        let operator: Arc<dyn Operator> = Arc::new(RangeSort { keys, most_bytes });
        let sort = NodeExec::new(&operator, vec![plan])?;
        let batches: Vec<RecordBatch> = sort.execute(0, context)?.try_collect().await?;
        assert!(batches.iter().all(|batch| batch.num_rows() <= 8192));
        Ok(batches)
    });
    let reader = Reader::<Item>::new();
    batches.unwrap().iter().flat_map(|batch| reader.read(batch).ok().unwrap()).collect()
}

#[test]
fn rows_are_in_the_order_of_their_keys_in_memory_and_through_the_disk() {
    // A budget of its own: what other tests have in use is not counted.
    let memory_limit_bytes = 1 << 30;
    let config =
        SessionConfig { parallelism: 2, progress: false, memory_limit_bytes, ..SessionConfig::default() };
    let session = Session::new(config).unwrap();
    let rows = 200_000;
    let ds = session.range(rows).unwrap().map(|id: i64| Ok(item(id)));
    let mut expected: Vec<Item> = (0..rows as i64).map(item).collect();
    let order = |a: &Item, b: &Item| match (a.key, b.key) {
        (None, Some(_)) => std::cmp::Ordering::Less,
        (Some(_), None) => std::cmp::Ordering::Greater,
        (a_key, b_key) => b_key.cmp(&a_key).then_with(|| a.text.cmp(&b.text)),
    };
    expected.sort_by(|a, b| order(a, b).then(a.id.cmp(&b.id)));
    for most_bytes in [usize::MAX, 5 << 20, 0] {
        let mut sorted = sorted_within(&ds, most_bytes);
        assert!(sorted.is_sorted_by(|a, b| order(a, b).is_le()), "within {most_bytes}");
        // Equal keys are in no particular order.
        sorted.sort_by(|a, b| order(a, b).then(a.id.cmp(&b.id)));
        assert!(sorted == expected, "within {most_bytes}");
    }
    assert_eq!(session.budget().usage().in_use_bytes, 0);
}

#[test]
fn no_more_buckets_than_different_keys_in_the_sample() {
    let keys: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values((0..10_000).map(|id| id % 3)));
    let batch = RecordBatch::try_from_iter([("key", keys)]).unwrap();
    let schema = batch.schema();
    let key = PhysicalSortExpr { expr: col("key", &schema).unwrap(), options: SortOptions::default() };
    let keys = LexOrdering::new([key]).unwrap();
    let bounds = Bounds::sampled(std::slice::from_ref(&batch), &keys, &schema, 50).unwrap();
    assert!((2..=4).contains(&bounds.buckets()), "{}", bounds.buckets());
    let dealt = bounds.deal(&[batch], &keys).unwrap();
    let sizes: Vec<usize> = dealt.iter().map(|columns| columns[0].len()).filter(|rows| *rows > 0).collect();
    assert_eq!(sizes, [3334, 3333, 3333]);
}
