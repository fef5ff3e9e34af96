//! An environment of several agents in Python, in a worker process of its own.

use std::sync::Arc;

use air_core::BoxError;
use air_core::process::Guard;
use serde_json::{Map, Value};

use super::PythonConfig;
use super::layout::{LOST, TERMINATED, TRUNCATED};
use super::restarts::{Restarts, WINDOW};
use super::told::Agents;
use super::worker::{Lost, Starting, Worker};
use crate::env::multi_env::MultiEnv;
use crate::env::space::Space;
use crate::env::{Action, Step, out_of_range};
use crate::error::{Result, RlError};

/// A parallel environment of PettingZoo.
///
/// Its agents begin and end together: one that has ended before the others sees zeros and is paid nothing until all have. When the worker is lost
/// or the environment raises an exception, it is made anew, and the episodes of all agents count as truncated where they stood.
pub(super) struct PythonMulti {
    name: String,
    kwargs: Map<String, Value>,
    config: PythonConfig,
    guard: Arc<Guard>,
    worker: Worker,
    agents: Agents,
    /// The number of each agent's team.
    teams: Vec<usize>,
    /// What the worker brought, `[agents, widest observation]`.
    rows: Vec<f32>,
    /// What the next reset begins from, where none is asked for: the worker is a new one.
    fresh: Option<u64>,
    seed: u64,
    steps: u64,
    /// Workers lost so far, which tells their episodes' seeds apart.
    lives: u64,
    restarts: Restarts,
}

impl PythonMulti {
    pub(super) fn start(name: &str, kwargs: &Map<String, Value>, config: &PythonConfig) -> Result<Self> {
        let failed = |why: String| RlError::Python { env: name.into(), why };
        let guard = Guard::start().map_err(|e| failed(format!("no process can be started: {e}")))?;
        let started = Starting::spawn(&guard, config, name, kwargs, None);
        let (worker, agents) = started
            .and_then(|starting| starting.ready::<Agents>(config))
            .map_err(|lost| failed(lost.to_string()))?;
        Ok(Self {
            name: name.into(),
            kwargs: kwargs.clone(),
            config: config.clone(),
            guard,
            rows: vec![0.0; agents.list.len() * agents.widest_observation()],
            worker,
            teams: agents.teams(),
            agents,
            fresh: None,
            seed: 0,
            steps: 0,
            lives: 0,
            restarts: Restarts::new(config.losses, WINDOW),
        })
    }

    /// Another worker for one that is lost; its environment has yet to be reset.
    fn replace(&mut self, mut lost: Lost) -> Result<()> {
        loop {
            self.lost("a worker is lost and replaced", &lost.to_string())?;
            self.lives += 1;
            // Other episodes than those that were lost, which might be lost again in the same place.
            self.fresh = Some(self.seed.wrapping_add(self.lives << 48));
            let started = Starting::spawn(&self.guard, &self.config, &self.name, &self.kwargs, None);
            match started.and_then(|starting| starting.ready::<Agents>(&self.config)) {
                Ok((worker, agents)) if agents == self.agents => {
                    self.worker = worker;
                    return Ok(());
                }
                Ok(_) => lost = Lost::Said("its agents are not always the same".into()),
                Err(again) => lost = again,
            }
        }
    }

    fn lost(&mut self, what: &str, why: &str) -> Result<()> {
        self.restarts.book(&self.name, self.steps, what, why)
    }

    /// Gives each agent the observation that the worker brought.
    fn show(&mut self, obs: &mut [Vec<f32>]) {
        self.worker.observations(&mut self.rows);
        for (obs, row) in obs.iter_mut().zip(self.rows.chunks_exact(self.agents.widest_observation())) {
            let len = obs.len();
            obs.copy_from_slice(&row[..len]);
        }
    }

    /// Actions as rows of four-byte items, as wide as the widest.
    fn encode(&self, actions: &[Action<'_>]) -> std::result::Result<Vec<u8>, BoxError> {
        let mut bytes = Vec::with_capacity(actions.len() * self.agents.widest_action() * 4);
        for (action, agent) in actions.iter().zip(&self.agents.list) {
            if !agent.action_space.contains_action(*action) {
                return Err(out_of_range(*action, &agent.action_space));
            }
            let end = bytes.len() + self.agents.widest_action() * 4;
            match action {
                Action::Discrete(choice) => bytes.extend(choice.to_ne_bytes()),
                Action::MultiDiscrete(choices) => bytes.extend(choices.iter().flat_map(|c| c.to_ne_bytes())),
                Action::Continuous(reals) => bytes.extend(reals.iter().flat_map(|x| x.to_ne_bytes())),
            }
            bytes.resize(end, 0);
        }
        Ok(bytes)
    }
}

impl MultiEnv for PythonMulti {
    fn agents(&self) -> usize {
        self.agents.list.len()
    }

    fn team(&self, agent: usize) -> usize {
        self.teams[agent]
    }

    fn observation_space(&self, agent: usize) -> Space {
        self.agents.list[agent].observation_space.clone()
    }

    fn action_space(&self, agent: usize) -> Space {
        self.agents.list[agent].action_space.clone()
    }

    fn reset(
        &mut self,
        seed: Option<u64>,
        which: &[bool],
        obs: &mut [Vec<f32>],
    ) -> std::result::Result<(), BoxError> {
        if which.contains(&false) {
            return Err("the agents of an environment in Python begin together".into());
        }
        self.seed = seed.unwrap_or(self.seed);
        self.fresh = seed.or(self.fresh);
        loop {
            let asked = match self.fresh {
                Some(seed) => self.worker.reset(&vec![seed; self.agents.list.len()]),
                None => self.worker.begin(),
            };
            match asked.and_then(|()| self.worker.wait()) {
                Ok(_) => break,
                Err(lost) => self.replace(lost)?,
            }
        }
        self.fresh = None;
        self.show(obs);
        Ok(())
    }

    fn step(
        &mut self,
        actions: &[Action<'_>],
        obs: &mut [Vec<f32>],
        steps: &mut [Step],
    ) -> std::result::Result<(), BoxError> {
        let bytes = self.encode(actions)?;
        self.steps += 1;
        match self.worker.step(&bytes).and_then(|()| self.worker.wait()) {
            Ok(failures) => {
                for (step, (reward, &flag)) in
                    steps.iter_mut().zip(self.worker.rewards().zip(self.worker.flags()))
                {
                    let (terminated, truncated) = (flag & TERMINATED != 0, flag & TRUNCATED != 0);
                    *step = Step { reward, terminated, truncated };
                }
                // What was acted on stays the last observation of an episode that is lost.
                if self.worker.flags().iter().all(|flag| flag & LOST == 0) {
                    self.show(obs);
                }
                for said in failures {
                    self.lost("an environment failed and is replaced", &said)?;
                }
            }
            Err(lost) => {
                self.replace(lost)?;
                steps.fill(Step { reward: 0.0, terminated: false, truncated: true });
            }
        }
        Ok(())
    }
}
