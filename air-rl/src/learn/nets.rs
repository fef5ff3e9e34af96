//! Steps that every learner takes with its networks.

use air_core::seed::Seed;
use air_train::TrainError;
use air_train::nn::{Activation, Adam, Init, Mlp, MlpConfig, Module as _, Optimizer as _, clip_grad_norm};

use crate::error::{Result, RlError};
use crate::play::task::Task;

/// What lies between what is observed and the outputs.
#[derive(Clone, Copy)]
pub(crate) struct Layers<'a> {
    /// Convolutions, each filters, kernel and stride; with any, all activations are ReLU.
    pub conv: &'a [[usize; 3]],
    /// Units of the dense layers after them.
    pub hidden: &'a [usize],
    /// Follows the dense layers where there are no convolutions.
    pub activation: Activation,
    /// Are the dense layers normalised?
    pub layer_norm: bool,
}

/// A network that sees what `task` shows.
pub(crate) fn seeing(task: &Task, layers: Layers<'_>, outputs: usize, init: Init, seed: Seed) -> Result<Mlp> {
    let Layers { conv, hidden, activation, layer_norm } = layers;
    let image = if conv.is_empty() { None } else { Some(task.image()?) };
    let config = MlpConfig {
        sizes: [&[task.inputs()], hidden, &[outputs]].concat(),
        image,
        conv: conv.to_vec(),
        hidden: if image.is_some() { Activation::Relu } else { activation },
        layer_norm,
        init,
        ..MlpConfig::default()
    };
    Mlp::new(&config, seed).map_err(network)
}

/// A dense network from `inputs` over `hidden` layers to `outputs`.
pub(crate) fn mlp(
    inputs: usize,
    hidden: &[usize],
    outputs: usize,
    activation: Activation,
    output: Activation,
    init: Init,
    seed: Seed,
) -> Result<Mlp> {
    let sizes = [&[inputs], hidden, &[outputs]].concat();
    let config = MlpConfig { sizes, hidden: activation, output, init, ..MlpConfig::default() };
    Mlp::new(&config, seed).map_err(network)
}

/// A dense network with ReLU between its layers, first weights as PyTorch draws them: what learners of values take.
pub(crate) fn relu(inputs: usize, hidden: &[usize], outputs: usize, seed: Seed) -> Result<Mlp> {
    mlp(inputs, hidden, outputs, Activation::Relu, Activation::Identity, Init::KaimingUniform, seed)
}

/// One step of the optimiser down the gradient of the outputs that [`Mlp::forward`] last gave.
pub(crate) fn descend(net: &mut Mlp, d_out: &[f32], grad_clip: f32, adam: &mut Adam) -> Result<()> {
    net.backward_from_zero(d_out).map_err(network)?;
    if grad_clip > 0.0 {
        clip_grad_norm(net.grads_mut(), grad_clip);
    }
    let (params, grads) = net.params_and_grads();
    adam.step(params, grads).map_err(network)
}

/// Moves `target` by `tau` of the way to `source` (Polyak averaging); 1 copies.
pub(crate) fn polyak(target: &mut [f32], source: &[f32], tau: f32) {
    for (target, source) in target.iter_mut().zip(source) {
        *target += tau * (source - *target);
    }
}

/// Numbers that stopped being numbers end the run here, with a name, rather than later as a policy that does nothing.
pub(crate) fn check<'a>(
    losses: &[(&'static str, f32)],
    weights: impl IntoIterator<Item = &'a [f32]>,
    iteration: u64,
) -> Result<()> {
    let lost = losses.iter().find(|(_, loss)| !loss.is_finite()).map(|(what, _)| *what);
    match lost.or_else(|| (!finite(weights)).then_some("a weight")) {
        Some(what) => Err(RlError::Diverged { what, iteration }),
        None => Ok(()),
    }
}

/// Are all weights numbers?
fn finite<'a>(weights: impl IntoIterator<Item = &'a [f32]>) -> bool {
    weights.into_iter().all(|weights| weights.iter().all(|w| w.is_finite()))
}

pub(crate) fn network(error: TrainError) -> RlError {
    RlError::Network(Box::new(error))
}
