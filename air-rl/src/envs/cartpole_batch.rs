//! Many CartPoles at once: the same arithmetic as [`CartPole`]'s, eight side by side in the lanes of vectors.

use super::cartpole::{
    CartPole, FORCE, GRAVITY, LENGTH, MASS_POLE, POLE_MASS_LENGTH, TAU, THETA_LIMIT, TOTAL_MASS, X_LIMIT,
};
use crate::env::Env as _;
use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::vec_env::{Actions, Batch, VecEnv, expect_len};
use crate::error::{Result, RlError};

/// Poles side by side.
const SIDE: usize = 8;

/// Eight states, structure of arrays.
#[derive(Clone, Debug, Default)]
struct Poles {
    x: [f64; SIDE],
    x_dot: [f64; SIDE],
    theta: [f64; SIDE],
    theta_dot: [f64; SIDE],
}

/// `CartPole-v1` as a batch: bit-equal with [`CartPole`] in a [`TimeLimit`](crate::TimeLimit), one at a time.
#[derive(Clone, Debug)]
pub(super) struct CartPoles {
    poles: Vec<Poles>,
    taken: Vec<u32>,
    rngs: Vec<NumpyRng>,
    max_steps: u32,
    observation_space: Space,
    action_space: Space,
    batch: Batch,
}

impl CartPoles {
    /// So many, cut off after `max_steps` steps; at least one.
    pub(super) fn new(envs: usize, max_steps: u32) -> Result<Self> {
        if envs == 0 {
            return Err(RlError::Shape { what: "list of environments", got: 0, expected: 1 });
        }
        let one = CartPole::new();
        Ok(Self {
            poles: vec![Poles::default(); envs.div_ceil(SIDE)],
            taken: vec![0; envs],
            rngs: vec![NumpyRng::new(0); envs],
            max_steps,
            observation_space: one.observation_space(),
            action_space: one.action_space(),
            batch: Batch::new(envs, 4),
        })
    }

    /// Starts an episode in one and writes what is seen of it.
    fn begin(&mut self, env: usize) {
        let (poles, i, rng) = (&mut self.poles[env / SIDE], env % SIDE, &mut self.rngs[env]);
        let state: [f64; 4] = std::array::from_fn(|_| rng.uniform(-0.05, 0.05));
        [poles.x[i], poles.x_dot[i], poles.theta[i], poles.theta_dot[i]] = state;
        self.taken[env] = 0;
        self.batch.obs[env * 4..][..4].copy_from_slice(&state.map(|x| x as f32));
    }
}

impl Poles {
    /// One step of all; beyond the last action they are pushed to the left, to no account.
    #[inline]
    fn step(&mut self, actions: &[u32]) {
        let mut force = [-FORCE; SIDE];
        let (mut sin, mut cos) = ([0.0; SIDE], [0.0; SIDE]);
        for (i, &action) in actions.iter().enumerate() {
            force[i] = if action == 1 { FORCE } else { -FORCE };
            (sin[i], cos[i]) = (self.theta[i].sin(), self.theta[i].cos());
        }
        let Self { x, x_dot, theta, theta_dot } = self;
        for i in 0..SIDE {
            let (sin, cos) = (sin[i], cos[i]);
            let temp = (force[i] + POLE_MASS_LENGTH * (theta_dot[i] * theta_dot[i]) * sin) / TOTAL_MASS;
            let theta_acc =
                (GRAVITY * sin - cos * temp) / (LENGTH * (4.0 / 3.0 - MASS_POLE * (cos * cos) / TOTAL_MASS));
            let x_acc = temp - POLE_MASS_LENGTH * theta_acc * cos / TOTAL_MASS;
            x[i] += TAU * x_dot[i];
            theta[i] += TAU * theta_dot[i];
            x_dot[i] += TAU * x_acc;
            theta_dot[i] += TAU * theta_acc;
        }
    }

    /// What is seen of one.
    #[inline]
    fn seen(&self, i: usize) -> [f32; 4] {
        [self.x[i] as f32, self.x_dot[i] as f32, self.theta[i] as f32, self.theta_dot[i] as f32]
    }

    #[inline]
    fn fell(&self, i: usize) -> bool {
        // One way for all lanes: no branches.
        !((self.x[i].abs() <= X_LIMIT) & (self.theta[i].abs() <= THETA_LIMIT))
    }
}

impl VecEnv for CartPoles {
    fn num_envs(&self) -> usize {
        self.taken.len()
    }

