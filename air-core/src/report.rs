//! [`Reporter`]: how code that works in iterations tells what it measured, and learns whether to go on, without knowing who judges
//! (invariant A1). A trainer reports to it; a tuner's trial is one.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::BoxError;

/// Takes the metrics of each iteration and says whether there is to be another.
pub trait Reporter {
    /// Takes the metrics of iteration `iteration`, counted from 1; after a restart from a checkpoint iterations may come
    /// again. `Break` ends the work early, which is no failure.
    ///
    /// # Errors
    /// Metrics that cannot be taken, which end the work too.
    fn report(
        &mut self,
        iteration: u64,
        metrics: &BTreeMap<String, f64>,
    ) -> Result<ControlFlow<()>, BoxError>;
}

impl<F> Reporter for F
where
    F: FnMut(u64, &BTreeMap<String, f64>) -> Result<ControlFlow<()>, BoxError>,
{
    fn report(
        &mut self,
        iteration: u64,
        metrics: &BTreeMap<String, f64>,
    ) -> Result<ControlFlow<()>, BoxError> {
        self(iteration, metrics)
    }
}
