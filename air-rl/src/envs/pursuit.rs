//! A chase between two teams on a board with edges.

use air_core::BoxError;

use crate::env::multi_env::MultiEnv;
use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Step, out_of_range};

/// Rows and columns of the board.
const SIDE: i32 = 7;
/// Steps of an episode.
const STEPS: u32 = 50;
/// What the five choices do: nothing, up, down, left, right.
const MOVES: [[i32; 2]; 5] = [[0, 0], [-1, 0], [1, 0], [0, -1], [0, 1]];

/// Pursuers and evaders on 7 × 7 fields, all as fast as each other; an environment of our own. In each step all stay or move by one field at the
/// same time. A pursuer catches an evader on its field, or one with which it has changed fields: that is worth 1 to every pursuer and −1 to the evader, which
/// is put onto a random field. After 50 steps the episode is cut off for all.
///
/// An agent sees its own place, then where every other one is from there, its own team's first, each as rows and columns in board widths.
/// The pursuers are the first agents and team 0, the evaders team 1.
#[derive(Clone, Debug)]
pub struct Pursuit {
    pursuers: usize,
    /// Rows and columns, pursuers first.
    places: Vec<[i32; 2]>,
    rng: NumpyRng,
    step: u32,
}

impl Pursuit {
    /// With so many in each team, at least 1; [`reset`](MultiEnv::reset) is given a seed.
    pub fn new(pursuers: usize, evaders: usize) -> Self {
        let (pursuers, evaders) = (pursuers.max(1), evaders.max(1));
        Self { pursuers, places: vec![[0; 2]; pursuers + evaders], rng: NumpyRng::new(0), step: 0 }
    }

    fn anywhere(rng: &mut NumpyRng) -> [i32; 2] {
        [0; 2].map(|_: i32| rng.integers(0, i64::from(SIDE)) as i32)
    }

    fn observe(&self, agent: usize, obs: &mut [f32]) {
        let (pursuers, evaders) = self.places.split_at(self.pursuers);
        let teams = if agent < self.pursuers { [pursuers, evaders] } else { [evaders, pursuers] };
        let mine = agent - if agent < self.pursuers { 0 } else { self.pursuers };
        let (own, width) = (self.places[agent], SIDE as f32);
        let mates = teams[0].iter().enumerate().filter(|(i, _)| *i != mine).map(|(_, place)| place);
        let seen = mates.chain(teams[1]).flat_map(|place| [place[0] - own[0], place[1] - own[1]]);
        for (to, at) in obs.iter_mut().zip(own.into_iter().chain(seen)) {
            *to = at as f32 / width;
        }
    }
}

impl MultiEnv for Pursuit {
    fn agents(&self) -> usize {
        self.places.len()
    }

    fn team(&self, agent: usize) -> usize {
        usize::from(agent >= self.pursuers)
    }

    fn observation_space(&self, _: usize) -> Space {
        let items = 2 * self.places.len();
        Space::bounded(&vec![-1.0; items], &vec![1.0; items])
    }

    fn action_space(&self, _: usize) -> Space {
        Space::discrete(MOVES.len() as u32)
    }

