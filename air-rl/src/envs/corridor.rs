//! A corridor to walk down: the smallest environment worth learning.

use air_core::BoxError;
use serde::Deserialize;

use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range, row};

/// Walk from 0 to `length`: action 0 goes left (not below 0), 1 right. −0.1 a step, and +1 on the step that arrives,
/// which ends the episode. No time limit. The observation is the position.
#[derive(Clone, Debug)]
pub struct SimpleCorridor {
    length: u32,
    position: u32,
}

/// Options of [`SimpleCorridor`] in the registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CorridorOptions {
    /// Steps from start to end; at least 1. Default 20.
    pub length: u32,
}

impl Default for CorridorOptions {
    fn default() -> Self {
        Self { length: 20 }
    }
}

impl SimpleCorridor {
    /// A corridor of `length` steps (at least 1).
    pub fn new(length: u32) -> Self {
        Self { length: length.max(1), position: 0 }
    }

    /// The return of the best policy: straight to the end.
    pub fn best_return(&self) -> f64 {
        1.0 - 0.1 * f64::from(self.length - 1)
    }
}

impl Env for SimpleCorridor {
    fn observation_space(&self) -> Space {
        Space::bounded(&[0.0], &[self.length as f32])
    }

    fn action_space(&self) -> Space {
        Space::discrete(2)
    }

    fn reset(&mut self, _seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        self.position = 0;
        *row::<1>(obs)? = [0.0];
        Ok(())
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        self.position = match action {
            Action::Discrete(0) => self.position.saturating_sub(1),
            Action::Discrete(1) => (self.position + 1).min(self.length),
            _ => return Err(out_of_range(action, &self.action_space())),
        };
        *row::<1>(obs)? = [self.position as f32];
        let terminated = self.position == self.length;
        Ok(Step { reward: if terminated { 1.0 } else { -0.1 }, terminated, truncated: false })
    }
}
