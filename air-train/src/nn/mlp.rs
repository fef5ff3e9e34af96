//! A multi-layer perceptron, with convolutions before it where its inputs are images, over one flat parameter buffer.

use std::ops::Range;

use air_core::seed::Seed;
use air_core::team::Team;
use serde::{Deserialize, Serialize};

use super::conv::Window;
use super::gemm::Start;
use super::rows::{Passing, Rows, Working};
use super::share;
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
    /// Planes, rows and columns of the image that a row of inputs is, plane after plane; for `conv`.
    pub image: Option<[usize; 3]>,
    /// Convolutions that see it before the dense layers do: filters, rows and columns of the kernel, stride; without padding. The
    /// first of `sizes` then is the size of the image.
    pub conv: Vec<[usize; 3]>,
    /// Follows every layer but the last.
    pub hidden: Activation,
    /// Follows the last layer.
    pub output: Activation,
    /// Brings the units of every dense layer but the last to mean 0 and deviation 1, then takes them times learned gains plus learned
    /// offsets, before `hidden` ([Ba et al. 2016](https://arxiv.org/abs/1607.06450)).
    pub layer_norm: bool,
    /// How the first weights are drawn.
    pub init: Init,
    /// Threads one step may use; layers too small to share stay on one. Results depend on this number, never on timing.
    pub threads: usize,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self {
            sizes: vec![1, 64, 64, 1],
            image: None,
            conv: Vec::new(),
            hidden: Activation::Relu,
            output: Activation::Identity,
            layer_norm: false,
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
        let windows = self.windows()?;
        let conv = windows.iter().zip(&self.conv).map(|(window, &[filters, ..])| (window.patch(), filters));
        let dense = self.sizes[1..].iter().scan(self.flattened(&windows), |inputs, &outputs| {
            Some((std::mem::replace(inputs, outputs), outputs))
        });
        let params = conv.chain(dense).try_fold(0_usize, |sum, (inputs, outputs)| {
            inputs.checked_add(3)?.checked_mul(outputs)?.checked_add(sum)
        });
        if params.is_none_or(|params| params > MAX_PARAMS) {
            let problem = format!("{:?} has more than {MAX_PARAMS} parameters", self.sizes);
            return Err(TrainError::config("sizes", problem));
        }
        Ok(())
    }

    /// Where each convolution looks, or what is wrong with them.
    fn windows(&self) -> Result<Vec<Window>> {
        let wrong = |problem: String| Err(TrainError::config("conv", problem));
        if self.conv.is_empty() {
            return Ok(Vec::new());
        }
        let Some([mut planes, mut rows, mut columns]) = self.image else {
            return wrong("needs inputs that are images: set `image`".into());
        };
        let size = planes.checked_mul(rows).and_then(|n| n.checked_mul(columns));
        if size != Some(self.sizes[0]) {
            let problem =
                format!("{planes} × {rows} × {columns} is not {}, the first of `sizes`", self.sizes[0]);
            return Err(TrainError::config("image", problem));
        }
        let mut windows = Vec::with_capacity(self.conv.len());
        for (i, &[filters, kernel, stride]) in self.conv.iter().enumerate() {
            if filters == 0 || kernel == 0 || stride == 0 {
                return wrong(format!("filters, kernel and stride of number {i} must be at least 1"));
            }
            if kernel > rows.min(columns) {
                return wrong(format!(
                    "the kernel of number {i} is larger than its image of {rows} × {columns}"
                ));
            }
            let window = Window { planes, rows, columns, kernel, stride };
            (planes, rows, columns) = (filters, window.rows_out(), window.columns_out());
            if window
                .places()
                .checked_mul(filters.max(window.patch()))
                .is_none_or(|values| values > MAX_PARAMS)
            {
                return wrong(format!("number {i} makes an image of more than {MAX_PARAMS} values"));
            }
            windows.push(window);
        }
        Ok(windows)
    }

    /// Inputs of the first dense layer.
    fn flattened(&self, windows: &[Window]) -> usize {
        let image = windows.last().zip(self.conv.last());
        image.map_or(self.sizes[0], |(window, &[filters, ..])| window.places() * filters)
    }
}

