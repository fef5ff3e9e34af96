//! [`ResourceConfig`]: what there is to deal, and in what amounts.

use air_core::resource::Resources;
use serde::{Deserialize, Serialize};

use crate::error::{Result, TuneError};
use crate::schedule::SchedulerConfig;

/// Most trials at once that resources are dealt to.
const MOST: u64 = 1024;

/// Who gets what is left over once every trial has the least.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Favour {
    /// All trials alike.
    #[default]
    Even,
    /// The best trial, as far as is known.
    Best,
}

/// Settings of [`ResourceChanging`](super::ResourceChanging).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResourceConfig {
    /// Who decides which trials go on.
    pub inner: Box<SchedulerConfig>,
    /// What all trials have together; the processors of this machine unless set.
    pub total: Resources,
    /// What every trial has at least, and what is added to it; one processor unless set.
    pub per_trial: Resources,
    /// Who gets what is left over.
    pub favour: Favour,
    /// Iterations a trial is left alone for after it was given more.
    pub interval: u64,
}

impl Default for ResourceConfig {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            inner: Box::default(),
            total: Resources::new().cpu(processors as f64),
            per_trial: Resources::new().cpu(1.0),
            favour: Favour::Even,
            interval: 1,
        }
    }
}

impl ResourceConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`TuneError::InvalidConfig`] for the first one out of range.
    pub fn validate(&self) -> Result<()> {
        let bad = |field, reason: String| Err(TuneError::config(field, reason));
        self.inner.validate()?;
        if let SchedulerConfig::Resources(_) = *self.inner {
            return bad("inner", "deals with resources already".into());
        }
        if let Err(error) = self.total.validate() {
            return bad("total", error.to_string());
        }
        if let Err(error) = self.per_trial.validate() {
            return bad("per_trial", error.to_string());
        }
        if self.total.gpu.fract() != 0.0 {
            return bad("total", format!("{} gpu: a machine has whole devices", self.total.gpu));
        }
        if self.per_trial == Resources::new() {
            return bad("per_trial", "must name something that trials share".into());
        }
        if self.units() == 0 {
            return bad("total", format!("{} is less than {} for one trial", self.total, self.per_trial));
        }
        if self.interval == 0 {
            return bad("interval", "must be at least 1".into());
        }
        Ok(())
    }

    /// How often the least fits into all there is.
    pub(super) fn units(&self) -> u64 {
        let custom = self.per_trial.custom.iter();
        let pairs = [
            (self.total.cpu, self.per_trial.cpu),
            (self.total.gpu, self.per_trial.gpu),
            (self.total.memory_bytes as f64, self.per_trial.memory_bytes as f64),
        ];
        pairs
            .into_iter()
            .chain(custom.map(|(kind, least)| (self.total.custom.get(kind).copied().unwrap_or(0.0), *least)))
            .filter(|(_, least)| *least > 0.0)
            // Shares are counted in ten-thousandths: a tenth fits ten times.
            .map(|(total, least)| ((total / least + 1e-6).floor() as u64).min(MOST))
            .min()
            .unwrap_or(0)
    }

    /// So many times the least.
    pub(super) fn times(&self, units: u64) -> Resources {
        let by = units as f64;
        let mut all = self.per_trial.clone();
        all.cpu *= by;
        all.gpu *= by;
        all.memory_bytes = all.memory_bytes.saturating_mul(units);
        all.custom.values_mut().for_each(|amount| *amount *= by);
        all
    }

    /// The most units, up to `units`, that one trial can have: shares of a GPU do not add up to one and a half.
    pub(super) fn usable(&self, units: u64) -> u64 {
        (1..=units).rev().find(|units| self.times(*units).validate().is_ok()).unwrap_or(1)
    }
}
