//! Crossing a road on 10 × 10 pixels, our own.

use air_core::BoxError;

use super::pixels::{SIDE, Screen, space};
use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range};

const LANES: usize = SIDE - 2;
/// Steps a car takes for one field, at most; planes 2.. say which.
const SLOWEST: usize = 5;
const PLANES: usize = 2 + SLOWEST;
const WALKER: usize = 0;
const CAR: usize = 1;
const COLUMN: usize = 4;
/// Steps between two of the walker's.
const PACE: u32 = 3;

/// Cross eight lanes of cars, in the manner of [MinAtar](https://arxiv.org/abs/1903.03176)'s Freeway but our own: runs are not equal with it.
///
/// Observation: planes of the walker, of cars, and one for each speed, lit behind the car. Actions: 0 stays, 1 up, 2 down; the walker moves every third
/// step at most. Reward: 1 for reaching the other side, from where it begins again with other cars; a car throws it back to the start. `AirFreeway-v0` is cut off after 2500 steps.
#[derive(Clone, Debug)]
pub struct Freeway {
    rng: NumpyRng,
    row: usize,
    wait: u32,
    cars: [Car; LANES],
}

#[derive(Clone, Copy, Debug, Default)]
struct Car {
    column: usize,
    right: bool,
    /// Steps for a field.
    slow: usize,
    left: usize,
}

impl Freeway {
    /// One seeded with 0 until [`reset`](Env::reset) is given a seed.
    pub fn new() -> Self {
        Self { rng: NumpyRng::new(0), row: SIDE - 1, wait: 0, cars: [Car::default(); LANES] }
    }

    fn deal(&mut self) {
        for car in &mut self.cars {
            let slow = self.rng.integers(1, SLOWEST as i64 + 1) as usize;
            let right = self.rng.integers(0, 2) == 1;
            let column = self.rng.integers(0, SIDE as i64) as usize;
            *car = Car { column, right, slow, left: slow };
        }
    }

    fn observe(&self, obs: &mut [f32]) -> Result<(), BoxError> {
        let mut screen = Screen::clear(obs, PLANES)?;
        screen.light(WALKER, self.row, COLUMN);
        for (lane, car) in self.cars.iter().enumerate() {
            screen.light(CAR, lane + 1, car.column);
            let behind = (car.column + if car.right { SIDE - 1 } else { 1 }) % SIDE;
            screen.light(1 + car.slow, lane + 1, behind);
        }
        Ok(())
    }

    fn hit(&self) -> bool {
        (1..=LANES).contains(&self.row) && self.cars[self.row - 1].column == COLUMN
    }
}

impl Default for Freeway {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for Freeway {
    fn observation_space(&self) -> Space {
        space(PLANES)
    }

    fn action_space(&self) -> Space {
        Space::discrete(3)
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        (self.row, self.wait) = (SIDE - 1, 0);
        self.deal();
        self.observe(obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let to = match action {
            Action::Discrete(0) => self.row,
            Action::Discrete(1) => self.row.saturating_sub(1),
            Action::Discrete(2) => (self.row + 1).min(SIDE - 1),
            _ => return Err(out_of_range(action, &self.action_space())),
        };
        self.wait = self.wait.saturating_sub(1);
        if to != self.row && self.wait == 0 {
            (self.row, self.wait) = (to, PACE);
        }
        // Into a car, or a car into the walker.
        let mut hit = self.hit();
        for car in &mut self.cars {
            car.left -= 1;
            if car.left == 0 {
                car.left = car.slow;
                car.column = (car.column + if car.right { 1 } else { SIDE - 1 }) % SIDE;
            }
        }
        hit |= self.hit();
        if hit {
            self.row = SIDE - 1;
        }
        let crossed = self.row == 0;
        if crossed {
            self.row = SIDE - 1;
            self.deal();
        }
        self.observe(obs)?;
        Ok(Step { reward: f64::from(u8::from(crossed)), terminated: false, truncated: false })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::env::check::check_env;

    const ITEMS: usize = PLANES * SIDE * SIDE;

    #[test]
    fn it_keeps_its_contract() {
        check_env(&mut Freeway::new()).unwrap();
    }

    #[test]
    fn an_empty_road_is_crossed_at_the_walkers_pace() {
        let (mut env, mut obs) = (Freeway::new(), vec![0.0; ITEMS]);
        env.reset(Some(1), &mut obs).unwrap();
        env.cars = [Car { column: 9, right: true, slow: 5, left: 1000 }; LANES];
        let steps = (1..100).find(|_| env.step(Action::Discrete(1), &mut obs).unwrap().reward == 1.0);
        assert_eq!((steps, env.row), (Some(1 + PACE as usize * (SIDE - 2)), SIDE - 1));
    }

    #[test]
    fn a_car_throws_the_walker_back() {
        let (mut env, mut obs) = (Freeway::new(), vec![0.0; ITEMS]);
        env.reset(Some(1), &mut obs).unwrap();
        (env.row, env.cars[3]) = (4, Car { column: COLUMN - 1, right: true, slow: 1, left: 1 });
        let step = env.step(Action::Discrete(0), &mut obs).unwrap();
        assert_eq!((step.reward, env.row), (0.0, SIDE - 1));
        assert_eq!(obs[(CAR * SIDE + 4) * SIDE + COLUMN], 1.0);
        assert_eq!(obs[(2 * SIDE + 4) * SIDE + COLUMN - 1], 1.0, "its speed, behind it");
    }
}
