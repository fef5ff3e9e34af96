//! Environments of several agents, played with a policy for each seat into a rollout for each policy.

use std::fmt;
use std::sync::Arc;

use air_core::BoxError;
use air_core::seed::Seed;
use rand_pcg::Pcg64;
use serde_json::{Map, Value};

use crate::env::multi_env::MultiEnv;
use crate::env::python::{self, PythonConfig};
use crate::env::{Action, Step};
use crate::error::{Result, RlError};
use crate::play::actor::{Acted, Actor};
use crate::play::rollout::{Episode, Rollout};
use crate::play::task::{self, Task};

type Make = dyn Fn() -> Result<Box<dyn MultiEnv>> + Send + Sync;

/// How to make one kind of environment of several agents. Cheap to clone and to send.
#[derive(Clone)]
pub struct MultiEnvSpec {
    name: String,
    options: Map<String, Value>,
    make: Arc<Make>,
}

impl MultiEnvSpec {
    /// Such an environment, by a name of your choice.
    pub fn new<E: MultiEnv + 'static>(
        name: impl Into<String>,
        make: impl Fn() -> E + Send + Sync + 'static,
    ) -> Self {
        Self { name: name.into(), options: Map::new(), make: Arc::new(move || Ok(Box::new(make()))) }
    }

    /// The environment of several agents in Python of that name, made with these arguments.
    pub(crate) fn python(name: &str, options: Map<String, Value>, config: PythonConfig) -> Self {
        let (key, kwargs) = (name.to_owned(), options.clone());
        let make = move || python::make_multi(&key, &kwargs, &config);
        Self { name: name.into(), options, make: Arc::new(make) }
    }

    /// The name it was made under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The options it was made with.
    pub fn options(&self) -> &Map<String, Value> {
        &self.options
    }

    /// Makes one; of those in Python that may fail.
    pub fn make(&self) -> Result<Box<dyn MultiEnv>> {
        (self.make)()
    }
}

impl fmt::Debug for MultiEnvSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MultiEnvSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

/// One agent of one environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub env: usize,
    pub agent: usize,
}

/// The seats that one policy plays, and its working memory.
struct Side {
    seats: Vec<Seat>,
    task: Task,
    inputs: Vec<f32>,
    draws: Vec<Pcg64>,
    acted: Acted,
}

/// An environment and what its agents have before them.
struct Table {
    env: Box<dyn MultiEnv>,
    obs: Vec<Vec<f32>>,
    steps: Vec<Step>,
    ended: Vec<bool>,
    totals: Vec<f64>,
    lengths: Vec<u64>,
    /// Who plays each agent: a side, and the row there.
    players: Vec<(usize, usize)>,
}

/// Some environments, and who plays which seat. What is random depends on the seed, the environment, the agent and the
/// iteration only.
pub(crate) struct MultiRunner {
    tables: Vec<Table>,
    sides: Vec<Side>,
    seed: Seed,
}

impl MultiRunner {
    /// Makes `envs` environments; `sides` has the task and the seats of each policy, every seat once. `epoch` tells restarts of
    /// one run apart.
    pub(crate) fn new(
        spec: &MultiEnvSpec,
        envs: usize,
        sides: Vec<(Task, Vec<Seat>)>,
        seed: Seed,
        epoch: u64,
    ) -> Result<Self> {
        let mut tables = Vec::with_capacity(envs);
        for number in 0..envs {
            let mut env = spec.make()?;
            let agents = env.agents();
            let mut obs: Vec<Vec<f32>> =
                (0..agents).map(|agent| vec![0.0; env.observation_space(agent).row_len()]).collect();
            let seed = seed.child("env", number as u64).child("epoch", epoch).value();
            env.reset(Some(seed), &vec![true; agents], &mut obs).map_err(failed(number, "reset"))?;
            tables.push(Table {
                env,
                obs,
                steps: vec![Step::default(); agents],
                ended: vec![false; agents],
                totals: vec![0.0; agents],
                lengths: vec![0; agents],
                players: vec![(0, 0); agents],
            });
        }
        for (side, (_, seats)) in sides.iter().enumerate() {
            for (row, seat) in seats.iter().enumerate() {
                tables[seat.env].players[seat.agent] = (side, row);
            }
        }
        let side = |(task, seats): (Task, Vec<Seat>)| Side {
            acted: Acted::new(&task.action_space, seats.len()),
            inputs: vec![0.0; seats.len() * task.inputs()],
            draws: Vec::with_capacity(seats.len()),
            task,
            seats,
        };
        Ok(Self { tables, sides: sides.into_iter().map(side).collect(), seed })
    }

