//! Returns and lengths of the last episodes.

use std::collections::VecDeque;

use air_core::BoxError;

use super::same_masks;
use crate::env::space::Space;
use crate::env::{Action, Env, Step};
use crate::saved::policy::Played;

/// Keeps the returns and lengths of the last episodes, as Gymnasium's `RecordEpisodeStatistics`.
#[derive(Clone, Debug)]
pub struct RecordEpisodes<E> {
    env: E,
    last: VecDeque<Played>,
    most: usize,
    present: Played,
}

impl<E: Env> RecordEpisodes<E> {
    /// Keeps the last `most` episodes of `env` (at least 1).
    pub fn new(env: E, most: usize) -> Self {
        let most = most.max(1);
        Self { env, last: VecDeque::new(), most, present: Played { total: 0.0, length: 0 } }
    }

    /// The environment inside.
    pub fn inner(&self) -> &E {
        &self.env
    }

    /// The episodes that ended, oldest first. One that was reset before its end does not count.
    pub fn episodes(&self) -> impl Iterator<Item = Played> + '_ {
        self.last.iter().copied()
    }
}

impl<E: Env> Env for RecordEpisodes<E> {
    fn observation_space(&self) -> Space {
        self.env.observation_space()
    }

    fn action_space(&self) -> Space {
        self.env.action_space()
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        self.present = Played { total: 0.0, length: 0 };
        self.env.reset(seed, obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let step = self.env.step(action, obs)?;
        self.present.total += step.reward;
        self.present.length += 1;
        if step.ended() {
            if self.last.len() == self.most {
                self.last.pop_front();
            }
            self.last.push_back(self.present);
            self.present = Played { total: 0.0, length: 0 };
        }
        Ok(step)
    }

    same_masks!();
}
