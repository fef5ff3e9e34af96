//! Many environments stepped as one, in structure-of-arrays buffers.

use crate::env::space::Space;
use crate::env::{Action, Env};
use crate::error::{Result, RlError};

/// Actions for a whole batch, one row an environment.
#[derive(Clone, Copy, Debug)]
pub enum Actions<'a> {
    /// One choice an environment.
    Discrete(&'a [u32]),
    /// `action_space.row_len()` choices an environment.
    MultiDiscrete(&'a [u32]),
    /// `action_space.row_len()` items an environment.
    Continuous(&'a [f32]),
}

impl Actions<'_> {
    /// An error unless these are actions of `space`, one for each of `envs` environments.
    pub(crate) fn check(self, space: &Space, envs: usize) -> Result<()> {
        #[cold]
        fn outside(env: usize, action: &dyn std::fmt::Debug, space: &Space) -> Result<()> {
            let (action, space) = (format!("{action:?}"), space.to_string());
            Err(RlError::ActionOutOfRange { env, action, space })
        }
        match (self, space) {
            (Self::Discrete(rows), Space::Discrete { n }) => {
                expect_len("actions", rows.len(), envs)?;
                match rows.iter().position(|a| a >= n) {
                    Some(env) => outside(env, &rows[env], space),
                    None => Ok(()),
                }
            }
            (Self::MultiDiscrete(rows), Space::MultiDiscrete { nvec }) => {
                let k = nvec.len();
                expect_len("actions", rows.len(), envs * k)?;
                let beyond = |row: &[u32]| row.iter().zip(nvec).any(|(a, n)| a >= n);
                match rows.chunks_exact(k).position(beyond) {
                    Some(env) => outside(env, &&rows[env * k..(env + 1) * k], space),
                    None => Ok(()),
                }
            }
            (Self::Continuous(rows), Space::Box { low, .. }) => {
                let d = low.len();
                expect_len("actions", rows.len(), envs * d)?;
                match rows.chunks_exact(d).position(|row| !space.contains(row)) {
                    Some(env) => outside(env, &&rows[env * d..(env + 1) * d], space),
                    None => Ok(()),
                }
            }
            (_, space) => Err(RlError::Space {
                what: "action space",
                space: space.to_string(),
                why: "was given actions of another kind".into(),
            }),
        }
    }
}

/// What the last reset or step brought, row i for environment i. Buffers are allocated once.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Observations to act on next, `[envs, obs_len]`; after an end, the first of the new episode.
    pub obs: Vec<f32>,
    /// Rewards of the step, `[envs]`.
    pub reward: Vec<f64>,
    /// The episode ended in the task, `[envs]`.
    pub terminated: Vec<bool>,
    /// The episode was cut off from outside, `[envs]`.
    pub truncated: Vec<bool>,
    /// Where an episode ended in this step: its last observation, `[envs, obs_len]`. Other rows hold older ones.
    pub final_obs: Vec<f32>,
    /// What may be done about `obs`, `[envs, choices]` (see [`Env::action_mask`]); empty if nothing is ever ruled out.
    pub mask: Vec<bool>,
    obs_len: usize,
}

impl Batch {
    /// Buffers for `envs` environments with observations of `obs_len` items.
    pub fn new(envs: usize, obs_len: usize) -> Self {
        Self {
            obs: vec![0.0; envs * obs_len],
            reward: vec![0.0; envs],
            terminated: vec![false; envs],
            truncated: vec![false; envs],
            final_obs: vec![0.0; envs * obs_len],
            mask: Vec::new(),
            obs_len,
        }
    }

    /// The same with action masks of `choices` items.
    pub fn masked(self, choices: usize) -> Self {
        Self { mask: vec![true; self.reward.len() * choices], ..self }
    }

    /// Items in one observation.
    pub fn obs_len(&self) -> usize {
        self.obs_len
    }

    /// Observation of environment `i`.
    #[inline]
    pub fn obs_row(&self, i: usize) -> &[f32] {
        &self.obs[i * self.obs_len..(i + 1) * self.obs_len]
    }

    /// Last observation of the episode that environment `i` ended in this step, if it did.
    #[inline]
    pub fn final_row(&self, i: usize) -> Option<&[f32]> {
        (self.terminated[i] || self.truncated[i])
            .then(|| &self.final_obs[i * self.obs_len..(i + 1) * self.obs_len])
    }
}

/// Environments stepped together; what the algorithms see.
///
/// Ends are handled in the step that meets them (same-step autoreset): the last observation moves to
/// [`Batch::final_obs`], and [`Batch::obs`] already holds the first of the next episode. So no step is wasted and a
/// truncated episode can be continued in value from where it really stopped.
pub trait VecEnv: Send {
    /// How many environments, at least 1.
    fn num_envs(&self) -> usize;

    /// Observations of each.
    fn observation_space(&self) -> &Space;

    /// Actions of each.
    fn action_space(&self) -> &Space;

    /// Starts an episode in each; `seeds` has one for each.
    fn reset(&mut self, seeds: &[u64]) -> Result<()>;

