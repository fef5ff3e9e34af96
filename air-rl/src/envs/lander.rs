//! A lander of our own: fly between hills onto a pad, with three engines.

use air_core::BoxError;
use serde::Deserialize;

use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range, row};

/// Half the width of the world and the height above the pad at which an episode begins, metres.
const HALF_WIDTH: f64 = 10.0;
const CEILING: f64 = 10.0;
/// Half the height of the view, which the observed height is measured in, metres.
const HALF_HEIGHT: f64 = 20.0 / 3.0;
/// Half the width of the pad.
const PAD: f64 = 2.0;
const HILLS: usize = 11;
/// Seconds between observations, and pieces that each is integrated in.
const TAU: f64 = 0.02;
const PIECES: u32 = 4;
const GRAVITY: f64 = 10.0;
/// Accelerations: of the main engine at full thrust, of a side engine, of the turn that a side engine gives (per s²).
const MAIN: f64 = 16.0;
const SIDE: f64 = 0.8;
const TURN: f64 = 2.0;
/// Moment of inertia over mass, m².
const INERTIA: f64 = 0.25;
/// Feet and corners of the hull, in the lander's own frame; its legs end at height 0 when it stands.
const FEET: [[f64; 2]; 2] = [[-0.7, -0.6], [0.7, -0.6]];
const HULL: [[f64; 2]; 4] = [[-0.5, -0.3], [0.5, -0.3], [-0.4, 0.5], [0.4, 0.5]];
/// A leg's spring and damper over the lander's mass, and how much it grips.
const SPRING: f64 = 300.0;
const DAMPER: f64 = 15.0;
const GRIP: f64 = 0.8;
/// The most that a leg bears, m/s²: a fall is too much for it.
const BEARS: f64 = 40.0;
/// What counts as still, m/s and rad/s, and for how many steps it must be so.
const STILL: f64 = 0.05;
const REST: u32 = 15;

/// Options of [`Lander`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LanderOptions {
    /// Two throttles within ±1 instead of four choices: the main engine (from half to full thrust where positive) and the side engines (beyond ±0.5).
    pub continuous: bool,
}

/// A task like Gymnasium's LunarLander, with its observations, actions and rewards, but a rigid body of our own on two springy legs instead of
/// Box2D's: returns are similar, states are not equal. `AirLander-v0` is this one with a limit of 1000 steps.
///
/// Observation: position relative to the pad (halves of the view), velocity, angle (radians, counter-clockwise), angular velocity, and whether each leg touches the ground.
/// Actions: 0 nothing, 1 turns counter-clockwise, 2 fires the main engine, 3 turns clockwise. Reward: nearing the pad, slowing down and
/// standing upright, as a potential (100 each for distance, speed and angle, 10 a leg), −0.3 a step of the main engine, −0.03 of a side engine, +100 for coming to rest, −100 for touching the ground with the
/// hull or leaving the view. Solved is a mean return of 200.
#[derive(Clone, Debug)]
pub struct Lander {
    rng: NumpyRng,
    continuous: bool,
    /// Heights of the ground, evenly spaced.
    ground: [f64; HILLS],
    /// x, y of the middle (y = 0.6 is standing on the pad), and the angle.
    at: [f64; 3],
    /// Their rates.
    rate: [f64; 3],
    legs: [bool; 2],
    still: u32,
    potential: f64,
}

impl Lander {
    /// One seeded with 0 until [`reset`](Env::reset) is given a seed.
    pub fn new(options: &LanderOptions) -> Self {
        Self {
            rng: NumpyRng::new(0),
            continuous: options.continuous,
            ground: [0.0; HILLS],
            at: [0.0; 3],
            rate: [0.0; 3],
            legs: [false; 2],
            still: 0,
            potential: 0.0,
        }
    }

