//! What an observation of each environment looks like.

mod control;
mod grids;
mod pixels;

use air_core::BoxError;
use serde_json::{Map, Value};

use super::scene::Scene;
use crate::envs::{CorridorOptions, FrozenLake, FrozenLakeOptions};

/// The most cells of a world that is drawn.
const MOST_CELLS: usize = 4096;

/// Draws an observation, as the environment itself shows it.
pub(super) type Draw = Box<dyn Fn(&[f32]) -> Scene + Send>;

/// The environments that can be drawn.
pub(super) const DRAWN: &[&str] = &[
    "Acrobot-v1",
    "AirAsterix-v0",
    "AirBreakout-v0",
    "AirFreeway-v0",
    "AirLander-v0",
    "CartPole-v1",
    "CliffWalking-v1",
    "FrozenLake-v1",
    "FrozenLake8x8-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
    "SimpleCorridor",
    "Taxi-v3",
    "Taxi-v4",
];

/// How the observations of an environment are drawn, `None` if nobody knows; those of Gymnasium look like ours of the same name.
pub(super) fn of(name: &str, options: &Map<String, Value>) -> Result<Option<Draw>, BoxError> {
    let name = name.strip_prefix("gym:").unwrap_or(name);
    let draw: Draw = match name {
        "CartPole-v1" => Box::new(control::cartpole),
        "Pendulum-v1" => Box::new(control::pendulum),
        "MountainCar-v0" | "MountainCarContinuous-v0" => Box::new(control::mountain_car),
        "Acrobot-v1" => Box::new(control::acrobot),
        "AirLander-v0" => Box::new(control::lander),
        "FrozenLake-v1" | "FrozenLake8x8-v1" => {
            let options: FrozenLakeOptions = serde_json::from_value(Value::Object(options.clone()))?;
            let lake = FrozenLake::new(&options, if name == "FrozenLake-v1" { "4x4" } else { "8x8" })?;
            few(lake.map().0.len())?;
            Box::new(move |obs| grids::lake(lake.map(), obs))
        }
        "CliffWalking-v1" => Box::new(grids::cliff),
        "Taxi-v3" | "Taxi-v4" => Box::new(grids::taxi),
        "SimpleCorridor" => {
            let length = options.get("length").and_then(Value::as_u64);
            let length = length.unwrap_or_else(|| u64::from(CorridorOptions::default().length));
            let cells = usize::try_from(length.saturating_add(1)).unwrap_or(usize::MAX);
            few(cells)?;
            Box::new(move |obs| grids::corridor(cells, obs))
        }
        "AirBreakout-v0" => Box::new(|obs| pixels::planes(&pixels::BREAKOUT, obs)),
        "AirAsterix-v0" => Box::new(|obs| pixels::planes(&pixels::ASTERIX, obs)),
        "AirFreeway-v0" => Box::new(|obs| pixels::planes(&pixels::FREEWAY, obs)),
        _ => return Ok(None),
    };
    Ok(Some(draw))
}

fn few(cells: usize) -> Result<(), BoxError> {
    if cells <= MOST_CELLS {
        return Ok(());
    }
    Err(format!("a world of {cells} cells is not drawn, only of {MOST_CELLS} at most").into())
}

/// An item of an observation; 0 where there is none.
fn item(obs: &[f32], i: usize) -> f32 {
    obs.get(i).copied().unwrap_or(0.0)
}
