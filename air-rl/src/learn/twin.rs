//! Two critics of continuous actions, and the smaller of their values: what SAC and TD3 have in common
//! ([Fujimoto et al. 2018](https://arxiv.org/abs/1802.09477)).

use air_core::seed::Seed;
use air_train::nn::{Adam, Mlp, Module as _, Scratch};

use crate::error::Result;
use crate::learn::nets::{self, descend, network, polyak};
use crate::saved::checkpoint::State;

/// Q₁ and Q₂ with their targets and optimisers; inputs are observations with actions in half widths behind them.
#[derive(Clone, Debug)]
pub(crate) struct TwinCritic {
    pub online: [Mlp; 2],
    target: [Mlp; 2],
    adams: [Adam; 2],
    input: Vec<f32>,
    d_out: Vec<f32>,
    values: [Vec<f32>; 2],
    scratch: Scratch,
}

impl TwinCritic {
    pub(crate) fn new(obs_len: usize, actions: usize, hidden: &[usize], lr: f32, seed: Seed) -> Result<Self> {
        let net = |i| nets::relu(obs_len + actions, hidden, 1, seed.child("critic", i));
        let online = [net(0)?, net(1)?];
        Ok(Self {
            target: online.clone(),
            online,
            adams: [Adam::new(lr), Adam::new(lr)],
            input: Vec::new(),
            d_out: Vec::new(),
            values: [Vec::new(), Vec::new()],
            scratch: Scratch::default(),
        })
    }

    /// The smaller target value of each of `n` pairs into `out`.
    pub(crate) fn target_min(
        &mut self,
        obs: &[f32],
        actions: &[f32],
        n: usize,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        join(obs, actions, n, &mut self.input);
        out.clear();
        out.extend_from_slice(self.target[0].infer(&self.input, n, &mut self.scratch).map_err(network)?);
        let second = self.target[1].infer(&self.input, n, &mut self.scratch).map_err(network)?;
        for (out, second) in out.iter_mut().zip(second) {
            *out = out.min(*second);
        }
        Ok(())
    }

    /// One step of both towards `targets` by squared error; returns the mean loss of both and the mean value of the first.
    pub(crate) fn fit(&mut self, obs: &[f32], actions: &[f32], targets: &[f32]) -> Result<(f32, f32)> {
        let n = targets.len();
        join(obs, actions, n, &mut self.input);
        let scale = 1.0 / n as f32;
        let (mut loss, mut value) = (0.0, 0.0);
        for (i, (net, adam)) in self.online.iter_mut().zip(&mut self.adams).enumerate() {
            self.d_out.clear();
            for (q, target) in net.forward(&self.input, n).map_err(network)?.iter().zip(targets) {
                let error = q - target;
                loss += 0.25 * error * error;
                if i == 0 {
                    value += q;
                }
                self.d_out.push(error * scale);
            }
            descend(net, &self.d_out, 0.0, adam)?;
        }
        Ok((loss * scale, value * scale))
    }

    /// The mean of the smaller value (of the first alone, if not `both`), and its gradient by the actions.
    pub(crate) fn ascent(
        &mut self,
        obs: &[f32],
        actions: &[f32],
        n: usize,
        both: bool,
        d_actions: &mut Vec<f32>,
    ) -> Result<f32> {
        join(obs, actions, n, &mut self.input);
        let used = if both { 2 } else { 1 };
        for (net, values) in self.online.iter_mut().zip(&mut self.values).take(used) {
            values.clear();
            values.extend_from_slice(net.forward(&self.input, n).map_err(network)?);
        }
        let width = self.input.len() / n;
        let (obs_len, scale) = (width - actions.len() / n, 1.0 / n as f32);
        let [first, second] = &self.values;
        let smaller = |i: usize| usize::from(both && second[i] < first[i]);
        d_actions.clear();
        d_actions.resize(actions.len(), 0.0);
        for (k, net) in self.online.iter_mut().enumerate().take(used) {
            self.d_out.clear();
            self.d_out.extend((0..n).map(|i| if smaller(i) == k { scale } else { 0.0 }));
            let d_input = net.input_gradient(&self.d_out).map_err(network)?;
            let rows = d_input.chunks_exact(width).zip(d_actions.chunks_exact_mut(width - obs_len));
            for (d_input, d_actions) in rows {
                for (d, d_input) in d_actions.iter_mut().zip(&d_input[obs_len..]) {
                    *d += d_input;
                }
            }
        }
        Ok((0..n).map(|i| self.values[smaller(i)][i]).sum::<f32>() * scale)
    }

    /// Moves the targets by `tau` of the way.
    pub(crate) fn follow(&mut self, tau: f32) {
        for (target, online) in self.target.iter_mut().zip(&self.online) {
            polyak(target.params_mut(), online.params(), tau);
        }
    }

    pub(crate) fn state(&mut self, state: &mut State<'_>) -> Result<()> {
        for (i, (online, target)) in self.online.iter_mut().zip(&mut self.target).enumerate() {
            state.network(&format!("critic{i}"), online)?;
            state.network(&format!("critic{i}_target"), target)?;
        }
        let mut adams = (self.adams[0].clone(), self.adams[1].clone());
        state.value("critic_optimizers", &mut adams)?;
        self.adams = [adams.0, adams.1];
        Ok(())
    }
}

/// Rows of observations with their actions behind them.
fn join(obs: &[f32], actions: &[f32], n: usize, input: &mut Vec<f32>) {
    input.clear();
    for (obs, action) in obs.chunks_exact(obs.len() / n).zip(actions.chunks_exact(actions.len() / n)) {
        input.extend_from_slice(obs);
        input.extend_from_slice(action);
    }
}
