//! Learning from recorded episodes: BC, MARWIL, CQL and IQL on three seeds, and files that cannot be learned from.

use air_core::checkpoint::{CheckpointStore, Retention};
use air_core::storage::Storage;
use air_rl::envs::Registry;
use air_rl::rng::NumpyRng;
use air_rl::{
    Action, Algorithm as _, Bc, BcConfig, BcLearner, BoxError, CqlConfig, CqlLearner, Env, EnvSpec,
    IqlConfig, IqlLearner, MarwilConfig, MarwilLearner, OfflineLearner, OfflineTrainer, OwnedAction, Policy,
    Reason, RecordedEpisode, Space, Step, Stop, offline_data, record,
};

fn cartpole() -> EnvSpec {
    Registry::default().spec("CartPole-v1").unwrap()
}

/// Episodes of a rule that balances the pole, with some actions at random.
fn balanced(episodes: u64, random: f64, seed: u64) -> Vec<RecordedEpisode> {
    let mut rng = NumpyRng::new(seed);
    let rule = |obs: &[f32], _: &[bool]| {
        let lean = obs[2] + 0.3 * obs[3] + 0.02 * obs[0] + 0.04 * obs[1];
        let choice = if rng.random() < random { rng.integers(0, 2) as u32 } else { u32::from(lean > 0.0) };
        Ok(OwnedAction::Discrete(choice))
    };
    record(&cartpole(), episodes, seed, 500, rule).unwrap()
}

/// A third of the steps good, the rest of episodes that fall at once.
fn mixed() -> Vec<RecordedEpisode> {
    [balanced(6, 0.2, 1), balanced(200, 0.95, 2)].concat()
}

fn learns<L: OfflineLearner>(config: L::Config, episodes: &[RecordedEpisode], target: f64) {
    for seed in 1..=3 {
        let mut trainer = OfflineTrainer::<L>::new(config.clone(), cartpole(), episodes, seed).unwrap();
        let stop = Stop { iterations: Some(60), ..Stop::at_return(target) };
        let outcome = trainer.train_until(&stop).unwrap();
        assert_eq!(
            outcome.reason,
            Reason::MeanReturn,
            "{} seed {seed}: {:?}",
            L::NAME,
            outcome.last.mean_return
        );
    }
}

#[test]
fn cloning_an_expert_balances_the_pole() {
    learns::<BcLearner>(BcConfig::default(), &balanced(10, 0.0, 1), 475.0);
}

#[test]
fn marwil_finds_what_went_well_among_what_did_not() {
    learns::<MarwilLearner>(MarwilConfig { beta: 2.0, ..MarwilConfig::default() }, &mixed(), 475.0);
}

#[test]
fn cql_learns_from_episodes_that_often_fail() {
    learns::<CqlLearner>(CqlConfig { alpha: 0.5, ..CqlConfig::default() }, &balanced(60, 0.4, 3), 475.0);
}

#[test]
fn iql_learns_from_episodes_that_often_fail() {
    learns::<IqlLearner>(IqlConfig { tau: 0.01, ..IqlConfig::default() }, &balanced(60, 0.4, 3), 475.0);
}

/// Ten rounds of naming what is shown: 10 at best.
struct Name(NumpyRng, f64, u32);

impl Env for Name {
    fn observation_space(&self) -> Space {
        Space::bounded(&[-1.0], &[1.0])
    }

    fn action_space(&self) -> Space {
        Space::bounded(&[-2.0], &[2.0])
    }

    fn reset(&mut self, seed: Option<u64>, obs: &mut [f32]) -> Result<(), BoxError> {
        if let Some(seed) = seed {
            self.0 = NumpyRng::new(seed);
        }
        (self.1, self.2) = (self.0.uniform(-1.0, 1.0), 0);
        obs[0] = self.1 as f32;
        Ok(())
    }

    fn step(&mut self, action: Action<'_>, obs: &mut [f32]) -> Result<Step, BoxError> {
        let Action::Continuous(&[x]) = action else { return Err("not one real".into()) };
        let reward = 1.0 - (f64::from(x) - self.1).powi(2);
        self.1 = self.0.uniform(-1.0, 1.0);
        self.2 += 1;
        obs[0] = self.1 as f32;
        Ok(Step { reward, terminated: self.2 == 10, truncated: false })
    }
}

fn named() -> (EnvSpec, Vec<RecordedEpisode>) {
    let env = EnvSpec::new("Name", || Name(NumpyRng::new(0), 0.0, 0));
    let mut rng = NumpyRng::new(4);
    let rule = |obs: &[f32], _: &[bool]| {
        Ok(OwnedAction::Continuous(vec![(obs[0] + rng.uniform(-0.4, 0.4) as f32).clamp(-2.0, 2.0)]))
    };
    let episodes = record(&env, 100, 0, 100, rule).unwrap();
    (env, episodes)
}

#[test]
fn reals_are_imitated_without_their_noise() {
    let (env, episodes) = named();
    let recorded = episodes.iter().flat_map(|e| &e.rewards).sum::<f64>() / 100.0;
    assert!(recorded < 9.7, "{recorded}");
    let reached = |outcome: Reason| assert_eq!(outcome, Reason::MeanReturn);
    let stop = Stop { iterations: Some(30), ..Stop::at_return(9.95) };
    let mut bc = Bc::new(BcConfig::default(), env.clone(), &episodes, 1).unwrap();
    reached(bc.train_until(&stop).unwrap().reason);
    let config = IqlConfig { gamma: 0.5, ..IqlConfig::default() };
    let mut iql = OfflineTrainer::<IqlLearner>::new(config, env, &episodes, 1).unwrap();
    reached(iql.train_until(&stop).unwrap().reason);
}

