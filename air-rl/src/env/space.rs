//! Spaces: what an observation or an action may be.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::env::Action;
use crate::env::rng::NumpyRng;
use crate::error::{Result, RlError};

/// A set of values, as in Gymnasium.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Space {
    /// `0..n`, one of n choices.
    Discrete {
        /// How many choices.
        n: u32,
    },
    /// Several choices at once, the i-th one of `nvec[i]`.
    MultiDiscrete {
        /// How many choices each has.
        nvec: Vec<u32>,
    },
    /// Real arrays within bounds, both ends included. Bounds may be infinite.
    Box {
        /// Lower bound of each item.
        #[serde(with = "bounds")]
        low: Vec<f32>,
        /// Upper bound of each item.
        #[serde(with = "bounds")]
        high: Vec<f32>,
        /// Extent of each axis; their product is the length of `low` and `high`.
        shape: Vec<usize>,
    },
}

impl Space {
    /// `n` choices.
    pub fn discrete(n: u32) -> Self {
        Self::Discrete { n }
    }

    /// Several choices at once.
    pub fn multi_discrete(nvec: &[u32]) -> Self {
        Self::MultiDiscrete { nvec: nvec.to_vec() }
    }

    /// A vector bounded item by item.
    pub fn bounded(low: &[f32], high: &[f32]) -> Self {
        Self::Box { low: low.to_vec(), high: high.to_vec(), shape: vec![low.len()] }
    }

    /// Items in one row of this space: 1 for a choice, one each for several, the product of the shape for a box.
    pub fn row_len(&self) -> usize {
        match self {
            Self::Discrete { .. } => 1,
            Self::MultiDiscrete { nvec } => nvec.len(),
            Self::Box { low, .. } => low.len(),
        }
    }

    /// How many choices each decision of this space has: `[n]`, `nvec`, or none for a box.
    pub fn groups(&self) -> &[u32] {
        match self {
            Self::Discrete { n } => std::slice::from_ref(n),
            Self::MultiDiscrete { nvec } => nvec,
            Self::Box { .. } => &[],
        }
    }

    /// The sum of [`groups`](Self::groups): items of an action mask, of one-hot rows, of a network's logits.
    pub fn choices(&self) -> usize {
        self.groups().iter().map(|&n| n as usize).sum()
    }

    /// Is the row an element? A discrete one is a whole number below `n`.
    pub fn contains(&self, row: &[f32]) -> bool {
        let whole = |x: f32, n: u32| x.fract() == 0.0 && x >= 0.0 && f64::from(x) < f64::from(n);
        match self {
            Self::Discrete { n } => matches!(row, [x] if whole(*x, *n)),
            Self::MultiDiscrete { nvec } => {
                row.len() == nvec.len() && row.iter().zip(nvec).all(|(&x, &n)| whole(x, n))
            }
            Self::Box { low, high, .. } => {
                row.len() == low.len() && row.iter().zip(low).zip(high).all(|((x, l), h)| l <= x && x <= h)
            }
        }
    }

    /// Is the action an element?
    pub fn contains_action(&self, action: Action<'_>) -> bool {
        match (self, action) {
            (Self::Discrete { n }, Action::Discrete(a)) => a < *n,
            (Self::MultiDiscrete { nvec }, Action::MultiDiscrete(row)) => {
                row.len() == nvec.len() && row.iter().zip(nvec).all(|(a, n)| a < n)
            }
            (Self::Box { .. }, Action::Continuous(row)) => self.contains(row),
            _ => false,
        }
    }

    /// Fills `row` with a random element; an infinite bound counts as 1 from the other end or from zero.
    pub fn sample(&self, rng: &mut NumpyRng, row: &mut [f32]) {
        match self {
            Self::Discrete { n } => row.fill(rng.integers(0, i64::from(*n)) as f32),
            Self::MultiDiscrete { nvec } => {
                for (x, &n) in row.iter_mut().zip(nvec) {
                    *x = rng.integers(0, i64::from(n)) as f32;
                }
            }
            Self::Box { low, high, .. } => {
                for ((x, &l), &h) in row.iter_mut().zip(low).zip(high) {
                    let (l, h) = match (l.is_finite(), h.is_finite()) {
                        (true, true) => (l, h),
                        (true, false) => (l, l + 1.0),
                        (false, true) => (h - 1.0, h),
                        (false, false) => (-1.0, 1.0),
                    };
                    *x = (rng.uniform(f64::from(l), f64::from(h)) as f32).clamp(l, h);
                }
            }
        }
    }

