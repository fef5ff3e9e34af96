//! Pendulum: swing up and hold a pendulum that the motor is too weak to lift at once.

use std::f64::consts::PI;

use air_core::BoxError;
use serde::Deserialize;

use super::square::{square, square_f32};
use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range, row};

const MAX_SPEED: f64 = 8.0;
const MAX_TORQUE: f32 = 2.0;
/// Seconds between states.
const DT: f64 = 0.05;

/// Gymnasium's Pendulum without its time limit (`Pendulum-v1` is this one in a [`TimeLimit`](crate::TimeLimit) of 200
/// steps; it never terminates).
///
/// Observation: cos θ, sin θ, θ̇, upright at θ = 0. Action: the torque, within ±2. Reward:
/// `−(θ² + 0.1 θ̇² + 0.001 torque²)` with θ within ±π: 0 at best, −16.27 at worst.
///
/// Bit-equal and seed-equal with Gymnasium (under NumPy 2): the state is `f64`, terms of the torque alone are `f32`.
#[derive(Clone, Debug)]
pub struct Pendulum {
    rng: NumpyRng,
    gravity: f64,
    /// θ, θ̇
    state: [f64; 2],
}

/// Options of [`Pendulum`] in the registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PendulumOptions {
    /// Gravity, m/s². Default 10.
    pub g: f64,
}

impl Default for PendulumOptions {
    fn default() -> Self {
        Self { g: 10.0 }
    }
}

impl Pendulum {
    /// A pendulum under gravity `options.g`; seeded with 0 until [`reset`](Env::reset) is given a seed.
    pub fn new(options: &PendulumOptions) -> Self {
        Self { rng: NumpyRng::new(0), gravity: options.g, state: [0.0; 2] }
    }

    /// The state behind the observation: θ (not wrapped) and θ̇ in full precision.
    pub fn state(&self) -> [f64; 2] {
        self.state
    }

    #[inline]
    fn observe(&self, obs: &mut [f32]) -> Result<(), BoxError> {
        let [theta, speed] = self.state;
        *row::<3>(obs)? = [theta.cos() as f32, theta.sin() as f32, speed as f32];
        Ok(())
    }
}

impl Env for Pendulum {
    fn observation_space(&self) -> Space {
        let high = [1.0, 1.0, MAX_SPEED as f32];
        Space::bounded(&high.map(|x| -x), &high)
    }

    fn action_space(&self) -> Space {
        Space::bounded(&[-MAX_TORQUE], &[MAX_TORQUE])
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        self.state = [self.rng.uniform(-PI, PI), self.rng.uniform(-1.0, 1.0)];
        self.observe(obs)
    }

    #[inline]
    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let Action::Continuous(&[torque]) = action else {
            return Err(out_of_range(action, &self.action_space()));
        };
        let torque = torque.clamp(-MAX_TORQUE, MAX_TORQUE);
        let [theta, speed] = self.state;
        let angle = wrapped(theta);
        let cost = square(angle) + 0.1 * square(speed) + f64::from(0.001 * square_f32(torque));

        let pull = 3.0 * self.gravity / 2.0 * theta.sin() + f64::from(3.0 * torque);
        let speed = (speed + pull * DT).clamp(-MAX_SPEED, MAX_SPEED);
        self.state = [theta + speed * DT, speed];
        self.observe(obs)?;
        Ok(Step { reward: -cost, terminated: false, truncated: false })
    }
}

/// The angle within ±π, as Python's `%` has it.
fn wrapped(theta: f64) -> f64 {
    let turn = 2.0 * PI;
    let rest = (theta + PI) % turn;
    (if rest < 0.0 { rest + turn } else { rest }) - PI
}
