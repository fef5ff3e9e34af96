//! A gated recurrent unit ([Cho et al. 2014](https://arxiv.org/abs/1406.1078)), with its backward pass through time.

use std::ops::Range;

use air_core::seed::Seed;

use super::gemm::{Operand, Product, Start};
use super::init::uniform;
use super::{Module, expect, math};
use crate::{Result, TrainError};

/// The widest unit this module builds.
const MAX_WIDTH: usize = 1 << 13;

/// One layer of gated recurrent units, as PyTorch's `GRU` defines it:
///
/// ```text
/// r = σ(x·Wᵣ + bᵣ + h·Uᵣ + cᵣ)      z = σ(x·W_z + b_z + h·U_z + c_z)
/// n = tanh(x·Wₙ + bₙ + r∘(h·Uₙ + cₙ))   h' = (1 − z)∘n + z∘h
/// ```
///
/// Parameters are `W[inputs, 3·units]`, `U[units, 3·units]`, `b[3·units]`, `c[3·units]`, gates in the order r, z, n.
/// Sequences lie step by step: `x[steps, rows, inputs]`.
///
/// ```
/// use air_core::seed::Seed;
/// use air_train::nn::{Gru, GruScratch, Module as _};
///
/// let mut gru = Gru::new(2, 8, Seed::new(1))?;
/// let x = [0.5, -1.0, 0.0, 1.0]; // two steps of one sequence
/// let states = gru.forward(&x, &[0.0; 8], &[true, false], 1)?.to_vec();
/// gru.backward_from_zero(&[1.0; 16])?; // the gradient of the sum of all states
/// assert!(gru.grads().iter().any(|g| *g != 0.0));
///
/// let (mut state, mut scratch) = (vec![0.0; 8], GruScratch::default());
/// gru.step(&x[..2], &mut state, &mut scratch)?;
/// gru.step(&x[2..], &mut state, &mut scratch)?;
/// assert!(state.iter().zip(&states[8..]).all(|(a, b)| (a - b).abs() < 1e-6));
/// # Ok::<(), air_train::TrainError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Gru {
    inputs: usize,
    units: usize,
    params: Vec<f32>,
    grads: Vec<f32>,
    rows: usize,
    /// Of the last forward, `[steps, rows, …]`: what came in, and whether the state was cleared before.
    x: Vec<f32>,
    begins: Vec<bool>,
    /// The state before each step, and after it.
    before: Vec<f32>,
    after: Vec<f32>,
    /// r, z, n.
    gates: Vec<f32>,
    /// `h·U + c`.
    recurrent: Vec<f32>,
    d_input: Vec<f32>,
    d_recurrent: Vec<f32>,
    d_state: Vec<f32>,
    panel: Vec<f32>,
}

/// Working memory of [`Gru::step`].
#[derive(Clone, Debug, Default)]
pub struct GruScratch {
    gates: Vec<f32>,
    recurrent: Vec<f32>,
    before: Vec<f32>,
    panel: Vec<f32>,
}

impl Gru {
    /// `units` units over `inputs` inputs; all parameters uniform within `±1/√units`, drawn from `seed`.
    ///
    /// # Errors
    /// Either is 0 or above 8192.
    pub fn new(inputs: usize, units: usize, seed: Seed) -> Result<Self> {
        if !(1..=MAX_WIDTH).contains(&inputs) || !(1..=MAX_WIDTH).contains(&units) {
            let problem = format!("needs 1 to {MAX_WIDTH} inputs and units, not {inputs} and {units}");
            return Err(TrainError::config("gru", problem));
        }
        let mut params = vec![0.0; 3 * units * (inputs + units + 2)];
        uniform(&mut seed.child("gru", 0).rng(), 1.0 / (units as f32).sqrt(), &mut params);
        Ok(Self {
            inputs,
            units,
            grads: vec![0.0; params.len()],
            params,
            rows: 0,
            x: Vec::new(),
            begins: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            gates: Vec::new(),
            recurrent: Vec::new(),
            d_input: Vec::new(),
            d_recurrent: Vec::new(),
            d_state: Vec::new(),
            panel: Vec::new(),
        })
    }

    /// Values a row of input holds.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Units, the values a state holds.
    pub fn units(&self) -> usize {
        self.units
    }

    /// Where W, U, b and c lie in the flat buffers.
    pub(super) fn parts(&self) -> [Range<usize>; 4] {
        let width = 3 * self.units;
        let mut at = 0;
        [self.inputs * width, self.units * width, width, width].map(|len| {
            at += len;
            at - len..at
        })
    }