    /// Checks that the space is well-formed: something in it, bounds in order and as many as the shape says.
    pub fn validate(&self, what: &'static str) -> Result<()> {
        let bad = |why: &str| Err(RlError::Space { what, space: self.to_string(), why: why.into() });
        match self {
            Self::Discrete { n: 0 } => bad("has no element"),
            Self::MultiDiscrete { nvec } if nvec.is_empty() => bad("has no item"),
            Self::MultiDiscrete { nvec } if nvec.contains(&0) => bad("has no element"),
            Self::Discrete { .. } | Self::MultiDiscrete { .. } => Ok(()),
            Self::Box { low, high, shape } => {
                let items = shape.iter().try_fold(1_usize, |n, &d| n.checked_mul(d));
                if items != Some(low.len()) || low.len() != high.len() {
                    bad("has bounds that do not fit its shape")
                } else if low.is_empty() {
                    bad("has no item")
                } else if low
                    .iter()
                    .zip(high)
                    .any(|(l, h)| l.partial_cmp(h).is_none_or(std::cmp::Ordering::is_gt))
                {
                    bad("has a lower bound above its upper bound, or a NaN")
                } else {
                    Ok(())
                }
            }
        }
    }
}

impl fmt::Display for Space {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discrete { n } => write!(f, "Discrete({n})"),
            Self::MultiDiscrete { nvec } => write!(f, "MultiDiscrete({nvec:?})"),
            Self::Box { low, high, shape } => {
                let min = low.iter().copied().fold(f32::INFINITY, f32::min);
                let max = high.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                write!(f, "Box({min}, {max}, {shape:?})")
            }
        }
    }
}

/// JSON has no infinity: bounds that are not finite are written as text.
mod bounds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Bound {
        Number(f32),
        Text(String),
    }

    pub(super) fn serialize<S: Serializer>(bounds: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            bounds.iter().map(|&b| if b.is_finite() { Bound::Number(b) } else { Bound::Text(b.to_string()) }),
        )
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        let read = |bound| match bound {
            Bound::Number(b) => Ok(b),
            Bound::Text(text) => {
                text.parse().map_err(|_| D::Error::custom(format!("`{text}` is not a bound")))
            }
        };
        Vec::<Bound>::deserialize(deserializer)?.into_iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn infinite_bounds_survive_json() {
        let space = Space::bounded(&[f32::NEG_INFINITY, -0.1], &[0.3, f32::INFINITY]);
        let text = serde_json::to_string(&space).unwrap();
        assert_eq!(serde_json::from_str::<Space>(&text).unwrap(), space, "{text}");
    }

    #[test]
    fn membership_respects_bounds_lengths_and_kinds() {
        let b = Space::bounded(&[-1.0, 0.0], &[1.0, f32::INFINITY]);
        assert!(b.contains(&[-1.0, 1e30]) && !b.contains(&[-1.1, 0.0]));
        assert!(!b.contains(&[0.0]) && !b.contains(&[f32::NAN, 0.0]));
        let d = Space::discrete(3);
        assert!(d.contains(&[2.0]) && !d.contains(&[3.0]) && !d.contains(&[0.5]) && !d.contains(&[-1.0]));
        assert!(d.contains_action(Action::Discrete(2)) && !d.contains_action(Action::Discrete(3)));
        let m = Space::multi_discrete(&[3, 2]);
        assert!(m.contains(&[2.0, 1.0]) && !m.contains(&[2.0, 2.0]) && !m.contains(&[2.0]));
        assert!(m.contains_action(Action::MultiDiscrete(&[0, 1])));
        assert!(
            !m.contains_action(Action::MultiDiscrete(&[0, 2])) && !m.contains_action(Action::Discrete(0))
        );
        assert!(
            !d.contains_action(Action::Continuous(&[1.0]))
                && b.contains_action(Action::Continuous(&[0.0, 2.0]))
        );
    }

    #[test]
    fn samples_are_members() {
        let mut rng = NumpyRng::new(1);
        for space in [
            Space::discrete(4),
            Space::multi_discrete(&[1, 5]),
            Space::bounded(&[-2.0, f32::NEG_INFINITY, 3.0], &[2.0, 0.0, f32::INFINITY]),
        ] {
            let mut row = vec![0.0; space.row_len()];
            for _ in 0..200 {
                space.sample(&mut rng, &mut row);
                assert!(space.contains(&row), "{space}: {row:?}");
            }
        }
    }

    #[test]
    fn ill_formed_spaces_are_refused_with_the_reason() {
        let says = |s: Space| s.validate("action space").map_err(|e| e.to_string());
        assert_eq!(says(Space::discrete(0)), Err("action space Discrete(0) has no element".into()));
        assert!(says(Space::multi_discrete(&[])).is_err() && says(Space::multi_discrete(&[2, 0])).is_err());
        assert!(says(Space::bounded(&[1.0], &[0.0])).is_err_and(|e| e.contains("above")));
        assert!(says(Space::bounded(&[f32::NAN], &[0.0])).is_err_and(|e| e.contains("NaN")));
        assert!(says(Space::Box { low: vec![0.0], high: vec![1.0], shape: vec![2] }).is_err());
        assert_eq!(says(Space::bounded(&[0.0], &[0.0])), Ok(()));
    }
}
