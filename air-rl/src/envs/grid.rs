//! What grid worlds share: outcomes drawn as Gymnasium draws them.

use crate::env::rng::NumpyRng;

/// One outcome of an action.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub chance: f64,
    pub next: u32,
    pub reward: f64,
    pub terminated: bool,
}

/// Which of these chances a draw falls on: the first whose running sum is above it, the first of all if none is.
pub(super) fn draw(rng: &mut NumpyRng, chances: impl Iterator<Item = f64>) -> usize {
    let u = rng.random();
    let mut sum = 0.0;
    for (i, chance) in chances.enumerate() {
        sum += chance;
        if sum > u {
            return i;
        }
    }
    0
}

/// One of a few outcomes.
pub(super) fn draw_outcome(rng: &mut NumpyRng, outcomes: &[Outcome]) -> Outcome {
    outcomes[draw(rng, outcomes.iter().map(|o| o.chance))]
}