    /// One step of `rows` sequences: `x[rows, inputs]`, `state[rows, units]`, which is replaced by the next.
    pub fn step(&self, x: &[f32], state: &mut [f32], scratch: &mut GruScratch) -> Result<()> {
        let rows = x.len() / self.inputs;
        expect("input values of step", rows * self.inputs, x.len())?;
        expect("state values of step", rows * self.units, state.len())?;
        let GruScratch { gates, recurrent, before, panel } = scratch;
        gates.resize(rows * 3 * self.units, 0.0);
        recurrent.resize(gates.len(), 0.0);
        before.clear();
        before.extend_from_slice(state);
        self.affine(x, (0, 2), gates, panel);
        self.affine(before, (1, 3), recurrent, panel);
        advance(self.units, gates, recurrent, before, state);
        Ok(())
    }

    /// Takes `rows` sequences of equal length through time: `x[steps, rows, inputs]` from `state[rows, units]` to all states,
    /// `[steps, rows, units]`. Where `begins[steps, rows]` says so, the state is zero before the step. Keeps what
    /// [`backward_from_zero`](Self::backward_from_zero) needs.
    pub fn forward(&mut self, x: &[f32], state: &[f32], begins: &[bool], rows: usize) -> Result<&[f32]> {
        let (units, count) = (self.units, begins.len());
        expect("input values of forward", count * self.inputs, x.len())?;
        expect("state values of forward", rows * units, state.len())?;
        if !count.is_multiple_of(rows) {
            return Err(TrainError::Shape { what: "steps of all sequences", expected: rows, got: count });
        }
        self.rows = rows;
        self.x.clear();
        self.x.extend_from_slice(x);
        self.begins.clear();
        self.begins.extend_from_slice(begins);
        let (mut gates, mut recurrent) =
            (std::mem::take(&mut self.gates), std::mem::take(&mut self.recurrent));
        let (mut before, mut after) = (std::mem::take(&mut self.before), std::mem::take(&mut self.after));
        let mut panel = std::mem::take(&mut self.panel);
        gates.resize(count * 3 * units, 0.0);
        recurrent.resize(count * 3 * units, 0.0);
        before.resize(count * units, 0.0);
        after.resize(count * units, 0.0);
        self.affine(x, (0, 2), &mut gates, &mut panel);
        for t in 0..count / rows.max(1) {
            let now = t * rows * units..(t + 1) * rows * units;
            let wide = 3 * now.start..3 * now.end;
            let last = if t == 0 { state } else { &after[now.start - rows * units..now.start] };
            before[now.clone()].copy_from_slice(last);
            clear(&mut before[now.clone()], units, &begins[t * rows..]);
            self.affine(&before[now.clone()], (1, 3), &mut recurrent[wide.clone()], &mut panel);
            let (gates, recurrent) = (&mut gates[wide.clone()], &recurrent[wide]);
            advance(units, gates, recurrent, &before[now.clone()], &mut after[now]);
        }
        (self.gates, self.recurrent, self.before, self.after, self.panel) =
            (gates, recurrent, before, after, panel);
        Ok(&self.after)
    }

    /// Sets the gradient of every parameter, given `d_states[steps, rows, units]`, that of the states the last forward gave.
    /// It goes back through time to each sequence's first step or beginning.
    pub fn backward_from_zero(&mut self, d_states: &[f32]) -> Result<()> {
        let (units, rows, count) = (self.units, self.rows, self.begins.len());
        expect("state gradients of backward", count * units, d_states.len())?;
        self.d_input.resize(count * 3 * units, 0.0);
        self.d_recurrent.resize(count * 3 * units, 0.0);
        self.d_state.clear();
        self.d_state.resize(rows * units, 0.0);
        let [_, of_state, ..] = self.parts();
        for t in (0..count / rows.max(1)).rev() {
            let (now, wide) = (t * rows * units, t * rows * 3 * units);
            for (carried, d) in self.d_state.iter_mut().zip(&d_states[now..]) {
                *carried += d;
            }
            let (d_input, d_recurrent) = (&mut self.d_input[wide..], &mut self.d_recurrent[wide..]);
            let d_recurrent = &mut d_recurrent[..rows * 3 * units];
            let (gates, recurrent) = (&self.gates[wide..], &self.recurrent[wide..]);
            retreat(units, gates, recurrent, &self.before[now..], &mut self.d_state, d_input, d_recurrent);
            // What a state passed on through the gates comes on top of what it passed on directly.
            Product {
                m: rows,
                n: units,
                k: 3 * units,
                first_row: 0,
                a: Operand::rows(d_recurrent, 3 * units),
                b: Operand::transposed(&self.params[of_state.clone()], 3 * units),
                start: Start::Output,
            }
            .write(&mut self.d_state, &mut self.panel);
            clear(&mut self.d_state, units, &self.begins[t * rows..]);
        }
        self.sum_gradients();
        Ok(())
    }

