//! The last observations as one.

use air_core::BoxError;

use super::same_masks;
use crate::env::space::Space;
use crate::env::{Action, Env, Step};
use crate::error::RlError;

/// Shows the last `k` observations of an environment, oldest first; after a reset the first one `k` times.
///
/// ```
/// use air_rl::{Action, Env, envs::SimpleCorridor, wrap::FrameStack};
///
/// let mut env = FrameStack::new(SimpleCorridor::new(5), 3);
/// let mut obs = [9.0; 3];
/// env.reset(Some(0), &mut obs)?;
/// env.step(Action::Discrete(1), &mut obs)?;
/// assert_eq!(obs, [0.0, 0.0, 1.0]);
/// # Ok::<(), air_rl::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct FrameStack<E> {
    env: E,
    /// `[k, row_len]`, oldest first.
    frames: Vec<f32>,
    row_len: usize,
}

impl<E: Env> FrameStack<E> {
    /// Stacks `k` observations (at least 1).
    pub fn new(env: E, k: usize) -> Self {
        let row_len = env.observation_space().row_len();
        Self { frames: vec![0.0; k.max(1) * row_len], env, row_len }
    }

    /// The environment inside.
    pub fn inner(&self) -> &E {
        &self.env
    }

    fn show(&self, obs: &mut [f32]) -> Result<(), BoxError> {
        if obs.len() != self.frames.len() {
            let (got, expected) = (obs.len(), self.frames.len());
            return Err(Box::new(RlError::Shape { what: "observation row", got, expected }));
        }
        obs.copy_from_slice(&self.frames);
        Ok(())
    }
}

impl<E: Env> Env for FrameStack<E> {
    fn observation_space(&self) -> Space {
        let k = self.frames.len() / self.row_len;
        match self.env.observation_space() {
            Space::Box { low, high, shape } => Space::Box {
                low: low.repeat(k),
                high: high.repeat(k),
                shape: std::iter::once(k).chain(shape).collect(),
            },
            choices => Space::multi_discrete(&choices.groups().repeat(k)),
        }
    }

    fn action_space(&self) -> Space {
        self.env.action_space()
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        let (first, others) = self.frames.split_at_mut(self.row_len);
        self.env.reset(seed, first)?;
        for frame in others.chunks_exact_mut(self.row_len) {
            frame.copy_from_slice(first);
        }
        self.show(obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        self.frames.copy_within(self.row_len.., 0);
        let newest = self.frames.len() - self.row_len;
        let step = self.env.step(action, &mut self.frames[newest..])?;
        self.show(obs)?;
        Ok(step)
    }

    same_masks!();
}
