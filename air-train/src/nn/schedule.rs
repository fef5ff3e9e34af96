//! Learning-rate schedules: a factor in `0..=1` for each step.

use serde::{Deserialize, Serialize};

/// How the learning rate changes; multiply the base rate by [`factor`](Self::factor).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// Always the base rate.
    #[default]
    Constant,
    /// Falls in a straight line to zero at step `steps`.
    Linear {
        /// Steps until zero.
        steps: u64,
    },
    /// Rises in a straight line over `warmup` steps, then falls along half a cosine to zero at step `steps`.
    Cosine {
        /// Steps until the base rate is reached.
        warmup: u64,
        /// Steps until zero.
        steps: u64,
    },
}

impl Schedule {
    /// The factor at `step`, counted from 0.
    pub fn factor(self, step: u64) -> f32 {
        match self {
            Self::Constant => 1.0,
            Self::Linear { steps } => (1.0 - step as f64 / steps.max(1) as f64).max(0.0) as f32,
            Self::Cosine { warmup, .. } if step < warmup => ((step + 1) as f64 / warmup as f64) as f32,
            Self::Cosine { warmup, steps } => {
                let span = steps.saturating_sub(warmup).max(1) as f64;
                let done = ((step - warmup) as f64 / span).min(1.0);
                (0.5 * (1.0 + (std::f64::consts::PI * done).cos())) as f32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn factors_by_hand() {
        assert_eq!(Schedule::Constant.factor(99), 1.0);
        let linear = Schedule::Linear { steps: 4 };
        assert_eq!([0, 1, 4, 9].map(|s| linear.factor(s)), [1.0, 0.75, 0.0, 0.0]);
        let cosine = Schedule::Cosine { warmup: 2, steps: 6 };
        let got = [0, 1, 2, 4, 6, 100].map(|s| cosine.factor(s));
        for (got, want) in got.iter().zip([0.5, 1.0, 1.0, 0.5, 0.0, 0.0]) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
    }
}
