//! The losses of policies that follow advantages, with their gradients, and what they add up to.

use air_train::nn::{Adam, Optimizer as _, clip_grad_norm};

use crate::algorithms::ppo::PpoStats;
use crate::env::space::Space;
use crate::error::Result;
use crate::learn::nets::network;
use crate::learn::{categorical, gaussian};
use crate::play::actor::Head;
use crate::play::rollout::Rollout;

/// What a policy minimises, by the ratio ρ of an action's probability to what it was when it was taken, and its advantage A.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Objective {
    /// `−min(ρ A, clip(ρ, 1 ± ε) A)`, with this ε: PPO's surrogate.
    Clipped(f32),
    /// `−min(ρ, ρ̄) A log π(a)`, with this ρ̄ and the weight held fixed: IMPALA's policy gradient.
    Weighted(f32),
}

/// An objective with an entropy bonus.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PolicyLoss {
    pub objective: Objective,
    /// Weight of the entropy bonus.
    pub entropy: f32,
}

/// Gradients of a policy's loss, kept between updates.
#[derive(Clone, Debug, Default)]
pub(crate) struct PolicyGradient {
    /// By the outputs, `[rows, outputs]`.
    pub outputs: Vec<f32>,
    /// By the log deviations, if there are any.
    pub log_std: Vec<f32>,
    log_probs: Vec<f32>,
}

impl PolicyGradient {
    /// One step of the log deviations of `head`, if it has any.
    pub(crate) fn step_log_std(&mut self, head: &mut Head, grad_clip: f32, adam: &mut Adam) -> Result<()> {
        let Head::Gaussian { log_std } = head else { return Ok(()) };
        if grad_clip > 0.0 {
            clip_grad_norm(&mut self.log_std, grad_clip);
        }
        adam.step(log_std, &self.log_std).map_err(network)
    }
}

