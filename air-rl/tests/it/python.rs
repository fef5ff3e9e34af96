//! Environments in Python: what they are given and give, and what happens when they break.
//!
//! The environments are `tests/fixtures/python/tiny_envs.py`, which needs nothing but a Python; one test needs Gymnasium.

use std::process::Command;

use air_rl::{Actions, Algorithm, Ppo, PpoConfig, PythonConfig, Registry, RlError, Space, Stop, VecEnv};
use air_train::nn::Module as _;
use serde_json::{Map, Value, json};

const TINY: &str = "py:tests.fixtures.python.tiny_envs";

fn spec(class: &str, kwargs: Value, config: PythonConfig) -> air_rl::EnvSpec {
    let Value::Object(kwargs) = kwargs else { panic!("{kwargs} is no object") };
    Registry::default().with_python(config).spec_with(&format!("{TINY}:{class}"), kwargs).unwrap()
}

fn make(class: &str, kwargs: Value, envs: usize) -> Box<dyn VecEnv> {
    spec(class, kwargs, PythonConfig::default()).make(envs).unwrap()
}

fn why(class: &str, kwargs: Value, config: PythonConfig) -> String {
    match spec(class, kwargs, config).make(1) {
        Ok(_) => panic!("{class} was made"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn rows_are_those_of_the_environments_and_ends_are_met_in_the_same_step() {
    for workers in [1, 2, 3] {
        let config = PythonConfig { workers, ..PythonConfig::default() };
        let mut envs = spec("Counter", json!({"length": 3, "limit": 2}), config).make(3).unwrap();
        assert_eq!(envs.observation_space(), &Space::bounded(&[0.0; 2], &[1000.0, f32::INFINITY]));
        assert_eq!(envs.action_space(), &Space::discrete(4));
        envs.reset(&[7, 12_000_000_000_000_000_008, 9]).unwrap();
        assert_eq!(envs.batch().obs, [7.0, 0.0, 8.0, 0.0, 9.0, 0.0]);

        envs.step(Actions::Discrete(&[0, 1, 3])).unwrap();
        let b = envs.batch();
        assert_eq!((&b.obs[..], &b.reward[..]), (&[7.0, 1.0, 8.0, 1.0, 9.0, 1.0][..], &[0.0, 1.0, 3.0][..]));
        assert_eq!((&b.terminated[..], &b.truncated[..]), (&[false; 3][..], &[false; 3][..]));

        envs.step(Actions::Discrete(&[2, 2, 2])).unwrap();
        let b = envs.batch();
        assert_eq!((&b.terminated[..], &b.truncated[..]), (&[false; 3][..], &[true; 3][..]));
        assert_eq!(b.final_obs, [7.0, 2.0, 8.0, 2.0, 9.0, 2.0]);
        assert_eq!(b.obs, [8.0, 0.0, 9.0, 0.0, 10.0, 0.0], "the next episodes have begun");

        envs.reset(&[1, 2, 3]).unwrap();
        let b = envs.batch();
        assert_eq!((&b.obs[..], b.final_row(0)), (&[1.0, 0.0, 2.0, 0.0, 3.0, 0.0][..], None));
    }
}

#[test]
fn an_end_in_the_task_is_not_one_by_the_clock() {
    let mut envs = make("Counter", json!({"length": 1}), 1);
    envs.reset(&[0]).unwrap();
    envs.step(Actions::Discrete(&[1])).unwrap();
    assert_eq!((envs.batch().terminated[0], envs.batch().truncated[0]), (true, false));
    assert_eq!(envs.batch().final_row(0), Some(&[0.0, 1.0][..]));
}

#[test]
fn actions_of_every_kind_arrive() {
    let mut envs = make("Echo", json!({"kind": "reals"}), 2);
    envs.reset(&[0, 0]).unwrap();
    envs.step(Actions::Continuous(&[0.5, -2.0, -1.0, 1.25])).unwrap();
    assert_eq!(envs.batch().obs, [0.5, -2.0, -1.0, 1.25]);

    let mut envs = make("Echo", json!({"kind": "choices"}), 2);
    assert_eq!(envs.action_space(), &Space::multi_discrete(&[3, 5]));
    envs.reset(&[0, 0]).unwrap();
    envs.step(Actions::MultiDiscrete(&[2, 4, 0, 3])).unwrap();
    assert_eq!(envs.batch().obs, [2.0, 4.0, 0.0, 3.0]);
    assert!(matches!(
        envs.step(Actions::MultiDiscrete(&[2, 4, 3, 3])),
        Err(RlError::ActionOutOfRange { env: 1, .. })
    ));
    assert!(
        envs.step(Actions::Discrete(&[0, 0])).is_err() && envs.step(Actions::MultiDiscrete(&[0])).is_err()
    );
}

#[test]
fn choices_that_do_not_count_from_zero_do_so_here_and_masks_come_along() {
    let mut envs = make("Echo", json!({"kind": "choice", "start": -1}), 2);
    assert_eq!(envs.observation_space(), &Space::discrete(3));
    envs.reset(&[0, 0]).unwrap();
    let b = envs.batch();
    assert_eq!((&b.obs[..], &b.mask[..]), (&[0.0, 0.0][..], &[false, true, true, false, true, true][..]));
    envs.step(Actions::Discrete(&[1, 2])).unwrap();
    let b = envs.batch();
    assert_eq!((&b.obs[..], &b.mask[..]), (&[1.0, 2.0][..], &[true, false, true, true, true, false][..]));
}

/// Steps four environments on two workers; the one seeded 11 breaks at its second step.
fn broken(fail: &str, step_seconds: f64) -> Box<dyn VecEnv> {
    let config = PythonConfig { workers: 2, step_seconds, ..PythonConfig::default() };
    let kwargs = json!({"length": 5, "fail": fail, "seed": 11});
    let mut envs = spec("Counter", kwargs, config).make(4).unwrap();
    envs.reset(&[10, 11, 12, 13]).unwrap();
    envs.step(Actions::Discrete(&[3; 4])).unwrap();
    envs.step(Actions::Discrete(&[3; 4])).unwrap();
    envs
}

/// The worker of the first two was replaced; the other has noticed nothing.
fn replaced(mut envs: Box<dyn VecEnv>) {
    let b = envs.batch();
    assert_eq!(b.reward, [0.0, 0.0, 3.0, 3.0]);
    assert_eq!((&b.terminated[..], &b.truncated[..]), (&[false; 4][..], &[true, true, false, false][..]));
    assert_eq!(b.final_row(0), Some(&[10.0, 1.0][..]), "what was acted on");
    assert_eq!(b.final_row(1), Some(&[11.0, 1.0][..]));
    assert_eq!((b.obs[1], b.obs[3]), (0.0, 0.0), "fresh episodes");
    assert_eq!(b.obs[4..], [12.0, 2.0, 13.0, 2.0]);
    // It goes on, past where it broke.
    for at in 1..=3 {
        envs.step(Actions::Discrete(&[1; 4])).unwrap();
        assert_eq!((envs.batch().obs[1], envs.batch().obs[3]), (at as f32, at as f32));
    }
    assert_eq!(envs.batch().final_row(2), Some(&[12.0, 5.0][..]));
}

#[test]
fn a_worker_that_crashes_is_replaced_and_its_episodes_are_cut_off() {
    replaced(broken("exit", 60.0));
}

#[test]
fn a_worker_that_hangs_is_killed_and_replaced_and_its_episodes_are_cut_off() {
    replaced(broken("sleep", 5.0));
}

#[test]
fn an_environment_that_raises_is_replaced_alone() {
    let mut envs = broken("raise", 60.0);
    let b = envs.batch();
    assert_eq!(b.reward, [3.0, 0.0, 3.0, 3.0]);
    assert_eq!((&b.terminated[..], &b.truncated[..]), (&[false; 4][..], &[false, true, false, false][..]));
    assert_eq!(b.final_row(1), Some(&[11.0, 1.0][..]));
    assert_eq!(b.obs, [10.0, 2.0, 12.0, 0.0, 12.0, 2.0, 13.0, 2.0]);
    envs.step(Actions::Discrete(&[0; 4])).unwrap();
    assert_eq!(envs.batch().obs, [10.0, 3.0, 12.0, 1.0, 12.0, 3.0, 13.0, 3.0]);
}

#[test]
fn what_breaks_again_and_again_ends_the_run_with_its_own_words() {
    // Every seed of the first episode breaks: the seed that is asked for is the one after each loss.
    let config = PythonConfig { losses: 2, ..PythonConfig::default() };
    let mut envs = spec("Short", json!({}), config).make(1).unwrap();
    let error = envs.reset(&[0]).unwrap_err().to_string();
    assert!(error.contains("was lost more than 2 times within 1000 steps, lastly: "), "{error}");
    assert!(error.contains("an observation of 1 items; its space has 2"), "{error}");
}

#[test]
fn what_cannot_be_made_says_why() {
    let default = PythonConfig::default;
    let says = [
        (why("Nothing", json!({}), default()), "has no attribute 'Nothing'"),
        (why("Counter", json!({"lenght": 3}), default()), "unexpected keyword argument 'lenght'"),
        (why("Unusable", json!({}), default()), "cannot use the space Text(5)"),
        (
            why("Counter", json!({}), PythonConfig { program: Some("/nowhere/python".into()), ..default() }),
            "there is no such program",
        ),
    ];
    for (error, expected) in says {
        assert!(error.contains(expected) && error.contains(TINY), "{error}");
    }
    let silent = PythonConfig { program: Some("sleep".into()), ..default() };
    let error = why("Counter", json!({}), silent);
    assert!(error.contains("its process ended (exit status: 1)"), "{error}");
    for name in ["gym:", "py:module", "py::Class", "py:module:"] {
        let error = Registry::default().spec(name).unwrap_err().to_string();
        assert!(error.contains("is not gym:NAME or py:MODULE:CLASS"), "{error}");
    }
    let config = PythonConfig { workers: 0, ..default() };
    let error = Registry::default().with_python(config).spec("gym:CartPole-v1").unwrap_err();
    assert_eq!(error.to_string(), "invalid config: workers must be between 1 and 1024");
}

#[test]
fn an_algorithm_learns_in_python_what_it_learns_here() {
    let config = PpoConfig { envs: 4, lambda: 1.0, ..PpoConfig::default() };
    let train = |env| {
        let mut ppo = Ppo::new(config.clone(), env, 1).unwrap();
        let last = ppo.train_until(&Stop::after_iterations(4)).unwrap().last;
        (last.mean_return, ppo.policy().actor().params().to_vec())
    };
    let options = Map::from_iter([("length".to_owned(), json!(10))]);
    let native = train(Registry::default().spec_with("SimpleCorridor", options).unwrap());
    for workers in [1, 2] {
        let config = PythonConfig { workers, ..PythonConfig::default() };
        assert_eq!(train(spec("Corridor", json!({"length": 10}), config)), native);
    }
}

/// Of the virtual environment in `$AIR_PYTHON`, where there is one.
#[test]
fn gymnasium_itself_steps_as_ours() {
    let python = std::env::var("AIR_PYTHON").unwrap_or_else(|_| "python3".into());
    let imports = Command::new(&python).args(["-c", "import gymnasium"]).output();
    if !imports.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} has no gymnasium; name one that has in $AIR_PYTHON");
        return;
    }
    for name in ["CartPole-v1", "Pendulum-v1", "Taxi-v4"] {
        let registry = Registry::default();
        let (mut theirs, mut ours) = (
            registry.spec(&format!("gym:{name}")).unwrap().make(4).unwrap(),
            registry.spec(name).unwrap().make(4).unwrap(),
        );
        assert_eq!(theirs.observation_space(), ours.observation_space());
        assert_eq!(theirs.action_space(), ours.action_space());
        theirs.reset(&[1, 2, 3, 4]).unwrap();
        ours.reset(&[1, 2, 3, 4]).unwrap();
        for at in 0..300_u32 {
            let (choices, reals): (Vec<u32>, Vec<f32>) =
                (0..4).map(|i| ((at * 7 + i * 3) % 5 % 2, (at as f32 * 0.3 + i as f32).sin())).unzip();
            for envs in [&mut theirs, &mut ours] {
                let actions = if name == "Pendulum-v1" {
                    Actions::Continuous(&reals)
                } else {
                    Actions::Discrete(&choices)
                };
                envs.step(actions).unwrap();
            }
            let (a, b) = (theirs.batch(), ours.batch());
            assert_eq!((&a.obs, &a.reward), (&b.obs, &b.reward), "{name} at {at}");
            assert_eq!((&a.terminated, &a.truncated), (&b.terminated, &b.truncated), "{name} at {at}");
        }
    }
}
