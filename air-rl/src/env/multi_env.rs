//! Environments of several agents that act at the same time.

use air_core::BoxError;

use crate::env::check::as_action;
use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Step};
use crate::error::{Result, RlError};

/// An environment in which several agents act in every step, each with an observation, an action and a reward of its own.
///
/// An agent's episode may end alone (its pole has fallen) or with the others' (the game is over); the environment says which.
/// Who ended is begun again in the same step, by [`reset`](Self::reset) with those agents marked.
pub trait MultiEnv: Send {
    /// How many agents, at least 1; the same for the life of the environment.
    fn agents(&self) -> usize;

    /// The number of an agent's team, from 0 and without gaps; unless said otherwise each agent is one of its own.
    fn team(&self, agent: usize) -> usize {
        agent
    }

    /// What an agent sees; the same for the life of the environment.
    fn observation_space(&self, agent: usize) -> Space;

    /// What an agent does; the same for the life of the environment.
    fn action_space(&self, agent: usize) -> Space;

    /// Begins an episode for each agent that is marked in `which`, and writes its first observation into its row of `obs`;
    /// the others' rows are left alone. All are marked the first time. Agents that end together are marked together.
    ///
    /// With a seed, everything random from here on follows from it. Without one, the stream of the last seed goes on.
    fn reset(&mut self, seed: Option<u64>, which: &[bool], obs: &mut [Vec<f32>]) -> Result<(), BoxError>;

    /// Takes one action of each agent; writes each one's observation after it, the last one of an episode too, and what the
    /// step brought.
    fn step(
        &mut self,
        actions: &[Action<'_>],
        obs: &mut [Vec<f32>],
        steps: &mut [Step],
    ) -> Result<(), BoxError>;
}

/// Steps that [`check_multi_env`] plays.
const STEPS: usize = 1000;

/// Plays random actions and checks what every algorithm here relies on, as [`check_env`](crate::check_env) does:
///
/// - there are agents, and their spaces are well-formed;
/// - every observation is written in full, finite and inside its agent's space; every reward is finite;
/// - two runs from one seed under the same actions are the same, to the bit.
pub fn check_multi_env(env: &mut dyn MultiEnv) -> Result<()> {
    if env.agents() == 0 {
        return broken("it has no agents".into());
    }
    for agent in 0..env.agents() {
        env.observation_space(agent).validate("observation space")?;
        env.action_space(agent).validate("action space")?;
    }
    let (first, second) = (play(env)?, play(env)?);
    match first.iter().zip(&second).position(|(a, b)| a != b) {
        Some(at) => broken(format!("two runs from one seed differ after {at} steps")),
        None => Ok(()),
    }
}

/// What a step brought to all agents: bits of observations and of rewards, and who ended.
type Seen = (Vec<u32>, Vec<u64>, Vec<bool>);

/// One seeded run, written down.
fn play(env: &mut dyn MultiEnv) -> Result<Vec<Seen>> {
    let agents = env.agents();
    let actions: Vec<Space> = (0..agents).map(|agent| env.action_space(agent)).collect();
    let observations: Vec<Space> = (0..agents).map(|agent| env.observation_space(agent)).collect();
    let failed = |verb| move |source| RlError::Env { env: 0, verb, source };
    let mut rng = NumpyRng::new(0);
    let mut rows: Vec<Vec<f32>> = actions.iter().map(|space| vec![0.0; space.row_len()]).collect();
    let unwritten: Vec<Vec<f32>> = observations.iter().map(|space| vec![f32::NAN; space.row_len()]).collect();
    let (mut obs, mut steps) = (unwritten.clone(), vec![Step::default(); agents]);
    env.reset(Some(7), &vec![true; agents], &mut obs).map_err(failed("reset"))?;
    let mut trace = Vec::with_capacity(STEPS);
    for at in 0..STEPS {
        for (agent, (row, space)) in obs.iter().zip(&observations).enumerate() {
            if !space.contains(row) {
                return broken(format!(
                    "observation {row:?} of agent {agent} is outside {space} at step {at}"
                ));
            }
        }
        for (row, space) in rows.iter_mut().zip(&actions) {
            space.sample(&mut rng, row);
        }
        let choices: Vec<Vec<u32>> = rows.iter().map(|row| row.iter().map(|&x| x as u32).collect()).collect();
        let taken: Vec<Action<'_>> =
            (0..agents).map(|i| as_action(&actions[i], &rows[i], &choices[i])).collect();
        obs.clone_from(&unwritten);
        env.step(&taken, &mut obs, &mut steps).map_err(failed("step"))?;
        for (agent, step) in steps.iter().enumerate() {
            if !step.reward.is_finite() {
                return broken(format!("reward {} of agent {agent} is not finite at step {at}", step.reward));
            }
        }
        let bits = obs.iter().flatten().map(|x| x.to_bits()).collect();
        let rewards = steps.iter().map(|step| step.reward.to_bits()).collect();
        let ended: Vec<bool> = steps.iter().map(Step::ended).collect();
        if ended.contains(&true) {
            let last = obs.clone();
            env.reset(None, &ended, &mut obs).map_err(failed("reset"))?;
            if let Some(agent) = (0..agents).find(|&agent| !ended[agent] && obs[agent] != last[agent]) {
                return broken(format!(
                    "a reset of others changed the observation of agent {agent} at step {at}"
                ));
            }
        }
        trace.push((bits, rewards, ended));
    }
    Ok(trace)
}

fn broken<T>(why: String) -> Result<T> {
    Err(RlError::Contract { why })
}
