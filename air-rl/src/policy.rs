//! A trained policy, apart from training.

use air_core::seed::Seed;
use air_train::nn::{Mlp, Scratch};
use parking_lot::Mutex;

use crate::categorical;
use crate::env::Env;
use crate::envs::EnvSpec;
use crate::error::{Result, RlError};
use crate::space::Space;
use crate::vec_env::{Actions, VecEnv, Vectorized};

/// A network that chooses actions. It acts without exploring: the likeliest action, always the same for the same
/// observation, exactly as the network in training would rank it.
#[derive(Debug)]
pub struct Policy {
    actor: Mlp,
    observation_space: Space,
    action_space: Space,
    scratch: Mutex<Scratch>,
}

/// One episode played with a policy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Played {
    /// Sum of the rewards.
    pub total: f64,
    /// Steps taken.
    pub length: u64,
}

impl Policy {
    pub(crate) fn new(actor: Mlp, observation_space: Space, action_space: Space) -> Self {
        Self { actor, observation_space, action_space, scratch: Mutex::default() }
    }

    /// The observations it was trained on.
    pub fn observation_space(&self) -> &Space {
        &self.observation_space
    }

    /// The actions it chooses among.
    pub fn action_space(&self) -> &Space {
        &self.action_space
    }

    /// The network: observation → logits.
    pub fn actor(&self) -> &Mlp {
        &self.actor
    }

    /// The action for one observation.
    pub fn act(&self, obs: &[f32]) -> Result<u32> {
        let expected = self.actor.inputs();
        if obs.len() != expected {
            return Err(RlError::Shape { what: "observation", got: obs.len(), expected });
        }
        if !obs.iter().all(|x| x.is_finite()) {
            return Err(RlError::NotFinite { what: "observation", env: 0, step: 0 });
        }
        let mut scratch = self.scratch.lock();
        let logits = self.actor.infer(obs, 1, &mut scratch).map_err(|e| RlError::Network(e.into()))?;
        Ok(categorical::mode(logits) as u32)
    }

    /// Plays one episode of `env`, at most `max_steps` long.
    pub fn play<E: Env>(&self, env: E, seed: u64, max_steps: u64) -> Result<Played> {
        self.episode(&mut Vectorized::new(vec![env])?, seed, max_steps)
    }

    /// Plays `episodes` episodes of a registered environment, each with a seed of its own and at most `max_steps` long.
    pub fn evaluate(&self, env: &EnvSpec, episodes: u64, seed: u64, max_steps: u64) -> Result<Vec<Played>> {
        let mut envs = env.make(1)?;
        let seeds = (0..episodes).map(|i| Seed::new(seed).child("evaluate", i).value());
        seeds.map(|seed| self.episode(&mut *envs, seed, max_steps)).collect()
    }

    fn episode(&self, envs: &mut dyn VecEnv, seed: u64, max_steps: u64) -> Result<Played> {
        self.fits(envs.observation_space(), envs.action_space())?;
        envs.reset(&[seed])?;
        let mut played = Played { total: 0.0, length: 0 };
        while played.length < max_steps {
            let action = self.act(envs.batch().obs_row(0))?;
            envs.step(Actions::Discrete(&[action]))?;
            played.total += envs.batch().reward[0];
            played.length += 1;
            if envs.batch().final_row(0).is_some() {
                break;
            }
        }
        Ok(played)
    }

    /// An error unless the policy can act in such an environment.
    pub fn fits(&self, observations: &Space, actions: &Space) -> Result<()> {
        let check = |what, got: &Space, trained: &Space, same: bool| {
            if same {
                return Ok(());
            }
            let why = format!("does not fit the policy, which was trained on {trained}");
            Err(RlError::Space { what, space: got.to_string(), why })
        };
        let (o, a) = (&self.observation_space, &self.action_space);
        check("observation space", observations, o, observations.row_len() == o.row_len())?;
        check("action space", actions, a, actions == a)
    }
}

impl Clone for Policy {
    fn clone(&self) -> Self {
        Self::new(self.actor.clone(), self.observation_space.clone(), self.action_space.clone())
    }
}
