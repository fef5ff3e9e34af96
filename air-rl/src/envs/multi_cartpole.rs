//! Several poles on several carts, each balanced by an agent of its own.

use air_core::BoxError;

use super::CartPole;
use crate::env::multi_env::MultiEnv;
use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::time_limit::TimeLimit;
use crate::env::{Action, Env as _, Step};

/// As many CartPoles as there are agents, with Gymnasium's limit of 500 steps; each agent sees and moves its own, and its
/// episode ends alone.
#[derive(Clone, Debug)]
pub struct MultiCartPole(Vec<TimeLimit<CartPole>>);

impl MultiCartPole {
    /// For `agents` agents, at least 1.
    pub fn new(agents: usize) -> Self {
        Self(vec![TimeLimit::new(CartPole::new(), 500); agents.max(1)])
    }
}

impl MultiEnv for MultiCartPole {
    fn agents(&self) -> usize {
        self.0.len()
    }

    fn observation_space(&self, agent: usize) -> Space {
        self.0[agent].observation_space()
    }

    fn action_space(&self, agent: usize) -> Space {
        self.0[agent].action_space()
    }

    fn reset(&mut self, seed: Option<u64>, which: &[bool], obs: &mut [Vec<f32>]) -> Result<(), BoxError> {
        let mut seeds = seed.map(NumpyRng::new);
        for ((pole, which), obs) in self.0.iter_mut().zip(which).zip(obs) {
            let seed = seeds.as_mut().map(|rng| rng.integers(0, i64::MAX) as u64);
            if *which {
                pole.reset(seed, obs)?;
            }
        }
        Ok(())
    }

    fn step(
        &mut self,
        actions: &[Action<'_>],
        obs: &mut [Vec<f32>],
        steps: &mut [Step],
    ) -> Result<(), BoxError> {
        for (((pole, action), obs), step) in self.0.iter_mut().zip(actions).zip(obs).zip(steps) {
            *step = pole.step(*action, obs)?;
        }
        Ok(())
    }
}
