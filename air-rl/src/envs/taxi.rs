//! Taxi: fetch a passenger at one of four places and bring it to another.

use air_core::BoxError;
use serde::Deserialize;

use super::grid::{Outcome, draw, draw_outcome};
use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range, row};

pub(crate) const SIDE: u32 = 5;
/// Of cells, five places of the passenger (the last is the taxi) and four destinations.
const STATES: u32 = 500;
pub(crate) const IN_TAXI: u32 = 4;
/// Row and column of red, green, yellow and blue.
pub(crate) const PLACES: [(u32, u32); 4] = [(0, 0), (0, 4), (4, 0), (4, 3)];
/// Which columns have a wall to the east, row by row.
pub(crate) const EAST_WALLS: [&[u32]; 5] = [&[1], &[1], &[], &[0, 2], &[0, 2]];

/// Gymnasium's Taxi without its time limit (Dietterich 2000; `Taxi-v4` is this one in a [`TimeLimit`](crate::TimeLimit)
/// of 200 steps; `Taxi-v3` is the same without options for rain and fickle passengers, which were repaired in v4).
///
/// Observation: one number for row, column, place of the passenger and destination. Actions: 0 south, 1 north, 2 east,
/// 3 west, 4 pick up, 5 drop off. Reward: −1 a step, −10 for picking up or dropping off where that cannot be, 20 for
/// dropping off at the destination, which ends it. Seed-equal with Gymnasium, masks included.
#[derive(Clone, Debug)]
pub struct Taxi {
    rng: NumpyRng,
    options: TaxiOptions,
    state: u32,
    /// The passenger will change its mind once the taxi moves with it.
    fickle: bool,
}

/// Options of [`Taxi`] in the registry; those of Gymnasium, and masks.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaxiOptions {
    /// Moves may go aside. Default false.
    pub is_rainy: bool,
    /// The chance to go where one wants in the rain. Default 0.8.
    pub rainy_probability: f64,
    /// The passenger may change its destination once, when it has been picked up. Default false.
    pub fickle_passenger: bool,
    /// The chance that a fickle passenger does. Default 0.3.
    pub fickle_probability: f64,
    /// Rule out actions that change nothing. Default false.
    pub action_masks: bool,
}

impl Default for TaxiOptions {
    fn default() -> Self {
        Self {
            is_rainy: false,
            rainy_probability: 0.8,
            fickle_passenger: false,
            fickle_probability: 0.3,
            action_masks: false,
        }
    }
}

/// Options of `Taxi-v3`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaxiV3Options {
    /// Rule out actions that change nothing. Default false.
    pub action_masks: bool,
}

/// A state, taken apart.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scene {
    cell: (u32, u32),
    passenger: u32,
    destination: u32,
}

impl Scene {
    fn of(state: u32) -> Self {
        let (rest, destination) = (state / 4, state % 4);
        let (cell, passenger) = (rest / 5, rest % 5);
        Self { cell: (cell / SIDE, cell % SIDE), passenger, destination }
    }

    fn state(self) -> u32 {
        ((self.cell.0 * SIDE + self.cell.1) * 5 + self.passenger) * 4 + self.destination
    }

    /// The cell after a move, the same at a wall.
    fn moved(self, direction: u32) -> (u32, u32) {
        let (r, c) = self.cell;
        match direction {
            0 => ((r + 1).min(SIDE - 1), c),
            1 => (r.saturating_sub(1), c),
            2 if c < SIDE - 1 && !EAST_WALLS[r as usize].contains(&c) => (r, c + 1),
            3 if c > 0 && !EAST_WALLS[r as usize].contains(&(c - 1)) => (r, c - 1),
            _ => self.cell,
        }
    }

