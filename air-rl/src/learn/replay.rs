//! A replay buffer: transitions of n steps, structure of arrays, allocated once, the oldest overwritten.

use rand::RngExt as _;
use rand_pcg::Pcg64;
use serde::{Deserialize, Serialize};

use crate::env::actions::ActionRows;
use crate::error::Result;
use crate::play::rollout::Rollout;
use crate::play::task::Task;
use crate::saved::checkpoint::State;

/// The last `capacity` transitions, in one ring.
///
/// A transition spans up to n steps: `reward = Σ γⁱ rᵢ`, and `discount` is what the value of `next_obs` counts: γᵏ after
/// k steps, 0 where the task ended. They are folded when they come in, so sampling is a copy of rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Replay {
    /// Observations acted on, `[capacity, obs_len]`.
    pub obs: Vec<f32>,
    /// Actions taken, `[capacity]`.
    pub action: ActionRows,
    /// Discounted sums of rewards, `[capacity]`.
    pub reward: Vec<f32>,
    /// What the next value counts, `[capacity]`.
    pub discount: Vec<f32>,
    /// Observations after it, `[capacity, obs_len]`.
    pub next_obs: Vec<f32>,
    /// What can be done there, `[capacity, choices]`; empty if nothing is ever ruled out.
    pub next_mask: Vec<bool>,
    capacity: usize,
    obs_len: usize,
    mask_len: usize,
    len: usize,
    /// Row that the next transition goes to.
    head: usize,
    /// Steps of each environment that are still short of n.
    windows: Vec<Window>,
    n_step: usize,
    gamma: f32,
}

/// The last steps of one environment's episode, oldest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Window {
    obs: Vec<f32>,
    action: ActionRows,
    reward: Vec<f32>,
    len: usize,
}

/// Transitions drawn evenly, copied out in rows, for learners of continuous actions.
#[derive(Clone, Debug, Default)]
pub struct Minibatch {
    /// Observations acted on, `[n, obs_len]`.
    pub obs: Vec<f32>,
    /// Actions taken, `[n, row_len]`.
    pub action: Vec<f32>,
    /// Discounted sums of rewards, `[n]`.
    pub reward: Vec<f32>,
    /// What the next value counts, `[n]`.
    pub discount: Vec<f32>,
    /// Observations after them, `[n, obs_len]`.
    pub next_obs: Vec<f32>,
}

impl Replay {
    /// Room for `capacity` transitions of `n_step` steps from `envs` environments.
    pub fn new(task: &Task, capacity: usize, envs: usize, n_step: usize, gamma: f32) -> Self {
        let (obs_len, mask_len, space) = (task.inputs(), task.mask_len(), &task.action_space);
        let window = Window {
            obs: vec![0.0; n_step * obs_len],
            action: ActionRows::new(space, n_step),
            reward: vec![0.0; n_step],
            len: 0,
        };
        Self {
            obs: vec![0.0; capacity * obs_len],
            action: ActionRows::new(space, capacity),
            reward: vec![0.0; capacity],
            discount: vec![0.0; capacity],
            next_obs: vec![0.0; capacity * obs_len],
            next_mask: vec![true; capacity * mask_len],
            capacity,
            obs_len,
            mask_len,
            len: 0,
            head: 0,
            windows: vec![window; envs],
            n_step,
            gamma,
        }
    }

