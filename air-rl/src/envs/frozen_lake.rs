//! Frozen lake: cross a lake without falling through its holes, on ice that does not let you go where you want.

use air_core::BoxError;
use serde::Deserialize;

use super::grid::{Outcome, draw, draw_outcome};
use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range, row};

const SMALL: [&str; 4] = ["SFFF", "FHFH", "FFFH", "HFFG"];
const LARGE: [&str; 8] =
    ["SFFFFFFF", "FFFFFFFF", "FFFHFFFF", "FFFFFHFF", "FFFHFFFF", "FHHFFFHF", "FHFFHFHF", "FFFHFFFG"];
/// The most rows, and columns, of a map of one's own.
const MAX_SIDE: usize = 1000;

/// Gymnasium's FrozenLake without its time limit (`FrozenLake-v1` is this one in a [`TimeLimit`](crate::TimeLimit) of 100
/// steps, `FrozenLake8x8-v1` the large map in one of 200).
///
/// Observation: the cell, row by row. Actions: 0 left, 1 down, 2 right, 3 up; on slippery ice one of the two directions
/// at right angles is as likely. It ends in a hole, and at the goal, which alone pays. Seed-equal with Gymnasium.
#[derive(Clone, Debug)]
pub struct FrozenLake {
    rng: NumpyRng,
    /// Letters: S start, F ice, H hole, G goal.
    map: Vec<u8>,
    columns: u32,
    starts: f64,
    slippery: bool,
    success_rate: f64,
    reward_schedule: [f64; 3],
    cell: u32,
}

/// Options of [`FrozenLake`] in the registry; those of Gymnasium.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FrozenLakeOptions {
    /// `4x4` or `8x8`.
    pub map_name: Option<String>,
    /// A map instead: rows of one length of the letters S, F, H and G, with at least one S.
    pub desc: Option<Vec<String>>,
    /// Ice that may take you aside. Default true.
    pub is_slippery: bool,
    /// The chance to go where one wants on slippery ice. Default ⅓.
    pub success_rate: f64,
    /// Rewards of the goal, a hole and ice. Default 1, 0, 0.
    pub reward_schedule: [f64; 3],
}

impl Default for FrozenLakeOptions {
    fn default() -> Self {
        Self {
            map_name: None,
            desc: None,
            is_slippery: true,
            success_rate: 1.0 / 3.0,
            reward_schedule: [1.0, 0.0, 0.0],
        }
    }
}

impl FrozenLake {
    /// Its cells' letters, row by row, and how many columns there are.
    pub(crate) fn map(&self) -> (&[u8], u32) {
        (&self.map, self.columns)
    }

    /// The lake of these options, `default_map` if they name none; seeded with 0 until [`reset`](Env::reset) is given a
    /// seed.
    pub fn new(options: &FrozenLakeOptions, default_map: &str) -> Result<Self, BoxError> {
        let rows: Vec<&str> = match (&options.desc, options.map_name.as_deref().unwrap_or(default_map)) {
            (Some(desc), _) => desc.iter().map(String::as_str).collect(),
            (None, "4x4") => SMALL.to_vec(),
            (None, "8x8") => LARGE.to_vec(),
            (None, other) => return Err(format!("map_name `{other}` is neither 4x4 nor 8x8").into()),
        };
        let columns = rows.first().map_or(0, |row| row.len());
        let map: Vec<u8> = rows.concat().into_bytes();
        let starts: u32 = map.iter().map(|&letter| u32::from(letter == b'S')).sum();
        if rows.len() > MAX_SIDE || columns > MAX_SIDE {
            return Err(format!("desc has more than {MAX_SIDE} rows or columns").into());
        }
        if starts == 0 || rows.iter().any(|row| row.len() != columns) {
            return Err("desc needs rows of one length, and at least one S".into());
        }
        if let Some(letter) = map.iter().find(|letter| !b"SFHG".contains(letter)) {
            return Err(
                format!("desc has the letter `{}`, not one of S, F, H, G", char::from(*letter)).into()
            );
        }
        if !(0.0..=1.0).contains(&options.success_rate) {
            return Err("success_rate must be between 0 and 1".into());
        }
        Ok(Self {
            rng: NumpyRng::new(0),
            map,
            columns: columns as u32,
            starts: f64::from(starts),
            slippery: options.is_slippery,
            success_rate: options.success_rate,
            reward_schedule: options.reward_schedule,
            cell: 0,
        })
    }

    /// Where a move in a direction leads.
    fn outcome(&self, direction: u32, chance: f64) -> Outcome {
        let (rows, columns) = (self.map.len() as u32 / self.columns, self.columns);
        let (r, c) = (self.cell / columns, self.cell % columns);
        let (r, c) = match direction {
            0 => (r, c.saturating_sub(1)),
            1 => ((r + 1).min(rows - 1), c),
            2 => (r, (c + 1).min(columns - 1)),
            _ => (r.saturating_sub(1), c),
        };
        let next = r * columns + c;
        let [goal, hole, ice] = self.reward_schedule;
        let (reward, terminated) = match self.map[next as usize] {
            b'G' => (goal, true),
            b'H' => (hole, true),
            _ => (ice, false),
        };
        Outcome { chance, next, reward, terminated }
    }
}

impl Env for FrozenLake {
    fn observation_space(&self) -> Space {
        Space::discrete(self.map.len() as u32)
    }

    fn action_space(&self) -> Space {
        Space::discrete(4)
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        let chances = self.map.iter().map(|&letter| f64::from(u8::from(letter == b'S')) / self.starts);
        self.cell = draw(&mut self.rng, chances) as u32;
        *row::<1>(obs)? = [self.cell as f32];
        Ok(())
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let Action::Discrete(choice @ 0..4) = action else {
            return Err(out_of_range(action, &self.action_space()));
        };
        let ended = matches!(self.map[self.cell as usize], b'G' | b'H');
        let outcome = if ended {
            let stay = Outcome { chance: 1.0, next: self.cell, reward: 0.0, terminated: true };
            draw_outcome(&mut self.rng, &[stay])
        } else if self.slippery {
            let aside = (1.0 - self.success_rate) / 2.0;
            let directions =
                [((choice + 3) % 4, aside), (choice, self.success_rate), ((choice + 1) % 4, aside)];
            let outcomes = directions.map(|(direction, chance)| self.outcome(direction, chance));
            draw_outcome(&mut self.rng, &outcomes)
        } else {
            let outcome = self.outcome(choice, 1.0);
            draw_outcome(&mut self.rng, &[outcome])
        };
        self.cell = outcome.next;
        *row::<1>(obs)? = [self.cell as f32];
        Ok(Step { reward: outcome.reward, terminated: outcome.terminated, truncated: false })
    }
}
