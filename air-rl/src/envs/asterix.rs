//! Gathering and dodging on 10 × 10 pixels, our own.

use air_core::BoxError;

use super::pixels::{SIDE, Screen, space};
use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range};

const PLANES: usize = 4;
const PLAYER: usize = 0;
const ENEMY: usize = 1;
const GOLD: usize = 2;
const TRAIL: usize = 3;
const LANES: usize = SIDE - 2;
/// Steps between two arrivals, and between two moves of what has arrived.
const ARRIVAL: u32 = 10;
const PACE: u32 = 4;

/// Gather gold and dodge enemies that cross the screen, in the manner of [MinAtar](https://arxiv.org/abs/1903.03176)'s Asterix but our own: runs are not equal with it.
///
/// Observation: planes of the player, enemies, gold, and of where each came from. Actions: 0 stays, 1 left, 2 up, 3 right, 4 down. Every tenth step something enters a free lane from either side,
/// gold in one case of three. Reward: 1 for gold. It ends at the touch of an enemy. `AirAsterix-v0` has a limit of 2500 steps.
#[derive(Clone, Debug)]
pub struct Asterix {
    rng: NumpyRng,
    player: [usize; 2],
    lanes: [Option<Thing>; LANES],
    arrival: u32,
    wait: u32,
}

#[derive(Clone, Copy, Debug)]
struct Thing {
    column: usize,
    right: bool,
    gold: bool,
}

impl Asterix {
    /// One seeded with 0 until [`reset`](Env::reset) is given a seed.
    pub fn new() -> Self {
        Self { rng: NumpyRng::new(0), player: [0; 2], lanes: [None; LANES], arrival: ARRIVAL, wait: PACE }
    }

    fn observe(&self, obs: &mut [f32]) -> Result<(), BoxError> {
        let mut screen = Screen::clear(obs, PLANES)?;
        screen.light(PLAYER, self.player[0], self.player[1]);
        for (lane, thing) in self.lanes.iter().enumerate() {
            let Some(Thing { column, right, gold }) = *thing else { continue };
            screen.light(if gold { GOLD } else { ENEMY }, lane + 1, column);
            let behind = if right { column.checked_sub(1) } else { Some(column + 1).filter(|&c| c < SIDE) };
            if let Some(behind) = behind {
                screen.light(TRAIL, lane + 1, behind);
            }
        }
        Ok(())
    }

    /// Something comes in, if a lane is free.
    fn arrive(&mut self) {
        let free = self.lanes.iter().filter(|lane| lane.is_none()).count();
        let (nth, right) = (self.rng.integers(0, free.max(1) as i64) as usize, self.rng.integers(0, 2) == 1);
        let gold = self.rng.integers(0, 3) == 0;
        if let Some(lane) = self.lanes.iter_mut().filter(|lane| lane.is_none()).nth(nth) {
            *lane = Some(Thing { column: if right { 0 } else { SIDE - 1 }, right, gold });
        }
    }

    /// What the player meets where it is: what it pays, and whether it is the end.
    fn meet(&mut self) -> (f64, bool) {
        let [row, column] = self.player;
        let lane = &mut self.lanes[row - 1];
        match *lane {
            Some(thing) if thing.column == column => {
                *lane = None;
                if thing.gold { (1.0, false) } else { (0.0, true) }
            }
            _ => (0.0, false),
        }
    }
}

impl Default for Asterix {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for Asterix {
    fn observation_space(&self) -> Space {
        space(PLANES)
    }

    fn action_space(&self) -> Space {
        Space::discrete(5)
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        self.player = [SIDE / 2, SIDE / 2];
        (self.lanes, self.arrival, self.wait) = ([None; LANES], ARRIVAL, PACE);
        self.observe(obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let [row, column] = self.player;
        self.player = match action {
            Action::Discrete(0) => [row, column],
            Action::Discrete(1) => [row, column.saturating_sub(1)],
            Action::Discrete(2) => [(row - 1).max(1), column],
            Action::Discrete(3) => [row, (column + 1).min(SIDE - 1)],
            Action::Discrete(4) => [(row + 1).min(LANES), column],
            _ => return Err(out_of_range(action, &self.action_space())),
        };
        self.arrival -= 1;
        if self.arrival == 0 {
            self.arrival = ARRIVAL;
            self.arrive();
        }
        let (mut reward, mut terminated) = self.meet();
        self.wait -= 1;
        if self.wait == 0 {
            self.wait = PACE;
            for lane in &mut self.lanes {
                *lane = lane.and_then(|thing| {
                    let next = if thing.right { thing.column + 1 } else { thing.column.wrapping_sub(1) };
                    (next < SIDE).then_some(Thing { column: next, ..thing })
                });
            }
            let (more, met) = self.meet();
            (reward, terminated) = (reward + more, terminated | met);
        }
        self.observe(obs)?;
        Ok(Step { reward, terminated, truncated: false })
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
        check_env(&mut Asterix::new()).unwrap();
    }

    #[test]
    fn gold_pays_and_an_enemy_ends_it() {
        for (gold, expected) in [(true, (1.0, false)), (false, (0.0, true))] {
            let (mut env, mut obs) = (Asterix::new(), vec![0.0; ITEMS]);
            env.reset(Some(0), &mut obs).unwrap();
            env.lanes[SIDE / 2 - 1] = Some(Thing { column: SIDE / 2 + 1, right: false, gold });
            let stay = env.step(Action::Discrete(0), &mut obs).unwrap();
            assert_eq!((stay.reward, stay.terminated), (0.0, false));
            assert_eq!(obs[((if gold { GOLD } else { ENEMY }) * SIDE + SIDE / 2) * SIDE + SIDE / 2 + 1], 1.0);
            let step = env.step(Action::Discrete(3), &mut obs).unwrap();
            assert_eq!((step.reward, step.terminated), expected);
        }
    }

    #[test]
    fn things_come_every_tenth_step_cross_and_leave() {
        let (mut env, mut obs) = (Asterix::new(), vec![0.0; ITEMS]);
        env.reset(Some(4), &mut obs).unwrap();
        let there = |env: &Asterix| env.lanes.iter().flatten().count();
        let counts: Vec<usize> = (0..60)
            .map(|_| {
                env.player = [1, 4];
                env.lanes[0] = None; // nothing meets the player
                env.step(Action::Discrete(0), &mut obs).unwrap();
                there(&env)
            })
            .collect();
        assert_eq!(counts[8], 0);
        assert!(counts[9] <= 1 && counts.iter().max() <= Some(&5), "{counts:?}");
        assert!(counts[30..].iter().any(|&n| n >= 2), "{counts:?}");
    }
}
