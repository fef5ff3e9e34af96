//! Optimisers over flat slices; each step is one pass. Serialise one to keep its moments in a checkpoint.

use air_core::team::Team;
use serde::{Deserialize, Serialize};

use super::expect;
use super::share;
use crate::Result;

/// Changes parameters by their gradients.
pub trait Optimizer {
    /// One step. The first call fixes the number of parameters.
    fn step(&mut self, params: &mut [f32], grads: &[f32]) -> Result<()>;
    /// The present learning rate.
    fn lr(&self) -> f32;
    /// Sets the learning rate, for a schedule.
    fn set_lr(&mut self, lr: f32);
}

/// Stochastic gradient descent, with momentum when it is not 0: `v = momentum·v + g`, `p -= lr·v`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sgd {
    lr: f32,
    momentum: f32,
    velocity: Vec<f32>,
}

impl Sgd {
    /// Learning rate and momentum.
    pub fn new(lr: f32, momentum: f32) -> Self {
        Self { lr, momentum, velocity: Vec::new() }
    }
}

impl Optimizer for Sgd {
    fn step(&mut self, params: &mut [f32], grads: &[f32]) -> Result<()> {
        expect("gradients of the optimiser", params.len(), grads.len())?;
        let (lr, momentum) = (self.lr, self.momentum);
        let arch = pulp::Arch::new();
        if momentum == 0.0 {
            arch.dispatch(
                #[inline(always)]
                || params.iter_mut().zip(grads).for_each(|(p, g)| *p = g.mul_add(-lr, *p)),
            );
            return Ok(());
        }
        fix(&mut self.velocity, params.len())?;
        let velocity = &mut self.velocity;
        arch.dispatch(
            #[inline(always)]
            || {
                for ((p, g), v) in params.iter_mut().zip(grads).zip(velocity) {
                    *v = v.mul_add(momentum, *g);
                    *p = v.mul_add(-lr, *p);
                }
            },
        );
        Ok(())
    }

    fn lr(&self) -> f32 {
        self.lr
    }

    fn set_lr(&mut self, lr: f32) {
        self.lr = lr;
    }
}

/// Adam; with a weight decay it is AdamW (decoupled: `p -= lr·decay·p`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Adam {
    lr: f32,
    betas: (f32, f32),
    eps: f32,
    weight_decay: f32,
    steps: u64,
    mean: Vec<f32>,
    square: Vec<f32>,
    #[serde(skip)]
    team: Team,
}

impl Adam {
    /// Adam with betas (0.9, 0.999), epsilon 1e-8 and no weight decay.
    pub fn new(lr: f32) -> Self {
        Self {
            lr,
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
            steps: 0,
            mean: Vec::new(),
            square: Vec::new(),
            team: Team::default(),
        }
    }

    /// AdamW.
    pub fn decoupled(lr: f32, weight_decay: f32) -> Self {
        Self { weight_decay, ..Self::new(lr) }
    }

    /// The decay rates of the two moments.
    pub fn betas(mut self, first: f32, second: f32) -> Self {
        self.betas = (first, second);
        self
    }

    /// Divides the step of large networks among so many threads. It changes no result, and is not kept in a checkpoint.
    ///
    /// # Errors
    /// 0 or more than 256 threads, or threads that cannot be started.
    pub fn threads(mut self, threads: usize) -> Result<Self> {
        self.team = share::team(threads)?;
        Ok(self)
    }

    /// The term that keeps the quotient finite.
    pub fn eps(mut self, eps: f32) -> Self {
        self.eps = eps;
        self
    }
}

impl Optimizer for Adam {
    fn step(&mut self, params: &mut [f32], grads: &[f32]) -> Result<()> {
        expect("gradients of the optimiser", params.len(), grads.len())?;
        fix(&mut self.mean, params.len())?;
        fix(&mut self.square, params.len())?;
        self.steps += 1;
        let (b1, b2) = self.betas;
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let correct1 = 1.0 - f64::from(b1).powi(steps);
        let correct2 = 1.0 - f64::from(b2).powi(steps);
        let rate = (f64::from(self.lr) / correct1) as f32;
        let scale = (1.0 / correct2.sqrt()) as f32;
        let keep = 1.0 - self.lr * self.weight_decay;
        let (eps, n1, n2) = (self.eps, 1.0 - b1, 1.0 - b2);
        let part = params.len().div_ceil(share::parts(&self.team, params.len())).max(1);
        let moments = self.mean.chunks_mut(part).zip(self.square.chunks_mut(part));
        let work = params.chunks_mut(part).zip(grads.chunks(part)).zip(moments);
        self.team.each(work, |((params, grads), (mean, square))| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (((p, g), m), v) in params.iter_mut().zip(grads).zip(mean).zip(square) {
                        *m = m.mul_add(b1, n1 * g);
                        *v = v.mul_add(b2, n2 * g * g);
                        let step = *m / v.sqrt().mul_add(scale, eps);
                        *p = step.mul_add(-rate, *p * keep);
                    }
                },
            );
        });
        Ok(())
    }

    fn lr(&self) -> f32 {
        self.lr
    }

    fn set_lr(&mut self, lr: f32) {
        self.lr = lr;
    }
}

