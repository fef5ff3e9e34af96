//! DQN, SAC and TD3: they learn, repeat, and come back from checkpoints.

use air_core::checkpoint::{CheckpointStore, Retention};
use air_core::storage::Storage;
use air_rl::envs::SimpleCorridor;
use air_rl::{
    Algorithm as _, DqnConfig, DqnLearner, EnvSpec, Learner, SacConfig, SacLearner, Stop, Td3Config,
    Td3Learner, Trainer, presets,
};

use crate::promises::{
    allocates_nothing, comes_back, does_not_depend_on_runners, reaches_its_goal, spec, told,
};

#[test]
fn dqn_reaches_475_on_cartpole_on_three_seeds() {
    reaches_its_goal::<DqnLearner>("CartPole-v1");
}

/// Each of Rainbow's parts alone and all at once walk the corridor straight.
#[test]
fn every_part_of_rainbow_learns() {
    let plain = DqnConfig {
        double: false,
        n_step: 1,
        hidden: vec![32],
        batch: 32,
        updates: 4,
        learning_starts: 200,
        epsilon_end: 0.0,
        epsilon_steps: 4_000,
        v_min: -3.0,
        v_max: 1.0,
        ..DqnConfig::default()
    };
    let noisy = DqnConfig { noisy: true, epsilon_start: 0.0, ..plain.clone() };
    let variants = [
        ("plain", plain.clone()),
        ("double", DqnConfig { double: true, ..plain.clone() }),
        ("duelling", DqnConfig { duelling: true, ..plain.clone() }),
        ("n-step", DqnConfig { n_step: 3, ..plain.clone() }),
        ("prioritised", DqnConfig { prioritized: true, ..plain.clone() }),
        ("distributional", DqnConfig { atoms: 21, ..plain.clone() }),
        ("noisy", noisy.clone()),
        (
            "rainbow",
            DqnConfig { double: true, duelling: true, n_step: 3, prioritized: true, atoms: 21, ..noisy },
        ),
    ];
    let env = EnvSpec::new("corridor", || SimpleCorridor::new(5));
    for (name, config) in variants {
        let mut dqn = Trainer::<DqnLearner>::new(config, env.clone(), 1).unwrap();
        dqn.train_until(&Stop::at_return(0.55).or_steps(40_000)).unwrap();
        let played = dqn.policy().play(SimpleCorridor::new(5), 0, 100).unwrap();
        assert_eq!(played.length, 5, "{name}");
    }
}

fn small_dqn() -> DqnConfig {
    let (prioritized, noisy, atoms) = (true, true, 11);
    DqnConfig {
        envs: 6,
        learning_starts: 100,
        hidden: vec![16],
        prioritized,
        noisy,
        atoms,
        ..DqnConfig::default()
    }
}

fn small_sac() -> SacConfig {
    SacConfig { envs: 6, learning_starts: 50, hidden: vec![16], batch: 32, ..SacConfig::default() }
}

fn small_td3() -> Td3Config {
    Td3Config { envs: 6, learning_starts: 50, hidden: vec![16], batch: 32, ..Td3Config::default() }
}

#[test]
fn results_do_not_depend_on_the_number_of_runners_or_threads() {
    let c = small_dqn();
    let configs = [(1, false), (3, false), (2, true)].map(|(runners, parallel)| DqnConfig {
        runners,
        parallel,
        ..c.clone()
    });
    does_not_depend_on_runners::<DqnLearner>("CartPole-v1", configs);
    let c = small_sac();
    let configs = [(1, false), (3, false), (2, true)].map(|(runners, parallel)| SacConfig {
        runners,
        parallel,
        ..c.clone()
    });
    does_not_depend_on_runners::<SacLearner>("Pendulum-v1", configs);
    let c = small_td3();
    let configs = [(1, false), (3, false), (2, true)].map(|(runners, parallel)| Td3Config {
        runners,
        parallel,
        ..c.clone()
    });
    does_not_depend_on_runners::<Td3Learner>("Pendulum-v1", configs);
}

#[test]
fn policies_come_back_from_checkpoints_and_runs_go_on() {
    let rows = |d: usize| {
        (0..20).map(|i| (0..d).map(|j| ((i * 7 + j * 3) as f32).sin()).collect()).collect::<Vec<_>>()
    };
    comes_back::<DqnLearner>("CartPole-v1", small_dqn(), &rows(4));
    comes_back::<SacLearner>("Pendulum-v1", small_sac(), &rows(3));
    comes_back::<Td3Learner>("Pendulum-v1", small_td3(), &rows(3));
}

