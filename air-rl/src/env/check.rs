//! Does an environment keep its contract?

use crate::env::rng::NumpyRng;
use crate::env::space::Space;
use crate::env::{Action, Env};
use crate::error::{Result, RlError};

const STEPS: usize = 1000;

/// Plays random actions and checks what every algorithm here relies on; the error says what broke, and where:
///
/// - spaces are well-formed, and the same before and after;
/// - every observation is written in full, finite and inside its space; every reward is finite;
/// - two runs from one seed under the same actions are the same, to the bit.
///
/// What it need not do: refuse actions outside its space. A [`VecEnv`](crate::VecEnv) does.
pub fn check_env(env: &mut dyn Env) -> Result<()> {
    let (observations, actions) = (env.observation_space(), env.action_space());
    observations.validate("observation space")?;
    actions.validate("action space")?;

    let first = play(env, &observations, &actions)?;
    let second = play(env, &observations, &actions)?;
    if let Some(at) = first.iter().zip(&second).position(|(a, b)| a != b) {
        return broken(format!("two runs from one seed differ after {at} steps"));
    }
    if env.observation_space() != observations || env.action_space() != actions {
        return broken("its spaces changed while it ran".into());
    }
    Ok(())
}

/// Bits of an observation and a reward, and both flags.
type Seen = (Vec<u32>, u64, bool, bool);

/// One seeded run, written down.
fn play(env: &mut dyn Env, observations: &Space, actions: &Space) -> Result<Vec<Seen>> {
    let mut rng = NumpyRng::new(0);
    let mut action = vec![0.0; actions.row_len()];
    let mut trace = Vec::with_capacity(STEPS + 1);
    let mut seed = Some(7);
    let mut begin = true;
    for at in 0..STEPS {
        if begin {
            let obs = observe(observations, at, |obs| {
                env.reset(seed.take(), obs).map_err(|source| RlError::Env { env: 0, verb: "reset", source })
            })?;
            trace.push((obs.0, 0, false, false));
        }
        actions.sample(&mut rng, &mut action);
        let choices: Vec<u32> = action.iter().map(|&x| x as u32).collect();
        let (obs, step) = observe(observations, at, |obs| {
            env.step(as_action(actions, &action, &choices), obs).map_err(|source| RlError::Env {
                env: 0,
                verb: "step",
                source,
            })
        })?;
        if !step.reward.is_finite() {
            return Err(RlError::NotFinite { what: "reward", env: 0, step: at as u64 });
        }
        trace.push((obs, step.reward.to_bits(), step.terminated, step.truncated));
        begin = step.ended();
    }
    Ok(trace)
}

/// Calls `write` with a row of NaNs and checks what it left there.
fn observe<T>(
    space: &Space,
    at: usize,
    write: impl FnOnce(&mut [f32]) -> Result<T>,
) -> Result<(Vec<u32>, T)> {
    let mut obs = vec![f32::NAN; space.row_len()];
    let out = write(&mut obs)?;
    if let Some(i) = obs.iter().position(|x| !x.is_finite()) {
        return broken(format!(
            "item {i} of the observation after {at} steps is {} (or was not written)",
            obs[i]
        ));
    }
    if !space.contains(&obs) {
        return broken(format!("observation {obs:?} after {at} steps is outside {space}"));
    }
    Ok((obs.iter().map(|x| x.to_bits()).collect(), out))
}

pub(crate) fn as_action<'a>(space: &Space, row: &'a [f32], choices: &'a [u32]) -> Action<'a> {
    match space {
        Space::Discrete { .. } => Action::Discrete(choices[0]),
        Space::MultiDiscrete { .. } => Action::MultiDiscrete(choices),
        Space::Box { .. } => Action::Continuous(row),
    }
}

fn broken<T>(why: String) -> Result<T> {
    Err(RlError::Contract { why })
}
