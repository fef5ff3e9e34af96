//! What an algorithm is given to learn: the two spaces, and how observations reach the network.

use serde::{Deserialize, Serialize};

use crate::env::space::Space;
use crate::env::vec_env::{Actions, Batch, VecEnv};
use crate::error::{Result, RlError};

/// The spaces of an environment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// What the environment shows.
    pub observation_space: Space,
    /// What can be done.
    pub action_space: Space,
    /// Some choices may be ruled out (see [`Env::action_mask`](crate::Env::action_mask)).
    pub masked: bool,
}

impl Task {
    /// The task of these environments.
    pub fn of(envs: &dyn VecEnv) -> Self {
        Self {
            observation_space: envs.observation_space().clone(),
            action_space: envs.action_space().clone(),
            masked: !envs.batch().mask.is_empty(),
        }
    }

    /// Items of an observation as networks see it: choices are one-hot, a box is as it is.
    pub fn inputs(&self) -> usize {
        match &self.observation_space {
            Space::Box { low, .. } => low.len(),
            space => space.choices(),
        }
    }

    /// Planes, rows and columns of what is observed, for networks that need images. The planes of stacked frames are one after another.
    pub fn image(&self) -> Result<[usize; 3]> {
        if let Space::Box { shape, .. } = &self.observation_space {
            match shape[..] {
                [rows, columns] => return Ok([1, rows, columns]),
                [planes, rows, columns] => return Ok([planes, rows, columns]),
                [frames, planes, rows, columns] => return Ok([frames * planes, rows, columns]),
                _ => {}
            }
        }
        let why =
            "is not of images (planes, rows, columns), which convolutions need: leave `conv` empty".into();
        Err(RlError::Space { what: "observation space", space: self.observation_space.to_string(), why })
    }

    /// Items of an action mask: none unless the task has masks.
    pub fn mask_len(&self) -> usize {
        if self.masked { self.action_space.choices() } else { 0 }
    }

    /// The action space's bounds, for algorithms that need a box with finite ones.
    pub fn finite_bounds(&self, algorithm: &str) -> Result<(&[f32], &[f32])> {
        let unfit = |why: String| {
            Err(RlError::Space { what: "action space", space: self.action_space.to_string(), why })
        };
        match &self.action_space {
            Space::Box { low, high, .. } if low.iter().chain(high).all(|x| x.is_finite()) => Ok((low, high)),
            Space::Box { .. } => unfit(format!("has an infinite bound, which {algorithm} cannot use")),
            _ => unfit(format!("is not continuous, which {algorithm} needs")),
        }
    }

    /// The number of choices, for algorithms that need a discrete action.
    pub fn discrete(&self, algorithm: &str) -> Result<usize> {
        if let Space::Discrete { n } = self.action_space {
            return Ok(n as usize);
        }
        let why = format!("is not discrete, which {algorithm} needs");
        Err(RlError::Space { what: "action space", space: self.action_space.to_string(), why })
    }
}

/// Writes an observation of choices as one-hot rows, one after another, into `out`.
pub(crate) fn one_hot(groups: &[u32], obs: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    let mut first = 0;
    for (&n, &x) in groups.iter().zip(obs) {
        if x >= 0.0 && x < n as f32 {
            out[first + x as usize] = 1.0;
        }
        first += n as usize;
    }
}

/// Writes one observation as networks see it: choices one-hot, a box as it is.
pub(crate) fn write_inputs(space: &Space, obs: &[f32], out: &mut [f32]) -> Result<()> {
    if let Space::Box { .. } = space {
        out.copy_from_slice(obs);
    } else if space.contains(obs) {
        one_hot(space.groups(), obs, out);
    } else {
        return Err(RlError::Contract { why: format!("observation {obs:?} is outside {space}") });
    }
    Ok(())
}

/// The environments as networks see them: observations that are choices become one-hot, others stay.
pub(crate) fn encoded(envs: Box<dyn VecEnv>) -> Box<dyn VecEnv> {
    if let Space::Box { .. } = envs.observation_space() {
        return envs;
    }
    let inputs = envs.observation_space().choices();
    let mut batch = Batch::new(envs.num_envs(), inputs);
    batch.mask.clone_from(&envs.batch().mask);
    Box::new(OneHotBatch { envs, batch })
}

/// See [`encoded`].
struct OneHotBatch {
    envs: Box<dyn VecEnv>,
    batch: Batch,
}

impl OneHotBatch {
    fn encode(&mut self) -> Result<()> {
        let (from, to) = (self.envs.batch(), &mut self.batch);
        let space = self.envs.observation_space();
        let d = to.obs_len();
        for i in 0..from.reward.len() {
            if !space.contains(from.obs_row(i)) {
                let why = format!("observation {:?} of environment {i} is outside {space}", from.obs_row(i));
                return Err(RlError::Contract { why });
            }
            one_hot(space.groups(), from.obs_row(i), &mut to.obs[i * d..(i + 1) * d]);
            if let Some(last) = from.final_row(i) {
                one_hot(space.groups(), last, &mut to.final_obs[i * d..(i + 1) * d]);
            }
        }
        to.reward.copy_from_slice(&from.reward);
        to.terminated.copy_from_slice(&from.terminated);
        to.truncated.copy_from_slice(&from.truncated);
        to.mask.copy_from_slice(&from.mask);
        Ok(())
    }
}

impl VecEnv for OneHotBatch {
    fn num_envs(&self) -> usize {
        self.envs.num_envs()
    }

    fn observation_space(&self) -> &Space {
        self.envs.observation_space()
    }

    fn action_space(&self) -> &Space {
        self.envs.action_space()
    }

    fn reset(&mut self, seeds: &[u64]) -> Result<()> {
        self.envs.reset(seeds)?;
        self.encode()
    }

    fn step(&mut self, actions: Actions<'_>) -> Result<()> {
        self.envs.step(actions)?;
        self.encode()
    }

    fn batch(&self) -> &Batch {
        &self.batch
    }
}
