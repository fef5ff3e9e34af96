//! [`BudgetPool`]: a [`Budget`] as DataFusion's memory pool.

use std::fmt;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation};

use super::budget::Budget;

/// What sorts, joins and aggregations draw on. Those that can spill share what the others leave evenly, as DataFusion's
/// `FairSpillPool` has it; those that cannot take what is left, first come first served.
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
        }
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        if consumer.can_spill() {
            self.0.change(|books, _| books.spillers(-1));
        }
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.0.change(|books, _| books.reserve(additional, spills(reservation)));
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.0.change(|books, wakes| books.unreserve(shrink, spills(reservation), wakes));
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let (spills, holds) = (spills(reservation), reservation.size());
        let refused = self.0.change(|books, _| {
            let room =
                if spills { books.spiller_share().saturating_sub(holds) } else { books.rigid_room() };
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