    /// Saves or restores all of it; a restored one goes on with fresh episodes.
    pub(crate) fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        let (capacity, items) = (self.capacity, self.obs.len());
        state.value("replay", self)?;
        // A checkpoint's own settings say how large it is; the rows are drawn from without asking again.
        state
            .expect("replay", self.capacity == capacity && self.obs.len() == items && self.len <= capacity)?;
        for window in &mut self.windows {
            window.len = 0;
        }
        Ok(())
    }

    /// Transitions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Takes in what was played, step by step; `added` hears of each row that is written.
    pub fn absorb(&mut self, rollout: &Rollout, mut added: impl FnMut(usize)) {
        let steps = rollout.steps();
        for t in 0..steps {
            for env in 0..rollout.envs() {
                self.step(rollout, env, env * steps + t, t + 1 == steps, &mut added);
            }
        }
    }

    fn step(&mut self, rollout: &Rollout, env: usize, row: usize, last: bool, added: &mut impl FnMut(usize)) {
        let (d, m) = (self.obs_len, self.mask_len);
        let (terminated, truncated) = (rollout.terminated[row], rollout.truncated[row]);
        let everything: &[bool] = &[];
        let (next, mask) = if terminated {
            (rollout.obs_row(row), everything) // of no account: its discount is 0
        } else if truncated {
            let cut = rollout.cut_rows.iter().position(|&cut| cut == row).unwrap_or(0);
            (&rollout.cut_obs[cut * d..(cut + 1) * d], everything)
        } else if last {
            (&rollout.last_obs[env * d..(env + 1) * d], &rollout.last_mask[env * m..(env + 1) * m])
        } else {
            (rollout.obs_row(row + 1), rollout.mask_row(row + 1))
        };

        let mut window = std::mem::replace(&mut self.windows[env], Window::empty(&self.action));
        let at = window.len;
        window.obs[at * d..(at + 1) * d].copy_from_slice(rollout.obs_row(row));
        window.action.copy_row(at, &rollout.action, row);
        window.reward[at] = rollout.reward[row];
        window.len += 1;
        if terminated || truncated {
            for first in 0..window.len {
                added(self.emit(&window, first, next, mask, terminated));
            }
            window.len = 0;
        } else if window.len == self.n_step {
            added(self.emit(&window, 0, next, mask, false));
            window.drop_first(d);
        }
        self.windows[env] = window;
    }

    /// Writes the transition from step `first` of the window to its end; returns its row.
    fn emit(
        &mut self,
        window: &Window,
        first: usize,
        next: &[f32],
        mask: &[bool],
        terminated: bool,
    ) -> usize {
        let (d, m, row) = (self.obs_len, self.mask_len, self.head);
        self.obs[row * d..(row + 1) * d].copy_from_slice(&window.obs[first * d..(first + 1) * d]);
        self.action.copy_row(row, &window.action, first);
        let (mut sum, mut factor) = (0.0, 1.0);
        for reward in &window.reward[first..window.len] {
            sum += factor * reward;
            factor *= self.gamma;
        }
        self.reward[row] = sum;
        self.discount[row] = if terminated { 0.0 } else { factor };
        self.next_obs[row * d..(row + 1) * d].copy_from_slice(next);
        let to = &mut self.next_mask[row * m..(row + 1) * m];
        if mask.is_empty() {
            to.fill(true);
        } else {
            to.copy_from_slice(mask);
        }
        self.head = (row + 1) % self.capacity;
        self.len = (self.len + 1).min(self.capacity);
        row
    }

    /// Observation acted on in one row.
    #[inline]
    pub fn obs_row(&self, row: usize) -> &[f32] {
        &self.obs[row * self.obs_len..(row + 1) * self.obs_len]
    }

    /// Observation after one row.
    #[inline]
    pub fn next_row(&self, row: usize) -> &[f32] {
        &self.next_obs[row * self.obs_len..(row + 1) * self.obs_len]
    }

    /// What can be done after one row; empty if nothing is ever ruled out.
    #[inline]
    pub fn next_mask_row(&self, row: usize) -> &[bool] {
        &self.next_mask[row * self.mask_len..(row + 1) * self.mask_len]
    }

    /// The observations acted on in some rows, one after another.
    pub(crate) fn gather(&self, rows: &[usize], obs: &mut Vec<f32>) {
        obs.clear();
        for &row in rows {
            obs.extend_from_slice(self.obs_row(row));
        }
    }

    /// The observations after some rows, one after another.
    pub(crate) fn gather_next(&self, rows: &[usize], next_obs: &mut Vec<f32>) {
        next_obs.clear();
        for &row in rows {
            next_obs.extend_from_slice(self.next_row(row));
        }
    }

    /// Draws `n` transitions of reals, any as likely as any other; there must be at least one.
    pub fn sample(&self, n: usize, rng: &mut Pcg64, to: &mut Minibatch) {
        let Minibatch { obs, action, reward, discount, next_obs } = to;
        obs.clear();
        action.clear();
        reward.clear();
        discount.clear();
        next_obs.clear();
        for _ in 0..n {
            let row = rng.random_range(0..self.len);
            obs.extend_from_slice(self.obs_row(row));
            action.extend_from_slice(self.action.reals_of(row));
            reward.push(self.reward[row]);
            discount.push(self.discount[row]);
            next_obs.extend_from_slice(self.next_row(row));
        }
    }
}

