//! What lies between the products: norms, activations, the softmax.

use air_core::team::Team;
use pulp::Arch;

/// e to the x, to two units in the last place; plain arithmetic, so that loops over it become vectors. The method is Cephes's: x is split into a
/// multiple of ln 2, which becomes the exponent, and a rest within ±0.35, for which there is a polynomial.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Below it the result is no normal number, and is 0; above, infinite.
    let held = x.clamp(-87.0, 88.0);
    // Adding this rounds to a whole number, which then lies in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = held * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = held - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4_f32;
    let p = p * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let value = p * r * r + r + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_shl(23).wrapping_add(127 << 23));
    let e = value * power;
    let e = if x < -87.0 { 0.0 } else { e };
    if x > 88.0 { f32::INFINITY } else { e }
}

/// The error function, to 2e-7 (Abramowitz and Stegun, 7.1.26).
#[inline(always)]
fn erf(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * size);
    let p = ((((1.061_405_4 * t - 1.453_152_1) * t + 1.421_413_8) * t - 0.284_496_72) * t + 0.254_829_6) * t;
    (1.0 - p * exp(-size * size)).copysign(x)
}

/// Runs a loop with the widest vectors of the machine.
#[inline(always)]
fn wide<R>(f: impl FnOnce() -> R) -> R {
    Arch::new().dispatch(f)
}

/// Sums of a row in sixteen lanes, so that vectors can take them; the order is the same on every machine.
#[inline(always)]
fn sum_of(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = values.as_chunks::<16>();
    let mut lanes = [0.0; 16];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += f(*value);
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += f(*value);
    }
    lanes.iter().sum()
}

/// Numbers of a pass over rows below which it stays on one thread.
const WORTH_SHARING: usize = 1 << 15;

/// Numbers that each thread takes of so many in rows of this width.
fn share(team: &Team, numbers: usize, width: usize) -> usize {
    let pieces = if numbers < WORTH_SHARING { 1 } else { team.count() };
    (numbers / width).div_ceil(pieces).max(1) * width
}

/// Each row of `x` over its root mean square, times `weight` (Zhang and Sennrich, 2019).
pub(super) fn rms_norm(team: &Team, x: &[f32], weight: &[f32], eps: f32, to: &mut Vec<f32>) {
    to.resize(x.len(), 0.0);
    let share = share(team, x.len(), weight.len());
    team.each(x.chunks(share).zip(to.chunks_mut(share)), |(x, to)| {
        to.copy_from_slice(x);
        rms_norm_in_place(to, weight, eps);
    });
}

pub(super) fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) {
    wide(
        #[inline(always)]
        || {
            for x in x.chunks_exact_mut(weight.len()) {
                let mean = sum_of(x, |x| x * x) / x.len() as f32;
                let scale = 1.0 / (mean + eps).sqrt();
                x.iter_mut().zip(weight).for_each(|(x, weight)| *x = *x * scale * weight);
            }
        },
    );
}

/// Each row of `x` less its mean, over its deviation, times `weight`, plus `bias` (Ba et al., 2016).
pub(super) fn layer_norm(team: &Team, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    team.each(x.chunks_mut(share(team, x.len(), weight.len())), |x| {
        wide(
            #[inline(always)]
            || {
                for x in x.chunks_exact_mut(weight.len()) {
                    let mean = sum_of(x, |x| x) / x.len() as f32;
                    let variance = sum_of(x, |x| (x - mean) * (x - mean)) / x.len() as f32;
                    let scale = 1.0 / (variance + eps).sqrt();
                    for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
                        *x = (*x - mean) * scale * weight + bias;
                    }
                }
            },
        );
    });
}

/// Adds `bias` to each row.
pub(super) fn add_bias(team: &Team, x: &mut [f32], bias: &[f32]) {
    if !bias.is_empty() {
        team.each(x.chunks_mut(share(team, x.len(), bias.len())), |x| {
            for x in x.chunks_exact_mut(bias.len()) {
                add_all(x, bias);
            }
        });
    }
}

pub(super) fn add(team: &Team, x: &mut [f32], y: &[f32]) {
    let share = share(team, x.len(), 1);
    team.each(x.chunks_mut(share).zip(y.chunks(share)), |(x, y)| add_all(x, y));
}

fn add_all(x: &mut [f32], y: &[f32]) {
    wide(
        #[inline(always)]
        || x.iter_mut().zip(y).for_each(|(x, y)| *x += y),
    );
}

/// Of rows `[gate, up]`: gate·sigmoid(gate)·up, half as wide (Shazeer, 2020).
pub(super) fn swiglu(team: &Team, gate_up: &[f32], width: usize, to: &mut Vec<f32>) {
    to.resize(gate_up.len() / 2, 0.0);
    let share = share(team, gate_up.len() / 2, width);
    team.each(gate_up.chunks(2 * share).zip(to.chunks_mut(share)), |(gate_up, to)| {
        wide(
            #[inline(always)]
            || {
                for (to, row) in to.chunks_exact_mut(width).zip(gate_up.chunks_exact(2 * width)) {
                    let (gate, up) = row.split_at(width);
                    for ((to, gate), up) in to.iter_mut().zip(gate).zip(up) {
                        *to = gate / (1.0 + exp(-gate)) * up;
                    }
                }
            },
        );
    });
}

/// The Gaussian error linear unit, with the error function itself (Hendrycks and Gimpel, 2016).
pub(super) fn gelu(team: &Team, x: &mut [f32]) {
    team.each(x.chunks_mut(share(team, x.len(), 1)), |x| {
        wide(
            #[inline(always)]
            || {
                for x in x {
                    *x = 0.5 * *x * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2));
                }
            },
        );
    });
}

/// The softmax in place.
#[inline(always)]
pub(super) fn softmax(x: &mut [f32]) {
    let mut lanes = [f32::NEG_INFINITY; 16];
    for chunk in x.chunks(16) {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane = lane.max(*x));
    }
    let most = lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    x.iter_mut().for_each(|x| *x = exp(*x - most));
    let scale = 1.0 / sum_of(x, |x| x);
    x.iter_mut().for_each(|x| *x *= scale);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_that_of_the_standard_library_to_a_few_units_in_the_last_place() {
        for i in -87_000..=88_000 {
            let x = i as f32 / 1000.0;
            let expected = x.exp();
            assert!((exp(x) / expected - 1.0).abs() < 3e-7, "exp({x}) = {} {expected}", exp(x));
        }
        assert_eq!((exp(-1000.0), exp(0.0), exp(1000.0)), (0.0, 1.0, f32::INFINITY));
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn erf_has_its_known_values() {
        for (x, y) in
            [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3), (-1.0, -0.842_700_8)]
        {
            assert!((erf(x) - y).abs() < 3e-7, "erf({x}) = {}", erf(x));
        }
    }

    #[test]
    fn a_softmax_sums_to_one_whatever_is_added() {
        let mut x: Vec<f32> = (0..37).map(|i| (i % 7) as f32).collect();
        let mut far: Vec<f32> = x.iter().map(|x| x + 80.0).collect();
        softmax(&mut x);
        softmax(&mut far);
        assert!((x.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(x, far);
    }
}