/// One layer: its shape and where it lies in the flat buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerShape {
    /// Values in; of a convolution those that its kernel sees at one place.
    pub inputs: usize,
    /// Values out; of a convolution its filters.
    pub outputs: usize,
    /// Where a convolution looks.
    pub window: Option<Window>,
    /// What follows the affine map, and the normalisation if there is one.
    pub activation: Activation,
    /// Are the outputs of the affine map normalised?
    pub normalized: bool,
    /// Rows, columns and planes that the inputs are of, in this order, if they are of an image.
    extents: Option<[usize; 3]>,
    start: usize,
}

impl LayerShape {
    /// Values in for one row of a batch.
    pub(super) fn row_in(&self) -> usize {
        self.window.map_or(self.inputs, |window| window.image())
    }

    /// Values out for one row of a batch.
    pub(super) fn row_out(&self) -> usize {
        self.window.map_or(self.outputs, |window| window.places() * self.outputs)
    }

    /// Multiplications and additions of one row of a batch: one a parameter, at every place of a kernel.
    fn multiply_adds(&self) -> usize {
        (self.offset().end - self.start) * self.window.map_or(1, |window| window.places())
    }

    /// Which row of the weights belongs to each input, in the order that images have elsewhere: planes, rows, columns.
    pub(super) fn planes_first(&self) -> Vec<usize> {
        let [rows, columns, planes] = self.extents.unwrap_or([self.inputs, 1, 1]);
        (0..planes).flat_map(|plane| (0..rows * columns).map(move |place| place * planes + plane)).collect()
    }

    /// The weights, `[inputs, outputs]` row-major, in the flat buffers.
    pub fn weights(&self) -> Range<usize> {
        self.start..self.start + self.inputs * self.outputs
    }

    /// The `outputs` biases in the flat buffers.
    pub fn bias(&self) -> Range<usize> {
        let start = self.weights().end;
        start..start + self.outputs
    }

    /// The `outputs` gains of the normalisation in the flat buffers; none if there is none.
    pub fn gain(&self) -> Range<usize> {
        let start = self.bias().end;
        start..start + if self.normalized { self.outputs } else { 0 }
    }

    /// The `outputs` offsets of the normalisation in the flat buffers; none if there is none.
    pub fn offset(&self) -> Range<usize> {
        let gain = self.gain();
        gain.end..gain.end + gain.len()
    }
}

/// Working memory of [`Mlp::infer`]; one a thread, reused from call to call.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    shares: Vec<Passing>,
    output: Vec<f32>,
}

/// Layers, one after another, with their gradients.
#[derive(Clone, Debug)]
pub struct Mlp {
    config: MlpConfig,
    layers: Vec<LayerShape>,
    params: Vec<f32>,
    grads: Vec<f32>,
    team: Team,
    /// The last batch, each thread's rows of it.
    shares: Vec<Rows>,
    batch: usize,
    output: Vec<f32>,
    input_gradient: Vec<f32>,
    workings: Vec<Working>,
    /// Multiplications and additions of one row.
    multiply_adds: usize,
}

