//! Breakout on 10 × 10 pixels, our own.

use air_core::BoxError;

use super::pixels::{SIDE, Screen, space};
use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env, Step, out_of_range};

const PLANES: usize = 4;
const PADDLE: usize = 0;
const BALL: usize = 1;
const TRAIL: usize = 2;
const BRICK: usize = 3;
const WALL: std::ops::Range<usize> = 1..4;

/// A ball, a paddle and three rows of bricks, in the manner of [MinAtar](https://arxiv.org/abs/1903.03176)'s game but our own: runs are not equal with it.
///
/// Observation: planes of paddle, ball, the ball's last place, and bricks. Actions: 0 stays, 1 left, 2 right. Reward: 1 a brick; a wall that is
/// gone is built anew. It ends when the ball is missed. `AirBreakout-v0` has a limit of 2500 steps.
#[derive(Clone, Debug)]
pub struct Breakout {
    rng: NumpyRng,
    paddle: usize,
    ball: [usize; 2],
    trail: [usize; 2],
    /// Does it move down; does it move right?
    down: bool,
    right: bool,
    bricks: [[bool; SIDE]; SIDE],
}

impl Breakout {
    /// One seeded with 0 until [`reset`](Env::reset) is given a seed.
    pub fn new() -> Self {
        let (bricks, place) = ([[false; SIDE]; SIDE], [0; 2]);
        Self { rng: NumpyRng::new(0), paddle: 0, ball: place, trail: place, down: true, right: true, bricks }
    }

    fn build(&mut self) {
        for row in WALL {
            self.bricks[row].fill(true);
        }
    }

    fn observe(&self, obs: &mut [f32]) -> Result<(), BoxError> {
        let mut screen = Screen::clear(obs, PLANES)?;
        screen.light(PADDLE, SIDE - 1, self.paddle);
        screen.light(BALL, self.ball[0], self.ball[1]);
        screen.light(TRAIL, self.trail[0], self.trail[1]);
        for row in WALL {
            for column in (0..SIDE).filter(|&column| self.bricks[row][column]) {
                screen.light(BRICK, row, column);
            }
        }
        Ok(())
    }

    /// Moves the ball by one field; what it paid, and whether it was missed.
    fn fly(&mut self) -> (f64, bool) {
        self.trail = self.ball;
        let [row, column] = self.ball;
        self.right = if column == 0 { true } else { self.right && column + 1 < SIDE };
        let column = if self.right { column + 1 } else { column - 1 };
        self.down |= row == 0;
        let next = if self.down { row + 1 } else { row - 1 };
        if self.bricks[next][column] {
            self.bricks[next][column] = false;
            self.down = !self.down;
            self.ball = [row, column];
            if self.bricks.iter().flatten().all(|brick| !brick) {
                self.build();
            }
            return (1.0, false);
        }
        if next < SIDE - 1 {
            self.ball = [next, column];
            return (0.0, false);
        }
        // On the paddle's row: it must be where the ball comes from or where it goes.
        if self.paddle == column || self.paddle == self.trail[1] {
            self.down = false;
            // From its corner the ball goes back the way it came.
            self.right ^= self.paddle == column && self.paddle != self.trail[1];
            self.ball = [row, column];
            return (0.0, false);
        }
        self.ball = [next, column];
        (0.0, true)
    }
}

impl Default for Breakout {
    fn default() -> Self {
        Self::new()
    }
}

impl Env for Breakout {
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
        self.bricks = [[false; SIDE]; SIDE];
        self.build();
        self.right = self.rng.integers(0, 2) == 1;
        let column = if self.right { 0 } else { SIDE - 1 };
        (self.ball, self.trail, self.down) = ([WALL.end, column], [WALL.end, column], true);
        self.paddle = self.rng.integers(0, SIDE as i64) as usize;
        self.observe(obs)
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        self.paddle = match action {
            Action::Discrete(0) => self.paddle,
            Action::Discrete(1) => self.paddle.saturating_sub(1),
            Action::Discrete(2) => (self.paddle + 1).min(SIDE - 1),
            _ => return Err(out_of_range(action, &self.action_space())),
        };
        let (reward, terminated) = self.fly();
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
        check_env(&mut Breakout::new()).unwrap();
    }

    #[test]
    fn who_follows_the_ball_clears_the_wall_and_who_does_not_move_loses() {
        let (mut env, mut obs, mut total) = (Breakout::new(), vec![0.0; ITEMS], 0.0);
        for seed in 0..5 {
            env.reset(Some(seed), &mut obs).unwrap();
            assert_eq!(obs[BRICK * SIDE * SIDE..].iter().sum::<f32>(), 30.0);
            for _ in 0..2500 {
                // Where the ball is now is where it comes from next.
                let choice = match env.ball[1].cmp(&env.paddle) {
                    std::cmp::Ordering::Less => 1,
                    std::cmp::Ordering::Equal => 0,
                    std::cmp::Ordering::Greater => 2,
                };
                let step = env.step(Action::Discrete(choice), &mut obs).unwrap();
                total += step.reward;
                if step.terminated {
                    break;
                }
            }
        }
        assert!(total > 5.0 * 30.0, "{total}");

        env.reset(Some(0), &mut obs).unwrap();
        env.paddle = SIDE - 1;
        env.right = true;
        env.ball = [WALL.end, 0];
        let steps = (1..100).find(|_| env.step(Action::Discrete(0), &mut obs).unwrap().terminated);
        assert_eq!(steps, Some(SIDE - 1 - WALL.end));
    }

    #[test]
    fn a_brick_pays_once_and_turns_the_ball() {
        let (mut env, mut obs) = (Breakout::new(), vec![0.0; ITEMS]);
        env.reset(Some(0), &mut obs).unwrap();
        (env.ball, env.down, env.right) = ([WALL.end, 4], false, true);
        let step = env.step(Action::Discrete(0), &mut obs).unwrap();
        assert_eq!((step.reward, env.down, env.ball), (1.0, true, [WALL.end, 5]));
        assert_eq!(obs[BRICK * SIDE * SIDE..].iter().sum::<f32>(), 29.0);
        assert_eq!(obs[(BRICK * SIDE + WALL.end - 1) * SIDE + 5], 0.0);
    }
}
