//! Acrobot: swing the free end of two links above a line, with a motor only in the joint between them.

use std::f64::consts::PI;

use air_core::BoxError;

use super::square::square;
use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range, row};

const GRAVITY: f64 = 9.8;
const DT: f64 = 0.2;
const MAX_SPEED_1: f64 = 4.0 * PI;
const MAX_SPEED_2: f64 = 9.0 * PI;

/// Gymnasium's Acrobot without its time limit (Sutton 1996, with the equations of Sutton & Barto's book; `Acrobot-v1`
/// is this one in a [`TimeLimit`](crate::TimeLimit) of 500 steps).
///
/// Observation: cos θ₁, sin θ₁, cos θ₂, sin θ₂, θ̇₁, θ̇₂; both links hang down at 0, θ₂ is relative to the first.
/// Actions: torque −1, 0 or +1. Reward: −1 a step, 0 on the one that lifts the end above the line, which ends it.
///
/// Bit-equal and seed-equal with Gymnasium (under NumPy 2 on a machine with fused multiply-add): links of length and
/// mass 1 are folded into the constants only where that changes no bit.
#[derive(Clone, Debug)]
pub struct Acrobot {
    rng: NumpyRng,
    /// θ₁, θ₂, θ̇₁, θ̇₂
    state: [f64; 4],
}

impl Acrobot {
    /// Links at rest; seeded with 0 until [`reset`](Env::reset) is given a seed.
    pub fn new() -> Self {
        Self { rng: NumpyRng::new(0), state: [0.0; 4] }
    }

    /// The state behind the observation: θ₁, θ₂, θ̇₁, θ̇₂ in full precision.
    pub fn state(&self) -> [f64; 4] {
        self.state
    }
}

impl Default for Acrobot {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for Acrobot {
    fn observation_space(&self) -> Space {
        let high = [1.0, 1.0, 1.0, 1.0, MAX_SPEED_1 as f32, MAX_SPEED_2 as f32];
        Space::bounded(&high.map(|x| -x), &high)
    }

    fn action_space(&self) -> Space {
        Space::discrete(3)
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        // The first state is single precision, and so are the sines of it.
        let first: [f32; 4] = std::array::from_fn(|_| self.rng.uniform(-0.1, 0.1) as f32);
        self.state = first.map(f64::from);
        let [a, b, c, d] = first;
        *row::<6>(obs)? = [small_cos(a), small_sin(a), small_cos(b), small_sin(b), c, d];
        Ok(())
    }

    #[inline]
    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let Action::Discrete(choice @ 0..3) = action else {
            return Err(out_of_range(action, &self.action_space()));
        };
        let [a, b, c, d] = runge_kutta(self.state, f64::from(choice) - 1.0);
        let (a, b) = (wrapped(a), wrapped(b));
        let (c, d) = (c.clamp(-MAX_SPEED_1, MAX_SPEED_1), d.clamp(-MAX_SPEED_2, MAX_SPEED_2));
        self.state = [a, b, c, d];
        *row::<6>(obs)? = [a.cos(), a.sin(), b.cos(), b.sin(), c, d].map(|x| x as f32);
        let terminated = -a.cos() - (b + a).cos() > 1.0;
        Ok(Step { reward: if terminated { 0.0 } else { -1.0 }, terminated, truncated: false })
    }
}

/// One step of the classic fourth-order method.
fn runge_kutta(y: [f64; 4], torque: f64) -> [f64; 4] {
    let half = DT / 2.0;
    let after = |dt: f64, k: &[f64; 4]| std::array::from_fn(|i| y[i] + dt * k[i]);
    let k1 = derivatives(y, torque);
    let k2 = derivatives(after(half, &k1), torque);
    let k3 = derivatives(after(half, &k2), torque);
    let k4 = derivatives(after(DT, &k3), torque);
    std::array::from_fn(|i| y[i] + DT / 6.0 * (k1[i] + 2.0 * k2[i] + 2.0 * k3[i] + k4[i]))
}

/// The equations of motion; centres of mass at ½, moments of inertia 1.
#[inline]
fn derivatives([theta1, theta2, speed1, speed2]: [f64; 4], torque: f64) -> [f64; 4] {
    let (sin2, cos2) = (theta2.sin(), theta2.cos());
    let d1 = 0.25 + (1.25 + cos2) + 1.0 + 1.0;
    let d2 = (0.25 + 0.5 * cos2) + 1.0;
    let phi2 = 0.5 * GRAVITY * (theta1 + theta2 - PI / 2.0).cos();
    let phi1 = -0.5 * square(speed2) * sin2 - speed2 * speed1 * sin2
        + 1.5 * GRAVITY * (theta1 - PI / 2.0).cos()
        + phi2;
    let acc2 = (torque + d2 / d1 * phi1 - 0.5 * square(speed1) * sin2 - phi2) / (1.25 - square(d2) / d1);
    let acc1 = -(d2 * acc2 + phi1) / d1;
    [speed1, speed2, acc1, acc2]
}

/// Within ±π by whole turns.
fn wrapped(mut angle: f64) -> f64 {
    let turn = PI - -PI;
    while angle > PI {
        angle -= turn;
    }
    while angle < -PI {
        angle += turn;
    }
    angle
}

/// NumPy's cosine of a single near zero: its polynomial, fused.
fn small_cos(x: f32) -> f32 {
    let [c8, c6, c4] = [0x37cc_730b, 0xbab6_036e, 0x3d2a_aa9e].map(f32::from_bits);
    let s = x * x;
    c8.mul_add(s, c6).mul_add(s, c4).mul_add(s, -0.5).mul_add(s, 1.0)
}

/// NumPy's sine of a single near zero.
fn small_sin(x: f32) -> f32 {
    let [c9, c7, c5, c3] = [0x363e_9dde, 0xb950_35dd, 0x3c08_88cd, 0xbe2a_aaab].map(f32::from_bits);
    let s = x * x;
    let r = c9.mul_add(s, c7).mul_add(s, c5).mul_add(s, c3);
    (r * s).mul_add(x, x)
}
