//! Choices as rows of zeros and ones.

use air_core::BoxError;

use super::same_masks;
use crate::env::space::Space;
use crate::env::{Action, Env, Step};
use crate::error::RlError;
use crate::play::task;

/// Shows an observation of choices as one 1 among zeros for each. Algorithms do this by themselves; it is here for
/// environments that are wrapped further. An environment that shows reals stays as it is.
#[derive(Clone, Debug)]
pub struct OneHot<E> {
    env: E,
    space: Space,
    choices: Vec<f32>,
}

impl<E: Env> OneHot<E> {
    /// Encodes observations of `env`.
    pub fn new(env: E) -> Self {
        let space = env.observation_space();
        Self { choices: vec![0.0; space.row_len()], env, space }
    }

    /// The environment inside.
    pub fn inner(&self) -> &E {
        &self.env
    }

    fn show(&self, obs: &mut [f32]) -> Result<(), BoxError> {
        let expected = if self.space.choices() == 0 { self.choices.len() } else { self.space.choices() };
        if obs.len() != expected {
            return Err(Box::new(RlError::Shape { what: "observation row", got: obs.len(), expected }));
        }
        if self.space.choices() == 0 {
            obs.copy_from_slice(&self.choices);
        } else {
            task::one_hot(self.space.groups(), &self.choices, obs);
        }
        Ok(())
    }
}

impl<E: Env> Env for OneHot<E> {
    fn observation_space(&self) -> Space {
        match self.space.choices() {
            0 => self.space.clone(),
            n => Space::bounded(&vec![0.0; n], &vec![1.0; n]),
        }
    }

    fn action_space(&self) -> Space {
        self.env.action_space()
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        self.env.reset(seed, &mut self.choices)?;
        self.show(obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let step = self.env.step(action, &mut self.choices)?;
        self.show(obs)?;
        Ok(step)
    }

    same_masks!();
}
