//! What a thread does with its rows of a batch: no row's forward or backward pass needs another row, so a thread takes its
//! rows through all layers without waiting for anyone.

use super::gemm::{Operand, Product, Start};
use super::layer_norm::{self, Normed};
use super::mlp::LayerShape;

/// Working memory of a thread.
#[derive(Clone, Debug, Default)]
pub(super) struct Working {
    /// Of products.
    panel: Vec<f32>,
    /// What kernels see of some images.
    patches: Vec<f32>,
}

/// Some rows of the last batch, and what forward and backward left of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    /// How many.
    count: usize,
    /// `[count, inputs]` of the network; of images with their planes last.
    input: Vec<f32>,
    /// `[count, outputs]` of each layer.
    outputs: Vec<Vec<f32>>,
    /// What normalisation left at each layer; nothing where there is none.
    normed: Vec<Normed>,
    /// The gradient of each layer's affine map: `[count, outputs]`.
    deltas: Vec<Vec<f32>>,
    /// The gradient of the network's inputs.
    input_delta: Vec<f32>,
    /// The same with the planes of images last.
    image_delta: Vec<f32>,
    working: Working,
}

impl Rows {
    /// Takes `x` through `layers` and keeps every output.
    pub(super) fn forward(&mut self, layers: &[LayerShape], params: &[f32], x: &[f32]) {
        self.count = layers.first().map_or(0, |layer| x.len() / layer.row_in());
        if let Some(window) = layers.first().and_then(|layer| layer.window) {
            window.planes_last(x, &mut self.input);
        } else {
            self.input.clear();
            self.input.extend_from_slice(x);
        }
        self.outputs.resize_with(layers.len(), Vec::new);
        self.normed.resize_with(layers.len(), Normed::default);
        for (i, layer) in layers.iter().enumerate() {
            let (before, after) = self.outputs.split_at_mut(i);
            let x = before.last().unwrap_or(&self.input);
            after[0].resize(self.count * layer.row_out(), 0.0);
            through(layer, params, x, &mut after[0], &mut self.working, Some(&mut self.normed[i]));
        }
    }

    /// What the last forward put out.
    pub(super) fn output(&self) -> &[f32] {
        self.outputs.last().map_or(&[], Vec::as_slice)
    }

    /// Takes the gradient of the outputs back through `layers`, and keeps it at every layer; `of_input` says to the inputs too.
    pub(super) fn backward(&mut self, layers: &[LayerShape], params: &[f32], d_out: &[f32], of_input: bool) {
        self.deltas.resize_with(layers.len(), Vec::new);
        let Some(last) = self.deltas.last_mut() else { return };
        last.clear();
        last.extend_from_slice(d_out);
        for (i, layer) in layers.iter().enumerate().rev() {
            let (before, after) = self.deltas.split_at_mut(i);
            let delta = &mut after[0];
            layer.activation.backward(&self.outputs[i], delta);
            if layer.normalized {
                self.normed[i].backward(&params[layer.gain()], delta);
            }
            match before.last_mut() {
                Some(next) => input_gradient(layer, delta, params, next, &mut self.working),
                None if of_input => {
                    let to =
                        if layer.window.is_some() { &mut self.image_delta } else { &mut self.input_delta };
                    input_gradient(layer, delta, params, to, &mut self.working);
                    if let Some(window) = layer.window {
                        window.planes_first(&self.image_delta, &mut self.input_delta);
                    }
                }
                None => {}
            }
        }
    }

    /// What the last backward with `of_input` left: the gradient of the inputs.
    pub(super) fn input_gradient(&self) -> &[f32] {
        &self.input_delta
    }

    /// `dW = start + xᵀ·d` of layer `i`, for the rows of `dW` that `weights` holds, from `first_row` on.
    pub(super) fn weight_gradient(
        &self,
        (i, layer): (usize, &LayerShape),
        mut start: Start<'_>,
        first_row: usize,
        weights: &mut [f32],
        working: &mut Working,
    ) {
        let Working { panel, patches } = working;
        let mut add = |x: &[f32], d: &[f32]| {
            Product {
                m: weights.len() / layer.outputs,
                n: layer.outputs,
                k: d.len() / layer.outputs,
                first_row,
                a: Operand::transposed(x, layer.inputs),
                b: Operand::rows(d, layer.outputs),
                start,
            }
            .write(weights, panel);
            start = Start::Output;
        };
        let (x, d) = (if i == 0 { &self.input } else { &self.outputs[i - 1] }, &self.deltas[i]);
        let Some(window) = layer.window.filter(|_| self.count > 0) else { return add(x, d) };
        let images = window.images_at_once();
        for (x, d) in x.chunks(images * layer.row_in()).zip(d.chunks(images * layer.row_out())) {
            window.gather(x, patches);
            add(patches, d);
        }
    }

