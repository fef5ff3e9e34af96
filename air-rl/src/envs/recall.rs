//! A cue to remember: what no policy without a memory can do.

use air_core::BoxError;
use serde::Deserialize;

use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range, row};

/// Shows one of two cues, then nothing for `delay` steps, then asks: the action must name the cue. +1 if it does, −1 if
/// not, and the episode ends; before that nothing counts. The observation is `[cue 0, cue 1, asked]`. Whoever does not
/// remember has 0 in the mean.
#[derive(Clone, Debug)]
pub struct Recall {
    delay: u32,
    rng: NumpyRng,
    cue: u32,
    step: u32,
}

/// Options of [`Recall`] in the registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecallOptions {
    /// Steps between cue and question. Default 8.
    pub delay: u32,
}

impl Default for RecallOptions {
    fn default() -> Self {
        Self { delay: 8 }
    }
}

impl Recall {
    /// With `delay` steps between cue and question.
    pub fn new(options: &RecallOptions) -> Self {
        Self { delay: options.delay, rng: NumpyRng::new(0), cue: 0, step: 0 }
    }

    fn show(&self, obs: &mut [f32]) -> Result<(), BoxError> {
        let cue = |n| f32::from(u8::from(self.step == 0 && self.cue == n));
        *row::<3>(obs)? = [cue(0), cue(1), f32::from(u8::from(self.step == self.delay + 1))];
        Ok(())
    }
}

impl Env for Recall {
    fn observation_space(&self) -> Space {
        Space::bounded(&[0.0; 3], &[1.0; 3])
    }

    fn action_space(&self) -> Space {
        Space::discrete(2)
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        (self.cue, self.step) = (self.rng.integers(0, 2) as u32, 0);
        self.show(obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let Action::Discrete(named @ 0..2) = action else {
            return Err(out_of_range(action, &self.action_space()));
        };
        let terminated = self.step == self.delay + 1;
        let reward = match (terminated, named == self.cue) {
            (false, _) => 0.0,
            (true, true) => 1.0,
            (true, false) => -1.0,
        };
        self.step += 1;
        self.show(obs)?;
        Ok(Step { reward, terminated, truncated: false })
    }
}
