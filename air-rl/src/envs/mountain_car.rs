//! Mountain car: a car too weak for the hill, which has to swing up to it; with three actions and with a real one.

use air_core::BoxError;

use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range, row};

const LEFT: f64 = -1.2;
const RIGHT: f64 = 0.6;
const MAX_SPEED: f64 = 0.07;
const GRAVITY: f64 = 0.0025;

fn observations() -> Space {
    Space::bounded(&[LEFT as f32, -MAX_SPEED as f32], &[RIGHT as f32, MAX_SPEED as f32])
}

/// Gymnasium's MountainCar without its time limit (Moore 1990; `MountainCar-v0` is this one in a
/// [`TimeLimit`](crate::TimeLimit) of 200 steps).
///
/// Observation: position, velocity. Actions: 0 accelerates left, 1 not, 2 right. Reward: −1 a step. It ends at 0.5, on
/// top of the right hill. Bit-equal and seed-equal with Gymnasium.
#[derive(Clone, Debug)]
pub struct MountainCar {
    rng: NumpyRng,
    /// Position, velocity.
    state: [f64; 2],
}

impl MountainCar {
    /// A car at rest; seeded with 0 until [`reset`](Env::reset) is given a seed.
    pub fn new() -> Self {
        Self { rng: NumpyRng::new(0), state: [0.0; 2] }
    }

    /// Position and velocity in full precision.
    pub fn state(&self) -> [f64; 2] {
        self.state
    }
}

impl Default for MountainCar {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for MountainCar {
    fn observation_space(&self) -> Space {
        observations()
    }

    fn action_space(&self) -> Space {
        Space::discrete(3)
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        self.state = [self.rng.uniform(-0.6, -0.4), 0.0];
        *row::<2>(obs)? = self.state.map(|x| x as f32);
        Ok(())
    }

    #[inline]
    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let Action::Discrete(choice @ 0..3) = action else {
            return Err(out_of_range(action, &self.action_space()));
        };
        let [position, velocity] = self.state;
        let push = (f64::from(choice) - 1.0) * 0.001 + (3.0 * position).cos() * -GRAVITY;
        let mut velocity = (velocity + push).clamp(-MAX_SPEED, MAX_SPEED);
        let position = (position + velocity).clamp(LEFT, RIGHT);
        if position == LEFT && velocity < 0.0 {
            velocity = 0.0;
        }
        self.state = [position, velocity];
        *row::<2>(obs)? = self.state.map(|x| x as f32);
        Ok(Step { reward: -1.0, terminated: position >= 0.5 && velocity >= 0.0, truncated: false })
    }
}

/// Gymnasium's MountainCarContinuous without its time limit (`MountainCarContinuous-v0` is this one in a
/// [`TimeLimit`](crate::TimeLimit) of 999 steps).
///
/// Observation: position, velocity. Action: the push, within ±1. Reward: `−0.1 push²` a step, and 100 on top of the
/// right hill, at 0.45, where it ends.
///
/// Bit-equal and seed-equal with Gymnasium (under NumPy 2), which draws the first position in `f64` and keeps `f32` from
/// the first step on.
#[derive(Clone, Debug)]
pub struct MountainCarContinuous {
    rng: NumpyRng,
    position: f64,
    velocity: f64,
    /// The first step of an episode is taken in `f64`.
    fresh: bool,
}

impl MountainCarContinuous {
    /// A car at rest; seeded with 0 until [`reset`](Env::reset) is given a seed.
    pub fn new() -> Self {
        Self { rng: NumpyRng::new(0), position: 0.0, velocity: 0.0, fresh: true }
    }

    /// Position and velocity in full precision.
    pub fn state(&self) -> [f64; 2] {
        [self.position, self.velocity]
    }
}

impl Default for MountainCarContinuous {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for MountainCarContinuous {
    fn observation_space(&self) -> Space {
        observations()
    }

    fn action_space(&self) -> Space {
        Space::bounded(&[-1.0], &[1.0])
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        (self.position, self.velocity, self.fresh) = (self.rng.uniform(-0.6, -0.4), 0.0, true);
        *row::<2>(obs)? = [self.position as f32, 0.0];
        Ok(())
    }

    #[inline]
    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        const POWER: f32 = 0.0015;
        let Action::Continuous(&[push]) = action else {
            return Err(out_of_range(action, &self.action_space()));
        };
        let force = push.clamp(-1.0, 1.0) * POWER;
        let arrived;
        if self.fresh {
            let delta = force - (GRAVITY * (3.0 * self.position).cos()) as f32;
            let velocity = (self.velocity + f64::from(delta)).clamp(-MAX_SPEED, MAX_SPEED);
            let position = (self.position + velocity).clamp(LEFT, RIGHT);
            let velocity = if position == LEFT && velocity < 0.0 { 0.0 } else { velocity };
            arrived = position >= 0.45 && velocity >= 0.0;
            *row::<2>(obs)? = [position as f32, velocity as f32];
        } else {
            let (position, velocity) = (self.position as f32, self.velocity as f32);
            let (left, right, max_speed) = (LEFT as f32, RIGHT as f32, MAX_SPEED as f32);
            let delta = force - (GRAVITY * f64::from(3.0 * position).cos()) as f32;
            let velocity = (velocity + delta).clamp(-max_speed, max_speed);
            let position = (position + velocity).clamp(left, right);
            let velocity = if position == left && velocity < 0.0 { 0.0 } else { velocity };
            arrived = position >= 0.45 && velocity >= 0.0;
            *row::<2>(obs)? = [position, velocity];
        }
        (self.position, self.velocity, self.fresh) = (f64::from(obs[0]), f64::from(obs[1]), false);
        let push = f64::from(push);
        let reward = if arrived { 100.0 } else { 0.0 } - push * push * 0.1;
        Ok(Step { reward, terminated: arrived, truncated: false })
    }
}