    fn reset(&mut self, seed: Option<u64>, _: &[bool], obs: &mut [Vec<f32>]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.rng = NumpyRng::new(seed);
        }
        self.step = 0;
        for place in &mut self.places {
            *place = Self::anywhere(&mut self.rng);
        }
        // Nobody is caught before anyone has moved.
        let (pursuers, evaders) = self.places.split_at_mut(self.pursuers);
        for evader in evaders {
            while pursuers.contains(evader) {
                *evader = Self::anywhere(&mut self.rng);
            }
        }
        obs.iter_mut().enumerate().for_each(|(agent, obs)| self.observe(agent, obs));
        Ok(())
    }

    fn step(
        &mut self,
        actions: &[Action<'_>],
        obs: &mut [Vec<f32>],
        steps: &mut [Step],
    ) -> Result<(), BoxError> {
        let before = self.places.clone();
        for (agent, (place, action)) in self.places.iter_mut().zip(actions).enumerate() {
            let Action::Discrete(choice @ 0..5) = action else {
                return Err(out_of_range(*action, &self.action_space(agent)));
            };
            let by = MOVES[*choice as usize];
            *place = [0, 1].map(|axis| (place[axis] + by[axis]).clamp(0, SIDE - 1));
        }
        self.step += 1;
        let (over, n) = (self.step == STEPS, self.pursuers);
        steps.fill(Step { reward: 0.0, terminated: false, truncated: over });
        for evader in n..self.places.len() {
            let caught = (0..n).any(|pursuer| {
                let (there, here) = (self.places[pursuer], self.places[evader]);
                there == here || (there == before[evader] && here == before[pursuer])
            });
            if caught {
                steps[evader].reward = -1.0;
                steps[..n].iter_mut().for_each(|step| step.reward += 1.0);
                self.places[evader] = Self::anywhere(&mut self.rng);
            }
        }
        obs.iter_mut().enumerate().for_each(|(agent, obs)| self.observe(agent, obs));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::env::multi_env::check_multi_env;

    #[test]
    fn it_keeps_its_contract() {
        check_multi_env(&mut Pursuit::new(2, 2)).unwrap();
        check_multi_env(&mut Pursuit::new(1, 3)).unwrap();
    }

    /// A pursuer and an evader at these places, and what these moves bring.
    fn after(places: [[i32; 2]; 2], moves: [u32; 2]) -> (Pursuit, [Step; 2], Vec<Vec<f32>>) {
        let (mut env, mut obs, mut steps) = (Pursuit::new(1, 1), vec![vec![0.0; 4]; 2], [Step::default(); 2]);
        env.reset(Some(3), &[true, true], &mut obs).unwrap();
        env.places.copy_from_slice(&places);
        env.step(&moves.map(Action::Discrete), &mut obs, &mut steps).unwrap();
        (env, steps, obs)
    }

    #[test]
    fn who_is_met_or_changes_fields_is_caught_and_put_elsewhere() {
        for (places, moves, caught) in [
            ([[3, 3], [3, 5]], [4, 3], true),  // both come to one field
            ([[3, 3], [3, 4]], [4, 3], true),  // they change fields
            ([[3, 3], [3, 4]], [4, 4], false), // as fast as each other
            ([[3, 5], [3, 6]], [4, 4], true),  // the edge holds the evader
        ] {
            let (_, steps, _) = after(places, moves);
            let reward = f64::from(u8::from(caught));
            assert_eq!((steps[0].reward, steps[1].reward), (reward, -reward), "{places:?} {moves:?}");
        }
    }

    #[test]
    fn each_sees_itself_and_the_others_from_where_it_stands() {
        let (_, _, obs) = after([[1, 2], [4, 6]], [0, 0]);
        assert_eq!(obs[0].iter().map(|x| (x * 7.0).round()).collect::<Vec<_>>(), [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(obs[1].iter().map(|x| (x * 7.0).round()).collect::<Vec<_>>(), [4.0, 6.0, -3.0, -4.0]);
        let env = Pursuit::new(2, 3);
        assert_eq!((0..5).map(|agent| env.team(agent)).collect::<Vec<_>>(), [0, 0, 1, 1, 1]);
    }

    #[test]
    fn all_are_cut_off_together() {
        let (mut env, _, mut obs) = after([[0, 0], [6, 6]], [0, 0]);
        let mut steps = [Step::default(); 2];
        for at in 2..=50 {
            env.step(&[Action::Discrete(0); 2], &mut obs, &mut steps).unwrap();
            assert_eq!(steps.map(|step| (step.truncated, step.terminated)), [(at == 50, false); 2]);
        }
        assert!(env.step(&[Action::Discrete(5), Action::Discrete(0)], &mut obs, &mut steps).is_err());
    }
}
