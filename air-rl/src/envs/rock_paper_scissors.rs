//! Rock, paper, scissors: a game with nothing to win against who plays it well.

use air_core::BoxError;

use crate::env::multi_env::MultiEnv;
use crate::env::space::Space;
use crate::env::{Action, Step, out_of_range};

/// Rounds of an episode.
const ROUNDS: u32 = 10;

/// Two agents choose rock (0), paper (1) or scissors (2) at the same time, ten rounds an episode. The winner of a round gets
/// what the winning choice is worth from the loser; equal choices are worth nothing. Each sees the other's last choice, one
/// item a choice, all 0 in the first round.
#[derive(Clone, Debug)]
pub struct RockPaperScissors {
    worth: [f64; 3],
    round: u32,
}

impl RockPaperScissors {
    /// With the worth of a win by rock, paper and scissors. Played best, rock is chosen with a probability in proportion to the
    /// worth of scissors, paper to that of rock, and scissors to that of paper.
    pub fn new(worth: [f64; 3]) -> Self {
        Self { worth, round: 0 }
    }
}

impl Default for RockPaperScissors {
    /// Every win is worth 1.
    fn default() -> Self {
        Self::new([1.0; 3])
    }
}

impl MultiEnv for RockPaperScissors {
    fn agents(&self) -> usize {
        2
    }

    fn observation_space(&self, _: usize) -> Space {
        Space::bounded(&[0.0; 3], &[1.0; 3])
    }

    fn action_space(&self, _: usize) -> Space {
        Space::discrete(3)
    }

    fn reset(&mut self, _: Option<u64>, which: &[bool], obs: &mut [Vec<f32>]) -> Result<(), BoxError> {
        self.round = 0;
        for (obs, _) in obs.iter_mut().zip(which).filter(|(_, which)| **which) {
            obs.fill(0.0);
        }
        Ok(())
    }

    fn step(
        &mut self,
        actions: &[Action<'_>],
        obs: &mut [Vec<f32>],
        steps: &mut [Step],
    ) -> Result<(), BoxError> {
        let mut chosen = [0; 2];
        for (agent, (chosen, action)) in chosen.iter_mut().zip(actions).enumerate() {
            let Action::Discrete(choice @ 0..3) = action else {
                return Err(out_of_range(*action, &self.action_space(agent)));
            };
            *chosen = *choice as usize;
        }
        self.round += 1;
        let [mine, theirs] = chosen;
        // Each choice beats the one before it.
        let reward = match (3 + mine - theirs) % 3 {
            1 => self.worth[mine],
            2 => -self.worth[theirs],
            _ => 0.0,
        };
        for (agent, (obs, step)) in obs.iter_mut().zip(steps).enumerate() {
            obs.fill(0.0);
            obs[chosen[1 - agent]] = 1.0;
            let reward = if agent == 0 { reward } else { -reward };
            *step = Step { reward, terminated: self.round == ROUNDS, truncated: false };
        }
        Ok(())
    }
}
