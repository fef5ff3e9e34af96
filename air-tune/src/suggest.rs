//! Parameters named by the code of a trial, where they are used.

use std::marker::PhantomData;
use std::ops::RangeInclusive;

use serde_json::Value;

use crate::error::Result;
use crate::space::{Choosable, Domain, choice, int_uniform, normal, uniform};
use crate::trial::Trial;

/// A parameter a trial is about to get; made by [`Trial::float`], [`Trial::int`], [`Trial::choice`] and [`Trial::normal`].
#[must_use = "`get` gives the value"]
pub struct Suggest<'a, T> {
    trial: &'a Trial,
    path: String,
    domain: Domain,
    kind: PhantomData<fn() -> T>,
}

/// What a parameter can be got as.
pub trait Suggested: Sized {
    /// The value, if it is one of these.
    fn of(value: Value) -> Option<Self>;
}

impl Suggested for f64 {
    fn of(value: Value) -> Option<Self> {
        value.as_f64()
    }
}

impl Suggested for i64 {
    fn of(value: Value) -> Option<Self> {
        value.as_i64()
    }
}

impl Suggested for Value {
    fn of(value: Value) -> Option<Self> {
        Some(value)
    }
}

impl<T> Suggest<'_, T> {
    /// Uniform in the logarithm.
    pub fn log(mut self) -> Self {
        self.domain = match self.domain {
            Domain::Float { low, high, step: None, .. } => Domain::Float { low, high, log: true, step: None },
            Domain::Int { low, high, step: 1, .. } => Domain::Int { low, high, log: true, step: 1 },
            Domain::Invalid { reason } => Domain::Invalid { reason },
            _ => Domain::Invalid { reason: "only a range without steps can be logarithmic".into() },
        };
        self
    }

    /// Only `low + k * step`; of a normal distribution, only multiples of the step.
    pub fn step(mut self, step: f64) -> Self {
        self.domain = self.domain.step(step);
        self
    }
}

impl<T: Suggested> Suggest<'_, T> {
    /// The value: the same each time the trial asks, also after an interruption.
    ///
    /// # Errors
    /// [`TuneError::InvalidSpace`](crate::TuneError::InvalidSpace) if the name or what is asked for cannot be, or the trial has another value of that name.
    pub fn get(self) -> Result<T> {
        let value = self.trial.suggest(&self.path, &self.domain)?;
        let found = value.to_string();
        T::of(value).ok_or_else(|| crate::TuneError::Parameter {
            path: self.path,
            expected: std::any::type_name::<T>().into(),
            found,
        })
    }
}

impl Trial {
    fn ask<T>(&self, path: &str, domain: Domain) -> Suggest<'_, T> {
        Suggest { trial: self, path: path.to_owned(), domain, kind: PhantomData }
    }

    /// A real number of the range, named where it is used.
    ///
    /// ```
    /// use air_tune::{TuneConfig, Tuner};
    /// let results = Tuner::define(|trial| {
    ///     let lr = trial.float("lr", 1e-5..=1e-1).log().get()?;
    ///     let units = trial.int("units", 8..=64).step(8.0).get()?;
    ///     let momentum = match trial.choice("optimizer", ["sgd", "adam"]).get()?.as_str() {
    ///         Some("sgd") => trial.float("momentum", 0.0..=0.99).get()?,
    ///         _ => 0.0,
    ///     };
    ///     let _ = trial.report(&[("loss", lr * units as f64 + momentum)])?;
    ///     Ok(())
    /// })
    /// .tune_config(TuneConfig { num_samples: 20, ..TuneConfig::default() })
    /// .fit()?;
    /// assert!(results.best()?.config.f64("lr")? <= 0.1);
    /// # Ok::<(), air_tune::TuneError>(())
    /// ```
    pub fn float(&self, name: &str, range: RangeInclusive<f64>) -> Suggest<'_, f64> {
        self.ask(name, uniform(*range.start(), *range.end()))
    }

    /// An integer of the range.
    pub fn int(&self, name: &str, range: RangeInclusive<i64>) -> Suggest<'_, i64> {
        self.ask(name, int_uniform(range))
    }

    /// One of the values, as JSON.
    pub fn choice<C: Choosable>(
        &self,
        name: &str,
        values: impl IntoIterator<Item = C>,
    ) -> Suggest<'_, Value> {
        self.ask(name, choice(values))
    }

    /// A real number, normally distributed.
    pub fn normal(&self, name: &str, mean: f64, deviation: f64) -> Suggest<'_, f64> {
        self.ask(name, normal(mean, deviation))
    }
}
