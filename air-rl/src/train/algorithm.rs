//! What all algorithms have in common: iterations, their results, and when to stop.

use std::collections::VecDeque;
use std::time::Duration;

use air_core::checkpoint::{Checkpoint, CheckpointStore};
use serde::{Deserialize, Serialize};

use crate::error::{Result, RlError};
use crate::play::rollout::Episode;
use crate::saved::policy::Policy;

/// Episodes the mean return is taken over.
pub const WINDOW: usize = 100;

/// An algorithm at work: it plays and learns, one iteration at a time.
pub trait Algorithm {
    /// What one update reports.
    type Stats: Clone + Serialize + std::fmt::Display;

    /// Its name on the command line.
    const NAME: &'static str;

    /// Plays one batch and learns from it.
    fn train(&mut self) -> Result<Iteration<Self::Stats>>;

    /// The policy as it stands, to be used apart from training.
    fn policy(&self) -> Policy;

    /// Saves all it needs to go on, and all a [`Policy`] needs to act.
    fn save(&mut self, store: &CheckpointStore) -> Result<Checkpoint>;

    /// Trains until a rule of `stop` holds.
    fn train_until(&mut self, stop: &Stop) -> Result<Outcome<Self::Stats>>
    where
        Self: Sized,
    {
        self.train_with(stop, |_| {})
    }

    /// [`train_until`](Self::train_until), showing each iteration to `watch`.
    fn train_with(
        &mut self,
        stop: &Stop,
        mut watch: impl FnMut(&Iteration<Self::Stats>),
    ) -> Result<Outcome<Self::Stats>>
    where
        Self: Sized,
    {
        self.train_watching(stop, |_, now| {
            watch(now);
            Ok(())
        })
    }

    /// [`train_until`](Self::train_until), calling `watch` after each iteration with the algorithm, which it may evaluate or save. Its error ends
    /// the training.
    fn train_watching(
        &mut self,
        stop: &Stop,
        mut watch: impl FnMut(&mut Self, &Iteration<Self::Stats>) -> Result<()>,
    ) -> Result<Outcome<Self::Stats>>
    where
        Self: Sized,
    {
        stop.validate()?;
        let mut first = None;
        loop {
            let last = self.train()?;
            let begun = *first.get_or_insert(last.iteration - 1);
            watch(self, &last)?;
            if let Some(reason) = stop.decide(&last, last.iteration - begun) {
                return Ok(Outcome { reason, last });
            }
        }
    }
}

/// What one iteration brought.
#[derive(Clone, Debug, Serialize)]
pub struct Iteration<S> {
    /// Iterations done, from 1.
    pub iteration: u64,
    /// Environment steps taken, all environments together.
    pub steps: u64,
    /// Episodes ended.
    pub episodes: u64,
    /// Training time, seconds, from the first iteration on.
    pub seconds: f64,
    /// Share of `seconds` spent playing; the rest is learning.
    pub playing_seconds: f64,
    /// Mean return of the last 100 episodes (of all, while there are fewer). None before the first end.
    pub mean_return: Option<f64>,
    /// Mean length of the same episodes.
    pub mean_length: Option<f64>,
    /// The highest mean of 100 episodes met at any episode's end in this iteration: what `until-return` asks.
    pub peak_return: Option<f64>,
    /// The learner's own figures.
    pub learner: S,
}

/// When to stop; the first rule that holds. At least one must be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Stop {
    /// The mean return of the last 100 episodes reaches this.
    pub mean_return: Option<f64>,
    /// This many environment steps in all.
    pub steps: Option<u64>,
    /// This many iterations from now.
    pub iterations: Option<u64>,
    /// This much training time in all.
    pub time: Option<Duration>,
}

/// Which rule stopped it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The mean return was reached.
    MeanReturn,
    /// The steps were taken.
    Steps,
    /// The iterations were done.
    Iterations,
    /// The time was up.
    Time,
}

/// How training ended.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome<S> {
    /// The rule that held.
    pub reason: Reason,
    /// The last iteration.
    pub last: Iteration<S>,
}

impl Stop {
    /// Stop at this mean return over 100 episodes.
    pub fn at_return(mean_return: f64) -> Self {
        Self { mean_return: Some(mean_return), ..Self::default() }
    }

    /// Stop after this many iterations.
    pub fn after_iterations(iterations: u64) -> Self {
        Self { iterations: Some(iterations), ..Self::default() }
    }

    /// Stop after this many environment steps, whatever else is set.
    pub fn or_steps(self, steps: u64) -> Self {
        Self { steps: Some(steps), ..self }
    }