    /// Throttles of the main engine (0 to 1) and of the side engines (−1 to 1, positive turns counter-clockwise).
    fn throttles(&self, action: Action<'_>) -> Result<(f64, f64), BoxError> {
        match action {
            Action::Discrete(choice) if !self.continuous && choice < 4 => {
                Ok([(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (0.0, -1.0)][choice as usize])
            }
            Action::Continuous(&[main, side]) if self.continuous => {
                let (main, side) = (f64::from(main).clamp(-1.0, 1.0), f64::from(side).clamp(-1.0, 1.0));
                let main = if main > 0.0 { 0.5 + 0.5 * main } else { 0.0 };
                Ok((main, if side.abs() > 0.5 { -side } else { 0.0 }))
            }
            _ => Err(out_of_range(action, &self.action_space())),
        }
    }

    /// Height of the ground at `x`.
    fn height(&self, x: f64) -> f64 {
        let place =
            ((x + HALF_WIDTH) / (2.0 * HALF_WIDTH) * (HILLS - 1) as f64).clamp(0.0, (HILLS - 1) as f64);
        let left = (place as usize).min(HILLS - 2);
        let share = place - left as f64;
        self.ground[left] * (1.0 - share) + self.ground[left + 1] * share
    }

    /// Where a point of the lander is, relative to its middle.
    fn turned(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let (sin, cos) = self.at[2].sin_cos();
        [x * cos - y * sin, x * sin + y * cos]
    }

    /// Moves on by a piece of a step.
    fn integrate(&mut self, main: f64, side: f64, dt: f64) {
        let (sin, cos) = self.at[2].sin_cos();
        let mut force =
            [-MAIN * main * sin - SIDE * side * cos, MAIN * main * cos - SIDE * side * sin - GRAVITY];
        let mut torque = TURN * side * INERTIA;
        for (foot, touches) in FEET.iter().zip(0..) {
            let [rx, ry] = self.turned(*foot);
            let depth = self.height(self.at[0] + rx) - (self.at[1] + ry);
            self.legs[touches] = depth > 0.0;
            if depth > 0.0 {
                let (vx, vy) = (self.rate[0] - self.rate[2] * ry, self.rate[1] + self.rate[2] * rx);
                let up = (SPRING * depth - DAMPER * vy).clamp(0.0, BEARS);
                let along = (-DAMPER * vx).clamp(-GRIP * up, GRIP * up);
                force = [force[0] + along, force[1] + up];
                torque += rx * up - ry * along;
            }
        }
        let push = [force[0], force[1], torque / INERTIA];
        for ((at, rate), push) in self.at.iter_mut().zip(&mut self.rate).zip(push) {
            *rate += push * dt;
            *at += *rate * dt;
        }
    }

    fn crashed(&self) -> bool {
        HULL.iter().any(|&corner| {
            let [x, y] = self.turned(corner);
            self.at[1] + y < self.height(self.at[0] + x)
        })
    }

    fn state(&self) -> [f64; 8] {
        let ([x, y, angle], [vx, vy, spin]) = (self.at, self.rate);
        let rate = |v: f64, half: f64| v * half * TAU;
        let legs = self.legs.map(|touches| f64::from(u8::from(touches)));
        let y = (y + FEET[0][1]) / HALF_HEIGHT;
        [
            x / HALF_WIDTH,
            y,
            rate(vx, HALF_WIDTH),
            rate(vy, HALF_HEIGHT),
            angle,
            20.0 * spin * TAU,
            legs[0],
            legs[1],
        ]
    }

    fn observe(&self, obs: &mut [f32]) -> Result<(), BoxError> {
        *row::<8>(obs)? = self.state().map(|x| x as f32);
        Ok(())
    }

    fn potential(&self) -> f64 {
        let [x, y, vx, vy, angle, _, left, right] = self.state();
        -100.0 * (x.hypot(y) + vx.hypot(vy) + angle.abs()) + 10.0 * (left + right)
    }
}

impl Env for Lander {
    fn observation_space(&self) -> Space {
        let infinite = f32::INFINITY;
        let high = [infinite, infinite, infinite, infinite, infinite, infinite, 1.0, 1.0];
        let low = [-infinite, -infinite, -infinite, -infinite, -infinite, -infinite, 0.0, 0.0];
        Space::bounded(&low, &high)
    }

