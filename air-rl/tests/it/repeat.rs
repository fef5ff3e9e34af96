//! One seed gives one result, whatever the number of runners; a checkpoint gives the same policy back.

use air_core::checkpoint::{CheckpointStore, Retention};
use air_core::storage::Storage;
use air_rl::checkpoint::Saved;
use air_rl::envs::Registry;
use air_rl::{Algorithm as _, EnvSpec, Learner as _, Policy, Ppo, PpoConfig, RlError};
use air_train::nn::Module as _;

fn cartpole() -> EnvSpec {
    Registry::default().spec("CartPole-v1").unwrap()
}

fn weights(ppo: &Ppo) -> Vec<u32> {
    let nets = [&ppo.learner().actor().net, ppo.learner().critic()];
    nets.iter().flat_map(|net| net.params().iter().map(|w| w.to_bits())).collect()
}

/// Everything an iteration says but the times.
fn train(ppo: &mut Ppo, iterations: usize) -> Vec<String> {
    (0..iterations)
        .map(|_| {
            let i = ppo.train().unwrap();
            format!(
                "{} {} {} {:?} {:?} {:?}",
                i.iteration, i.steps, i.episodes, i.mean_return, i.peak_return, i.learner
            )
        })
        .collect()
}

#[test]
fn results_do_not_depend_on_the_number_of_runners() {
    let run = |runners| {
        let config = PpoConfig { runners, ..PpoConfig::default() };
        let mut ppo = Ppo::new(config, cartpole(), 5).unwrap();
        (train(&mut ppo, 40), weights(&ppo))
    };
    let one = run(1);
    assert!(one == run(1), "two runs with one seed differ");
    for runners in [2, 3, 8] {
        assert!(one == run(runners), "{runners} runners differ from one");
    }
    let threads = PpoConfig { runners: 3, parallel: true, ..PpoConfig::default() };
    let mut ppo = Ppo::new(threads, cartpole(), 5).unwrap();
    assert!(one == (train(&mut ppo, 40), weights(&ppo)), "runners on threads differ from one without");
    let halves = PpoConfig { threads: 2, ..PpoConfig::default() };
    let mut ppo = Ppo::new(halves, cartpole(), 5).unwrap();
    assert!(one == (train(&mut ppo, 40), weights(&ppo)), "networks that learn at the same time differ");
    assert!(Ppo::new(PpoConfig { threads: 0, ..PpoConfig::default() }, cartpole(), 5).is_err());
    let mut other = Ppo::new(PpoConfig::default(), cartpole(), 6).unwrap();
    assert_ne!(train(&mut other, 40), one.0, "the seed has no effect");
}

fn saved(dir: &tempfile::TempDir, iterations: usize) -> (Ppo, String) {
    let mut ppo = Ppo::new(PpoConfig { hidden: vec![16], ..PpoConfig::default() }, cartpole(), 3).unwrap();
    train(&mut ppo, iterations);
    let dir = dir.path().to_str().unwrap();
    let store = CheckpointStore::open(Storage::open(dir).unwrap(), Retention::default()).unwrap();
    ppo.save(&store).unwrap();
    (ppo, dir.to_owned())
}

#[test]
fn a_loaded_policy_acts_as_the_one_in_training() {
    let dir = tempfile::tempdir().unwrap();
    let (ppo, location) = saved(&dir, 20);
    let (trained, loaded) = (ppo.policy(), Policy::load(&location).unwrap());
    let mut rng = air_rl::rng::NumpyRng::new(0);
    let mut chosen = [0, 0];
    for _ in 0..500 {
        let obs: Vec<f32> = (0..4).map(|_| rng.uniform(-0.3, 0.3) as f32).collect();
        let action = loaded.act(&obs).unwrap();
        assert_eq!(action, trained.act(&obs).unwrap());
        chosen[action.discrete().unwrap() as usize] += 1;
    }
    assert!(chosen[0] > 0 && chosen[1] > 0, "{chosen:?}");
    assert_eq!(loaded.observation_space(), trained.observation_space());
}

#[test]
fn a_resumed_run_has_the_weights_the_optimiser_and_repeats() {
    let dir = tempfile::tempdir().unwrap();
    let (ppo, location) = saved(&dir, 20);
    let resume = || Ppo::load(&location, cartpole()).unwrap();
    let mut first = resume();
    assert_eq!(weights(&first), weights(&ppo));
    assert_eq!((first.steps(), first.learner().iteration()), (ppo.steps(), 20));
    let mut second = resume();
    assert_eq!(train(&mut first, 10), train(&mut second, 10));
    assert_eq!(weights(&first), weights(&second));
    assert_ne!(weights(&first), weights(&ppo));
}

#[test]
fn checkpoints_that_do_not_fit_or_are_broken_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let (_, location) = saved(&dir, 1);
    let corridor = Registry::default().spec("SimpleCorridor").unwrap();
    let other = Ppo::load(&location, corridor.clone()).map(|_| ()).unwrap_err().to_string();
    assert!(
        other.starts_with(
            "observation space Box(0, 20, [1]) does not fit the policy, which was trained on Box("
        ),
        "{other}"
    );
    let play = Policy::load(&location).unwrap().evaluate(&corridor, 1, 0, 10).unwrap_err();
    assert!(matches!(play, RlError::Space { .. }), "{play}");
    let wrong_row = Policy::load(&location).unwrap().act(&[0.0; 3]).unwrap_err().to_string();
    assert_eq!(wrong_row, "observation has length 3, expected 4");
    assert!(
        Policy::load(&location)
            .unwrap()
            .act(&[f32::NAN; 4])
            .unwrap_err()
            .to_string()
            .contains("its item 0 is NaN, which is not finite")
    );

    let at = Saved::read(&location).unwrap().location();
    let name = at.trim_end_matches('/').rsplit('/').next().unwrap();
    let file = dir.path().join(name).join("actor.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(Policy::load(&location).is_err(), "a flipped bit went unnoticed");
    assert!(Policy::load(dir.path().join("nothing").to_str().unwrap()).is_err());
}
