//! Environments that step themselves: a simulator connects, plays with the policy that it is sent, and sends what it has played.
//!
//! | file | idea |
//! |---|---|
//! | `frame.rs` | RLlink's frames: a length and a body |
//! | `message.rs`, `array.rs` | what is asked and answered, in MessagePack or JSON; numbers as clients write them |
//! | `batch.rs` | what was played, until there is enough of it |
//! | `client.rs` | a connection with its deadlines |
//! | `mod.rs` | [`ExternalPpo`], which answers and learns |
//!
//! The protocol is [RLlink](https://docs.ray.io/en/latest/rllib/external-envs.html) as RLlib's documentation has it: the client asks, the server answers.
//!
//! | request | reply |
//! |---|---|
//! | `PING` | `PONG` |
//! | `GET_CONFIG` | `SET_CONFIG` with `env_steps_per_sample`, the steps of a batch, and `force_on_policy` |
//! | `GET_STATE` | `SET_STATE` with `weights_seq_no`, `onnx_file` (base64 of gzip) and, for continuous actions, `log_std` |
//! | `EPISODES_AND_GET_STATE` | the same, once what has come is learned from, if it is a batch |
//! | `EPISODES` | none |
//!
//! An episode has `obs` (one more than actions), `actions`, `rewards`, `is_terminated` and `is_truncated`, or is the state of a `SingleAgentEpisode`
//! of RLlib, with arrays packed by `msgpack_numpy`; one that has not ended goes on with the next. A client that breaks the protocol is told why in an `ERROR`
//! of our own, and its connection is closed; what it had sent before is kept.

mod array;
mod batch;
mod client;
mod frame;
mod message;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use air_core::Clock;
use air_core::checkpoint::{Checkpoint, CheckpointStore};
use air_core::seed::Seed;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use crate::algorithms::ppo::{PpoConfig, PpoLearner, PpoStats};
use crate::env::space::Space;
use crate::error::{Check, Result, RlError};
use crate::learn::nets::network;
use crate::learn::policy_loss::log_prob;
use crate::play::actor::Head;
use crate::play::rollout::Rollout;
use crate::play::task::Task;
use crate::saved::checkpoint::{self, Run, State, json};
use crate::saved::policy::Policy;
use crate::train::algorithm::{Algorithm, Iteration, Returns};
use crate::train::learner::{Learner as _, Settings};

use batch::Batch;
use client::Client;
pub use frame::LinkError;
use message::{Coding, Reply, Request};

/// Everything that PPO on an external environment can be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExternalPpoConfig {
    /// Where clients are awaited; port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Await them at an address that other machines reach, too. The protocol has neither keys nor encryption.
    pub expose: bool,
    /// The longest message a client may send, bytes.
    pub max_bytes: usize,
    /// How long a client may be silent or take to send a message, and how long the next may take to come, seconds.
    pub idle_seconds: f64,
    /// What the environment shows; as that of the environment that is named, if there is none.
    pub observation_space: Option<Space>,
    /// What can be done in it; as that of the environment that is named, if there is none.
    pub action_space: Option<Space>,
    /// PPO itself. A batch is `envs × steps` steps, whoever plays them; `runners` and `parallel` do not apply.
    pub ppo: PpoConfig,
}

impl Default for ExternalPpoConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 5556)),
            expose: false,
            max_bytes: 16 << 20,
            idle_seconds: 600.0,
            observation_space: None,
            action_space: None,
            ppo: PpoConfig::default(),
        }
    }
}

impl Settings for ExternalPpoConfig {
    fn validate(&self) -> Result<()> {
        let reached = self.expose || self.listen.ip().is_loopback();
        Check::at(
            "listen",
            reached,
            "is an address that other machines reach: set `expose` if that is meant",
        )?;
        let fits = (1..=frame::LONGEST).contains(&self.max_bytes);
        Check::at("max_bytes", fits, "must be between 1 and 99999999")?;
        let fits = self.idle_seconds > 0.0 && self.idle_seconds <= 86_400.0;
        Check::at("idle_seconds", fits, "must be more than 0 and at most 86400 seconds")?;
        let both = self.observation_space.is_some() == self.action_space.is_some();
        Check::at("action_space", both, "and observation_space must both be given, or neither")?;
        let alone = self.ppo.runners == 1 && !self.ppo.parallel;
        Check::at(
            "runners",
            alone,
            "and parallel do not apply to external environments: leave them at 1 and false",
        )?;
        self.ppo.validate()
    }
}

