//! Recorded episodes, for learners that never play: JSON lines in, structure of arrays out.
//!
//! One line is one episode of T steps:
//!
//! ```json
//! {"obs": [[0.1, 0.0], [0.2, 0.1]], "actions": [1], "rewards": [1.0], "terminated": true}
//! ```
//!
//! `obs` has T + 1 rows, the last is the final observation; `actions` has T: numbers, or arrays where the space has several
//! items; an episode that is not `terminated` was cut off. `air-rl record` writes such files.

use std::io::{BufRead, Write};

use air_core::BoxError;
use serde::{Deserialize, Serialize};

use crate::env::OwnedAction;
use crate::env::space::Space;
use crate::envs::EnvSpec;
use crate::error::{Result, RlError};
use crate::learn::replay::Replay;
use crate::play::rollout::Rollout;
use crate::play::task::{self, Task};

/// The longest line read: 256 MiB.
const MAX_LINE: u64 = 1 << 28;

/// One episode, a line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedEpisode {
    /// Observations, `[T + 1, row_len]`, as the environment shows them.
    pub obs: Vec<Vec<f32>>,
    /// Actions, `[T]`.
    pub actions: Vec<OwnedAction>,
    /// Rewards, `[T]`.
    pub rewards: Vec<f64>,
    /// It ended in the task; otherwise it was cut off.
    pub terminated: bool,
}

/// Transitions of one step, in the order they were recorded, and the returns that followed them.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Observations as networks see them, actions in the environment's units, rewards, discounts, next observations.
    pub transitions: Replay,
    /// Discounted sum of the rewards from each transition to its episode's end, `[transitions]`.
    pub returns: Vec<f32>,
    /// Episodes.
    pub episodes: usize,
    /// Mean return of the episodes, not discounted.
    pub mean_return: f64,
    task: Task,
}

impl Dataset {
    /// Takes in episodes of a task; `gamma` discounts. Every row is checked against the spaces.
    pub fn new(task: &Task, gamma: f32, episodes: &[RecordedEpisode]) -> Result<Self> {
        let rows: usize = episodes.iter().map(|e| e.actions.len()).sum();
        if rows == 0 {
            return Err(RlError::Data { place: "recorded episodes".into(), why: "there is no step".into() });
        }
        let task = Task { masked: false, ..task.clone() };
        let mut transitions = Replay::new(&task, rows, 1, 1, gamma);
        let mut returns = vec![0.0; rows];
        let (mut first, mut total) = (0, 0.0);
        for (number, episode) in episodes.iter().enumerate() {
            let bad = |why: String| RlError::Data { place: format!("episode {}", number + 1), why };
            let rollout = episode.rollout(&task).map_err(bad)?;
            transitions.absorb(&rollout, |_| {});
            let mut after = 0.0;
            for (t, reward) in rollout.reward.iter().enumerate().rev() {
                after = reward + gamma * after;
                returns[first + t] = after;
            }
            first += rollout.rows();
            total += episode.rewards.iter().sum::<f64>();
        }
        let mean_return = total / episodes.len() as f64;
        Ok(Self { transitions, returns, episodes: episodes.len(), mean_return, task })
    }

    /// Transitions.
    pub fn len(&self) -> usize {
        self.returns.len()
    }

    /// Is there none? Never: it is refused.
    pub fn is_empty(&self) -> bool {
        self.returns.is_empty()
    }

    /// What it was recorded on.
    pub fn task(&self) -> &Task {
        &self.task
    }
}

/// The episodes of a file of JSON lines; empty lines are passed over.
pub fn read(path: &str) -> Result<Vec<RecordedEpisode>> {
    let bad = |place: String, why: String| RlError::Data { place, why };
    let file = std::fs::File::open(path).map_err(|e| bad(path.into(), e.to_string()))?;
    let mut reader = std::io::BufReader::new(file);
    let (mut episodes, mut line) = (Vec::new(), Vec::new());
    for number in 1.. {
        let place = || format!("line {number} of {path}");
        line.clear();
        let read = std::io::Read::take(&mut reader, MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|e| bad(place(), e.to_string()))?;
        if read as u64 == MAX_LINE {
            return Err(bad(place(), format!("is longer than {MAX_LINE} bytes")));
        }
        if read == 0 {
            break;
        }
        if !line.trim_ascii().is_empty() {
            episodes.push(serde_json::from_slice(&line).map_err(|e| bad(place(), e.to_string()))?);
        }
    }
    Ok(episodes)
}

