//! A multi-layer perceptron over one flat parameter buffer.

use std::ops::Range;

use air_core::seed::Seed;
use serde::{Deserialize, Serialize};

use super::gemm::{Operand, Product, Start};
use super::threads::Threads;
use super::{Activation, Init, Module, expect};
use crate::{Result, TrainError};

/// The largest network this module builds, in parameters: 4 GiB of `f32`.
const MAX_PARAMS: usize = 1 << 30;

/// The shape of an [`Mlp`] and how it starts and runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Units of every layer, inputs first: `[784, 512, 10]` has two dense layers.
    pub sizes: Vec<usize>,
    /// Follows every layer but the last.
    pub hidden: Activation,
    /// Follows the last layer.
    pub output: Activation,
    /// How the first weights are drawn.
    pub init: Init,
    /// Threads one step may use; layers too small to share stay on one. Results depend on this number, never on timing.
    pub threads: usize,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self {
            sizes: vec![1, 64, 64, 1],
            hidden: Activation::Relu,
            output: Activation::Identity,
            init: Init::default(),
            threads: 1,
        }
    }
}

impl MlpConfig {
    /// An error that names the first field that cannot work.
    pub fn validate(&self) -> Result<()> {
        if self.sizes.len() < 2 || self.sizes.contains(&0) {
            let problem = format!("needs at least two sizes, each at least 1, not {:?}", self.sizes);
            return Err(TrainError::config("sizes", problem));
        }
        let params = self
            .sizes
            .windows(2)
            .try_fold(0_usize, |sum, pair| pair[0].checked_add(1)?.checked_mul(pair[1])?.checked_add(sum));
        if params.is_none_or(|params| params > MAX_PARAMS) {
            let problem = format!("{:?} has more than {MAX_PARAMS} parameters", self.sizes);
            return Err(TrainError::config("sizes", problem));
        }
        Ok(())
    }
}

/// One dense layer: its shape and where it lies in the flat buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// Values in.
    pub inputs: usize,
    /// Values out.
    pub outputs: usize,
    /// What follows the affine map.
    pub activation: Activation,
    start: usize,
}

impl LayerShape {
    /// The weights, `[inputs, outputs]` row-major, in the flat buffers.
    pub fn weights(&self) -> Range<usize> {
        self.start..self.start + self.inputs * self.outputs
    }

    /// The `outputs` biases in the flat buffers.
    pub fn bias(&self) -> Range<usize> {
        let start = self.weights().end;
        start..start + self.outputs
    }
}

/// Working memory of [`Mlp::infer`]; one a thread, reused from call to call.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    layers: [Vec<f32>; 2],
    panels: Vec<Vec<f32>>,
}

/// Dense layers, one after another, with their gradients.
#[derive(Clone, Debug)]
pub struct Mlp {
    config: MlpConfig,
    layers: Vec<LayerShape>,
    params: Vec<f32>,
    grads: Vec<f32>,
    threads: Threads,
    // What the last forward left for backward.
    batch: usize,
    input: Vec<f32>,
    outputs: Vec<Vec<f32>>,
    // Working memory of backward.
    delta: Vec<f32>,
    next_delta: Vec<f32>,
    panels: Vec<Vec<f32>>,
}

impl Mlp {
    /// A network whose first weights are drawn from `seed`.
    pub fn new(config: &MlpConfig, seed: Seed) -> Result<Self> {
        config.validate()?;
        let threads = Threads::new(config.threads)?;
        let (mut layers, mut start) = (Vec::new(), 0);
        for (i, pair) in config.sizes.windows(2).enumerate() {
            let last = i + 2 == config.sizes.len();
            let activation = if last { config.output } else { config.hidden };
            let layer = LayerShape { inputs: pair[0], outputs: pair[1], activation, start };
            start = layer.bias().end;
            layers.push(layer);
        }
        let mut params = vec![0.0; start];
        for (i, layer) in layers.iter().enumerate() {
            let (weights, bias) = params[layer.start..layer.bias().end].split_at_mut(layer.weights().len());
            let mut rng = seed.child("layer", i as u64).rng();
            config.init.fill(&mut rng, layer.inputs, layer.outputs, i + 1 == layers.len(), weights, bias);
        }
        Ok(Self {
            config: config.clone(),
            grads: vec![0.0; params.len()],
            params,
            batch: 0,
            input: Vec::new(),
            outputs: vec![Vec::new(); layers.len()],
            delta: Vec::new(),
            next_delta: Vec::new(),
            panels: vec![Vec::new(); config.threads],
            layers,
            threads,
        })
    }

