//! [`Retention`]: which checkpoints stay. A decision without clock, thread or I/O.

use serde::{Deserialize, Serialize};

use super::error::CheckpointError;

/// Whether more or less is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Less is better, as with a loss.
    Min,
    /// More is better, as with an accuracy.
    Max,
}

/// Which metric tells a good checkpoint from a bad one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Score {
    /// The metric's name among those saved with the checkpoint.
    pub metric: String,
    /// Which way is better.
    pub mode: Mode,
}

/// How many checkpoints stay, and which.
///
/// With a score the best stay, without one the newest. The newest always stays besides, because that is where a run
/// goes on. A checkpoint whose score is missing or NaN is worse than any other; of equals the newer one stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// How many stay; all where it is `None`.
    pub keep: Option<usize>,
    /// What makes one better than another; where it is `None`, being newer does.
    pub score: Option<Score>,
}

/// What the decision knows of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Saved {
    /// Its number; a newer one's is higher.
    pub index: u64,
    /// Its score, if it has one.
    pub score: Option<f64>,
}

impl Retention {
    /// Keeps the newest `keep`.
    pub fn newest(keep: usize) -> Self {
        Self { keep: Some(keep), score: None }
    }

    /// Keeps the best `keep`, and the newest.
    pub fn best(keep: usize, metric: impl Into<String>, mode: Mode) -> Self {
        Self { keep: Some(keep), score: Some(Score { metric: metric.into(), mode }) }
    }

    /// Fails where nothing would be kept.
    pub fn validate(&self) -> Result<(), CheckpointError> {
        if self.keep == Some(0) { Err(CheckpointError::KeepsNothing) } else { Ok(()) }
    }

    /// The checkpoints from the best to the worst.
    pub fn ranked(&self, saved: &[Saved]) -> Vec<Saved> {
        let mut ranked = saved.to_vec();
        ranked.sort_by(|a, b| {
            let by_score = self.cost(a).total_cmp(&self.cost(b));
            by_score.then(b.index.cmp(&a.index))
        });
        ranked
    }

    /// The numbers of those to delete, lowest first.
    pub fn surplus(&self, saved: &[Saved]) -> Vec<u64> {
        let Some(keep) = self.keep else { return Vec::new() };
        let newest = saved.iter().map(|saved| saved.index).max();
        let mut surplus: Vec<u64> = self
            .ranked(saved)
            .iter()
            .skip(keep)
            .map(|saved| saved.index)
            .filter(|i| Some(*i) != newest)
            .collect();
        surplus.sort_unstable();
        surplus
    }

    /// Lower is better. Positive NaN is after infinity in the total order, so it comes last.
    fn cost(&self, saved: &Saved) -> f64 {
        let Some(score) = &self.score else { return 0.0 };
        match (saved.score.filter(|value| !value.is_nan()), score.mode) {
            (None, _) => f64::NAN.abs(),
            // Zero has two signs and one value.
            (Some(value), Mode::Min) => value + 0.0,
            (Some(value), Mode::Max) => -value + 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn saved(scores: &[Option<f64>]) -> Vec<Saved> {
        scores.iter().enumerate().map(|(i, score)| Saved { index: i as u64, score: *score }).collect()
    }

    #[test]
    fn the_newest_stay_where_there_is_no_score() {
        assert_eq!(Retention::newest(2).surplus(&saved(&[Some(9.0), None, Some(1.0), None])), [0, 1]);
        assert_eq!(Retention::newest(9).surplus(&saved(&[None; 4])), [0; 0]);
        assert_eq!(Retention::default().surplus(&saved(&[None; 400])), [0; 0]);
        assert_eq!(Retention::newest(1).surplus(&[]), [0; 0]);
    }

    #[test]
    fn the_best_stay_and_the_newest_besides() {
        let scores = saved(&[Some(0.5), Some(0.1), Some(0.9), Some(0.3), Some(0.7)]);
        assert_eq!(Retention::best(2, "loss", Mode::Min).surplus(&scores), [0, 2]);
        assert_eq!(Retention::best(2, "accuracy", Mode::Max).surplus(&scores), [0, 1, 3]);
    }

    #[test]
    fn no_score_and_nan_are_the_worst_whatever_the_mode() {
        let scores = saved(&[
            Some(f64::NAN),
            Some(-f64::NAN),
            None,
            Some(f64::INFINITY),
            Some(f64::NEG_INFINITY),
            None,
        ]);
        assert_eq!(Retention::best(2, "x", Mode::Min).surplus(&scores), [0, 1, 2]);
        assert_eq!(Retention::best(2, "x", Mode::Max).surplus(&scores), [0, 1, 2]);
    }

    #[test]
    fn of_equals_the_newer_stays() {
        let scores = saved(&[Some(0.0), Some(-0.0), Some(0.0), Some(5.0)]);
        assert_eq!(Retention::best(1, "x", Mode::Min).surplus(&scores), [0, 1]);
        assert_eq!(Retention::best(1, "x", Mode::Min).ranked(&scores)[0].index, 2);
    }

    #[test]
    fn keeping_nothing_is_refused() {
        assert_eq!(Retention::newest(0).validate(), Err(CheckpointError::KeepsNothing));
        assert_eq!(Retention::newest(1).validate(), Ok(()));
    }

    proptest! {
        #[test]
        fn what_goes_is_never_the_newest_nor_better_than_what_stays(
            scores in prop::collection::vec(prop::option::of(prop_oneof![Just(f64::NAN), -2.0..2.0_f64]), 1..12),
            keep in 1..5_usize, max: bool,
        ) {
            let mode = if max { Mode::Max } else { Mode::Min };
            let all = saved(&scores);
            let surplus = Retention::best(keep, "x", mode).surplus(&all);
            let newest = all.len() as u64 - 1;
            prop_assert!(!surplus.contains(&newest));
            let kept = all.len() - surplus.len();
            prop_assert!(kept == all.len().min(keep) || kept == keep + 1);
            let worth = |index: u64| all[index as usize].score.filter(|s| !s.is_nan()).map_or(f64::NEG_INFINITY, |s| {
                if max { s } else { -s }
            });
            for gone in &surplus {
                for stays in all.iter().map(|saved| saved.index).filter(|i| !surplus.contains(i) && *i != newest) {
                    prop_assert!(worth(*gone) <= worth(stays));
                }
            }
        }
    }
}
