//! A policy as an ONNX graph.

use air_train::nn::{Activation, LAYER_NORM_EPS, Mlp, Module as _};

use super::graph::{Builder, Name};
use crate::env::space::Space;
use crate::error::{Result, RlError};
use crate::learn::normalize::{LIMIT, Normalizer};
use crate::learn::values::ValueHead;
use crate::play::actor::{Actor, Head};
use crate::play::task::Task;

/// What is far below any score: the choice it stands for is not taken.
const RULED_OUT: f32 = -1e30;

pub(super) fn model(actor: &Actor, task: &Task) -> Result<Vec<u8>> {
    let mut g = Builder::default();
    let obs = g.input("obs", task.observation_space.row_len());
    let mut x = encode(&mut g, obs, &task.observation_space);
    if let Some(normalizer) = &actor.normalizer {
        x = normalize(&mut g, &x, normalizer);
    }
    let outputs = network(&mut g, x, &actor.net)?;
    match &task.action_space {
        Space::Box { low, high, .. } => {
            let action = continuous(&mut g, outputs, &actor.head, low, high);
            g.output("action", &action, true, &[low.len()]);
        }
        space => {
            let mut scores = match &actor.head {
                Head::Values(head) => values(&mut g, outputs, head, space.choices()),
                _ => outputs,
            };
            if task.masked {
                let mask = g.input("mask", space.choices());
                let (allowed, lowest) = (g.cast_to_bool(&mask), g.floats(&[1], &[RULED_OUT]));
                scores = g.node("Where", &[&allowed, &scores, &lowest]);
            }
            let action = best(&mut g, &scores, space);
            let extent = if let Space::Discrete { .. } = space { &[][..] } else { &[space.groups().len()] };
            g.output("action", &action, false, extent);
            g.output("scores", &scores, true, &[space.choices()]);
        }
    }
    Ok(g.finish("policy"))
}

/// Choices become rows of zeros and ones; a box stays.
fn encode(g: &mut Builder, obs: Name, space: &Space) -> Name {
    let groups = space.groups();
    if groups.is_empty() {
        return obs;
    }
    let mut rows = Vec::with_capacity(groups.len());
    for (i, &n) in groups.iter().enumerate() {
        let n = n as usize;
        let mut unit = vec![0.0; n * n];
        unit.iter_mut().step_by(n + 1).for_each(|x| *x = 1.0);
        let (unit, shape) = (g.floats(&[n, n], &unit), g.ints(&[-1, n as i64]));
        let column = g.columns(&obs, i, i + 1);
        let column = g.cast_to_int(&column);
        let row = g.node("Gather", &[&unit, &column]);
        rows.push(g.node("Reshape", &[&row, &shape]));
    }
    g.node_with("Concat", &rows.iter().collect::<Vec<_>>(), &[("axis", 1)])
}

fn normalize(g: &mut Builder, x: &Name, normalizer: &Normalizer) -> Name {
    let (mean, scale) = normalizer.applied();
    let (mean, scale) = (g.floats(&[mean.len()], mean), g.floats(&[scale.len()], scale));
    let x = g.node("Sub", &[x, &mean]);
    let x = g.node("Mul", &[&x, &scale]);
    hold(g, &x, &[-LIMIT], &[LIMIT])
}

/// Within bounds, which may be infinite.
fn hold(g: &mut Builder, x: &Name, low: &[f32], high: &[f32]) -> Name {
    let (low, high) = (g.floats(&[low.len()], low), g.floats(&[high.len()], high));
    let x = g.node("Max", &[x, &low]);
    g.node("Min", &[&x, &high])
}

fn network(g: &mut Builder, mut x: Name, net: &Mlp) -> Result<Name> {
    let (params, mut image) = (net.params(), false);
    for layer in net.layers() {
        let weights = net.weights_planes_first(layer);
        let bias = g.floats(&[layer.outputs], &params[layer.bias()]);
        if let Some(window) = layer.window {
            if !std::mem::replace(&mut image, true) {
                let shape = g.ints(&[-1, window.planes as i64, window.rows as i64, window.columns as i64]);
                x = g.node("Reshape", &[&x, &shape]);
            }
            let filters: Vec<f32> = (0..layer.outputs)
                .flat_map(|filter| weights.iter().skip(filter).step_by(layer.outputs).copied())
                .collect();
            let kernels = [layer.outputs, window.planes, window.kernel, window.kernel];
            let kernels = g.floats(&kernels, &filters);
            x = g.convolution(&x, &kernels, &bias, window.kernel, window.stride);
        } else {
            if std::mem::replace(&mut image, false) {
                let shape = g.ints(&[-1, layer.inputs as i64]);
                x = g.node("Reshape", &[&x, &shape]);
            }
            let weights = g.floats(&[layer.inputs, layer.outputs], &weights);
            x = g.node("Gemm", &[&x, &weights, &bias]);
        }
        if layer.normalized {
            x = layer_norm(g, &x, &params[layer.gain()], &params[layer.offset()]);
        }
        let operator = match layer.activation {
            Activation::Identity => continue,
            Activation::Relu => "Relu",
            Activation::Tanh => "Tanh",
            Activation::Sigmoid => "Sigmoid",
            other => {
                let why = format!("ONNX is not written for the activation {other:?}");
                return Err(RlError::Config { field: "format", why });
            }
        };
        x = g.node(operator, &[&x]);
    }
    Ok(x)
}