    fn action_space(&self) -> Space {
        if self.continuous { Space::bounded(&[-1.0; 2], &[1.0; 2]) } else { Space::discrete(4) }
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        for (i, height) in self.ground.iter_mut().enumerate() {
            let x = (i as f64 / (HILLS - 1) as f64 * 2.0 - 1.0) * HALF_WIDTH;
            // The pad is flat and at height 0; hills and valleys beside it.
            let hill = self.rng.uniform(-2.0, 2.0);
            *height = if x.abs() <= PAD + 0.1 { 0.0 } else { hill };
        }
        self.at = [0.0, CEILING, self.rng.uniform(-0.1, 0.1)];
        self.rate = [self.rng.uniform(-2.5, 2.5), self.rng.uniform(-2.5, 0.5), self.rng.uniform(-0.3, 0.3)];
        self.legs = [false; 2];
        self.still = 0;
        self.potential = self.potential();
        self.observe(obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let (main, side) = self.throttles(action)?;
        for _ in 0..PIECES {
            self.integrate(main, side, TAU / f64::from(PIECES));
        }
        self.observe(obs)?;

        let before = std::mem::replace(&mut self.potential, 0.0);
        self.potential = self.potential();
        let mut reward = self.potential - before - 0.3 * main - 0.03 * side.abs();
        let moves = self.rate.iter().any(|rate| rate.abs() > STILL);
        self.still = if self.legs == [true; 2] && !moves { self.still + 1 } else { 0 };
        let lost = self.crashed() || self.at[0].abs() >= HALF_WIDTH;
        let landed = self.still >= REST;
        if lost {
            reward = -100.0;
        } else if landed {
            reward = 100.0;
        }
        Ok(Step { reward, terminated: lost || landed, truncated: false })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::env::check::check_env;

    /// The controller that comes with Gymnasium's lander, which reads nothing but the observation.
    fn pilot(s: &[f32]) -> (f32, f32) {
        let target = (s[0] * 0.5 + s[2]).clamp(-0.4, 0.4);
        let (mut turn, mut hover) =
            ((target - s[4]) * 0.5 - s[5], (0.55 * s[0].abs() - s[1]) * 0.5 - s[3] * 0.5);
        if s[6] + s[7] > 0.0 {
            (turn, hover) = (0.0, -s[3] * 0.5);
        }
        (turn, hover)
    }

    fn fly(options: &LanderOptions, seed: u64, act: impl Fn(f32, f32) -> ([f32; 2], u32)) -> f64 {
        let (mut env, mut obs, mut total) = (Lander::new(options), [0.0; 8], 0.0);
        env.reset(Some(seed), &mut obs).unwrap();
        for _ in 0..1000 {
            let (turn, hover) = pilot(&obs);
            let (throttles, choice) = act(turn, hover);
            let action =
                if options.continuous { Action::Continuous(&throttles) } else { Action::Discrete(choice) };
            let step = env.step(action, &mut obs).unwrap();
            total += step.reward;
            if step.terminated {
                break;
            }
        }
        total
    }

    #[test]
    fn it_keeps_its_contract_with_choices_and_with_throttles() {
        for continuous in [false, true] {
            check_env(&mut Lander::new(&LanderOptions { continuous })).unwrap();
        }
    }

    #[test]
    fn a_known_controller_lands_and_falling_does_not() {
        let options = LanderOptions::default();
        let choose = |turn: f32, hover: f32| {
            let choice = if hover > turn.abs() && hover > 0.05 {
                2
            } else if turn < -0.05 {
                3
            } else {
                u32::from(turn > 0.05)
            };
            ([0.0; 2], choice)
        };
        let returns: Vec<f64> = (0..20).map(|seed| fly(&options, seed, choose)).collect();
        assert!(returns.iter().filter(|&&r| r > 200.0).count() >= 16, "{returns:?}");
        let throttle = |turn: f32, hover: f32| {
            ([(hover * 20.0 - 1.0).clamp(-1.0, 1.0), (-turn * 20.0).clamp(-1.0, 1.0)], 0)
        };
        let returns: Vec<f64> =
            (0..20).map(|seed| fly(&LanderOptions { continuous: true }, seed, throttle)).collect();
        assert!(returns.iter().filter(|&&r| r > 200.0).count() >= 16, "{returns:?}");
        let returns: Vec<f64> = (0..20).map(|seed| fly(&options, seed, |_, _| ([0.0; 2], 0))).collect();
        assert!(returns.iter().all(|&r| r < 0.0), "{returns:?}");
    }

    #[test]
    fn free_fall_is_that_of_gravity() {
        let (mut env, mut obs) = (Lander::new(&LanderOptions::default()), [0.0; 8]);
        env.reset(Some(3), &mut obs).unwrap();
        let (before, spin) = (env.rate[1], env.rate[2]);
        for _ in 0..10 {
            env.step(Action::Discrete(0), &mut obs).unwrap();
        }
        assert!((env.rate[1] - (before - GRAVITY * 10.0 * TAU)).abs() < 1e-9);
        assert_eq!(env.rate[2], spin);
        assert!(env.step(Action::Discrete(4), &mut obs).is_err());
        assert!(env.step(Action::Continuous(&[0.0; 2]), &mut obs).is_err());
    }
}