    /// Plays `steps` steps of every environment; what the sides with a rollout see and do goes there, row `seat · steps + t`.
    pub(crate) fn collect(
        &mut self,
        actors: &[&Actor],
        iteration: u64,
        steps: usize,
        rollouts: &mut [Rollout],
    ) -> Result<()> {
        for side in &mut self.sides {
            side.draws.clear();
            side.draws.extend(side.seats.iter().map(|seat| {
                let env = self.seed.child("action", seat.env as u64).child("agent", seat.agent as u64);
                env.child("iteration", iteration).rng()
            }));
        }
        for rollout in &mut *rollouts {
            rollout.clear();
        }
        for t in 0..steps {
            for (i, (side, actor)) in self.sides.iter_mut().zip(actors).enumerate() {
                side.see(&self.tables)?;
                side.act(actor)?;
                if let Some(rollout) = rollouts.get_mut(i) {
                    side.record(t, rollout);
                }
            }
            for number in 0..self.tables.len() {
                self.step(number, t, rollouts)?;
            }
        }
        for (side, rollout) in self.sides.iter_mut().zip(rollouts) {
            side.see(&self.tables)?;
            rollout.last_obs.copy_from_slice(&side.inputs);
        }
        Ok(())
    }

    /// Steps one environment, writes down what it brought, and begins again whoever ended.
    fn step(&mut self, number: usize, t: usize, rollouts: &mut [Rollout]) -> Result<()> {
        let Self { tables, sides, .. } = self;
        let Table { env, obs, steps, ended, totals, lengths, players } = &mut tables[number];
        let actions: Vec<Action<'_>> =
            players.iter().map(|&(side, row)| sides[side].acted.borrowed(row)).collect();
        env.step(&actions, obs, steps).map_err(failed(number, "step"))?;
        for (agent, step) in steps.iter().enumerate() {
            totals[agent] += step.reward;
            lengths[agent] += 1;
            ended[agent] = step.ended();
            let not_finite = |what| RlError::NotFinite { what, env: number, step: lengths[agent] };
            if !step.reward.is_finite() {
                return Err(not_finite("reward"));
            }
            let (side, seat) = players[agent];
            if let Some(rollout) = rollouts.get_mut(side) {
                let row = seat * rollout.steps() + t;
                rollout.reward[row] = step.reward as f32;
                rollout.terminated[row] = step.terminated;
                rollout.truncated[row] = step.truncated;
                if step.truncated && !step.terminated {
                    if !obs[agent].iter().all(|x| x.is_finite()) {
                        return Err(not_finite("observation"));
                    }
                    let (d, at) = (rollout.obs_len(), rollout.cut_obs.len());
                    rollout.cut_rows.push(row);
                    rollout.cut_obs.resize(at + d, 0.0);
                    let to = &mut rollout.cut_obs[at..];
                    task::write_inputs(&sides[side].task.observation_space, &obs[agent], to)?;
                }
                if step.ended() {
                    let (total, length) = (totals[agent], lengths[agent]);
                    rollout.episodes.push(Episode { env: seat, at: t, total, length });
                }
            }
            if step.ended() {
                (totals[agent], lengths[agent]) = (0.0, 0);
            }
        }
        if ended.contains(&true) {
            env.reset(None, ended, obs).map_err(failed(number, "reset"))?;
        }
        Ok(())
    }
}

impl Side {
    /// Reads what every seat has before it.
    fn see(&mut self, tables: &[Table]) -> Result<()> {
        let Self { seats, task, inputs, .. } = self;
        for (seat, to) in seats.iter().zip(inputs.chunks_exact_mut(task.inputs())) {
            let Table { obs, lengths, .. } = &tables[seat.env];
            if !obs[seat.agent].iter().all(|x| x.is_finite()) {
                let step = lengths[seat.agent];
                return Err(RlError::NotFinite { what: "observation", env: seat.env, step });
            }
            task::write_inputs(&task.observation_space, &obs[seat.agent], to)?;
        }
        Ok(())
    }

    fn act(&mut self, actor: &Actor) -> Result<()> {
        actor.act(&self.inputs, &[], &mut self.draws, &mut self.acted)
    }

    fn record(&self, t: usize, rollout: &mut Rollout) {
        let d = self.task.inputs();
        for (seat, obs) in self.inputs.chunks_exact(d).enumerate() {
            let row = seat * rollout.steps() + t;
            rollout.obs[row * d..(row + 1) * d].copy_from_slice(obs);
            rollout.action.copy_row(row, &self.acted.taken, seat);
            rollout.log_prob[row] = self.acted.log_prob[seat];
        }
    }
}

fn failed(env: usize, verb: &'static str) -> impl Fn(BoxError) -> RlError {
    move |source| RlError::Env { env, verb, source }
}