impl RecordedEpisode {
    /// The same as what a runner would have filled.
    fn rollout(&self, task: &Task) -> std::result::Result<Rollout, String> {
        let steps = self.actions.len();
        if self.obs.len() != steps + 1 || self.rewards.len() != steps {
            let (o, r) = (self.obs.len(), self.rewards.len());
            return Err(format!("has {o} observations and {r} rewards for {steps} actions"));
        }
        let mut rollout = Rollout::new(1, steps, task);
        let (d, space) = (task.inputs(), &task.observation_space);
        for (t, obs) in self.obs.iter().enumerate() {
            if obs.len() != space.row_len() || !obs.iter().all(|x| x.is_finite()) {
                return Err(format!("observation {t} is {obs:?}, which is not finite or not of {space}"));
            }
            let to = if t < steps { &mut rollout.obs[t * d..(t + 1) * d] } else { &mut rollout.last_obs[..] };
            if let Space::Box { .. } = space {
                to.copy_from_slice(obs);
            } else if space.contains(obs) {
                task::one_hot(space.groups(), obs, to);
            } else {
                return Err(format!("observation {t} is {obs:?}, which is outside {space}"));
            }
        }
        for (t, (action, reward)) in self.actions.iter().zip(&self.rewards).enumerate() {
            let k = rollout.action.row_len();
            // A choice and a whole real look alike in JSON: the space tells them apart.
            let row: Vec<f32> = match action {
                OwnedAction::Discrete(choice) => vec![*choice as f32],
                OwnedAction::MultiDiscrete(choices) => choices.iter().map(|&c| c as f32).collect(),
                OwnedAction::Continuous(row) => row.clone(),
            };
            if !task.action_space.contains(&row) {
                return Err(format!("action {t} is {row:?}, which is outside {}", task.action_space));
            }
            if let Space::Box { .. } = task.action_space {
                rollout.action.reals[t * k..(t + 1) * k].copy_from_slice(&row);
            } else {
                for (to, x) in rollout.action.choices[t * k..(t + 1) * k].iter_mut().zip(row) {
                    *to = x as u32;
                }
            }
            if !reward.is_finite() {
                return Err(format!("reward {t} is {reward}"));
            }
            rollout.reward[t] = *reward as f32;
        }
        if steps > 0 {
            rollout.terminated[steps - 1] = self.terminated;
            rollout.truncated[steps - 1] = !self.terminated;
            if !self.terminated {
                rollout.cut_rows.push(steps - 1);
                rollout.cut_obs.extend_from_slice(&rollout.last_obs);
            }
        }
        Ok(rollout)
    }
}

/// Plays `episodes` episodes with any policy, `act(observation, mask)`, and keeps them; each is cut off after `max_steps`.
pub fn record(
    env: &EnvSpec,
    episodes: u64,
    seed: u64,
    max_steps: u64,
    mut act: impl FnMut(&[f32], &[bool]) -> Result<OwnedAction>,
) -> Result<Vec<RecordedEpisode>> {
    let mut envs = env.make(1)?;
    let root = air_core::seed::Seed::new(seed);
    let mut recorded = Vec::new();
    for number in 0..episodes {
        envs.reset(&[root.child("record", number).value()])?;
        let mut episode =
            RecordedEpisode { obs: vec![], actions: vec![], rewards: vec![], terminated: false };
        let last = loop {
            let obs = envs.batch().obs_row(0).to_vec();
            if episode.actions.len() as u64 >= max_steps {
                break obs;
            }
            let action = act(&obs, &envs.batch().mask)?;
            envs.step(action.alone())?;
            episode.obs.push(obs);
            episode.actions.push(action);
            episode.rewards.push(envs.batch().reward[0]);
            if let Some(last) = envs.batch().final_row(0) {
                episode.terminated = envs.batch().terminated[0];
                break last.to_vec();
            }
        };
        episode.obs.push(last);
        recorded.push(episode);
    }
    Ok(recorded)
}

/// Writes episodes as JSON lines.
pub fn write(to: &mut dyn Write, episodes: &[RecordedEpisode]) -> std::result::Result<(), BoxError> {
    for episode in episodes {
        serde_json::to_writer(&mut *to, episode)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}