impl Mlp {
    /// A network whose first weights are drawn from `seed`.
    pub fn new(config: &MlpConfig, seed: Seed) -> Result<Self> {
        config.validate()?;
        let team = share::team(config.threads)?;
        let windows = config.windows()?;
        let (mut layers, mut start) = (Vec::new(), 0);
        let mut push = |layer: LayerShape| {
            let layer = LayerShape { start, ..layer };
            start = layer.offset().end;
            layers.push(layer);
        };
        for (&window, &[filters, kernel, _]) in windows.iter().zip(&config.conv) {
            push(LayerShape {
                inputs: window.patch(),
                outputs: filters,
                window: Some(window),
                activation: config.hidden,
                normalized: false,
                extents: Some([kernel, kernel, window.planes]),
                start: 0,
            });
        }
        let mut extents = windows
            .last()
            .zip(config.conv.last())
            .map(|(window, &[filters, ..])| [window.rows_out(), window.columns_out(), filters]);
        let mut inputs = config.flattened(&windows);
        for (i, &outputs) in config.sizes[1..].iter().enumerate() {
            let last = i + 2 == config.sizes.len();
            let activation = if last { config.output } else { config.hidden };
            let normalized = config.layer_norm && !last;
            let extents = extents.take();
            push(LayerShape { inputs, outputs, window: None, activation, normalized, extents, start: 0 });
            inputs = outputs;
        }
        let mut params = vec![0.0; start];
        for (i, layer) in layers.iter().enumerate() {
            let (weights, bias) = params[layer.start..layer.bias().end].split_at_mut(layer.weights().len());
            let mut rng = seed.child("layer", i as u64).rng();
            config.init.fill(&mut rng, layer.inputs, layer.outputs, i + 1 == layers.len(), weights, bias);
            params[layer.gain()].fill(1.0);
        }
        Ok(Self {
            config: config.clone(),
            grads: vec![0.0; params.len()],
            params,
            shares: Vec::new(),
            batch: 0,
            output: Vec::new(),
            input_gradient: Vec::new(),
            workings: vec![Working::default(); config.threads],
            multiply_adds: layers.iter().map(LayerShape::multiply_adds).sum(),
            layers,
            team,
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

    /// A layer's weights, `[inputs, outputs]`, for inputs in the order that images have elsewhere: planes, rows, columns.
    pub fn weights_planes_first(&self, layer: &LayerShape) -> Vec<f32> {
        let ours = &self.params[layer.weights()];
        let rows = layer.planes_first().into_iter();
        rows.flat_map(|row| &ours[row * layer.outputs..][..layer.outputs]).copied().collect()
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
        let rows = self.rows_a_thread(batch);
        let (layers, params) = (&self.layers, &self.params);
        let cut = x.chunks(rows * layers[0].row_in());
        self.shares.resize_with(cut.len(), Rows::default);
        self.team.each(self.shares.iter_mut().zip(cut), |(share, x)| share.forward(layers, params, x));
        gather(self.shares.iter().map(Rows::output), &mut self.output);
        Ok(&self.output)
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
        Ok(&self.input_gradient)
    }

    /// The gradient of the inputs, `[batch, inputs]`; the parameters' gradients are left alone.
    pub fn input_gradient(&mut self, d_out: &[f32]) -> Result<&[f32]> {
        self.propagate(d_out, None, true)?;
        Ok(&self.input_gradient)
    }

    /// `of_params` says what the parameters' gradients are added to; without it they are left alone.
    fn propagate(&mut self, d_out: &[f32], of_params: Option<Start<'static>>, of_input: bool) -> Result<()> {
        expect("output gradients of backward", self.batch * self.outputs(), d_out.len())?;
        let rows = self.rows_a_thread(self.batch);
        let (layers, params) = (&self.layers, &self.params);
        let cut = d_out.chunks(rows * self.outputs());
        self.team
            .each(self.shares.iter_mut().zip(cut), |(share, d)| share.backward(layers, params, d, of_input));
        if of_input {
            gather(self.shares.iter().map(Rows::input_gradient), &mut self.input_gradient);
        }
        if let Some(start) = of_params {
            self.add_gradients(start);
        }
        Ok(())
    }

    /// The gradients of all parameters from what backward left at the layers. Every weight sums over the whole batch, so the
    /// threads divide the weights here, not the rows.
    fn add_gradients(&mut self, start: Start<'static>) {
        if self.shares.is_empty() {
            // Nothing to sum.
            if matches!(start, Start::Zero) {
                self.grads.fill(0.0);
            }
            return;
        }
        let (layers, shares, count) = (&self.layers, &self.shares, self.shares.len());
        let pieces = Piece::cut(layers, &mut self.grads, count);
        if count == 1 {
            return pieces.for_each(|piece| piece.sum(layers, shares, start, &mut self.workings[0]));
        }
        let mut work: Vec<_> =
            self.workings.iter_mut().take(count).map(|working| (working, Vec::new())).collect();
        for (number, piece) in pieces.enumerate() {
            work[number % count].1.push(piece);
        }
        self.team.each(work, |(working, pieces)| {
            for piece in pieces {
                piece.sum(layers, shares, start, working);
            }
        });
    }

    /// `x[batch, inputs]` → `[batch, outputs]` in `scratch`, keeping nothing: several threads may share `&self`.
    pub fn infer<'s>(&self, x: &[f32], batch: usize, scratch: &'s mut Scratch) -> Result<&'s [f32]> {
        expect("input values of infer", batch.saturating_mul(self.inputs()), x.len())?;
        let cut = x.chunks(self.rows_a_thread(batch) * self.inputs());
        let count = cut.len();
        // Never fewer than before: a small batch between large ones frees nothing.
        if scratch.shares.len() < count {
            scratch.shares.resize_with(count, Passing::default);
        }
        let work = scratch.shares.iter_mut().zip(cut);
        self.team.each(work, |(share, x)| share.forward(&self.layers, &self.params, x));
        gather(scratch.shares[..count].iter().map(Passing::output), &mut scratch.output);
        Ok(&scratch.output)
    }

    /// How many rows of a batch each thread takes; at least one.
    fn rows_a_thread(&self, batch: usize) -> usize {
        batch.div_ceil(share::pieces(&self.team, batch * self.multiply_adds, batch)).max(1)
    }
}

/// The gradient of some rows of a layer's weights, and perhaps of all else it has.
struct Piece<'a> {
    layer: usize,
    first_row: usize,
    weights: &'a mut [f32],
    /// With the first piece of a layer: its bias, its gains and offsets.
    rest: Option<[&'a mut [f32]; 2]>,
}

impl<'a> Piece<'a> {
    /// Each layer of `grads` in up to `count` pieces of equal size.
    fn cut(layers: &'a [LayerShape], mut grads: &'a mut [f32], count: usize) -> impl Iterator<Item = Self> {
        layers.iter().enumerate().flat_map(move |(number, layer)| {
            let (weights, rest) = std::mem::take(&mut grads).split_at_mut(layer.weights().len());
            let (bias, rest) = rest.split_at_mut(layer.outputs);
            let (affine, rest) = rest.split_at_mut(2 * layer.gain().len());
            grads = rest;
            let rows = layer.inputs.div_ceil(count);
            let mut rest = Some([bias, affine]);
            weights.chunks_mut(rows * layer.outputs).enumerate().map(move |(i, weights)| Self {
                layer: number,
                first_row: i * rows,
                weights,
                rest: rest.take(),
            })
        })
    }

    /// Sums over the rows of the batch.
    fn sum(self, layers: &[LayerShape], shares: &[Rows], mut start: Start<'_>, working: &mut Working) {
        if let Some([bias, affine]) = self.rest {
            if matches!(start, Start::Zero) {
                bias.fill(0.0);
                affine.fill(0.0);
            }
            for share in shares {
                share.add_bias_gradient(self.layer, bias);
                share.add_affine_gradient(self.layer, affine);
            }
        }
        for share in shares {
            share.weight_gradient(
                (self.layer, &layers[self.layer]),
                start,
                self.first_row,
                self.weights,
                working,
            );
            start = Start::Output;
        }
    }
}

/// One after another into `to`.
fn gather<'a>(parts: impl Iterator<Item = &'a [f32]>, to: &mut Vec<f32>) {
    to.clear();
    parts.for_each(|part| to.extend_from_slice(part));
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
