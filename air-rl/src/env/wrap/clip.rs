//! Actions and rewards held within limits.

use air_core::BoxError;

use super::same_masks;
use crate::env::space::Space;
use crate::env::{Action, Env, Step};

/// Takes any real action and holds it within the environment's bounds.
#[derive(Clone, Debug)]
pub struct ClipAction<E> {
    env: E,
    bounds: Option<(Vec<f32>, Vec<f32>)>,
    held: Vec<f32>,
}

impl<E: Env> ClipAction<E> {
    /// Clips actions of `env`; choices pass as they are.
    pub fn new(env: E) -> Self {
        let space = env.action_space();
        let held = vec![0.0; space.row_len()];
        let bounds = if let Space::Box { low, high, .. } = space { Some((low, high)) } else { None };
        Self { env, bounds, held }
    }

    /// The environment inside.
    pub fn inner(&self) -> &E {
        &self.env
    }
}

impl<E: Env> Env for ClipAction<E> {
    fn observation_space(&self) -> Space {
        self.env.observation_space()
    }

    fn action_space(&self) -> Space {
        match self.env.action_space() {
            Space::Box { low, shape, .. } => Space::Box {
                low: vec![f32::NEG_INFINITY; low.len()],
                high: vec![f32::INFINITY; low.len()],
                shape,
            },
            choices => choices,
        }
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        self.env.reset(seed, obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let Some((low, high)) = &self.bounds else { return self.env.step(action, obs) };
        let Action::Continuous(row) = action else { return self.env.step(action, obs) };
        if row.len() != low.len() {
            return Err(crate::env::out_of_range(action, &self.action_space()));
        }
        for (((held, x), &low), &high) in self.held.iter_mut().zip(row).zip(low).zip(high) {
            *held = x.clamp(low, high);
        }
        self.env.step(Action::Continuous(&self.held), obs)
    }

    same_masks!();
}

/// Holds rewards within a range.
#[derive(Clone, Debug)]
pub struct ClipReward<E> {
    env: E,
    low: f64,
    high: f64,
}

impl<E: Env> ClipReward<E> {
    /// Rewards of `env` between `low` and `high`; the smaller of both is the lower.
    pub fn new(env: E, low: f64, high: f64) -> Self {
        Self { env, low: low.min(high), high: low.max(high) }
    }

    /// The environment inside.
    pub fn inner(&self) -> &E {
        &self.env
    }
}

impl<E: Env> Env for ClipReward<E> {
    fn observation_space(&self) -> Space {
        self.env.observation_space()
    }

    fn action_space(&self) -> Space {
        self.env.action_space()
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        self.env.reset(seed, obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let step = self.env.step(action, obs)?;
        // Not `clamp`: limits may be NaN, and a NaN reward must be seen by the runner.
        let reward =
            if step.reward.is_nan() { step.reward } else { step.reward.max(self.low).min(self.high) };
        Ok(Step { reward, ..step })
    }

    same_masks!();
}