/// Scales `grads` down to a Euclidean norm of at most `max`; returns the norm before.
pub fn clip_grad_norm(grads: &mut [f32], max: f32) -> f32 {
    let arch = pulp::Arch::new();
    let norm = arch.dispatch(
        #[inline(always)]
        || {
            // Lanes of f32 within a block, f64 across blocks: vectorises, and does not lose small values in a large sum.
            let mut total = 0.0_f64;
            for block in grads.chunks(1024) {
                let mut lanes = [0.0_f32; 16];
                let (whole, rest) = block.as_chunks::<16>();
                for values in whole {
                    for (lane, g) in lanes.iter_mut().zip(values) {
                        *lane = g.mul_add(*g, *lane);
                    }
                }
                total += lanes.iter().chain(&[0.0]).map(|x| f64::from(*x)).sum::<f64>();
                total += rest.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>();
            }
            total.sqrt() as f32
        },
    );
    if norm > max {
        let scale = max / (norm + 1e-6);
        arch.dispatch(
            #[inline(always)]
            || grads.iter_mut().for_each(|g| *g *= scale),
        );
    }
    norm
}

/// Sizes a moment at the first step; afterwards the number of parameters may not change.
fn fix(moment: &mut Vec<f32>, len: usize) -> Result<()> {
    if moment.is_empty() {
        moment.resize(len, 0.0);
    }
    expect("parameters of the optimiser", moment.len(), len)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn threads_change_no_bit_of_a_step() {
        let len = (1 << 17) + 3;
        let grads: Vec<f32> = (0..len).map(|i| ((i * 7919 % 1000) as f32 - 500.0) * 1e-3).collect();
        let step = |threads| {
            let mut adam = Adam::new(1e-2).threads(threads).unwrap();
            let mut params = vec![0.5; len];
            for _ in 0..3 {
                adam.step(&mut params, &grads).unwrap();
            }
            (params, adam.mean, adam.square)
        };
        assert!(step(1) == step(3));
        assert!(Adam::new(1.0).threads(0).is_err());
    }

    /// The published update, in f64, one parameter at a time.
    #[test]
    fn adam_follows_its_definition() {
        let (lr, b1, b2, eps, decay) = (1e-2_f64, 0.9_f64, 0.99_f64, 1e-5_f64, 0.1_f64);
        let mut adam = Adam::decoupled(lr as f32, decay as f32).betas(b1 as f32, b2 as f32).eps(eps as f32);
        let (mut p, mut want) = ([1.0_f32, -2.0, 0.5], [1.0_f64, -2.0, 0.5]);
        let (mut m, mut v) = ([0.0_f64; 3], [0.0_f64; 3]);
        for t in 1..=50 {
            let g = [0.3_f32 * (t as f32).sin(), 1e-3, -4.0];
            adam.step(&mut p, &g).unwrap();
            for i in 0..3 {
                let g = f64::from(g[i]);
                m[i] = b1 * m[i] + (1.0 - b1) * g;
                v[i] = b2 * v[i] + (1.0 - b2) * g * g;
                want[i] -= lr * decay * want[i];
                want[i] -= lr * (m[i] / (1.0 - b1.powi(t))) / ((v[i] / (1.0 - b2.powi(t))).sqrt() + eps);
                assert!((f64::from(p[i]) - want[i]).abs() < 2e-5, "step {t}, {i}: {} {}", p[i], want[i]);
            }
        }
    }

    #[test]
    fn sgd_with_momentum_by_hand() {
        let (mut sgd, mut p) = (Sgd::new(0.1, 0.5), [1.0]);
        sgd.step(&mut p, &[1.0]).unwrap();
        sgd.step(&mut p, &[1.0]).unwrap();
        assert!((p[0] - (1.0 - 0.1 - 0.15)).abs() < 1e-6);
        let mut p = [1.0];
        Sgd::new(0.1, 0.0).step(&mut p, &[2.0]).unwrap();
        assert!((p[0] - 0.8_f32).abs() < 1e-6);
    }

    #[test]
    fn clipping_keeps_the_direction() {
        let mut g = vec![3.0_f32; 1600];
        let norm = clip_grad_norm(&mut g, 12.0);
        assert!((norm - 120.0).abs() < 1e-3);
        assert!(g.iter().all(|g| (g - 0.3).abs() < 1e-5));
        assert!((clip_grad_norm(&mut g, 100.0) - 12.0).abs() < 1e-3);
        assert!(g.iter().all(|g| (g - 0.3).abs() < 1e-5));
    }

    #[test]
    fn a_changed_number_of_parameters_is_an_error() {
        let mut adam = Adam::new(1e-3);
        adam.step(&mut [0.0; 2], &[0.0; 2]).unwrap();
        let error = adam.step(&mut [0.0; 3], &[0.0; 3]).unwrap_err();
        assert_eq!(error.to_string(), "parameters of the optimiser: expected 2, got 3");
        assert!(Sgd::new(0.1, 0.0).step(&mut [0.0; 3], &[0.0; 2]).is_err());
    }
}
