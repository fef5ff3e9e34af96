//! What a client has played, until there is enough of it to learn from. Pure: no socket, no clock.

use super::frame::LinkError;
use super::message::{Piece, Played};
use crate::env::space::Space;
use crate::play::rollout::{Episode, Rollout};
use crate::play::task::{Task, write_inputs};

/// Pieces of episodes one after another, as if one environment had played them.
#[derive(Debug)]
pub(super) struct Batch {
    task: Task,
    rollout: Rollout,
    /// Reward and steps so far of the episode that the last piece left open.
    open: Option<(f64, u64)>,
    /// Steps that were played with weights that are no longer the present ones.
    pub stale: u64,
}

impl Batch {
    pub(super) fn new(task: Task) -> Self {
        Self { rollout: Rollout::new(1, 0, &task), task, open: None, stale: 0 }
    }

    /// Steps at hand.
    pub(super) fn steps(&self) -> usize {
        self.rollout.steps()
    }

    /// Takes in what was played with the weights `present`; what was played with others is counted and left out, as an algorithm that learns from its own
    /// play cannot use it. At most `most` steps wait.
    pub(super) fn take(&mut self, played: &Played, present: u64, most: usize) -> Result<(), LinkError> {
        let wrong = |why: String| LinkError::Message(why);
        let steps: usize = played.episodes.iter().map(|piece| piece.actions.rows()).sum();
        if self.steps().saturating_add(steps) > most {
            return Err(wrong(format!(
                "{steps} steps are too many: {} wait, at most {most} may",
                self.steps()
            )));
        }
        let stale = played.weights_seq_no.is_some_and(|version| version != present);
        // All or nothing: a message with a mistake changes nothing.
        let mut read = Vec::with_capacity(played.episodes.len());
        for (number, piece) in played.episodes.iter().enumerate() {
            read.push(rollout(piece, &self.task).map_err(|why| wrong(format!("episode {number}: {why}")))?);
        }
        for (piece, part) in played.episodes.iter().zip(read) {
            let (total, length) = self.open.take().unwrap_or_default();
            let total = total + piece.rewards.numbers.iter().map(|&r| f64::from(r)).sum::<f64>();
            let length = length + piece.actions.rows() as u64;
            if stale {
                self.stale += piece.actions.rows() as u64;
            } else {
                self.rollout.append(&part);
            }
            if !piece.is_terminated && !piece.is_truncated {
                self.open = Some((total, length));
            } else if length > 0 {
                let at = self.steps().saturating_sub(1);
                self.rollout.episodes.push(Episode { env: 0, at, total, length });
            }
        }
        Ok(())
    }

    /// What was collected, to be learned from; nothing is left.
    pub(super) fn learn(&mut self) -> Rollout {
        std::mem::replace(&mut self.rollout, Rollout::new(1, 0, &self.task))
    }

    /// The client is gone, and the episode it has not ended with it.
    pub(super) fn abandon(&mut self) {
        self.open = None;
    }
}

/// A piece as a runner would have filled it. An episode that goes on elsewhere counts as cut off where the piece ends: its value there is what follows.
fn rollout(piece: &Piece, task: &Task) -> Result<Rollout, String> {
    let steps = piece.actions.rows();
    let (o, r) = (piece.obs.rows(), piece.rewards.rows());
    if o != steps + 1 || r != steps {
        return Err(format!("has {o} observations and {r} rewards for {steps} actions"));
    }
    let mut rollout = Rollout::new(1, steps, task);
    let (d, k) = (task.inputs(), task.action_space.row_len());
    for t in 0..=steps {
        let (row, space) = (piece.obs.row(t), &task.observation_space);
        if row.len() != space.row_len() || !row.iter().all(|x| x.is_finite()) {
            return Err(format!("observation {t} is {}, which is not finite or not of {space}", shown(row)));
        }
        let to = if t < steps { &mut rollout.obs[t * d..(t + 1) * d] } else { &mut rollout.last_obs[..] };
        write_inputs(space, row, to).map_err(|e| format!("observation {t}: {e}"))?;
    }
    for t in 0..steps {
        let (row, space) = (piece.actions.row(t), &task.action_space);
        // Reals are what was drawn: whoever acts clips them to the bounds.
        let fits = match space {
            Space::Box { .. } => row.len() == k && row.iter().all(|x| x.is_finite()),
            _ => space.contains(row),
        };
        if !fits {
            return Err(format!("action {t} is {}, which is outside {space}", shown(row)));
        }
        if let Space::Box { .. } = space {
            rollout.action.reals[t * k..(t + 1) * k].copy_from_slice(row);
        } else {
            for (to, &x) in rollout.action.choices[t * k..(t + 1) * k].iter_mut().zip(row) {
                *to = x as u32;
            }
        }
        match piece.rewards.row(t) {
            &[reward] if reward.is_finite() => rollout.reward[t] = reward,
            row => return Err(format!("reward {t} is {}, not one finite number", shown(row))),
        }
    }
    if let Some(last) = steps.checked_sub(1) {
        rollout.terminated[last] = piece.is_terminated;
        rollout.truncated[last] = !piece.is_terminated;
        if !piece.is_terminated {
            rollout.cut_rows.push(last);
            rollout.cut_obs.extend_from_slice(&rollout.last_obs);
        }
    }
    Ok(rollout)
}