fn repeats_and_comes_back<L: OfflineLearner>(config: L::Config) {
    let episodes = balanced(4, 0.3, 5);
    let run = || {
        let mut trainer = OfflineTrainer::<L>::new(config.clone(), cartpole(), &episodes, 7).unwrap();
        let last = trainer.train_until(&Stop::after_iterations(2)).unwrap().last;
        (trainer, format!("{:?} {}", last.mean_return, serde_json::to_string(&last.learner).unwrap()))
    };
    let (mut trainer, told) = run();
    assert_eq!(told, run().1, "{}", L::NAME);
    let dir = tempfile::tempdir().unwrap();
    let location = dir.path().to_str().unwrap();
    let store = CheckpointStore::open(Storage::open(location).unwrap(), Retention::default()).unwrap();
    trainer.save(&store).unwrap();
    let (trained, loaded) = (trainer.policy(), Policy::load(location).unwrap());
    for i in 0..50 {
        let obs = [0.0, 0.0, (i as f32).sin() * 0.1, (i as f32).cos()];
        assert_eq!(trained.act(&obs).unwrap(), loaded.act(&obs).unwrap());
    }
    // Gone on with, it learns what it would have without a break.
    let mut resumed = OfflineTrainer::<L>::load(location, cartpole(), &episodes).unwrap();
    let go_on = |trainer: &mut OfflineTrainer<L>| {
        let last = trainer.train_until(&Stop::after_iterations(2)).unwrap().last;
        assert_eq!(last.iteration, 4);
        format!("{} {:?} {}", last.steps, last.mean_return, serde_json::to_string(&last.learner).unwrap())
    };
    assert_eq!(go_on(&mut trainer), go_on(&mut resumed), "{}", L::NAME);
}

#[test]
fn runs_repeat_and_policies_come_back() {
    repeats_and_comes_back::<BcLearner>(BcConfig::default());
    repeats_and_comes_back::<MarwilLearner>(MarwilConfig::default());
    repeats_and_comes_back::<CqlLearner>(CqlConfig::default());
    repeats_and_comes_back::<IqlLearner>(IqlConfig::default());
}

#[test]
fn a_dataset_has_the_returns_and_the_ends_of_its_episodes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.jsonl");
    let lines = concat!(
        r#"{"obs": [[0.0], [1.0], [2.0]], "actions": [1, 1], "rewards": [1.0, 2.0], "terminated": true}"#,
        "\n\n",
        r#"{"obs": [[0.0], [1.0]], "actions": [0], "rewards": [4.0], "terminated": false}"#,
    );
    std::fs::write(&path, lines).unwrap();
    let episodes = offline_data::read(path.to_str().unwrap()).unwrap();
    let env = Registry::default().spec("SimpleCorridor").unwrap();
    let config = MarwilConfig { gamma: 0.5, ..MarwilConfig::default() };
    let trainer = OfflineTrainer::<MarwilLearner>::new(config, env, &episodes, 0).unwrap();
    let data = trainer.data();
    assert_eq!((data.len(), data.episodes, data.mean_return), (3, 2, 3.5));
    assert_eq!(data.returns, [2.0, 2.0, 4.0]);
    let t = &data.transitions;
    assert_eq!(
        (&t.obs[..], &t.reward[..], &t.discount[..]),
        (&[0.0, 1.0, 0.0][..], &[1.0, 2.0, 4.0][..], &[0.5, 0.0, 0.5][..])
    );
    assert_eq!((t.next_obs[0], t.next_obs[2], &t.action.choices[..]), (1.0, 1.0, &[1, 1, 0][..]));
    let mut written = Vec::new();
    offline_data::write(&mut written, &episodes).unwrap();
    std::fs::write(&path, written).unwrap();
    assert_eq!(offline_data::read(path.to_str().unwrap()).unwrap(), episodes);
}

#[test]
fn what_cannot_be_learned_from_is_named_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data.jsonl");
    let env = Registry::default().spec("SimpleCorridor").unwrap();
    let says = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let made = offline_data::read(path.to_str().unwrap())
            .and_then(|episodes| Bc::new(BcConfig::default(), env.clone(), &episodes, 0).map(|_| ()));
        made.unwrap_err().to_string()
    };
    let good = r#"{"obs": [[0], [1]], "actions": [1], "rewards": [0], "terminated": true}"#;
    let cases = [
        ("", "there is no step"),
        ("\n{", "line 2 of "),
        (
            r#"{"obs": [[0]], "actions": [1], "rewards": [0], "terminated": true}"#,
            "episode 1: has 1 observations and 1 rewards for 1 actions",
        ),
        (
            r#"{"obs": [[0], [1]], "actions": [2], "rewards": [0], "terminated": true}"#,
            "action 0 is [2.0], which is outside Discrete(2)",
        ),
        (
            r#"{"obs": [[0], [1, 2]], "actions": [1], "rewards": [0], "terminated": true}"#,
            "observation 1 is [1.0, 2.0]",
        ),
        (r#"{"obs": [[0], [1]], "actions": [0.5], "rewards": [0], "terminated": true}"#, "line 1 of "),
        (r#"{"obs": [[0], [1]], "actions": [1], "rewards": [0], "done": true}"#, "unknown field `done`"),
    ];
    for (text, expected) in cases {
        let said = says(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
    let second = says(&format!("{good}\n{}", good.replace("[1], \"rewards\"", "[7], \"rewards\"")));
    assert!(second.contains("episode 2: action 0"), "{second}");
    assert!(
        offline_data::read("/nowhere/at/all.jsonl")
            .unwrap_err()
            .to_string()
            .contains("/nowhere/at/all.jsonl")
    );
}
