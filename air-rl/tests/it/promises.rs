//! What every algorithm that plays promises, to be asked of each.

use air_core::checkpoint::{CheckpointStore, Retention};
use air_core::storage::Storage;
use air_rl::envs::Registry;
use air_rl::{Algorithm as _, EnvSpec, Learner, Policy, Reason, Stop, Trainer, presets};

/// An environment of the registry.
pub fn spec(env: &str) -> EnvSpec {
    Registry::default().spec(env).unwrap()
}

/// The preset of an algorithm on an environment reaches its goal on three seeds.
pub fn reaches_its_goal<L: Learner>(env: &str) {
    reaches_its_goal_with::<L>(env, |config| config);
}

/// The same, with some settings changed.
pub fn reaches_its_goal_with<L: Learner>(env: &str, change: impl Fn(L::Config) -> L::Config) {
    let (config, goal) = presets::load::<L::Config>(L::NAME, env).unwrap();
    let config = change(config);
    let wrapped = presets::find(L::NAME, env).unwrap().unwrap().env(&Registry::default(), env).unwrap();
    for seed in 1..=3 {
        let mut trainer = Trainer::<L>::new(config.clone(), wrapped.clone(), seed).unwrap();
        let stop = Stop::at_return(goal.mean_return).or_steps(goal.steps);
        let outcome = trainer.train_until(&stop).unwrap();
        assert_eq!(outcome.reason, Reason::MeanReturn, "seed {seed}: {:?}", outcome.last.mean_return);
        let played = trainer.policy().evaluate(&wrapped, 20, seed, 1000).unwrap();
        let mean = played.iter().map(|p| p.total).sum::<f64>() / 20.0;
        // What it does without exploring is no worse, but for the luck of 20 first states.
        let slack = 0.1 * goal.mean_return.abs();
        assert!(mean >= goal.mean_return - slack, "seed {seed}: the policy without exploration has {mean}");
    }
}

/// What a run says of itself but the times.
pub fn told<L: Learner>(trainer: &mut Trainer<L>, iterations: u64) -> String {
    let last = trainer.train_until(&Stop::after_iterations(iterations)).unwrap().last;
    format!(
        "{} {} {:?} {}",
        last.steps,
        last.episodes,
        last.mean_return,
        serde_json::to_string(&last.learner).unwrap()
    )
}

/// One, three runners and two on threads give the same.
pub fn does_not_depend_on_runners<L: Learner>(env: &str, configs: [L::Config; 3]) {
    let [one, three, threads] =
        configs.map(|config| told(&mut Trainer::<L>::new(config, spec(env), 5).unwrap(), 60));
    assert_eq!(one, three);
    assert_eq!(one, threads);
    assert!(!one.contains("null") || env == "Pendulum-v1", "{one}");
}

/// A policy acts as it did in training, and a run goes on from its checkpoint, the same each time.
pub fn comes_back<L: Learner>(env: &str, config: L::Config, observations: &[Vec<f32>]) {
    let dir = tempfile::tempdir().unwrap();
    let location = dir.path().to_str().unwrap();
    let mut trainer = Trainer::<L>::new(config, spec(env), 3).unwrap();
    told(&mut trainer, 40);
    let store = CheckpointStore::open(Storage::open(location).unwrap(), Retention::default()).unwrap();
    trainer.save(&store).unwrap();
    let (trained, loaded) = (trainer.policy(), Policy::load(location).unwrap());
    for obs in observations {
        assert_eq!(trained.act(obs).unwrap(), loaded.act(obs).unwrap());
        assert_eq!(trained.head(), loaded.head());
    }
    let resume = || told(&mut Trainer::<L>::load(location, spec(env)).unwrap(), 40);
    assert_eq!(resume(), resume());
}

/// A warm iteration allocates nothing: from the first update on; before it, buffers grow into what they need.
pub fn allocates_nothing<L: Learner>(env: &str, config: L::Config) {
    let mut trainer = Trainer::<L>::new(config, spec(env), 1).unwrap();
    trainer.train_until(&Stop::after_iterations(1200)).unwrap();
    let counted = allocation_counter::measure(|| {
        trainer.train_until(&Stop::after_iterations(100)).unwrap();
    });
    assert_eq!(counted.count_total, 0, "{}", L::NAME);
}