    fn observation_space(&self) -> &Space {
        &self.observation_space
    }

    fn action_space(&self) -> &Space {
        &self.action_space
    }

    fn reset(&mut self, seeds: &[u64]) -> Result<()> {
        expect_len("seeds", seeds.len(), self.num_envs())?;
        for (env, &seed) in seeds.iter().enumerate() {
            self.rngs[env] = NumpyRng::new(seed);
            self.begin(env);
        }
        self.batch.reward.fill(0.0);
        self.batch.terminated.fill(false);
        self.batch.truncated.fill(false);
        Ok(())
    }

    fn step(&mut self, actions: Actions<'_>) -> Result<()> {
        actions.check(&self.action_space, self.num_envs())?;
        let (Actions::Discrete(actions) | Actions::MultiDiscrete(actions)) = actions else { return Ok(()) };
        self.batch.reward.fill(1.0);
        let mut ended = false;
        let Batch { obs, terminated, truncated, .. } = &mut self.batch;
        let (obs, _) = obs.as_chunks_mut::<4>();
        let sides = self.poles.iter_mut().zip(actions.chunks(SIDE)).zip(obs.chunks_mut(SIDE));
        let flags =
            terminated.chunks_mut(SIDE).zip(truncated.chunks_mut(SIDE)).zip(self.taken.chunks_mut(SIDE));
        for (((poles, actions), obs), ((terminated, truncated), taken)) in sides.zip(flags) {
            poles.step(actions);
            for i in 0..actions.len() {
                obs[i] = poles.seen(i);
                taken[i] += 1;
                terminated[i] = poles.fell(i);
                truncated[i] = taken[i] >= self.max_steps;
                ended |= terminated[i] | truncated[i];
            }
        }
        if ended {
            for env in 0..self.num_envs() {
                if self.batch.terminated[env] || self.batch.truncated[env] {
                    let row = env * 4..(env + 1) * 4;
                    self.batch.final_obs[row.clone()].copy_from_slice(&self.batch.obs[row]);
                    self.begin(env);
                }
            }
        }
        Ok(())
    }

    fn batch(&self) -> &Batch {
        &self.batch
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::env::time_limit::TimeLimit;
    use crate::env::vec_env::Vectorized;

    /// Falls, time limits, new episodes and re-seeding, in batches that fill their lanes and that do not.
    #[test]
    fn a_batch_equals_poles_one_at_a_time_to_the_bit() {
        for envs in [1, 7, 8, 19] {
            let one = || TimeLimit::new(CartPole::new(), 30);
            let mut want = Vectorized::new((0..envs).map(|_| one()).collect()).unwrap();
            let mut got = CartPoles::new(envs, 30).unwrap();
            let mut draws = NumpyRng::new(envs as u64);
            for round in 0..2 {
                let seeds: Vec<u64> = (0..envs as u64).map(|i| i * 7 + round).collect();
                want.reset(&seeds).unwrap();
                got.reset(&seeds).unwrap();
                let (mut fallen, mut cut) = (0, 0);
                for _ in 0..300 {
                    let (a, b) = (want.batch(), got.batch());
                    assert_eq!(a.obs, b.obs);
                    assert_eq!(
                        (&a.reward, &a.terminated, &a.truncated),
                        (&b.reward, &b.terminated, &b.truncated)
                    );
                    assert_eq!(a.final_obs, b.final_obs);
                    fallen += b.terminated.iter().filter(|t| **t).count();
                    cut += b.truncated.iter().filter(|t| **t).count();
                    let actions: Vec<u32> = (0..envs).map(|_| draws.integers(0, 2) as u32).collect();
                    want.step(Actions::Discrete(&actions)).unwrap();
                    got.step(Actions::Discrete(&actions)).unwrap();
                }
                assert!(fallen > 0 && cut > 0, "{fallen} {cut}");
            }
        }
    }

    #[test]
    fn what_is_no_action_and_no_batch_is_refused() {
        assert!(CartPoles::new(0, 500).is_err());
        let mut poles = CartPoles::new(2, 500).unwrap();
        assert!(poles.step(Actions::Discrete(&[0])).is_err());
        assert!(poles.step(Actions::Discrete(&[0, 2])).is_err());
        assert!(poles.step(Actions::Continuous(&[0.0, 1.0])).is_err());
        assert!(poles.reset(&[1]).is_err());
    }
}