/// PPO on what clients play elsewhere. They are served one at a time; what one has played when it hangs up is kept.
///
/// An iteration takes as long as the client takes to play a batch. Log-probabilities are computed here, with the weights that the client was sent.
pub struct ExternalPpo {
    config: ExternalPpoConfig,
    name: String,
    task: Task,
    seed: u64,
    learner: PpoLearner,
    listener: TcpListener,
    client: Option<Client>,
    batch: Batch,
    returns: Returns,
    clock: Clock,
    steps: u64,
    seconds: f64,
    playing: f64,
}

impl ExternalPpo {
    /// Listens for clients that play the environment `name`, which shows `observations` and is given `actions`, unless the settings have spaces.
    pub fn new(
        config: ExternalPpoConfig,
        name: impl Into<String>,
        observations: Space,
        actions: Space,
        seed: u64,
    ) -> Result<Self> {
        config.validate()?;
        let observation_space = config.observation_space.clone().unwrap_or(observations);
        let action_space = config.action_space.clone().unwrap_or(actions);
        observation_space.validate("observation space")?;
        action_space.validate("action space")?;
        let task = Task { observation_space, action_space, masked: false };
        let learner = PpoLearner::new(&config.ppo, &task, Seed::new(seed).child("learner", 0))?;
        let failed = |source| RlError::External { address: config.listen, source: LinkError::Io(source) };
        let listener = TcpListener::bind(config.listen).map_err(failed)?;
        Ok(Self {
            name: name.into(),
            batch: Batch::new(task.clone()),
            task,
            seed,
            learner,
            listener,
            client: None,
            returns: Returns::default(),
            clock: Clock::system(),
            steps: 0,
            seconds: 0.0,
            playing: 0.0,
            config,
        })
    }

    /// Where clients are awaited.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|e| self.failed(e.into()))
    }

    /// Steps that were left out so far, because clients had played them with weights other than the present ones.
    pub fn stale_steps(&self) -> u64 {
        self.batch.stale
    }

    fn failed(&self, source: LinkError) -> RlError {
        RlError::External { address: self.config.listen, source }
    }

    fn batch_steps(&self) -> usize {
        self.config.ppo.envs * self.config.ppo.steps
    }

    /// The client at hand, or else the next to come.
    fn client(&mut self) -> Result<Client> {
        if let Some(client) = self.client.take() {
            return Ok(client);
        }
        let idle = Duration::from_secs_f64(self.config.idle_seconds);
        Client::next(&self.listener, idle).map_err(|e| self.failed(e.into()))
    }

    /// Serves clients until there is a batch; answers all but the request that completed it, which waits for the new weights.
    fn collect(&mut self) -> Result<Option<Coding>> {
        loop {
            let mut client = self.client()?;
            let answered = self.answer(&mut client);
            match answered {
                Ok(Answered::Gone) => self.batch.abandon(),
                Err(error) => {
                    tracing::warn!(%error, "a client breaks the protocol and is hung up on");
                    client.dismiss();
                    self.batch.abandon();
                }
                Ok(answered) => {
                    self.client = Some(client);
                    match answered {
                        Answered::Waits(coding) => return Ok(Some(coding)),
                        Answered::Batch => return Ok(None),
                        Answered::More | Answered::Gone => {}
                    }
                }
            }
        }
    }

    /// Reads one request and answers it.
    fn answer(&mut self, client: &mut Client) -> std::result::Result<Answered, LinkError> {
        let body =
            client.read(self.config.max_bytes).inspect_err(|e| complain(client, e, Coding::MessagePack))?;
        let Some(body) = body else { return Ok(Answered::Gone) };
        let coding = message::coding(&body);
        let request = message::read(&body).inspect_err(|e| complain(client, e, coding))?;
        let reply = self.reply(&request).inspect_err(|e| complain(client, e, coding))?;
        let full = self.batch.steps() >= self.batch_steps();
        match reply {
            Some(Reply::SetState { .. }) if full => Ok(Answered::Waits(coding)),
            None if full => Ok(Answered::Batch),
            None => Ok(Answered::More),
            Some(reply) => {
                client.write(&message::write(&reply, coding)?)?;
                Ok(Answered::More)
            }
        }
    }

    fn reply(&mut self, request: &Request) -> std::result::Result<Option<Reply>, LinkError> {
        let (present, most) = (self.learner.iteration(), 2 * self.batch_steps().max(1 << 16));
        match request {
            Request::Ping => Ok(Some(Reply::Pong)),
            Request::GetConfig => {
                let env_steps_per_sample = self.batch_steps();
                Ok(Some(Reply::SetConfig { env_steps_per_sample, force_on_policy: true }))
            }
            Request::GetState => self.state().map(Some),
            Request::Episodes(played) => self.batch.take(played, present, most).map(|()| None),
            Request::EpisodesAndGetState(played) => {
                self.batch.take(played, present, most)?;
                self.state().map(Some)
            }
        }
    }

    fn state(&self) -> std::result::Result<Reply, LinkError> {
        let onnx = self.policy().to_onnx().map_err(|e| LinkError::Message(e.to_string()))?;
        let log_std = match &self.learner.actor().head {
            Head::Gaussian { log_std } => Some(log_std.clone()),
            _ => None,
        };
        let weights_seq_no = self.learner.iteration();
        Ok(Reply::SetState { weights_seq_no, onnx_file: message::packed(&onnx)?, log_std })
    }

    /// Sends the client at hand the weights it waits for; one that does not take them is gone.
    fn send_state(&mut self, coding: Coding) {
        let Some(mut client) = self.client.take() else { return };
        let body = self.state().and_then(|state| message::write(&state, coding));
        match body.and_then(|body| client.write(&body)) {
            Ok(()) => self.client = Some(client),
            Err(error) => {
                tracing::warn!(%error, "a client did not take the new weights");
                self.batch.abandon();
            }
        }
    }

    /// What probability the present policy gives to what was done.
    fn weigh(&self, rollout: &mut Rollout) -> Result<()> {
        let actor = self.learner.actor();
        let mut obs = rollout.obs.clone();
        if let Some(normalizer) = &actor.normalizer {
            normalizer.apply(&mut obs);
        }
        let mut scratch = air_train::nn::Scratch::default();
        let outputs = actor.net.infer(&obs, rollout.rows(), &mut scratch).map_err(network)?;
        let mut row = vec![0.0; actor.net.outputs()];
        for (i, outputs) in outputs.chunks_exact(actor.net.outputs()).enumerate() {
            rollout.log_prob[i] =
                log_prob(rollout, i, outputs, &actor.head, &self.task.action_space, &mut row);
        }
        Ok(())
    }
}

