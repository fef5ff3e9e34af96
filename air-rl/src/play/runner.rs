//! A runner: some environments, played with a policy into a rollout.

use air_core::seed::Seed;
use rand_pcg::Pcg64;

use crate::env::vec_env::VecEnv;
use crate::envs::EnvSpec;
use crate::error::{Result, RlError};
use crate::play::actor::{Acted, Actor};
use crate::play::rollout::{Episode, Rollout};
use crate::play::task::{self, Task};

/// Environments `first_env..` of a run. Everything random in it depends on the seed, the environment's number over the
/// whole run and the iteration: never on which runner holds the environment, or on which thread.
pub struct EnvRunner {
    envs: Box<dyn VecEnv>,
    first_env: usize,
    seed: Seed,
    /// Draws of each environment's actions, begun anew in each iteration so that a new runner can go on from any.
    draws: Vec<Pcg64>,
    acted: Acted,
    totals: Vec<f64>,
    lengths: Vec<u64>,
}

impl EnvRunner {
    /// Makes `envs` environments and resets each with its own seed; `epoch` tells restarts of one run apart.
    pub fn new(spec: &EnvSpec, first_env: usize, envs: usize, seed: Seed, epoch: u64) -> Result<Self> {
        let mut made = task::encoded(spec.make(envs)?);
        let seeds: Vec<u64> = (0..envs)
            .map(|i| seed.child("env", (first_env + i) as u64).child("epoch", epoch).value())
            .collect();
        made.reset(&seeds)?;
        Ok(Self {
            acted: Acted::new(made.action_space(), envs),
            envs: made,
            first_env,
            seed,
            draws: Vec::with_capacity(envs),
            totals: vec![0.0; envs],
            lengths: vec![0; envs],
        })
    }

    /// The first of this runner's environments, counted over all runners.
    pub fn first_env(&self) -> usize {
        self.first_env
    }

    /// What its environments ask for.
    pub fn task(&self) -> Task {
        Task::of(&*self.envs)
    }

    /// Plays `rollout.steps()` steps of each environment with actions drawn from `actor`, and fills `rollout`.
    pub fn collect(&mut self, actor: &Actor, iteration: u64, rollout: &mut Rollout) -> Result<()> {
        let (n, d, steps) = (self.totals.len(), rollout.obs_len(), rollout.steps());
        rollout.clear();
        self.draws.clear();
        self.draws.extend((0..n).map(|i| {
            let env = (self.first_env + i) as u64;
            self.seed.child("action", env).child("iteration", iteration).rng()
        }));
        self.acted.prepare(actor);
        for (i, _) in self.lengths.iter().enumerate().filter(|(_, length)| **length == 0) {
            self.acted.forget(i);
        }
        rollout.state.extend_from_slice(&self.acted.state);
        for t in 0..steps {
            self.act(actor, t, rollout)?;
            self.envs.step(self.acted.actions()).map_err(|e| in_run(e, self.first_env))?;
            self.record(t, rollout)?;
        }
        let batch = self.envs.batch();
        for i in 0..n {
            self.finite("observation", i, batch.obs_row(i))?;
            rollout.last_obs[i * d..(i + 1) * d].copy_from_slice(batch.obs_row(i));
        }
        rollout.last_mask.copy_from_slice(&batch.mask);
        Ok(())
    }

    /// Takes an action for each environment and writes the observation, the action and its log-probability.
    #[inline]
    fn act(&mut self, actor: &Actor, t: usize, rollout: &mut Rollout) -> Result<()> {
        let (n, d, steps) = (self.totals.len(), rollout.obs_len(), rollout.steps());
        let batch = self.envs.batch();
        for i in 0..n {
            let (obs, row) = (batch.obs_row(i), i * steps + t);
            self.finite("observation", i, obs)?;
            rollout.obs[row * d..(row + 1) * d].copy_from_slice(obs);
            rollout.begins[row] = self.lengths[i] == 0;
        }
        actor.act(&batch.obs, &batch.mask, &mut self.draws, &mut self.acted)?;
        for i in 0..n {
            let row = i * steps + t;
            rollout.action.copy_row(row, &self.acted.taken, i);
            rollout.log_prob[row] = self.acted.log_prob[i];
        }
        let m = batch.mask.len() / n;
        if m > 0 {
            for (i, mask) in batch.mask.chunks_exact(m).enumerate() {
                let row = i * steps + t;
                rollout.mask[row * m..(row + 1) * m].copy_from_slice(mask);
            }
        }
        Ok(())
    }

    /// Writes what the step brought, and books the episodes that ended.
    #[inline]
    fn record(&mut self, t: usize, rollout: &mut Rollout) -> Result<()> {
        let batch = self.envs.batch();
        for i in 0..self.totals.len() {
            let row = i * rollout.steps() + t;
            let reward = batch.reward[i];
            self.totals[i] += reward;
            self.lengths[i] += 1;
            self.finite("reward", i, &[reward as f32])?;
            rollout.reward[row] = reward as f32;
            rollout.terminated[row] = batch.terminated[i];
            rollout.truncated[row] = batch.truncated[i];
            let Some(last) = batch.final_row(i) else { continue };
            if !batch.terminated[i] {
                self.finite("observation", i, last)?;
                rollout.cut_rows.push(row);
                rollout.cut_obs.extend_from_slice(last);
            }
            let (env, total, length) = (self.first_env + i, self.totals[i], self.lengths[i]);
            rollout.episodes.push(Episode { env, at: t, total, length });
            self.totals[i] = 0.0;
            self.lengths[i] = 0;
            self.acted.forget(i);
        }
        Ok(())
    }

    #[inline]
    fn finite(&self, what: &'static str, i: usize, values: &[f32]) -> Result<()> {
        if values.iter().all(|x| x.is_finite()) {
            Ok(())
        } else {
            Err(RlError::NotFinite { what, env: self.first_env + i, step: self.lengths[i] })
        }
    }
}

/// Errors of a batch count environments within it; a run counts them over all runners.
fn in_run(error: RlError, first_env: usize) -> RlError {
    match error {
        RlError::Env { env, verb, source } => RlError::Env { env: env + first_env, verb, source },
        RlError::ActionOutOfRange { env, action, space } => {
            RlError::ActionOutOfRange { env: env + first_env, action, space }
        }
        other => other,
    }
}
