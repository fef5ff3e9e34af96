//! A runner: some environments, played with a policy into a rollout.

use air_core::seed::Seed;
use air_train::nn::{Mlp, Scratch};
use rand::RngExt as _;
use rand_pcg::Pcg64;

use crate::categorical;
use crate::envs::EnvSpec;
use crate::error::{Result, RlError};
use crate::rollout::{Episode, Rollout};
use crate::vec_env::{Actions, VecEnv};

/// Environments `first_env..` of a run. Everything random in it depends on the seed, the environment's number over the
/// whole run and the iteration: never on which runner holds the environment, or on which thread.
pub struct EnvRunner {
    envs: Box<dyn VecEnv>,
    first_env: usize,
    seed: Seed,
    /// Draws of each environment's actions, begun anew in each iteration so that a new runner can go on from any.
    draws: Vec<Pcg64>,
    actions: Vec<u32>,
    log_probs: Vec<f32>,
    totals: Vec<f64>,
    lengths: Vec<u64>,
    scratch: Scratch,
}

impl EnvRunner {
    /// Makes `envs` environments and resets each with its own seed; `epoch` tells restarts of one run apart.
    pub fn new(spec: &EnvSpec, first_env: usize, envs: usize, seed: Seed, epoch: u64) -> Result<Self> {
        let mut made = spec.make(envs)?;
        let seeds: Vec<u64> = (0..envs)
            .map(|i| seed.child("env", (first_env + i) as u64).child("epoch", epoch).value())
            .collect();
        made.reset(&seeds)?;
        Ok(Self {
            envs: made,
            first_env,
            seed,
            draws: Vec::with_capacity(envs),
            actions: vec![0; envs],
            log_probs: Vec::new(),
            totals: vec![0.0; envs],
            lengths: vec![0; envs],
            scratch: Scratch::default(),
        })
    }

    /// The first of this runner's environments, counted over all runners.
    pub fn first_env(&self) -> usize {
        self.first_env
    }

    /// Plays `rollout.steps()` steps of each environment with actions drawn from `actor`, and fills `rollout`.
    pub fn collect(&mut self, actor: &Mlp, iteration: u64, rollout: &mut Rollout) -> Result<()> {
        let (n, d, steps) = (self.actions.len(), rollout.obs_len(), rollout.steps());
        rollout.clear();
        self.draws.clear();
        self.draws.extend((0..n).map(|i| {
            let env = (self.first_env + i) as u64;
            self.seed.child("action", env).child("iteration", iteration).rng()
        }));
        for t in 0..steps {
            self.act(actor, t, rollout)?;
            self.envs.step(Actions::Discrete(&self.actions)).map_err(|e| in_run(e, self.first_env))?;
            self.record(t, rollout)?;
        }
        let batch = self.envs.batch();
        for i in 0..n {
            self.finite("observation", i, batch.obs_row(i))?;
            rollout.last_obs[i * d..(i + 1) * d].copy_from_slice(batch.obs_row(i));
        }
        Ok(())
    }

    /// Draws an action for each environment and writes the observation, the action and its log-probability.
    #[inline]
    fn act(&mut self, actor: &Mlp, t: usize, rollout: &mut Rollout) -> Result<()> {
        let (n, d, steps) = (self.actions.len(), rollout.obs_len(), rollout.steps());
        let batch = self.envs.batch();
        for i in 0..n {
            let (obs, row) = (batch.obs_row(i), i * steps + t);
            self.finite("observation", i, obs)?;
            rollout.obs[row * d..(row + 1) * d].copy_from_slice(obs);
        }
        let logits = actor.infer(&batch.obs, n, &mut self.scratch).map_err(|e| RlError::Network(e.into()))?;
        let choices = actor.outputs();
        self.log_probs.resize(choices, 0.0);
        for (i, (logits, draw)) in logits.chunks_exact(choices).zip(&mut self.draws).enumerate() {
            categorical::log_softmax(logits, &mut self.log_probs);
            let action = categorical::sample(&self.log_probs, draw.random::<f32>());
            let row = i * steps + t;
            self.actions[i] = action as u32;
            rollout.action[row] = action as u32;
            rollout.log_prob[row] = self.log_probs[action];
        }
        Ok(())
    }

    /// Writes what the step brought, and books the episodes that ended.
    #[inline]
    fn record(&mut self, t: usize, rollout: &mut Rollout) -> Result<()> {
        let batch = self.envs.batch();
        for i in 0..self.actions.len() {
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