/// What became of a request.
enum Answered {
    /// It completed a batch, and waits to be answered in this coding.
    Waits(Coding),
    /// It completed a batch, and is not to be answered.
    Batch,
    /// There will be another.
    More,
    /// There was none: the client has hung up.
    Gone,
}

/// Tells a client why it is hung up on, if it still listens.
fn complain(client: &mut Client, error: &LinkError, coding: Coding) {
    let message = match error {
        LinkError::Io(cause) => cause.to_string(),
        other => other.to_string(),
    };
    let reply = Reply::Error { message };
    let _ = message::write(&reply, coding).and_then(|body| client.write(&body));
}

impl Algorithm for ExternalPpo {
    type Stats = PpoStats;

    const NAME: &'static str = "external-ppo";

    fn train(&mut self) -> Result<Iteration<PpoStats>> {
        let begin = self.clock.now();
        let waits = self.collect()?;
        let played = self.clock.now();
        let mut rollout = self.batch.learn();
        self.weigh(&mut rollout)?;
        let stats = self.learner.update(&mut rollout)?;
        if let Some(coding) = waits {
            self.send_state(coding);
        }
        self.steps += rollout.rows() as u64;
        let peak_return = self.returns.add(&rollout.episodes);
        self.playing += played.saturating_sub(begin).as_secs_f64();
        self.seconds += self.clock.now().saturating_sub(begin).as_secs_f64();
        Ok(Iteration {
            iteration: self.learner.iteration(),
            steps: self.steps,
            episodes: self.returns.ended(),
            seconds: self.seconds,
            playing_seconds: self.playing,
            mean_return: self.returns.mean_return(),
            mean_length: self.returns.mean_length(),
            peak_return,
            learner: stats,
        })
    }

    fn policy(&self) -> Policy {
        Policy::new(self.learner.policy(), self.task.clone())
    }

    fn save(&mut self, store: &CheckpointStore) -> Result<Checkpoint> {
        let policy = self.learner.policy();
        let run = Run {
            format: Run::FORMAT,
            algorithm: Self::NAME.into(),
            env: self.name.clone(),
            env_options: Map::new(),
            task: self.task.clone(),
            head: policy.head.clone(),
            normalizer: policy.normalizer.clone(),
            remembers: false,
            seed: self.seed,
            iteration: self.learner.iteration(),
            steps: self.steps,
            config: json(&self.config)?,
        };
        let mean_return = self.returns.mean_return();
        checkpoint::save(store, &run, &policy, |state: &mut State<'_>| self.learner.state(state), mean_return)
    }
}
