//! Cliff walking: along a cliff to the goal, where a step over the edge costs a hundred.

use air_core::BoxError;
use serde::Deserialize;

use super::grid::{Outcome, draw_outcome};
use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range, row};

pub(crate) const ROWS: u32 = 4;
pub(crate) const COLUMNS: u32 = 12;
pub(crate) const START: u32 = 36;
pub(crate) const GOAL: u32 = 47;

/// Gymnasium's CliffWalking (Sutton & Barto, example 6.6). It has no time limit.
///
/// Observation: the cell of four rows of twelve, row by row. Actions: 0 up, 1 right, 2 down, 3 left. Reward: −1 a step,
/// −100 over the edge, back to the start; it ends at the goal. Seed-equal with Gymnasium.
#[derive(Clone, Debug)]
pub struct CliffWalking {
    rng: NumpyRng,
    slippery: bool,
    cell: u32,
}

/// Options of [`CliffWalking`] in the registry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CliffWalkingOptions {
    /// The two directions at right angles are as likely as the one chosen. Default false.
    pub is_slippery: bool,
}

impl CliffWalking {
    /// The cliff of these options; seeded with 0 until [`reset`](Env::reset) is given a seed.
    pub fn new(options: &CliffWalkingOptions) -> Self {
        Self { rng: NumpyRng::new(0), slippery: options.is_slippery, cell: START }
    }

    fn outcome(&self, direction: u32, chance: f64) -> Outcome {
        let (r, c) = (self.cell / COLUMNS, self.cell % COLUMNS);
        let (r, c) = match direction {
            0 => (r.saturating_sub(1), c),
            1 => (r, (c + 1).min(COLUMNS - 1)),
            2 => ((r + 1).min(ROWS - 1), c),
            _ => (r, c.saturating_sub(1)),
        };
        let next = r * COLUMNS + c;
        if next > START && next < GOAL {
            return Outcome { chance, next: START, reward: -100.0, terminated: false };
        }
        Outcome { chance, next, reward: -1.0, terminated: next == GOAL }
    }
}

impl Env for CliffWalking {
    fn observation_space(&self) -> Space {
        Space::discrete(ROWS * COLUMNS)
    }

    fn action_space(&self) -> Space {
        Space::discrete(4)
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        self.rng.random(); // Gymnasium draws the start although there is but one
        self.cell = START;
        *row::<1>(obs)? = [self.cell as f32];
        Ok(())
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let Action::Discrete(choice @ 0..4) = action else {
            return Err(out_of_range(action, &self.action_space()));
        };
        let outcome = if self.slippery {
            let directions = [(choice + 3) % 4, choice, (choice + 1) % 4];
            let outcomes = directions.map(|direction| self.outcome(direction, 1.0 / 3.0));
            draw_outcome(&mut self.rng, &outcomes)
        } else {
            let outcome = self.outcome(choice, 1.0);
            draw_outcome(&mut self.rng, &[outcome])
        };
        self.cell = outcome.next;
        *row::<1>(obs)? = [self.cell as f32];
        Ok(Step { reward: outcome.reward, terminated: outcome.terminated, truncated: false })
    }
}
