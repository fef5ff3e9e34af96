//! [`BudgetPool`]: a [`Budget`] as DataFusion's memory pool.

use std::fmt;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

use super::budget::Budget;

/// What sorts, joins and aggregations draw on. Those that can spill share half of it evenly, much as in DataFusion's `FairSpillPool`;
/// the merges of sorts share the other half, and others that cannot spill take what is left, first come first served.
#[derive(Debug)]
pub(crate) struct BudgetPool(Budget);

impl BudgetPool {
    pub(crate) fn new(budget: Budget) -> Self {
        Self(budget)
    }

    pub(crate) fn budget(&self) -> &Budget {
        &self.0
    }
}

/// How the engine calls the merges of its sorts.
const MERGE: &str = "ExternalSorterMerge";

fn merges(consumer: &MemoryConsumer) -> bool {
    !consumer.can_spill() && consumer.name().starts_with(MERGE)
}

fn spills(reservation: &MemoryReservation) -> bool {
    reservation.consumer().can_spill()
}

impl fmt::Display for BudgetPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl MemoryPool for BudgetPool {
    fn name(&self) -> &'static str {
        "air-data"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.0.change(|books, _| books.spillers(1));
        } else if merges(consumer) {
            self.0.change(|books, _| books.mergers(1));
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.0.change(|books, _| books.spillers(-1));
        } else if merges(consumer) {
            self.0.change(|books, _| books.mergers(-1));
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.0.change(|books, _| books.reserve(additional, spills(reservation)));
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.0.change(|books, wakes| books.unreserve(shrink, spills(reservation), wakes));
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let (spills, merges, holds) =
            (spills(reservation), merges(reservation.consumer()), reservation.size());
        let refused = self.0.change(|books, _| {
            let room = match (spills, merges) {
                (true, _) => books.spiller_room(holds),
                (false, true) => books.merger_room(holds),
                (false, false) => books.rigid_room(),
            };
            if additional <= room {
                books.reserve(additional, spills);
                return None;
            }
            Some(room)
        });
        match refused {
            None => Ok(()),
            Some(room) => Err(DataFusionError::ResourcesExhausted(format!(
                "{} holds {holds} bytes and needs {additional} more, of which the memory budget of {} bytes has {room} left; raise memory_limit_bytes",
                reservation.consumer().name(),
                self.0.limit_bytes(),
            ))),
        }
    }

    fn reserved(&self) -> usize {
        self.0.read(super::ledger::Ledger::reserved)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.0.read(super::ledger::Ledger::working_limit))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch};
    use std::sync::Arc;

    #[test]
    fn spilling_operators_share_one_half_and_the_others_have_what_is_left() {
        // Three quarters of it are for operators and what is kept.
        let budget = Budget::new(1600);
        let pool: Arc<dyn MemoryPool> = Arc::new(BudgetPool::new(budget.clone()));
        let spills = |name: &str| MemoryConsumer::new(name).with_can_spill(true).register(&pool);
        let (one, two) = (spills("one"), spills("two"));
        assert!(one.try_grow(300).is_ok());
        let refused = one.try_grow(1).unwrap_err().to_string();
        assert!(
            refused.ends_with("one holds 300 bytes and needs 1 more, of which the memory budget of 1600 bytes has 0 left; raise memory_limit_bytes"),
            "{refused}"
        );
        assert!(two.try_grow(300).is_ok());
        let rigid = MemoryConsumer::new("merge").register(&pool);
        assert!(rigid.try_grow(600).is_ok());
        assert!(rigid.try_grow(1).is_err());
        assert_eq!((pool.reserved(), budget.usage().operator_bytes), (1200, 1200));
        // Two gone, one has more.
        drop((two, rigid));
        assert!(one.try_grow(300).is_ok());
        assert!(one.try_grow(1).is_err());
        drop(one);
        assert_eq!(budget.usage().in_use_bytes, 0);
    }

    #[test]
    fn merges_share_the_half_that_sorts_have_not_got() {
        let budget = Budget::new(1600);
        let pool: Arc<dyn MemoryPool> = Arc::new(BudgetPool::new(budget.clone()));
        let merge = |part: usize| MemoryConsumer::new(format!("{MERGE}[{part}]")).register(&pool);
        let sort = MemoryConsumer::new("ExternalSorter[0]").with_can_spill(true).register(&pool);
        let (one, two) = (merge(0), merge(1));
        assert!(one.try_grow(300).is_ok());
        assert!(one.try_grow(1).is_err(), "the other's");
        assert!(sort.try_grow(600).is_ok());
        assert!(two.try_grow(300).is_ok());
        assert!(two.try_grow(1).is_err());
        drop((sort, two));
        assert!(one.try_grow(300).is_ok());
        assert!(one.try_grow(1).is_err());
        drop(one);
        assert_eq!(budget.usage().in_use_bytes, 0);
    }

    #[test]
    fn what_is_kept_leaves_operators_their_half() {
        let budget = Budget::new(64 << 10);
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1000));
        let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
        let (kept, again) = (budget.keep(&batch).unwrap(), budget.keep(&batch).unwrap());
        let once = budget.usage().kept_bytes;
        assert!((8000..9000).contains(&once), "the same buffer counts once");
        let others: Vec<_> = (0..9)
            .map_while(|n| {
                let column: ArrayRef = Arc::new(Int64Array::from_iter_values(n..1000 + n));
                let batch = RecordBatch::try_from_iter([("id", column)]).unwrap();
                Some((budget.keep(&batch)?, batch))
            })
            .collect();
        assert_eq!(others.len(), 2, "24 of 64 KiB");
        drop((kept, others));
        assert_eq!(budget.usage().kept_bytes, once, "somebody keeps it still");
        drop(again);
        assert_eq!(budget.usage().in_use_bytes, 0);
    }
}