    /// The gradients of all parameters from those of the gates.
    fn sum_gradients(&mut self) {
        let (units, inputs, count) = (self.units, self.inputs, self.begins.len());
        let parts = self.parts();
        let sides = [(&self.x, inputs, &self.d_input), (&self.before, units, &self.d_recurrent)];
        for (i, (values, width, d)) in sides.into_iter().enumerate() {
            Product {
                m: width,
                n: 3 * units,
                k: count,
                first_row: 0,
                a: Operand::transposed(values, width),
                b: Operand::rows(d, 3 * units),
                start: Start::Zero,
            }
            .write(&mut self.grads[parts[i].clone()], &mut self.panel);
            let bias = &mut self.grads[parts[2 + i].clone()];
            bias.fill(0.0);
            for row in d.chunks_exact(3 * units) {
                for (sum, d) in bias.iter_mut().zip(row) {
                    *sum += d;
                }
            }
        }
    }

    /// `values·weights + bias`, of the numbered parts.
    fn affine(&self, values: &[f32], (weights, bias): (usize, usize), out: &mut [f32], panel: &mut Vec<f32>) {
        let (parts, width) = (self.parts(), 3 * self.units);
        let k = parts[weights].len() / width;
        Product {
            m: values.len() / k,
            n: width,
            k,
            first_row: 0,
            a: Operand::rows(values, k),
            b: Operand::rows(&self.params[parts[weights].clone()], width),
            start: Start::Bias(&self.params[parts[bias].clone()]),
        }
        .write(out, panel);
    }
}

/// Zeroes the rows of `values[rows, units]` that begin.
fn clear(values: &mut [f32], units: usize, begins: &[bool]) {
    for (row, begins) in values.chunks_exact_mut(units).zip(begins) {
        if *begins {
            row.fill(0.0);
        }
    }
}

/// From both sides' sums to the gates (in place of the first) and the next states, row by row.
fn advance(units: usize, gates: &mut [f32], recurrent: &[f32], before: &[f32], after: &mut [f32]) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let sums = gates.chunks_exact_mut(3 * units).zip(recurrent.chunks_exact(3 * units));
            let states = before.chunks_exact(units).zip(after.chunks_exact_mut(units));
            for ((gates, recurrent), (before, after)) in sums.zip(states) {
                let (first, new) = gates.split_at_mut(2 * units);
                for (gate, recurrent) in first.iter_mut().zip(recurrent) {
                    *gate = math::sigmoid(*gate + recurrent);
                }
                let (reset, update) = first.split_at(units);
                for ((new, recurrent), reset) in new.iter_mut().zip(&recurrent[2 * units..]).zip(reset) {
                    *new = math::tanh(reset.mul_add(*recurrent, *new));
                }
                for (((after, before), new), update) in after.iter_mut().zip(before).zip(&*new).zip(update) {
                    *after = update.mul_add(before - new, *new);
                }
            }
        },
    );
}

/// The other way: from the gradient of the next states to those of both sides' sums; `d_state` becomes what reaches the
/// state before directly.
fn retreat(
    units: usize,
    gates: &[f32],
    recurrent: &[f32],
    before: &[f32],
    d_state: &mut [f32],
    d_input: &mut [f32],
    d_recurrent: &mut [f32],
) {
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            let gates = gates.chunks_exact(3 * units).zip(recurrent.chunks_exact(3 * units));
            let states = d_state.chunks_exact_mut(units).zip(before.chunks_exact(units));
            let sums = d_input.chunks_exact_mut(3 * units).zip(d_recurrent.chunks_exact_mut(3 * units));
            for (((gates, recurrent), (d_state, before)), (d_input, d_recurrent)) in
                gates.zip(states).zip(sums)
            {
                let (reset, rest) = gates.split_at(units);
                let (update, new) = rest.split_at(units);
                for j in 0..units {
                    let (r, z, n, d) = (reset[j], update[j], new[j], d_state[j]);
                    let d_new = d * (1.0 - z) * n.mul_add(-n, 1.0);
                    let d_update = d * (before[j] - n) * z * (1.0 - z);
                    let d_reset = d_new * recurrent[2 * units + j] * r * (1.0 - r);
                    (d_input[j], d_recurrent[j]) = (d_reset, d_reset);
                    (d_input[units + j], d_recurrent[units + j]) = (d_update, d_update);
                    (d_input[2 * units + j], d_recurrent[2 * units + j]) = (d_new, d_new * r);
                    d_state[j] = d * z;
                }
            }
        },
    );
}

impl Module for Gru {
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