    /// The configuration this network was built from.
    pub fn config(&self) -> &MlpConfig {
        &self.config
    }

    /// The layers, first to last.
    pub fn layers(&self) -> &[LayerShape] {
        &self.layers
    }

    /// Values a row of input holds.
    pub fn inputs(&self) -> usize {
        self.config.sizes[0]
    }

    /// Values a row of output holds.
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.outputs)
    }

    /// `x[batch, inputs]` → `[batch, outputs]`; keeps what [`backward`](Self::backward) needs.
    pub fn forward(&mut self, x: &[f32], batch: usize) -> Result<&[f32]> {
        expect("input values of forward", batch.saturating_mul(self.inputs()), x.len())?;
        self.batch = batch;
        self.input.clear();
        self.input.extend_from_slice(x);
        for i in 0..self.layers.len() {
            let layer = self.layers[i];
            let (before, after) = self.outputs.split_at_mut(i);
            let x = before.last().unwrap_or(&self.input);
            let y = &mut after[0];
            y.resize(batch * layer.outputs, 0.0);
            affine_shared(&self.threads, &layer, &self.params, (x, y), batch, &mut self.panels);
        }
        Ok(self.outputs.last().map_or(&[], Vec::as_slice))
    }

    /// Adds the gradient of every parameter, given `d_out[batch, outputs]`, the gradient of the last forward's outputs.
    pub fn backward(&mut self, d_out: &[f32]) -> Result<()> {
        self.propagate(d_out, Some(Start::Output), false)
    }

    /// Sets the gradient of every parameter: [`zero_grads`](Module::zero_grads) and [`backward`](Self::backward) in one pass.
    pub fn backward_from_zero(&mut self, d_out: &[f32]) -> Result<()> {
        self.propagate(d_out, Some(Start::Zero), false)
    }

    /// [`backward`](Self::backward), and the gradient of the inputs, `[batch, inputs]`.
    pub fn backward_input(&mut self, d_out: &[f32]) -> Result<&[f32]> {
        self.propagate(d_out, Some(Start::Output), true)?;
        Ok(&self.delta)
    }

    /// The gradient of the inputs, `[batch, inputs]`; the parameters' gradients are left alone.
    pub fn input_gradient(&mut self, d_out: &[f32]) -> Result<&[f32]> {
        self.propagate(d_out, None, true)?;
        Ok(&self.delta)
    }

    /// `of_params` says what the parameters' gradients are added to; without it they are left alone.
    fn propagate(&mut self, d_out: &[f32], of_params: Option<Start<'static>>, of_input: bool) -> Result<()> {
        expect("output gradients of backward", self.batch * self.outputs(), d_out.len())?;
        let batch = self.batch;
        self.delta.clear();
        self.delta.extend_from_slice(d_out);
        for i in (0..self.layers.len()).rev() {
            let layer = self.layers[i];
            layer.activation.backward(&self.outputs[i], &mut self.delta);
            if let Some(start) = of_params {
                let x = if i == 0 { &self.input } else { &self.outputs[i - 1] };
                let grads = &mut self.grads[layer.start..layer.bias().end];
                let (weights, bias) = grads.split_at_mut(layer.weights().len());
                if matches!(start, Start::Zero) {
                    bias.fill(0.0);
                }
                column_sums(&self.delta, bias);
                let pieces = self.threads.pieces(batch * layer.inputs * layer.outputs, layer.inputs);
                if pieces <= 1 {
                    weight_gradient(&layer, batch, 0, (x, &self.delta, start), weights, &mut self.panels[0]);
                } else {
                    let rows = layer.inputs.div_ceil(pieces);
                    let delta = &self.delta;
                    let work: Vec<_> =
                        weights.chunks_mut(rows * layer.outputs).zip(&mut self.panels).enumerate().collect();
                    self.threads.each(work, |(piece, (weights, panel))| {
                        weight_gradient(&layer, batch, piece * rows, (x, delta, start), weights, panel);
                    });
                }
            }
            if i == 0 && !of_input {
                break;
            }
            self.next_delta.resize(batch * layer.inputs, 0.0);
            let weights = &self.params[layer.weights()];
            let pieces = self.threads.pieces(batch * layer.inputs * layer.outputs, batch);
            if pieces <= 1 {
                input_gradient(&layer, &self.delta, weights, &mut self.next_delta, &mut self.panels[0]);
            } else {
                let rows = batch.div_ceil(pieces);
                let work: Vec<_> = self
                    .delta
                    .chunks(rows * layer.outputs)
                    .zip(self.next_delta.chunks_mut(rows * layer.inputs))
                    .zip(&mut self.panels)
                    .collect();
                self.threads.each(work, |((delta, next), panel)| {
                    input_gradient(&layer, delta, weights, next, panel);
                });
            }
            std::mem::swap(&mut self.delta, &mut self.next_delta);
        }
        Ok(())
    }

    /// `x[batch, inputs]` → `[batch, outputs]` in `scratch`, keeping nothing: several threads may share `&self`.
    pub fn infer<'s>(&self, x: &[f32], batch: usize, scratch: &'s mut Scratch) -> Result<&'s [f32]> {
        expect("input values of infer", batch.saturating_mul(self.inputs()), x.len())?;
        let Scratch { layers: [from, to], panels } = scratch;
        panels.resize_with(self.config.threads, Vec::new);
        for (i, layer) in self.layers.iter().enumerate() {
            to.resize(batch * layer.outputs, 0.0);
            let x = if i == 0 { x } else { &**from };
            affine_shared(&self.threads, layer, &self.params, (x, to), batch, panels);
            std::mem::swap(from, to);
        }
        Ok(from)
    }
}