    /// Adds the gradients of layer `i`'s gains and offsets to `affine`, which is empty if it has none.
    pub(super) fn add_affine_gradient(&self, i: usize, affine: &mut [f32]) {
        for (sum, d) in affine.iter_mut().zip(&self.normed[i].d_affine) {
            *sum += d;
        }
    }

    /// Adds the gradient of layer `i`'s bias to `bias`.
    pub(super) fn add_bias_gradient(&self, i: usize, bias: &mut [f32]) {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for row in self.deltas[i].chunks_exact(bias.len()) {
                    for (sum, d) in bias.iter_mut().zip(row) {
                        *sum += d;
                    }
                }
            },
        );
    }
}

/// Two buffers that rows pass through when nothing is kept of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Passing {
    layers: [Vec<f32>; 2],
    /// Values of the output; the buffers keep the size of the widest layer.
    len: usize,
    working: Working,
}

impl Passing {
    /// Takes `x` through `layers`.
    pub(super) fn forward(&mut self, layers: &[LayerShape], params: &[f32], x: &[f32]) {
        let [from, to] = &mut self.layers;
        // An image has to be turned around first; other inputs are read where they are.
        let image = layers.first().and_then(|layer| layer.window);
        if let Some(window) = image {
            window.planes_last(x, from);
            self.len = x.len();
        }
        for (i, layer) in layers.iter().enumerate() {
            let x = if i == 0 && image.is_none() { x } else { &from[..self.len] };
            self.len = x.len() / layer.row_in() * layer.row_out();
            if to.len() < self.len {
                to.resize(self.len, 0.0);
            }
            through(layer, params, x, &mut to[..self.len], &mut self.working, None);
            std::mem::swap(from, to);
        }
    }

    /// What the last forward put out.
    pub(super) fn output(&self) -> &[f32] {
        &self.layers[0][..self.len]
    }
}

/// `y = f(norm(x·W + b))` for the rows that `y` holds, without `norm` where there is none; `keep` for the way back.
fn through(
    layer: &LayerShape,
    params: &[f32],
    x: &[f32],
    y: &mut [f32],
    working: &mut Working,
    keep: Option<&mut Normed>,
) {
    let Working { panel, patches } = working;
    let mut affine = |x: &[f32], y: &mut [f32]| {
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
    };
    if let Some(window) = layer.window {
        let images = window.images_at_once();
        for (x, y) in x.chunks(images * layer.row_in()).zip(y.chunks_mut(images * layer.row_out())) {
            window.gather(x, patches);
            affine(patches, y);
        }
    } else {
        affine(x, y);
    }
    if layer.normalized {
        layer_norm::forward(&params[layer.gain()], &params[layer.offset()], y, keep);
    }
    layer.activation.apply(y);
}

/// `dx = d·Wᵀ` for the rows that `d` holds.
fn input_gradient(layer: &LayerShape, d: &[f32], params: &[f32], dx: &mut Vec<f32>, working: &mut Working) {
    let Working { panel, patches } = working;
    let mut back = |d: &[f32], dx: &mut [f32]| {
        Product {
            m: d.len() / layer.outputs,
            n: layer.inputs,
            k: layer.outputs,
            first_row: 0,
            a: Operand::rows(d, layer.outputs),
            b: Operand::transposed(&params[layer.weights()], layer.outputs),
            start: Start::Zero,
        }
        .write(dx, panel);
    };
    dx.resize(d.len() / layer.row_out() * layer.row_in(), 0.0);
    let Some(window) = layer.window else { return back(d, dx) };
    let images = window.images_at_once();
    dx.fill(0.0);
    for (d, dx) in d.chunks(images * layer.row_out()).zip(dx.chunks_mut(images * layer.row_in())) {
        patches.resize(d.len() / layer.outputs * layer.inputs, 0.0);
        back(d, patches);
        window.scatter(patches, dx);
    }
}