    /// Place of the passenger, reward and end after picking up (4) or dropping off (5).
    fn handled(self, action: u32) -> (u32, f64, bool) {
        let here = PLACES.iter().position(|&place| place == self.cell).map(|place| place as u32);
        match (action, here) {
            (4, Some(place)) if place == self.passenger => (IN_TAXI, -1.0, false),
            (5, Some(place)) if self.passenger == IN_TAXI && place == self.destination => (place, 20.0, true),
            (5, Some(place)) if self.passenger == IN_TAXI => (place, -1.0, false),
            _ => (self.passenger, -10.0, false),
        }
    }
}

impl Taxi {
    /// A taxi of these options; seeded with 0 until [`reset`](Env::reset) is given a seed.
    pub fn new(options: &TaxiOptions) -> Result<Self, BoxError> {
        let unit = |p: f64| (0.0..=1.0).contains(&p);
        if !unit(options.rainy_probability) || !unit(options.fickle_probability) {
            return Err("probabilities must be between 0 and 1".into());
        }
        Ok(Self { rng: NumpyRng::new(0), options: options.clone(), state: 0, fickle: false })
    }

    fn outcome(&mut self, scene: Scene, action: u32) -> Outcome {
        let at = |cell, chance| {
            let next = Scene { cell, ..scene }.state();
            Outcome { chance, next, reward: -1.0, terminated: false }
        };
        if action > 3 {
            let (passenger, reward, terminated) = scene.handled(action);
            let next = Scene { passenger, ..scene }.state();
            return draw_outcome(&mut self.rng, &[Outcome { chance: 1.0, next, reward, terminated }]);
        }
        if !self.options.is_rainy {
            return draw_outcome(&mut self.rng, &[at(scene.moved(action), 1.0)]);
        }
        // Left and right of each direction; who cannot go ahead does not go aside either.
        let [left, right] = [[2, 3], [3, 2], [1, 0], [0, 1]][action as usize];
        let ahead = scene.moved(action);
        let aside = |direction| if ahead == scene.cell { scene.cell } else { scene.moved(direction) };
        let (p, q) = (self.options.rainy_probability, (1.0 - self.options.rainy_probability) / 2.0);
        draw_outcome(&mut self.rng, &[at(ahead, p), at(aside(left), q), at(aside(right), q)])
    }
}

impl Env for Taxi {
    fn observation_space(&self) -> Space {
        Space::discrete(STATES)
    }

    fn action_space(&self) -> Space {
        Space::discrete(6)
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        let chances = (0..STATES).map(|state| {
            let Scene { passenger, destination, .. } = Scene::of(state);
            if passenger < IN_TAXI && passenger != destination { 1.0 / 300.0 } else { 0.0 }
        });
        self.state = draw(&mut self.rng, chances) as u32;
        self.fickle = self.options.fickle_passenger && self.rng.random() < self.options.fickle_probability;
        *row::<1>(obs)? = [self.state as f32];
        Ok(())
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let Action::Discrete(choice @ 0..6) = action else {
            return Err(out_of_range(action, &self.action_space()));
        };
        let before = Scene::of(self.state);
        let outcome = self.outcome(before, choice);
        self.state = outcome.next;
        let after = Scene::of(self.state);
        if self.fickle && before.passenger == IN_TAXI && after.cell != before.cell {
            self.fickle = false;
            let other = self.rng.integers(0, 3) as u32;
            let destination = if other < before.destination { other } else { other + 1 };
            self.state = Scene { destination, ..after }.state();
        }
        *row::<1>(obs)? = [self.state as f32];
        Ok(Step { reward: outcome.reward, terminated: outcome.terminated, truncated: false })
    }

    fn masks_actions(&self) -> bool {
        self.options.action_masks
    }

    fn action_mask(&self, mask: &mut [bool]) {
        let scene = Scene::of(self.state);
        for (action, allowed) in mask.iter_mut().enumerate() {
            let action = action as u32;
            *allowed =
                if action > 3 { scene.handled(action).1 > -10.0 } else { scene.moved(action) != scene.cell };
        }
    }
}
