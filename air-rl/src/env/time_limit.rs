//! A time limit on episodes.

use air_core::BoxError;

use crate::env::space::Space;
use crate::env::{Action, Env, Step};

/// Truncates episodes after a number of steps, as Gymnasium's wrapper of the same name.
///
/// A step that also terminates keeps both flags; whoever reads them takes `terminated` first.
#[derive(Clone, Debug)]
pub struct TimeLimit<E> {
    env: E,
    max_steps: u32,
    taken: u32,
}

impl<E: Env> TimeLimit<E> {
    /// Limits episodes of `env` to `max_steps` steps.
    pub fn new(env: E, max_steps: u32) -> Self {
        Self { env, max_steps, taken: 0 }
    }

    /// The environment inside.
    pub fn inner(&self) -> &E {
        &self.env
    }
}

impl<E: Env> Env for TimeLimit<E> {
    fn observation_space(&self) -> Space {
        self.env.observation_space()
    }

    fn action_space(&self) -> Space {
        self.env.action_space()
    }

    #[inline]
    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        self.taken = 0;
        self.env.reset(seed, obs)
    }

    #[inline]
    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let mut step = self.env.step(action, obs)?;
        self.taken += 1;
        step.truncated |= self.taken >= self.max_steps;
        Ok(step)
    }

    fn masks_actions(&self) -> bool {
        self.env.masks_actions()
    }

    fn action_mask(&self, mask: &mut [bool]) {
        self.env.action_mask(mask);
    }
}