impl PolicyLoss {
    /// The gradient of the mean loss over some rows of a rollout, given the `outputs` of the policy for them.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn over(
        &self,
        rollout: &Rollout,
        rows: &[u32],
        (outputs, head, space): (&[f32], &Head, &Space),
        advantages: &[f32],
        sums: &mut Sums,
        to: &mut PolicyGradient,
    ) {
        let (width, groups, scale) = (outputs.len() / rows.len(), space.groups(), 1.0 / rows.len() as f32);
        let PolicyGradient { outputs: d_outputs, log_std: d_log_std, log_probs } = to;
        d_outputs.resize(outputs.len(), 0.0);
        d_log_std.resize(width, 0.0);
        d_log_std.fill(0.0);
        log_probs.resize(width, 0.0);
        let samples = rows.iter().map(|&row| row as usize).zip(advantages);
        let gradients = outputs.chunks_exact(width).zip(d_outputs.chunks_exact_mut(width));
        for ((row, &advantage), (outputs, d)) in samples.zip(gradients) {
            let old = rollout.log_prob[row];
            let term = if let Head::Gaussian { log_std } = head {
                self.gaussian(outputs, log_std, rollout.action.reals_of(row), old, advantage, d, d_log_std)
            } else {
                let (taken, mask) = (rollout.action.choices_of(row), rollout.mask_row(row));
                self.categorical(groups, outputs, mask, taken, old, advantage, log_probs, d)
            };
            sums.policy(&term);
            for d in d {
                *d *= scale;
            }
        }
        for d in d_log_std {
            *d *= scale;
        }
    }

    /// Loss of a policy over choices on one transition, objective − c·H, and its gradient by the logits. `groups` says how
    /// many choices each decision has; log-probabilities and entropies of decisions add up.
    ///
    /// With `∂log π(a)/∂z_j = [j = a] − p_j` and `∂H/∂z_j = −p_j (log p_j + H)`, within each decision; what is masked has
    /// neither probability nor gradient.
    #[allow(clippy::too_many_arguments)]
    #[inline]
    fn categorical(
        &self,
        groups: &[u32],
        logits: &[f32],
        mask: &[bool],
        taken: &[u32],
        old_log_prob: f32,
        advantage: f32,
        log_probs: &mut [f32],
        d_logits: &mut [f32],
    ) -> PolicyTerm {
        let log_prob = of_choices(groups, logits, mask, taken, log_probs);
        let (mut term, d_log_prob) = self.objective.term(log_prob, old_log_prob, advantage);
        let mut at = 0;
        for (&n, &action) in groups.iter().zip(taken) {
            let group = at..at + n as usize;
            at = group.end;
            let log_probs = &log_probs[group.clone()];
            let entropy = categorical::entropy(log_probs);
            term.entropy += entropy;
            for (j, (d, &log_p)) in d_logits[group].iter_mut().zip(log_probs).enumerate() {
                let p = log_p.exp();
                let chosen = if j == action as usize { 1.0 } else { 0.0 };
                *d = d_log_prob * (chosen - p);
                if p > 0.0 {
                    *d += self.entropy * p * (log_p + entropy);
                }
            }
        }
        term
    }

    /// Loss of a policy of normal distributions on one transition, objective − c·H, and its gradient by the means; that by
    /// the log deviations is added to `d_log_std`.
    ///
    /// With `z = (a − μ)/σ`: `∂log π(a)/∂μ = z/σ`, `∂log π(a)/∂log σ = z² − 1`, `∂H/∂log σ = 1`.
    #[allow(clippy::too_many_arguments)]
    fn gaussian(
        &self,
        mean: &[f32],
        log_std: &[f32],
        drawn: &[f32],
        old_log_prob: f32,
        advantage: f32,
        d_mean: &mut [f32],
        d_log_std: &mut [f32],
    ) -> PolicyTerm {
        let log_prob = gaussian::log_prob(drawn, mean, log_std);
        let (mut term, d_log_prob) = self.objective.term(log_prob, old_log_prob, advantage);
        term.entropy = gaussian::entropy(log_std);
        let gradients = d_mean.iter_mut().zip(d_log_std);
        for (((&a, &mean), &log_std), (d_mean, d_log_std)) in
            drawn.iter().zip(mean).zip(log_std).zip(gradients)
        {
            let inverse = (-log_std).exp();
            let z = (a - mean) * inverse;
            *d_mean = d_log_prob * z * inverse;
            *d_log_std += d_log_prob * (z * z - 1.0) - self.entropy;
        }
        term
    }
}

/// What [`PolicyLoss`] found for one transition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PolicyTerm {
    pub surrogate: f32,
    pub entropy: f32,
    pub kl: f32,
    pub clipped: bool,
}

impl Objective {
    /// The objective of one action, and its derivative by `log π(a)`: where the clipped minimum takes the constant branch
    /// there is none.
    #[inline]
    fn term(self, log_prob: f32, old_log_prob: f32, advantage: f32) -> (PolicyTerm, f32) {
        let log_ratio = log_prob - old_log_prob;
        let ratio = log_ratio.exp();
        let kl = ratio - 1.0 - log_ratio;
        match self {
            Self::Clipped(clip) => {
                let free = ratio * advantage;
                let held = ratio.clamp(1.0 - clip, 1.0 + clip) * advantage;
                let clipped = (ratio - 1.0).abs() > clip;
                let term = PolicyTerm { surrogate: -free.min(held), entropy: 0.0, kl, clipped };
                (term, if free <= held { -free } else { 0.0 })
            }
            Self::Weighted(rho_bar) => {
                let d = -ratio.min(rho_bar) * advantage;
                (PolicyTerm { surrogate: d * log_prob, entropy: 0.0, kl, clipped: ratio > rho_bar }, d)
            }
        }
    }
}

/// The log-probability that `outputs` give to the action of a row; `log_probs` is working memory, as long as they.
pub(crate) fn log_prob(
    rollout: &Rollout,
    row: usize,
    outputs: &[f32],
    head: &Head,
    space: &Space,
    log_probs: &mut [f32],
) -> f32 {
    if let Head::Gaussian { log_std } = head {
        gaussian::log_prob(rollout.action.reals_of(row), outputs, log_std)
    } else {
        let (taken, mask) = (rollout.action.choices_of(row), rollout.mask_row(row));
        of_choices(space.groups(), outputs, mask, taken, log_probs)
    }
}