    /// An error if no rule can ever hold.
    pub(crate) fn validate(&self) -> Result<()> {
        let why = match self {
            Self { mean_return: Some(r), .. } if r.is_nan() => "has a NaN mean_return",
            Self { mean_return: None, steps: None, iterations: None, time: None } => {
                "needs one of mean_return, steps, iterations, time"
            }
            _ => return Ok(()),
        };
        Err(RlError::Config { field: "stop", why: why.into() })
    }

    /// The rule that holds after `now`, the `done`th iteration under these rules.
    fn decide<S>(&self, now: &Iteration<S>, done: u64) -> Option<Reason> {
        if self.mean_return.zip(now.peak_return).is_some_and(|(target, peak)| peak >= target) {
            Some(Reason::MeanReturn)
        } else if self.steps.is_some_and(|steps| now.steps >= steps) {
            Some(Reason::Steps)
        } else if self.iterations.is_some_and(|iterations| done >= iterations) {
            Some(Reason::Iterations)
        } else if self.time.is_some_and(|time| now.seconds >= time.as_secs_f64()) {
            Some(Reason::Time)
        } else {
            None
        }
    }
}

/// The last [`WINDOW`] episodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Returns {
    last: VecDeque<(f64, u64)>,
    ended: u64,
}

impl Returns {
    /// Takes in the episodes of one iteration; returns the highest full-window mean met on the way.
    pub(crate) fn add(&mut self, episodes: &[Episode]) -> Option<f64> {
        let mut peak: Option<f64> = None;
        for episode in episodes {
            if self.last.len() == WINDOW {
                self.last.pop_front();
            }
            self.last.push_back((episode.total, episode.length));
            self.ended += 1;
            if self.last.len() == WINDOW {
                let mean = self.mean_return();
                if mean > peak {
                    peak = mean;
                }
            }
        }
        peak
    }

    pub(crate) fn ended(&self) -> u64 {
        self.ended
    }

    pub(crate) fn mean_return(&self) -> Option<f64> {
        self.mean(|(total, _)| *total)
    }

    pub(crate) fn mean_length(&self) -> Option<f64> {
        self.mean(|(_, length)| *length as f64)
    }

    fn mean(&self, of: impl Fn(&(f64, u64)) -> f64) -> Option<f64> {
        (!self.last.is_empty()).then(|| self.last.iter().map(of).sum::<f64>() / self.last.len() as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn episodes(totals: impl IntoIterator<Item = f64>) -> Vec<Episode> {
        totals.into_iter().map(|total| Episode { env: 0, at: 0, total, length: total as u64 }).collect()
    }

    fn at(iteration: u64, steps: u64, seconds: f64, peak_return: Option<f64>) -> Iteration<()> {
        let (mean_return, mean_length) = (None, None);
        let (episodes, playing_seconds, learner) = (0, 0.0, ());
        Iteration {
            iteration,
            steps,
            episodes,
            seconds,
            playing_seconds,
            mean_return,
            mean_length,
            peak_return,
            learner,
        }
    }

    #[test]
    fn the_mean_is_over_the_last_100_and_the_peak_only_over_full_windows() {
        let mut returns = Returns::default();
        assert_eq!(returns.mean_return(), None);
        assert_eq!(returns.add(&episodes([10.0; 99])), None);
        assert_eq!(returns.mean_return(), Some(10.0));
        // Full at the first; then up and down again within one iteration.
        assert_eq!(returns.add(&episodes([10.0, 110.0, 10.0, 0.0])), Some(11.0));
        assert_eq!((returns.mean_return(), returns.ended()), (Some(10.9), 103));
        assert_eq!(returns.mean_length(), Some(10.9));
    }

    #[test]
    fn each_rule_stops_and_only_when_it_holds() {
        let now = at(10, 5000, 2.5, Some(100.0));
        let decide = |stop: Stop| stop.decide(&now, 4);
        assert_eq!(decide(Stop::at_return(100.0)), Some(Reason::MeanReturn));
        assert_eq!(decide(Stop::at_return(100.1)), None);
        assert_eq!(Stop::at_return(0.0).decide(&at(1, 1, 0.0, None), 1), None);
        assert_eq!(decide(Stop::default().or_steps(5000)), Some(Reason::Steps));
        assert_eq!(decide(Stop::default().or_steps(5001)), None);
        assert_eq!(decide(Stop::after_iterations(4)), Some(Reason::Iterations));
        assert_eq!(decide(Stop::after_iterations(5)), None);
        assert_eq!(
            decide(Stop { time: Some(Duration::from_secs(2)), ..Stop::default() }),
            Some(Reason::Time)
        );
        assert_eq!(decide(Stop { time: Some(Duration::from_secs(3)), ..Stop::default() }), None);
    }

    #[test]
    fn no_rule_is_an_error() {
        assert!(Stop::default().validate().is_err() && Stop::at_return(f64::NAN).validate().is_err());
        assert!(Stop::after_iterations(1).validate().is_ok());
    }
}
