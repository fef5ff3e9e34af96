//! The files of the budget that lanes stand on, with loom's mutex in them.
#![allow(dead_code, clippy::struct_field_names)]

mod sync {
    pub(super) use crate::loom_mutex::Mutex;
}

mod machine {
    pub(super) fn memory_bytes() -> u64 {
        0
    }
}

/// The engine's side of the budget, which lanes have nothing to do with.
mod pool {
    pub(super) struct BudgetPool(super::Budget);

    impl BudgetPool {
        pub(super) fn budget(&self) -> &super::Budget {
            &self.0
        }
    }
}

#[path = "../../../src/memory/budget.rs"]
mod budget;
#[path = "../../../src/memory/ledger.rs"]
mod ledger;
#[path = "../../../src/memory/parcel.rs"]
mod parcel;

pub(crate) use budget::{Account, Budget, Charge, Entering};
pub(crate) use parcel::Parcel;
