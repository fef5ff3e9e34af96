//! CartPole: a pole on a cart, kept upright by pushing left or right.

use air_core::BoxError;

use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range, row};

pub(super) const GRAVITY: f64 = 9.8;
pub(super) const MASS_POLE: f64 = 0.1;
pub(super) const TOTAL_MASS: f64 = MASS_POLE + 1.0;
/// Half the pole's length.
pub(super) const LENGTH: f64 = 0.5;
pub(super) const POLE_MASS_LENGTH: f64 = MASS_POLE * LENGTH;
pub(super) const FORCE: f64 = 10.0;
/// Seconds between states.
pub(super) const TAU: f64 = 0.02;
pub(super) const X_LIMIT: f64 = 2.4;
pub(super) const THETA_LIMIT: f64 = 12.0 * 2.0 * std::f64::consts::PI / 360.0;

/// Gymnasium's CartPole without its time limit (Barto, Sutton & Anderson 1983; `CartPole-v1` is this one in a
/// [`TimeLimit`](crate::TimeLimit) of 500 steps).
///
/// Observation: cart position, cart velocity, pole angle in radians, pole angular velocity. Actions: 0 pushes left,
/// 1 right. Reward: 1 a step. It ends when the cart leaves ±2.4 or the pole ±12°.
///
/// Bit-equal and seed-equal with Gymnasium: the same `f64` operations in the same order (so no `mul_add`), the same
/// initial draws. `sin` and `cos` are the C library's, in NumPy as here.
#[derive(Clone, Debug)]
pub struct CartPole {
    rng: NumpyRng,
    /// x, ẋ, θ, θ̇
    state: [f64; 4],
    /// Gymnasium pays nothing for steps after the fall.
    fallen: bool,
}

impl CartPole {
    /// A cart at rest; seeded with 0 until [`reset`](Env::reset) is given a seed.
    pub fn new() -> Self {
        Self { rng: NumpyRng::new(0), state: [0.0; 4], fallen: false }
    }

    /// The state behind the observation: x, ẋ, θ, θ̇ in full precision.
    pub fn state(&self) -> [f64; 4] {
        self.state
    }

    #[inline]
    fn observe(&self, obs: &mut [f32]) -> Result<(), BoxError> {
        *row::<4>(obs)? = self.state.map(|x| x as f32);
        Ok(())
    }
}

impl Default for CartPole {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for CartPole {
    fn observation_space(&self) -> Space {
        let high = [X_LIMIT as f32 * 2.0, f32::INFINITY, THETA_LIMIT as f32 * 2.0, f32::INFINITY];
        Space::bounded(&high.map(|x| -x), &high)
    }

    fn action_space(&self) -> Space {
        Space::discrete(2)
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        self.state = std::array::from_fn(|_| self.rng.uniform(-0.05, 0.05));
        self.fallen = false;
        self.observe(obs)
    }

    #[inline]
    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let force = match action {
            Action::Discrete(1) => FORCE,
            Action::Discrete(0) => -FORCE,
            _ => return Err(out_of_range(action, &self.action_space())),
        };
        let [x, x_dot, theta, theta_dot] = self.state;
        let (sin, cos) = (theta.sin(), theta.cos());
        let temp = (force + POLE_MASS_LENGTH * (theta_dot * theta_dot) * sin) / TOTAL_MASS;
        let theta_acc =
            (GRAVITY * sin - cos * temp) / (LENGTH * (4.0 / 3.0 - MASS_POLE * (cos * cos) / TOTAL_MASS));
        let x_acc = temp - POLE_MASS_LENGTH * theta_acc * cos / TOTAL_MASS;

        let x = x + TAU * x_dot;
        let theta = theta + TAU * theta_dot;
        self.state = [x, x_dot + TAU * x_acc, theta, theta_dot + TAU * theta_acc];
        self.observe(obs)?;

        let terminated = !(-X_LIMIT..=X_LIMIT).contains(&x) || !(-THETA_LIMIT..=THETA_LIMIT).contains(&theta);
        let reward = if terminated && self.fallen { 0.0 } else { 1.0 };
        self.fallen |= terminated;
        Ok(Step { reward, terminated, truncated: false })
    }
}
