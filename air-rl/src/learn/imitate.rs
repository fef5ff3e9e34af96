//! Making a policy likelier to do what was recorded, each step by its weight: what BC, MARWIL and IQL have in common.

use air_core::seed::Seed;
use air_train::nn::{Adam, Optimizer as _, clip_grad_norm};

use crate::error::Result;
use crate::learn::nets::{self, descend, network};
use crate::learn::offline_data::Dataset;
use crate::learn::{categorical, gaussian};
use crate::play::actor::{Actor, Explore, Head};
use crate::play::task::Task;
use crate::saved::checkpoint::State;

/// Deviations do not shrink beyond this, or one action would be infinitely likely.
const LEAST_LOG_STD: f32 = -3.0;

/// A policy with its optimiser.
#[derive(Clone, Debug)]
pub(crate) struct Imitator {
    pub actor: Actor,
    adam: Adam,
    std_adam: Adam,
    obs: Vec<f32>,
    d_out: Vec<f32>,
    d_log_std: Vec<f32>,
    log_probs: Vec<f32>,
}

impl Imitator {
    pub(crate) fn new(task: &Task, hidden: &[usize], lr: f32, seed: Seed) -> Result<Self> {
        let space = &task.action_space;
        let head = Head::drawn(space, 0.0);
        let net = nets::relu(task.inputs(), hidden, head.outputs(space), seed)?;
        Ok(Self {
            actor: Actor::new(net, head, space.clone(), Explore::Never)?,
            adam: Adam::new(lr),
            std_adam: Adam::new(lr),
            obs: Vec::new(),
            d_out: Vec::new(),
            d_log_std: Vec::new(),
            log_probs: Vec::new(),
        })
    }

    /// One step down `mean −wᵢ log π(aᵢ|sᵢ)` over some rows; returns that mean.
    pub(crate) fn fit(&mut self, data: &Dataset, rows: &[usize], weights: &[f32]) -> Result<f32> {
        let Self { actor, adam, std_adam, obs, d_out, d_log_std, log_probs } = self;
        let (net, head, space) = actor.parts();
        let (n, width, scale) = (rows.len(), net.outputs(), 1.0 / rows.len() as f32);
        data.transitions.gather(rows, obs);
        d_out.resize(n * width, 0.0);
        log_probs.resize(width, 0.0);
        d_log_std.clear();
        d_log_std.resize(width, 0.0);
        let outputs = net.forward(obs, n).map_err(network)?;
        let gradients = outputs.chunks_exact(width).zip(d_out.chunks_exact_mut(width));
        let mut loss = 0.0;
        for ((&row, &weight), (output, d)) in rows.iter().zip(weights).zip(gradients) {
            let (action, w) = (&data.transitions.action, weight * scale);
            loss += w * if let Head::Gaussian { log_std } = head {
                likelier(output, log_std, action.reals_of(row), w, d, d_log_std)
            } else {
                likelier_choices(space.groups(), output, action.choices_of(row), w, log_probs, d)
            };
        }
        if let Head::Gaussian { log_std } = head {
            clip_grad_norm(d_log_std, 1.0);
            std_adam.step(log_std, d_log_std).map_err(network)?;
            for log_std in log_std {
                *log_std = log_std.max(LEAST_LOG_STD);
            }
        }
        descend(net, d_out, 0.0, adam)?;
        Ok(loss)
    }

    pub(crate) fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        state.network("actor", &mut self.actor.net)?;
        let mut rest = (self.adam.clone(), self.std_adam.clone(), self.actor.head.clone());
        state.value("imitation", &mut rest)?;
        (self.adam, self.std_adam, self.actor.head) = rest;
        Ok(())
    }
}

/// `−log π(a)` of normal distributions; its gradient by the means times `w` into `d`, that by the log deviations is added.
fn likelier(mean: &[f32], log_std: &[f32], a: &[f32], w: f32, d: &mut [f32], d_log_std: &mut [f32]) -> f32 {
    for (((&a, &mean), &log_std), (d, d_log_std)) in
        a.iter().zip(mean).zip(log_std).zip(d.iter_mut().zip(d_log_std))
    {
        let inverse = (-log_std).exp();
        let z = (a - mean) * inverse;
        *d = -w * z * inverse;
        *d_log_std -= w * (z * z - 1.0);
    }
    -gaussian::log_prob(a, mean, log_std)
}

/// `−log π(a)` of choices, and its gradient by the logits times `w`: `w (p − [a])`.
fn likelier_choices(
    groups: &[u32],
    logits: &[f32],
    taken: &[u32],
    w: f32,
    log_probs: &mut [f32],
    d: &mut [f32],
) -> f32 {
    let (mut at, mut loss) = (0, 0.0);
    for (&n, &action) in groups.iter().zip(taken) {
        let group = at..at + n as usize;
        at = group.end;
        let log_probs = &mut log_probs[group.clone()];
        categorical::log_softmax(&logits[group.clone()], log_probs);
        loss -= log_probs[action as usize];
        for (j, (d, log_p)) in d[group].iter_mut().zip(&*log_probs).enumerate() {
            *d = w * (log_p.exp() - if j == action as usize { 1.0 } else { 0.0 });
        }
    }
    loss
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn gradients_equal_finite_differences(
            x in proptest::collection::vec(-1.0_f32..1.0, 5),
            log_std in proptest::collection::vec(-0.7_f32..0.5, 2),
            w in 0.1_f32..2.0,
        ) {
            let mut d = [0.0; 5];
            let loss = |x: &[f32]| {
                w * likelier_choices(&[3, 2], x, &[2, 0], w, &mut [0.0; 5], &mut [0.0; 5])
            };
            likelier_choices(&[3, 2], &x, &[2, 0], w, &mut [0.0; 5], &mut d);
            for j in 0..5 {
                let (mut up, mut down) = (x.clone(), x.clone());
                up[j] += 1e-2;
                down[j] -= 1e-2;
                prop_assert!((d[j] - (loss(&up) - loss(&down)) / 2e-2).abs() < 3e-3);
            }
            let p: Vec<f32> = x[..2].iter().chain(&log_std).copied().collect();
            let loss = |p: &[f32]| w * likelier(&p[..2], &p[2..], &x[2..4], w, &mut [0.0; 2], &mut [0.0; 2]);
            let (mut d_mean, mut d_log_std) = ([0.0; 2], [0.0; 2]);
            likelier(&p[..2], &p[2..], &x[2..4], w, &mut d_mean, &mut d_log_std);
            for (j, d) in d_mean.iter().chain(&d_log_std).enumerate() {
                let (mut up, mut down) = (p.clone(), p.clone());
                up[j] += 1e-2;
                down[j] -= 1e-2;
                let numeric = (loss(&up) - loss(&down)) / 2e-2;
                prop_assert!((d - numeric).abs() < 2e-2 * (1.0 + numeric.abs()), "{j}: {d} {numeric}");
            }
        }
    }
}