/// The beginning of a row.
fn shown(row: &[f32]) -> String {
    const SHOWN: usize = 8;
    let more = if row.len() > SHOWN { format!(" and {} more", row.len() - SHOWN) } else { String::new() };
    format!("{:?}{more}", &row[..row.len().min(SHOWN)])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::array::Array;
    use super::*;

    fn batch() -> Batch {
        let (observation_space, action_space) = (Space::bounded(&[0.0], &[9.0]), Space::discrete(3));
        Batch::new(Task { observation_space, action_space, masked: false })
    }

    fn rows(numbers: &[f32]) -> Array {
        Array { numbers: numbers.to_vec(), ends: (1..=numbers.len()).collect() }
    }

    fn piece(obs: &[f32], actions: &[f32], is_terminated: bool, is_truncated: bool) -> Piece {
        Piece { obs: rows(obs), actions: rows(actions), rewards: rows(actions), is_terminated, is_truncated }
    }

    fn played(episodes: Vec<Piece>, weights_seq_no: Option<u64>) -> Played {
        Played { episodes, weights_seq_no }
    }

    #[test]
    fn pieces_follow_each_other_and_what_goes_on_is_cut_with_its_last_observation() {
        let mut batch = batch();
        batch.take(&played(vec![piece(&[1.0, 2.0, 3.0], &[1.0, 2.0], true, false)], None), 0, 10).unwrap();
        batch.take(&played(vec![piece(&[4.0, 5.0], &[0.0], false, false)], Some(0)), 0, 10).unwrap();
        batch.take(&played(vec![piece(&[5.0, 6.0], &[2.0], false, true)], Some(0)), 0, 10).unwrap();
        assert_eq!(batch.steps(), 4);
        let r = batch.learn();
        assert_eq!(
            (r.steps(), &r.obs[..], &r.action.choices[..]),
            (4, &[1.0, 2.0, 4.0, 5.0][..], &[1, 2, 0, 2][..])
        );
        assert_eq!(r.terminated, [false, true, false, false]);
        assert_eq!(r.truncated, [false, false, true, true]);
        assert_eq!((&r.cut_rows[..], &r.cut_obs[..]), (&[2, 3][..], &[5.0, 6.0][..]));
        assert_eq!((&r.reward[..], &r.last_obs[..]), (&[1.0, 2.0, 0.0, 2.0][..], &[6.0][..]));
        let ended: Vec<_> = r.episodes.iter().map(|e| (e.at, e.total, e.length)).collect();
        assert_eq!(ended, [(1, 3.0, 2), (3, 2.0, 2)]);
        assert_eq!(batch.steps(), 0);
    }

    #[test]
    fn what_older_weights_played_is_left_out_and_counted() {
        let mut batch = batch();
        batch.take(&played(vec![piece(&[1.0, 2.0], &[1.0], true, false)], Some(3)), 4, 10).unwrap();
        assert_eq!((batch.steps(), batch.stale), (0, 1));
    }

    #[test]
    fn a_message_with_a_mistake_changes_nothing() {
        let mut batch = batch();
        let good = || piece(&[1.0, 2.0], &[1.0], true, false);
        let mut wide = good();
        wide.obs = Array { numbers: vec![1.0, 2.0], ends: vec![0, 2] };
        let mut paid = good();
        paid.rewards = rows(&[f32::INFINITY]);
        for (bad, why) in [
            (piece(&[1.0], &[1.0], true, false), "episode 1: has 1 observations and 1 rewards for 1 actions"),
            (
                piece(&[1.0, f32::NAN], &[1.0], true, false),
                "observation 1 is [NaN], which is not finite or not of",
            ),
            (wide, "observation 0 is [], which is not finite or not of Box"),
            (
                piece(&[1.0, 2.0], &[3.0], true, false),
                "episode 1: action 0 is [3.0], which is outside Discrete(3)",
            ),
            (piece(&[1.0, 2.0], &[0.5], true, false), "action 0 is [0.5], which is outside Discrete(3)"),
            (paid, "reward 0 is [inf], not one finite number"),
        ] {
            let error = batch.take(&played(vec![good(), bad], None), 0, 10).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
            assert_eq!(batch.steps(), 0);
        }
        let error = batch.take(&played(vec![good(), good()], None), 0, 1).unwrap_err().to_string();
        assert_eq!(error, "2 steps are too many: 0 wait, at most 1 may");
    }
}
