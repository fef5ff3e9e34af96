//! `train external-ppo`: clients play.

use air_core::cli::CliError;

use super::setup::{Setup, environment, plan, settings};
use super::{Train, run_to_end, usage};
use crate::external::{ExternalPpo, ExternalPpoConfig};
use crate::train::algorithm::WINDOW;

pub(super) fn train(args: &Train) -> Result<(), CliError> {
    let Setup { data, env_set, .. } = &args.setup;
    let config: ExternalPpoConfig = settings(&args.setup)?;
    let alone = data.is_none() && env_set.is_empty() && plan(&args.setup)?.wrap.is_empty();
    if !alone || args.watching.seeds > 1 {
        return Err(CliError::usage(
            "--data, --env-set, --wrap and --seeds do not apply to external environments",
        ));
    }
    let name = &args.setup.env;
    let told = config.observation_space.clone().zip(config.action_space.clone());
    let (observations, actions) = if let Some(spaces) = told {
        spaces
    } else {
        let made = environment(&args.setup).and_then(|env| Ok(env.make(1)?));
        let envs = made.map_err(|error| match error {
            CliError::Usage(why) => CliError::usage(format!(
                "{why}; of one that is none of these, say what it shows and is given: --set \
                 'observation_space={{Box={{low=[-1,-1],high=[1,1],shape=[2]}}}}' --set 'action_space={{Discrete={{n=2}}}}'"
            )),
            other => other,
        })?;
        (envs.observation_space().clone(), envs.action_space().clone())
    };
    let trainer = ExternalPpo::new(config, name, observations, actions, args.seed).map_err(usage)?;
    eprintln!("clients are awaited at {}", trainer.address()?);
    run_to_end(args, trainer, WINDOW as u64)
}
