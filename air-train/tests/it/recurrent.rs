//! Gated recurrent units: against their definition, gradients against finite differences, files.

use air_core::seed::Seed;
use air_train::nn::{Gru, GruScratch, Module as _};
use rand::RngExt;

const ROWS: usize = 3;
const STEPS: usize = 6;

fn values(seed: u64, len: usize) -> Vec<f32> {
    let mut rng = Seed::new(seed).rng();
    (0..len).map(|_| rng.random::<f32>() * 2.0 - 1.0).collect()
}

/// Row 1 begins anew at step 3, row 2 at the first and the last.
fn begins() -> Vec<bool> {
    let mut begins = vec![false; STEPS * ROWS];
    for at in [3 * ROWS + 1, 2, 5 * ROWS + 2] {
        begins[at] = true;
    }
    begins
}

/// The published equations in f64, one row and one unit at a time; all states, `[steps, rows, units]`.
fn definition(gru: &Gru, params: &[f64], x: &[f32], state: &[f32], begins: &[bool]) -> Vec<f64> {
    let (inputs, units) = (gru.inputs(), gru.units());
    let width = 3 * units;
    let (w, rest) = params.split_at(inputs * width);
    let (u, rest) = rest.split_at(units * width);
    let (b, c) = rest.split_at(width);
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let mut states: Vec<Vec<f64>> =
        state.chunks(units).map(|row| row.iter().map(|x| f64::from(*x)).collect()).collect();
    let mut all = Vec::new();
    for t in 0..begins.len() / ROWS {
        for (row, h) in states.iter_mut().enumerate() {
            if begins[t * ROWS + row] {
                h.fill(0.0);
            }
            let x = &x[(t * ROWS + row) * inputs..][..inputs];
            let from_x = |j: usize| {
                b[j] + x.iter().enumerate().map(|(i, x)| f64::from(*x) * w[i * width + j]).sum::<f64>()
            };
            let from_h =
                |j: usize| c[j] + h.iter().enumerate().map(|(i, h)| h * u[i * width + j]).sum::<f64>();
            let next: Vec<f64> = (0..units)
                .map(|j| {
                    let r = sigmoid(from_x(j) + from_h(j));
                    let z = sigmoid(from_x(units + j) + from_h(units + j));
                    let n = (from_x(2 * units + j) + r * from_h(2 * units + j)).tanh();
                    (1.0 - z) * n + z * h[j]
                })
                .collect();
            all.extend_from_slice(&next);
            *h = next;
        }
    }
    all
}

#[test]
fn states_and_gradients_through_time_equal_the_definitions() {
    for (inputs, units) in [(2, 5), (4, 1), (1, 17)] {
        let mut gru = Gru::new(inputs, units, Seed::new(3)).unwrap();
        let (x, state, begins) = (values(1, STEPS * ROWS * inputs), values(2, ROWS * units), begins());
        let weights = values(4, STEPS * ROWS * units);
        let params: Vec<f64> = gru.params().iter().map(|p| f64::from(*p)).collect();
        let want = definition(&gru, &params, &x, &state, &begins);
        let got = gru.forward(&x, &state, &begins, ROWS).unwrap();
        for (got, want) in got.iter().zip(&want) {
            assert!((f64::from(*got) - want).abs() < 1e-5, "{got} {want}");
        }
        // The loss is a weighted sum of all states.
        let loss = |params: &[f64]| -> f64 {
            let states = definition(&gru, params, &x, &state, &begins);
            states.iter().zip(&weights).map(|(s, w)| s * f64::from(*w)).sum()
        };
        let numeric: Vec<f64> = (0..params.len())
            .map(|i| {
                let (mut up, mut down) = (params.clone(), params.clone());
                up[i] += 1e-5;
                down[i] -= 1e-5;
                (loss(&up) - loss(&down)) / 2e-5
            })
            .collect();
        for _ in 0..2 {
            gru.backward_from_zero(&weights).unwrap();
            for (i, (grad, numeric)) in gru.grads().iter().zip(&numeric).enumerate() {
                let bound = 1e-4 * (1.0 + numeric.abs());
                assert!((f64::from(*grad) - numeric).abs() < bound, "{inputs} {units} {i}: {grad} {numeric}");
            }
        }
    }
}

#[test]
fn steps_lead_where_the_sequence_does() {
    let mut gru = Gru::new(3, 7, Seed::new(1)).unwrap();
    let (x, first, begins) = (values(1, STEPS * ROWS * 3), values(2, ROWS * 7), begins());
    let states = gru.forward(&x, &first, &begins, ROWS).unwrap().to_vec();
    let (mut state, mut scratch) = (first, GruScratch::default());
    for t in 0..STEPS {
        for row in (0..ROWS).filter(|row| begins[t * ROWS + row]) {
            state[row * 7..(row + 1) * 7].fill(0.0);
        }
        gru.step(&x[t * ROWS * 3..(t + 1) * ROWS * 3], &mut state, &mut scratch).unwrap();
        for (a, b) in state.iter().zip(&states[t * ROWS * 7..]) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }
}

#[test]
fn files_bring_the_unit_back_and_what_does_not_fit_is_an_error() {
    let gru = Gru::new(3, 4, Seed::new(1)).unwrap();
    let bytes = gru.to_safetensors().unwrap();
    let back = Gru::from_safetensors(&bytes).unwrap();
    assert_eq!((back.inputs(), back.units(), back.params()), (3, 4, gru.params()));
    assert!(Gru::from_safetensors(&bytes[..bytes.len() - 4]).is_err());
    assert!(Gru::new(0, 4, Seed::new(1)).is_err() && Gru::new(1, 1 << 20, Seed::new(1)).is_err());
    let mut gru = gru;
    assert!(gru.forward(&[0.0; 9], &[0.0; 8], &[false; 3], 2).is_err(), "three steps of two sequences");
    assert!(gru.forward(&[0.0; 5], &[0.0; 4], &[false; 2], 1).is_err());
    assert!(gru.step(&[0.0; 3], &mut [0.0; 3], &mut GruScratch::default()).is_err());
    gru.forward(&[0.0; 6], &[0.0; 4], &[false; 2], 1).unwrap();
    assert!(gru.backward_from_zero(&[0.0; 4]).is_err());
}
