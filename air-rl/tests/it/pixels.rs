//! Games on pixels through convolutions: they are learned, saved, and refused where there is no image.

use air_core::checkpoint::{CheckpointStore, Retention};
use air_core::storage::Storage;
use air_rl::envs::Registry;
use air_rl::{
    Algorithm, Dqn, DqnConfig, EnvSpec, OwnedAction, Policy, Ppo, PpoConfig, Pqn, PqnConfig, Reason, Stop,
    presets,
};
use air_train::nn::Module as _;
use serde_json::{Map, json};

fn breakout() -> EnvSpec {
    Registry::default().spec("AirBreakout-v0").unwrap()
}

#[test]
fn breakout_is_learned_on_three_seeds() {
    let (config, goal) = presets::load::<PpoConfig>("ppo", "AirBreakout-v0").unwrap();
    assert!(!config.conv.is_empty());
    for seed in 1..=3 {
        let mut ppo = Ppo::new(config.clone(), breakout(), seed).unwrap();
        let outcome = ppo.train_until(&Stop::at_return(goal.mean_return).or_steps(goal.steps)).unwrap();
        assert_eq!(outcome.reason, Reason::MeanReturn, "seed {seed}: {:?}", outcome.last);
        let played = ppo.policy().evaluate(&breakout(), 20, seed, 2500).unwrap();
        let mean = played.iter().map(|p| p.total).sum::<f64>() / 20.0;
        assert!(mean > 0.8 * goal.mean_return, "seed {seed}: the policy without exploration has {mean}");
    }
}

/// What is learned by two iterations more, after saving and in a run that goes on from there.
fn comes_back<A: Algorithm>(mut trainer: A, load: impl Fn(&str) -> A) {
    let dir = tempfile::tempdir().unwrap();
    let location = dir.path().to_str().unwrap();
    let store = CheckpointStore::open(Storage::open(location).unwrap(), Retention::default()).unwrap();
    trainer.train_until(&Stop::after_iterations(3)).unwrap();
    trainer.save(&store).unwrap();
    let weights = |trainer: &A| trainer.policy().actor().params().to_vec();
    let (policy, loaded) = (Policy::load(location).unwrap(), load(location));
    assert_eq!(policy.actor().config(), trainer.policy().actor().config());
    assert_eq!(weights(&loaded), weights(&trainer));
    let obs: Vec<f32> = (0..400).map(|i| f32::from(u8::from(i % 7 == 0))).collect();
    assert_eq!(policy.act(&obs).unwrap(), trainer.policy().act(&obs).unwrap());
    assert!(matches!(policy.act(&obs).unwrap(), OwnedAction::Discrete(0..3)));
}

#[test]
fn policies_with_convolutions_come_back_from_their_checkpoints() {
    let (conv, hidden) = (vec![[6, 3, 1], [8, 2, 2]], vec![16]);
    let ppo = PpoConfig {
        conv: conv.clone(),
        hidden: hidden.clone(),
        normalize_observations: true,
        ..PpoConfig::default()
    };
    comes_back(Ppo::new(ppo, breakout(), 1).unwrap(), |at| Ppo::load(at, breakout()).unwrap());
    let dqn = DqnConfig {
        conv: conv.clone(),
        hidden: hidden.clone(),
        learning_starts: 32,
        batch: 16,
        noisy: true,
        duelling: true,
        ..DqnConfig::default()
    };
    comes_back(Dqn::new(dqn, breakout(), 1).unwrap(), |at| Dqn::load(at, breakout()).unwrap());
    let pqn = PqnConfig { conv, hidden, ..PqnConfig::default() };
    comes_back(Pqn::new(pqn, breakout(), 1).unwrap(), |at| Pqn::load(at, breakout()).unwrap());
}

#[test]
fn a_warm_iteration_allocates_nothing_with_convolutions_either() {
    let config = PpoConfig { conv: vec![[6, 3, 1]], hidden: vec![16], ..PpoConfig::default() };
    let mut ppo = Ppo::new(config, breakout(), 1).unwrap();
    ppo.train_until(&Stop::after_iterations(10)).unwrap();
    let counted = allocation_counter::measure(|| {
        ppo.train_until(&Stop::after_iterations(3)).unwrap();
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn stacked_frames_are_planes_and_what_is_no_image_is_refused() {
    let conv = vec![[4, 3, 1]];
    let config = PpoConfig { conv, ..PpoConfig::default() };
    let options = Map::from_iter([("wrap".to_owned(), json!(["frame_stack=2"]))]);
    let stacked = Registry::default().spec_with("AirBreakout-v0", options).unwrap();
    let mut ppo = Ppo::new(config.clone(), stacked, 1).unwrap();
    ppo.train().unwrap();
    assert_eq!(ppo.policy().actor().config().image, Some([8, 10, 10]));

    let why = |config: PpoConfig, env: &str| {
        let error = Ppo::new(config, Registry::default().spec(env).unwrap(), 1).map(|_| ()).unwrap_err();
        let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
        format!("{error}{}", source.unwrap_or_default())
    };
    assert!(
        why(config, "CartPole-v1")
            .contains("is not of images (planes, rows, columns), which convolutions need")
    );
    let large = PpoConfig { conv: vec![[4, 11, 1]], ..PpoConfig::default() };
    assert_eq!(
        why(large, "AirBreakout-v0"),
        "network: conv: the kernel of number 0 is larger than its image of 10 × 10"
    );
    let none = PpoConfig { conv: vec![[4, 0, 1]], ..PpoConfig::default() };
    assert!(why(none, "AirBreakout-v0").contains("must be a list of [filters, kernel, stride]"));
}