/// What a resumed run says of its first iteration: transitions held, and whether it learned from them.
fn resumes<L: Learner>(env: &str, config: L::Config) -> (u64, bool) {
    let dir = tempfile::tempdir().unwrap();
    let location = dir.path().to_str().unwrap();
    let mut trainer = Trainer::<L>::new(config, spec(env), 3).unwrap();
    trainer.train_until(&Stop::after_iterations(60)).unwrap();
    let store = CheckpointStore::open(Storage::open(location).unwrap(), Retention::default()).unwrap();
    trainer.save(&store).unwrap();
    let resume = || {
        let mut trainer = Trainer::<L>::load(location, spec(env)).unwrap();
        let stats = serde_json::to_value(trainer.train().unwrap().learner).unwrap();
        (told(&mut trainer, 40), stats)
    };
    let (first, stats) = resume();
    assert_eq!(first, resume().0);
    (stats["replay"].as_u64().unwrap(), stats["value"] != 0.0)
}

#[test]
fn replay_buffers_come_back_where_they_are_saved() {
    // 60 iterations of 6 steps, or of 48, and one more; three steps of each of 6 environments are not yet a transition.
    let dqn = |save_replay| DqnConfig { envs: 6, steps: 8, save_replay, ..small_dqn() };
    let (held, learned) = resumes::<DqnLearner>("CartPole-v1", dqn(true));
    assert!(learned && held > 60 * 48, "{held}");
    let (held, learned) = resumes::<DqnLearner>("CartPole-v1", dqn(false));
    assert!(!learned && held <= 48, "{held}");
    let sac = |save_replay| SacConfig { save_replay, ..small_sac() };
    assert_eq!(resumes::<SacLearner>("Pendulum-v1", sac(true)), (61 * 6, true));
    assert_eq!(resumes::<SacLearner>("Pendulum-v1", sac(false)), (6, false));
    let td3 = |save_replay| Td3Config { save_replay, ..small_td3() };
    assert_eq!(resumes::<Td3Learner>("Pendulum-v1", td3(true)), (61 * 6, true));
    assert_eq!(resumes::<Td3Learner>("Pendulum-v1", td3(false)), (6, false));
}

#[test]
fn a_warm_iteration_allocates_nothing() {
    allocates_nothing::<DqnLearner>("CartPole-v1", small_dqn());
    allocates_nothing::<SacLearner>("Pendulum-v1", small_sac());
    allocates_nothing::<Td3Learner>("Pendulum-v1", small_td3());
}

#[test]
fn every_preset_is_one_of_its_algorithms_settings() {
    for (algorithm, env) in presets::names() {
        spec(env);
        let loaded = match algorithm {
            "ppo" => presets::load::<air_rl::PpoConfig>(algorithm, env).map(|_| ()),
            "dqn" => presets::load::<DqnConfig>(algorithm, env).map(|_| ()),
            "sac" => presets::load::<SacConfig>(algorithm, env).map(|_| ()),
            "td3" => presets::load::<Td3Config>(algorithm, env).map(|_| ()),
            "appo" => presets::load::<air_rl::AppoConfig>(algorithm, env).map(|_| ()),
            "impala" => presets::load::<air_rl::ImpalaConfig>(algorithm, env).map(|_| ()),
            "pqn" => presets::load::<air_rl::PqnConfig>(algorithm, env).map(|_| ()),
            "recurrent-ppo" => presets::load::<air_rl::RecurrentPpoConfig>(algorithm, env).map(|_| ()),
            other => panic!("a preset of {other}"),
        };
        loaded.unwrap();
    }
    assert!(presets::find("ppo", "Nowhere-v0").unwrap().is_none());
}

/// In the preset's wrapper: the environment itself never cuts a walk off.
#[test]
fn dqn_reaches_its_goal_on_the_cliff_on_three_seeds() {
    reaches_its_goal::<DqnLearner>("CliffWalking-v1");
}

#[test]
fn sac_reaches_its_goal_on_pendulum_on_three_seeds() {
    reaches_its_goal::<SacLearner>("Pendulum-v1");
}

#[test]
fn td3_reaches_its_goal_on_pendulum_on_three_seeds() {
    reaches_its_goal::<Td3Learner>("Pendulum-v1");
}
