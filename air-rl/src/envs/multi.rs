//! The environments of several agents that come with the crate, by name.

use super::{MultiCartPole, Pursuit, RockPaperScissors};
use crate::error::{Result, RlError};
use crate::play::multi_runner::MultiEnvSpec;

/// Their names, sorted.
pub const MULTI_ENVS: [&str; 3] = ["MultiCartPole", "Pursuit", "RockPaperScissors"];

/// The environment of several agents of that name: `MultiCartPole` has two poles, `Pursuit` two pursuers and two evaders, in
/// `RockPaperScissors` every win is worth 1.
pub fn multi_env(name: &str) -> Result<MultiEnvSpec> {
    match name {
        "MultiCartPole" => Ok(MultiEnvSpec::new(name, || MultiCartPole::new(2))),
        "Pursuit" => Ok(MultiEnvSpec::new(name, || Pursuit::new(2, 2))),
        "RockPaperScissors" => Ok(MultiEnvSpec::new(name, RockPaperScissors::default)),
        _ => Err(RlError::UnknownEnv { name: name.into(), known: MULTI_ENVS.map(String::from).to_vec() }),
    }
}
