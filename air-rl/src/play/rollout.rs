//! What the runners fill and a learner reads.

use crate::env::actions::ActionRows;
use crate::play::task::Task;

/// An episode that ended inside a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Episode {
    /// The environment it was played in, counted over all runners.
    pub env: usize,
    /// The step of the rollout that ended it.
    pub at: usize,
    /// Sum of its rewards.
    pub total: f64,
    /// Its steps.
    pub length: u64,
}

/// `steps` consecutive steps of each of `envs` environments, environment-major: row `env * steps + t`.
///
/// One environment's steps lie side by side, so an advantage is one pass over a slice, and the rollouts of several
/// runners join by appending. Buffers are allocated once and used again.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// Observations acted on, `[envs, steps, obs_len]`.
    pub obs: Vec<f32>,
    /// Actions taken, `[envs, steps]`; of a box as the policy drew them, not yet clipped or scaled.
    pub action: ActionRows,
    /// What could be done, `[envs, steps, choices]`; empty if nothing is ever ruled out.
    pub mask: Vec<bool>,
    /// Log-probability each action had when taken, `[envs, steps]`; 0 where it was not drawn from a distribution.
    pub log_prob: Vec<f32>,
    /// Rewards, `[envs, steps]`.
    pub reward: Vec<f32>,
    /// The step ended the episode in the task, `[envs, steps]`.
    pub terminated: Vec<bool>,
    /// The step cut the episode off, `[envs, steps]`.
    pub truncated: Vec<bool>,
    /// Observations after the last step, `[envs, obs_len]`.
    pub last_obs: Vec<f32>,
    /// What can be done about those, `[envs, choices]`; empty if nothing is ever ruled out.
    pub last_mask: Vec<bool>,
    /// Rows that were truncated and not terminated, rising within each runner's part.
    pub cut_rows: Vec<usize>,
    /// Final observations of those rows, `[cut_rows.len(), obs_len]`.
    pub cut_obs: Vec<f32>,
    /// The step is the first of its episode, `[envs, steps]`.
    pub begins: Vec<bool>,
    /// What the policy remembered before the first step, `[envs, units]`; empty if it has no memory.
    pub state: Vec<f32>,
    /// Version of the weights it was played with: updates of the learner before.
    pub version: u64,
    /// Episodes that ended, in the order they did (by step, then environment).
    pub episodes: Vec<Episode>,
    envs: usize,
    steps: usize,
    obs_len: usize,
    mask_len: usize,
}

impl Rollout {
    /// Buffers for `steps` steps of `envs` environments.
    pub fn new(envs: usize, steps: usize, task: &Task) -> Self {
        let (rows, obs_len, mask_len) = (envs * steps, task.inputs(), task.mask_len());
        Self {
            obs: vec![0.0; rows * obs_len],
            action: ActionRows::new(&task.action_space, rows),
            mask: vec![true; rows * mask_len],
            log_prob: vec![0.0; rows],
            reward: vec![0.0; rows],
            terminated: vec![false; rows],
            truncated: vec![false; rows],
            last_obs: vec![0.0; envs * obs_len],
            last_mask: vec![true; envs * mask_len],
            cut_rows: Vec::with_capacity(envs),
            cut_obs: Vec::with_capacity(envs * obs_len),
            begins: vec![false; rows],
            state: Vec::new(),
            version: 0,
            episodes: Vec::with_capacity(rows),
            envs,
            steps,
            obs_len,
            mask_len,
        }
    }

    /// Environments.
    pub fn envs(&self) -> usize {
        self.envs
    }

    /// Steps of each environment.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Items in one observation.
    pub fn obs_len(&self) -> usize {
        self.obs_len
    }

    /// Transitions in all.
    pub fn rows(&self) -> usize {
        self.envs * self.steps
    }

    /// Observation of one row.
    #[inline]
    pub fn obs_row(&self, row: usize) -> &[f32] {
        &self.obs[row * self.obs_len..(row + 1) * self.obs_len]
    }

    /// The observations of some rows, one after another.
    pub(crate) fn gather(&self, rows: &[u32], obs: &mut Vec<f32>) {
        obs.clear();
        for &row in rows {
            obs.extend_from_slice(self.obs_row(row as usize));
        }
    }

    /// What could be done in one row; empty if nothing is ever ruled out.
    #[inline]
    pub fn mask_row(&self, row: usize) -> &[bool] {
        &self.mask[row * self.mask_len..(row + 1) * self.mask_len]
    }

    /// Forgets what is only appended; the rest is overwritten.
    pub(crate) fn clear(&mut self) {
        self.cut_rows.clear();
        self.cut_obs.clear();
        self.state.clear();
        self.episodes.clear();
    }

    /// Copies `part`, a runner's rollout, in as environments `first_env..`.
    pub(crate) fn join(&mut self, first_env: usize, part: &Rollout) {
        let rows = first_env * self.steps..(first_env + part.envs) * self.steps;
        let (d, shift) = (self.obs_len, rows.start);
        self.obs[rows.start * d..rows.end * d].copy_from_slice(&part.obs);
        self.action.join(rows.start, &part.action);
        let m = self.mask_len;
        self.mask[rows.start * m..rows.end * m].copy_from_slice(&part.mask);
        self.last_mask[first_env * m..(first_env + part.envs) * m].copy_from_slice(&part.last_mask);
        self.log_prob[rows.clone()].copy_from_slice(&part.log_prob);
        self.reward[rows.clone()].copy_from_slice(&part.reward);
        self.terminated[rows.clone()].copy_from_slice(&part.terminated);
        self.truncated[rows.clone()].copy_from_slice(&part.truncated);
        self.begins[rows].copy_from_slice(&part.begins);
        self.state.extend_from_slice(&part.state);
        self.last_obs[first_env * d..(first_env + part.envs) * d].copy_from_slice(&part.last_obs);
        self.cut_rows.extend(part.cut_rows.iter().map(|row| row + shift));
        self.cut_obs.extend_from_slice(&part.cut_obs);
        self.episodes.extend_from_slice(&part.episodes);
    }

    /// Appends the steps of `part` to those of a rollout of one environment, as if it had gone on; episodes are left to the caller.
    pub(crate) fn append(&mut self, part: &Rollout) {
        let rows = self.rows();
        self.obs.extend_from_slice(&part.obs);
        self.action.append(&part.action);
        self.mask.extend_from_slice(&part.mask);
        self.log_prob.extend_from_slice(&part.log_prob);
        self.reward.extend_from_slice(&part.reward);
        self.terminated.extend_from_slice(&part.terminated);
        self.truncated.extend_from_slice(&part.truncated);
        self.begins.extend_from_slice(&part.begins);
        self.last_obs.clone_from(&part.last_obs);
        self.cut_rows.extend(part.cut_rows.iter().map(|row| row + rows));
        self.cut_obs.extend_from_slice(&part.cut_obs);
        self.steps += part.steps;
    }

    /// Puts episodes into the order they ended in, whatever runner they came from.
    pub(crate) fn order_episodes(&mut self) {
        self.episodes.sort_unstable_by_key(|e| (e.at, e.env));
    }
}