/// Units of mean 0 and deviation 1, times gains plus offsets.
fn layer_norm(g: &mut Builder, x: &Name, gain: &[f32], offset: &[f32]) -> Name {
    let mean = g.mean_of_axis_1(x);
    let apart = g.node("Sub", &[x, &mean]);
    let squares = g.node("Mul", &[&apart, &apart]);
    let variance = g.mean_of_axis_1(&squares);
    let epsilon = g.floats(&[1], &[LAYER_NORM_EPS]);
    let variance = g.node("Add", &[&variance, &epsilon]);
    let deviation = g.node("Sqrt", &[&variance]);
    let x = g.node("Div", &[&apart, &deviation]);
    let (gain, offset) = (g.floats(&[gain.len()], gain), g.floats(&[offset.len()], offset));
    let x = g.node("Mul", &[&x, &gain]);
    g.node("Add", &[&x, &offset])
}

/// The value of each choice, as [`ValueHead::values`] has it.
fn values(g: &mut Builder, outputs: Name, head: &ValueHead, choices: usize) -> Name {
    let atoms = head.atoms();
    let streams = choices + usize::from(head.duelling);
    let shape = g.ints(&[-1, streams as i64, atoms as i64]);
    let mut x = g.node("Reshape", &[&outputs, &shape]);
    if head.duelling {
        let (value, advantages) = (g.columns(&x, 0, 1), g.columns(&x, 1, streams));
        let mean = g.mean_of_axis_1(&advantages);
        let shift = g.node("Sub", &[&value, &mean]);
        x = g.node("Add", &[&advantages, &shift]);
    }
    if let Some(support) = head.support {
        let returns: Vec<f32> = (0..atoms).map(|i| support.at(i)).collect();
        let (returns, axes) = (g.floats(&[atoms], &returns), g.ints(&[2]));
        x = g.node_with("Softmax", &[&x], &[("axis", -1)]);
        x = g.node("Mul", &[&x, &returns]);
        x = g.node("ReduceSum", &[&x, &axes]);
    }
    let flat = g.ints(&[-1, choices as i64]);
    g.node("Reshape", &[&x, &flat])
}

/// The best choice of each decision, the first of equals.
fn best(g: &mut Builder, scores: &Name, space: &Space) -> Name {
    if let Space::Discrete { .. } = space {
        return g.node_with("ArgMax", &[scores], &[("axis", 1), ("keepdims", 0)]);
    }
    let (mut at, mut rows) = (0, Vec::new());
    for &n in space.groups() {
        let group = g.columns(scores, at, at + n as usize);
        rows.push(g.node_with("ArgMax", &[&group], &[("axis", 1), ("keepdims", 1)]));
        at += n as usize;
    }
    g.node_with("Concat", &rows.iter().collect::<Vec<_>>(), &[("axis", 1)])
}

/// From outputs to what an environment is given, as [`Actor::act`] has it.
fn continuous(g: &mut Builder, outputs: Name, head: &Head, low: &[f32], high: &[f32]) -> Name {
    let d = low.len();
    let x = match head {
        Head::Squashed => {
            let mean = g.columns(&outputs, 0, d);
            g.node("Tanh", &[&mean])
        }
        Head::Bounded => outputs,
        _ => return hold(g, &outputs, low, high),
    };
    let (one, half) = (g.floats(&[1], &[1.0]), g.floats(&[1], &[0.5]));
    let span: Vec<f32> = low.iter().zip(high).map(|(low, high)| high - low).collect();
    let (span, from) = (g.floats(&[d], &span), g.floats(&[d], low));
    let x = g.node("Add", &[&x, &one]);
    let x = g.node("Mul", &[&x, &half]);
    let x = g.node("Mul", &[&x, &span]);
    let x = g.node("Add", &[&x, &from]);
    hold(g, &x, low, high)
}