    /// Steps each; where one ended, starts its next episode.
    fn step(&mut self, actions: Actions<'_>) -> Result<()>;

    /// What the last call brought.
    fn batch(&self) -> &Batch;
}

/// A [`VecEnv`] over environments of one type, dispatched statically.
///
/// ```
/// use air_rl::{Actions, VecEnv, Vectorized, envs::SimpleCorridor};
///
/// let mut envs = Vectorized::new((0..2).map(|_| SimpleCorridor::new(1)).collect())?;
/// envs.reset(&[0, 1])?;
/// envs.step(Actions::Discrete(&[0, 1]))?;
/// let b = envs.batch();
/// assert_eq!(b.reward, [-0.1, 1.0]);
/// assert_eq!(b.terminated, [false, true]);
/// assert_eq!(b.obs, [0.0, 0.0]); // the second has begun again
/// assert_eq!(b.final_row(1), Some(&[1.0][..])); // where it had ended
/// # Ok::<(), air_rl::RlError>(())
/// ```
#[derive(Debug)]
pub struct Vectorized<E> {
    envs: Vec<E>,
    observation_space: Space,
    action_space: Space,
    batch: Batch,
}

impl<E: Env> Vectorized<E> {
    /// Joins environments; all must have the same spaces, well-formed.
    pub fn new(envs: Vec<E>) -> Result<Self> {
        let Some(first) = envs.first() else {
            return Err(RlError::Shape { what: "list of environments", got: 0, expected: 1 });
        };
        let (observation_space, action_space) = (first.observation_space(), first.action_space());
        observation_space.validate("observation space")?;
        action_space.validate("action space")?;
        for env in &envs[1..] {
            let (o, a) = (env.observation_space(), env.action_space());
            if o != observation_space || a != action_space {
                let why = format!(
                    "spaces differ within one batch: {o} and {observation_space}, {a} and {action_space}"
                );
                return Err(RlError::Contract { why });
            }
        }
        let mut batch = Batch::new(envs.len(), observation_space.row_len());
        if first.masks_actions() {
            batch = batch.masked(action_space.choices());
        }
        Ok(Self { envs, observation_space, action_space, batch })
    }

    /// The environments.
    pub fn envs(&self) -> &[E] {
        &self.envs
    }

    #[inline]
    fn step_with<'a>(&mut self, action: impl Fn(usize) -> Action<'a>) -> Result<()> {
        let d = self.batch.obs_len;
        let Batch { obs, reward, terminated, truncated, final_obs, .. } = &mut self.batch;
        let rows = obs.chunks_exact_mut(d).zip(final_obs.chunks_exact_mut(d));
        let flags = reward.iter_mut().zip(terminated).zip(truncated);
        for (i, ((env, (obs, last)), ((reward, terminated), truncated))) in
            self.envs.iter_mut().zip(rows).zip(flags).enumerate()
        {
            let step =
                env.step(action(i), obs).map_err(|source| RlError::Env { env: i, verb: "step", source })?;
            *reward = step.reward;
            *terminated = step.terminated;
            *truncated = step.truncated;
            if step.ended() {
                last.copy_from_slice(obs);
                env.reset(None, obs).map_err(|source| RlError::Env { env: i, verb: "reset", source })?;
            }
        }
        if self.batch.mask.is_empty() { Ok(()) } else { self.mask() }
    }

    /// Asks every environment what may be done now.
    fn mask(&mut self) -> Result<()> {
        let choices = self.action_space.choices();
        for (i, (env, mask)) in self.envs.iter().zip(self.batch.mask.chunks_exact_mut(choices)).enumerate() {
            env.action_mask(mask);
            let mut rest = &*mask;
            for &n in self.action_space.groups() {
                let (group, others) = rest.split_at(n as usize);
                if !group.contains(&true) {
                    return Err(RlError::Contract { why: format!("environment {i} rules every action out") });
                }
                rest = others;
            }
        }
        Ok(())
    }
}

impl<E: Env> VecEnv for Vectorized<E> {
    fn num_envs(&self) -> usize {
        self.envs.len()
    }

    fn observation_space(&self) -> &Space {
        &self.observation_space
    }

    fn action_space(&self) -> &Space {
        &self.action_space
    }

    fn reset(&mut self, seeds: &[u64]) -> Result<()> {
        expect_len("seeds", seeds.len(), self.envs.len())?;
        let rows = self.batch.obs.chunks_exact_mut(self.batch.obs_len);
        for (i, ((env, obs), &seed)) in self.envs.iter_mut().zip(rows).zip(seeds).enumerate() {
            env.reset(Some(seed), obs).map_err(|source| RlError::Env { env: i, verb: "reset", source })?;
        }
        self.batch.reward.fill(0.0);
        self.batch.terminated.fill(false);
        self.batch.truncated.fill(false);
        if self.batch.mask.is_empty() { Ok(()) } else { self.mask() }
    }

    fn step(&mut self, actions: Actions<'_>) -> Result<()> {
        actions.check(&self.action_space, self.envs.len())?;
        let width = self.action_space.row_len();
        match actions {
            Actions::Discrete(rows) => self.step_with(|i| Action::Discrete(rows[i])),
            Actions::MultiDiscrete(rows) => {
                self.step_with(|i| Action::MultiDiscrete(&rows[i * width..(i + 1) * width]))
            }
            Actions::Continuous(rows) => {
                self.step_with(|i| Action::Continuous(&rows[i * width..(i + 1) * width]))
            }
        }
    }

    fn batch(&self) -> &Batch {
        &self.batch
    }
}

/// An error unless `got` is the length it must have.
pub(crate) fn expect_len(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(RlError::Shape { what, got, expected }) }
}
