//! Tasks that do nothing: what starting one and getting its result costs.

use crate::Runtime;
use crate::error::Result;

/// Tasks per second in batches of so many: all of a batch are started, then all waited for.
pub(super) fn tasks(count: u64, batch: usize) -> Result<f64> {
    let runtime = Runtime::start()?;
    runtime.task("first").spawn(|| Ok(())).get()?;
    Ok(super::calls::rate(count, batch, || {
        let one = runtime.task("one").spawn(|| Ok(1_u64));
        move || one.get().map_or(0, |one| *one)
    }))
}