impl Module for Mlp {
    fn params(&self) -> &[f32] {
        &self.params
    }

    fn params_mut(&mut self) -> &mut [f32] {
        &mut self.params
    }

    fn grads(&self) -> &[f32] {
        &self.grads
    }

    fn grads_mut(&mut self) -> &mut [f32] {
        &mut self.grads
    }

    fn params_and_grads(&mut self) -> (&mut [f32], &[f32]) {
        (&mut self.params, &self.grads)
    }
}

/// `y = f(x·W + b)` for a batch, its rows divided among the threads.
fn affine_shared(
    threads: &Threads,
    layer: &LayerShape,
    params: &[f32],
    (x, y): (&[f32], &mut [f32]),
    batch: usize,
    panels: &mut [Vec<f32>],
) {
    let pieces = threads.pieces(batch * layer.inputs * layer.outputs, batch);
    if pieces <= 1 {
        return affine(layer, params, x, y, &mut panels[0]);
    }
    let rows = batch.div_ceil(pieces);
    let x = x.chunks(rows * layer.inputs);
    let work: Vec<_> = x.zip(y.chunks_mut(rows * layer.outputs)).zip(panels).collect();
    threads.each(work, |((x, y), panel)| affine(layer, params, x, y, panel));
}

/// `y = f(x·W + b)` for the rows that `y` holds.
fn affine(layer: &LayerShape, params: &[f32], x: &[f32], y: &mut [f32], panel: &mut Vec<f32>) {
    Product {
        m: y.len() / layer.outputs,
        n: layer.outputs,
        k: layer.inputs,
        first_row: 0,
        a: Operand::rows(x, layer.inputs),
        b: Operand::rows(&params[layer.weights()], layer.outputs),
        start: Start::Bias(&params[layer.bias()]),
    }
    .write(y, panel);
    layer.activation.apply(y);
}

/// `dW = start + xᵀ·d` for the rows of `dW` that `weights` holds, from `first_row` on.
fn weight_gradient(
    layer: &LayerShape,
    batch: usize,
    first_row: usize,
    (x, d, start): (&[f32], &[f32], Start<'_>),
    weights: &mut [f32],
    panel: &mut Vec<f32>,
) {
    Product {
        m: weights.len() / layer.outputs,
        n: layer.outputs,
        k: batch,
        first_row,
        a: Operand::transposed(x, layer.inputs),
        b: Operand::rows(d, layer.outputs),
        start,
    }
    .write(weights, panel);
}

/// `dx = d·Wᵀ` for the rows that `d` holds.
fn input_gradient(layer: &LayerShape, d: &[f32], weights: &[f32], dx: &mut [f32], panel: &mut Vec<f32>) {
    Product {
        m: d.len() / layer.outputs,
        n: layer.inputs,
        k: layer.outputs,
        first_row: 0,
        a: Operand::rows(d, layer.outputs),
        b: Operand::transposed(weights, layer.outputs),
        start: Start::Zero,
    }
    .write(dx, panel);
}

/// Adds the sum of each column of `d` to `sums`.
fn column_sums(d: &[f32], sums: &mut [f32]) {
    pulp::Arch::new().dispatch(|| {
        for row in d.chunks_exact(sums.len()) {
            sums.iter_mut().zip(row).for_each(|(sum, d)| *sum += d);
        }
    });
}
