//! A trained policy, apart from training.

use air_core::seed::Seed;
use air_train::nn::Mlp;
use parking_lot::Mutex;

use crate::env::space::Space;
use crate::env::vec_env::{VecEnv, Vectorized};
use crate::env::{Env, OwnedAction};
use crate::envs::EnvSpec;
use crate::error::{Result, RlError};
use crate::play::actor::{Acted, Actor};
use crate::play::task::{self, Task};

/// A network that chooses actions. It acts without exploring: the likeliest or most valuable action, always the same for
/// the same observation (the same observations, if it [remembers](Self::remembers)), as the network in training would rank it.
#[derive(Debug)]
pub struct Policy {
    actor: Actor,
    task: Task,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    acted: Acted,
    encoded: Vec<f32>,
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
    pub(crate) fn new(actor: Actor, task: Task) -> Self {
        let memory = Memory { acted: Acted::new(&task.action_space, 1), encoded: vec![0.0; task.inputs()] };
        Self { actor, task, memory: Mutex::new(memory) }
    }

    /// The observations it was trained on.
    pub fn observation_space(&self) -> &Space {
        &self.task.observation_space
    }

    /// The actions it chooses among.
    pub fn action_space(&self) -> &Space {
        &self.task.action_space
    }

    /// The network: observation → a row of outputs, to be read by [`head`](Self::head).
    pub fn actor(&self) -> &Mlp {
        &self.actor.net
    }

    pub(crate) fn actor_parts(&self) -> &Actor {
        &self.actor
    }

    pub(crate) fn task(&self) -> &Task {
        &self.task
    }

    /// How the network's outputs become an action.
    pub fn head(&self) -> &crate::play::actor::Head {
        &self.actor.head
    }

    /// Does it remember what it was shown? Then actions depend on all observations since [`begin`](Self::begin): use one policy
    /// (a clone) for each episode that is played at the same time.
    pub fn remembers(&self) -> bool {
        self.actor.memory.is_some()
    }

    /// Forgets what it was shown: to be called before an episode, if it [remembers](Self::remembers).
    pub fn begin(&self) {
        self.memory.lock().acted.state.fill(0.0);
    }

    /// The action for one observation, as the environment shows it.
    pub fn act(&self, obs: &[f32]) -> Result<OwnedAction> {
        self.act_masked(obs, &[])
    }

    /// [`act`](Self::act) among the choices that `mask` allows (see [`Env::action_mask`]); an empty one allows all.
    pub fn act_masked(&self, obs: &[f32], mask: &[bool]) -> Result<OwnedAction> {
        let (observations, choices) = (&self.task.observation_space, self.task.action_space.choices());
        expect("observation", obs.len(), observations.row_len())?;
        if !mask.is_empty() {
            expect("action mask", mask.len(), choices)?;
        }
        if let Some(item) = obs.iter().position(|x| !x.is_finite()) {
            let why = format!(
                "does not contain the observation: its item {item} is {}, which is not finite",
                obs[item]
            );
            return Err(RlError::Space { what: "observation space", space: observations.to_string(), why });
        }
        let mut memory = self.memory.lock();
        let Memory { acted, encoded } = &mut *memory;
        if let Space::Box { .. } = observations {
            encoded.copy_from_slice(obs);
        } else if observations.contains(obs) {
            task::one_hot(observations.groups(), obs, encoded);
        } else {
            let why = format!("does not contain the observation {obs:?}");
            return Err(RlError::Space { what: "observation space", space: observations.to_string(), why });
        }
        self.actor.act(encoded, mask, &mut [], acted)?;
        Ok(acted.action(0))
    }

    /// Plays one episode of `env`, at most `max_steps` long.
    pub fn play<E: Env + 'static>(&self, env: E, seed: u64, max_steps: u64) -> Result<Played> {
        let envs = Box::new(Vectorized::new(vec![env])?);
        self.episode(&mut *task::encoded(envs), seed, max_steps)
    }

    /// Plays `episodes` episodes of a registered environment, each with a seed of its own and at most `max_steps` long.
    pub fn evaluate(&self, env: &EnvSpec, episodes: u64, seed: u64, max_steps: u64) -> Result<Vec<Played>> {
        let mut envs = task::encoded(env.make(1)?);
        let seeds = (0..episodes).map(|i| Seed::new(seed).child("evaluate", i).value());
        seeds.map(|seed| self.episode(&mut *envs, seed, max_steps)).collect()
    }

    fn episode(&self, envs: &mut dyn VecEnv, seed: u64, max_steps: u64) -> Result<Played> {
        self.fits(envs.observation_space(), envs.action_space())?;
        envs.reset(&[seed])?;
        self.begin();
        let mut memory = self.memory.lock();
        let mut played = Played { total: 0.0, length: 0 };
        while played.length < max_steps {
            let batch = envs.batch();
            if !batch.obs.iter().all(|x| x.is_finite()) {
                return Err(RlError::NotFinite { what: "observation", env: 0, step: played.length });
            }
            self.actor.act(&batch.obs, &batch.mask, &mut [], &mut memory.acted)?;
            envs.step(memory.acted.actions())?;
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
        let (o, a) = (&self.task.observation_space, &self.task.action_space);
        let alike = observations.row_len() == o.row_len() && observations.groups() == o.groups();
        check("observation space", observations, o, alike)?;
        check("action space", actions, a, actions == a)
    }
}

impl Clone for Policy {
    fn clone(&self) -> Self {
        Self::new(self.actor.clone(), self.task.clone())
    }
}

fn expect(what: &'static str, got: usize, expected: usize) -> Result<()> {
    if got == expected { Ok(()) } else { Err(RlError::Shape { what, got, expected }) }
}