/// The log-probability of choices, one for each of `groups`, which add up; those of all choices into `log_probs`.
#[inline]
fn of_choices(groups: &[u32], logits: &[f32], mask: &[bool], taken: &[u32], log_probs: &mut [f32]) -> f32 {
    let (mut at, mut log_prob) = (0, 0.0);
    for (&n, &action) in groups.iter().zip(taken) {
        let group = at..at + n as usize;
        at = group.end;
        let mask = if mask.is_empty() { mask } else { &mask[group.clone()] };
        categorical::masked_log_softmax(&logits[group.clone()], mask, &mut log_probs[group.clone()]);
        log_prob += log_probs[group.start + action as usize];
    }
    log_prob
}

/// Loss of the value on one transition, `½(v − target)²`, and its derivative; with a clip, the larger of that and the
/// same for `v` held within `old ± clip`.
#[inline]
pub(crate) fn value_loss(clip: Option<f32>, value: f32, old: f32, target: f32) -> (f32, f32) {
    let error = value - target;
    let free = 0.5 * error * error;
    let Some(clip) = clip else { return (free, error) };
    let held_error = value.clamp(old - clip, old + clip) - target;
    let held = 0.5 * held_error * held_error;
    // Inside the range both are the same; outside, the held one is constant.
    if held > free { (held, 0.0) } else { (free, error) }
}

/// To mean 0 and deviation 1.
pub(crate) fn normalize(values: &mut [f32]) {
    let n = values.len() as f32;
    let mean = values.iter().sum::<f32>() / n;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
    let scale = 1.0 / (variance.sqrt() + 1e-8);
    for v in values {
        *v = (*v - mean) * scale;
    }
}

/// Fisher–Yates; `pick(n)` draws below n.
pub(crate) fn shuffle(order: &mut [u32], mut pick: impl FnMut(usize) -> usize) {
    for i in (1..order.len()).rev() {
        order.swap(i, pick(i + 1));
    }
}

/// 1 − Var(returns − values) / Var(returns); 0 where the returns do not vary.
pub(crate) fn explained_variance(values: &[f32], returns: &[f32]) -> f32 {
    let variance = |of: &dyn Fn(usize) -> f64| {
        let n = returns.len() as f64;
        let mean = (0..returns.len()).map(of).sum::<f64>() / n;
        (0..returns.len()).map(|i| (of(i) - mean).powi(2)).sum::<f64>() / n
    };
    let of_returns = variance(&|i| f64::from(returns[i]));
    let of_errors = variance(&|i| f64::from(returns[i]) - f64::from(values[i]));
    if of_returns > 0.0 { (1.0 - of_errors / of_returns) as f32 } else { 0.0 }
}

/// Running sums over transitions, in f64.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub rows: f64,
    surrogate: f64,
    pub value_loss: f64,
    entropy: f64,
    pub kl: f64,
    clipped: f64,
}

impl Sums {
    #[inline]
    pub(crate) fn policy(&mut self, term: &PolicyTerm) {
        self.rows += 1.0;
        self.surrogate += f64::from(term.surrogate);
        self.entropy += f64::from(term.entropy);
        self.kl += f64::from(term.kl);
        self.clipped += f64::from(u8::from(term.clipped));
    }

    pub(crate) fn stats(&self, epochs: usize, explained_variance: f32) -> PpoStats {
        let mean = |sum: f64| (sum / self.rows) as f32;
        PpoStats {
            policy_loss: mean(self.surrogate),
            value_loss: mean(self.value_loss),
            entropy: mean(self.entropy),
            kl: mean(self.kl),
            clip_fraction: mean(self.clipped),
            explained_variance,
            epochs,
        }
    }
}

#[cfg(test)]
mod tests;