impl Window {
    /// What stands in for a window that is being worked on; allocates nothing.
    fn empty(like: &ActionRows) -> Self {
        Self { obs: Vec::new(), action: like.empty(), reward: Vec::new(), len: 0 }
    }

    fn drop_first(&mut self, d: usize) {
        self.obs.copy_within(d.., 0);
        self.action.shift();
        self.reward.copy_within(1.., 0);
        self.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::space::Space;

    /// One environment of scripted steps: (reward, terminated, truncated); observation t is [t].
    fn rollout(first: usize, script: &[(f32, bool, bool)]) -> Rollout {
        let mut r = Rollout::new(1, script.len(), &task());
        for (t, &(reward, terminated, truncated)) in script.iter().enumerate() {
            r.obs[t] = (first + t) as f32;
            r.action.choices[t] = t as u32 % 2;
            (r.reward[t], r.terminated[t], r.truncated[t]) = (reward, terminated, truncated);
            if truncated && !terminated {
                r.cut_rows.push(t);
                r.cut_obs.push(100.0 + t as f32);
            }
        }
        r.last_obs[0] = (first + script.len()) as f32;
        r
    }

    fn task() -> Task {
        let observation_space = Space::bounded(&[0.0], &[1e9]);
        Task { observation_space, action_space: Space::discrete(2), masked: false }
    }

    fn rows(replay: &Replay) -> Vec<(f32, f32, f32, f32)> {
        (0..replay.len())
            .map(|i| (replay.obs[i], replay.reward[i], replay.discount[i], replay.next_obs[i]))
            .collect()
    }

    #[test]
    fn steps_are_folded_within_episodes_and_across_rollouts() {
        let mut replay = Replay::new(&task(), 16, 1, 3, 0.5);
        let on = |reward| (reward, false, false);
        replay.absorb(&rollout(0, &[on(1.0), on(2.0)]), |_| {});
        assert!(replay.is_empty(), "a transition of three steps after two");
        replay.absorb(&rollout(2, &[on(4.0), (8.0, false, true), on(16.0), (32.0, true, true)]), |_| {});
        let expected = [
            (0.0, 1.0 + 1.0 + 1.0, 0.125, 3.0),
            // Cut off at step 3: what followed is its final observation, however few steps are left.
            (1.0, 2.0 + 2.0 + 2.0, 0.125, 101.0),
            (2.0, 4.0 + 4.0, 0.25, 101.0),
            (3.0, 8.0, 0.5, 101.0),
            // Ended at step 5: nothing follows.
            (4.0, 16.0 + 16.0, 0.0, 5.0),
            (5.0, 32.0, 0.0, 5.0),
        ];
        assert_eq!(rows(&replay), expected);
        assert_eq!(replay.action.choices[..6], [0, 1, 0, 1, 0, 1]);
    }

    #[test]
    fn the_oldest_are_overwritten_and_nothing_is_allocated() {
        let mut replay = Replay::new(&task(), 4, 1, 1, 0.9);
        let script = rollout(0, &[(1.0, false, false); 6]);
        let mut written = Vec::with_capacity(6);
        let counted = allocation_counter::measure(|| replay.absorb(&script, |row| written.push(row)));
        assert_eq!(counted.count_total, 0);
        assert_eq!(written, [0, 1, 2, 3, 0, 1]);
        assert_eq!(rows(&replay).iter().map(|r| r.0).collect::<Vec<_>>(), [4.0, 5.0, 2.0, 3.0]);
        assert_eq!(replay.len(), 4);
    }
}
