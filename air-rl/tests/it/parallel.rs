//! Environments of several agents in Python: PettingZoo's parallel interface.
//!
//! The environments are `tests/fixtures/python/tiny_parallel.py`, which needs nothing but a Python and, in one test, NumPy; one test needs PettingZoo.

use std::process::Command;

use air_rl::{
    Action, Algorithm as _, MultiEnv, MultiEnvSpec, MultiPpo, MultiPpoConfig, Policies, PpoConfig,
    PythonConfig, Registry, Space, Step, Stop, check_multi_env,
};
use serde_json::{Map, Value, json};

const TINY: &str = "py:tests.fixtures.python.tiny_parallel";

fn spec(class: &str, kwargs: Value, config: PythonConfig) -> MultiEnvSpec {
    let Value::Object(kwargs) = kwargs else { panic!("{kwargs} is no object") };
    Registry::default().with_python(config).multi_spec_with(&format!("{TINY}:{class}"), kwargs).unwrap()
}

fn make(class: &str, kwargs: Value) -> Box<dyn MultiEnv> {
    spec(class, kwargs, PythonConfig::default()).make().unwrap()
}

/// What all agents have before them.
struct Table {
    env: Box<dyn MultiEnv>,
    obs: Vec<Vec<f32>>,
    steps: Vec<Step>,
}

impl Table {
    fn new(env: Box<dyn MultiEnv>) -> Self {
        let obs = (0..env.agents()).map(|agent| vec![9.0; env.observation_space(agent).row_len()]).collect();
        Self { steps: vec![Step::default(); env.agents()], obs, env }
    }

    fn reset(&mut self, seed: Option<u64>) {
        self.env.reset(seed, &vec![true; self.obs.len()], &mut self.obs).unwrap();
    }

    /// Everyone of [`Relay`](tiny_parallel.py) acts.
    fn step(&mut self) {
        let actions = [Action::Discrete(1), Action::MultiDiscrete(&[1, 8]), Action::Continuous(&[-0.5, 4.0])];
        self.env.step(&actions, &mut self.obs, &mut self.steps).unwrap();
    }

    fn ends(&self) -> Vec<(bool, bool)> {
        self.steps.iter().map(|step| (step.terminated, step.truncated)).collect()
    }
}

#[test]
fn agents_have_their_own_spaces_and_end_together() {
    let mut table = Table::new(make("Relay", json!({})));
    assert_eq!((0..3).map(|agent| table.env.team(agent)).collect::<Vec<_>>(), [0, 0, 1]);
    assert_eq!(table.env.observation_space(0), Space::bounded(&[0.0; 4], &[1000.0; 4]));
    assert_eq!(table.env.observation_space(2), Space::bounded(&[0.0; 3], &[1000.0; 3]));
    assert_eq!(table.env.action_space(0), Space::discrete(3));
    assert_eq!(table.env.action_space(1), Space::multi_discrete(&[2, 9]));
    assert_eq!(table.env.action_space(2), Space::bounded(&[-1.0, 0.0], &[1.0, 5.0]));

    table.reset(Some(5));
    assert_eq!(table.obs, [vec![5.0, 0.0, 0.0, 0.0], vec![5.0, 0.0, 0.0, 0.0], vec![5.0, 0.0, 0.0]]);
    table.step();
    // The first one's choices begin at 1 there.
    assert_eq!(table.obs, [vec![5.0, 1.0, 2.0, 2.0], vec![5.0, 1.0, 1.0, 8.0], vec![5.0, 1.0, 4.0]]);
    assert_eq!(table.steps.iter().map(|step| step.reward).collect::<Vec<_>>(), [2.0, 9.0, 3.5]);
    table.step();
    assert_eq!(table.ends(), [(false, false); 3], "the blue one is done, but not alone");
    assert_eq!(table.obs[2], [5.0, 2.0, 4.0]);
    table.step();
    assert_eq!((&table.obs[2][..], table.steps[2].reward), (&[0.0; 3][..], 0.0), "it sees and earns nothing");
    assert_eq!(table.obs[0][1], 3.0);
    table.step();
    assert_eq!(table.ends(), [(false, true), (false, true), (true, false)]);

    // Without a seed the environment's own stream goes on, with one it begins there.
    table.reset(None);
    assert_eq!(table.obs[0][..2], [6.0, 0.0]);
    table.reset(Some(3));
    assert_eq!(table.obs[2][..2], [3.0, 0.0]);
}

#[test]
fn the_contract_holds_and_arrays_of_numpy_do_too() {
    check_multi_env(&mut *make("Relay", json!({"length": 30, "early": 11}))).unwrap();
    if Command::new("python3").args(["-c", "import numpy"]).output().is_ok_and(|o| o.status.success()) {
        check_multi_env(&mut *make("Meeting", json!({}))).unwrap();
    }
}

#[test]
fn a_lost_environment_is_replaced_and_its_episodes_are_cut_off() {
    for (fail, step_seconds) in [("raise", 60.0), ("exit", 60.0), ("sleep", 5.0)] {
        let config = PythonConfig { step_seconds, ..PythonConfig::default() };
        let mut table = Table::new(spec("Relay", json!({"fail": fail}), config).make().unwrap());
        table.reset(Some(7));
        table.step();
        let before = table.obs.clone();
        table.step();
        assert_eq!(table.ends(), [(false, true); 3], "{fail}");
        assert_eq!(table.obs, before, "{fail}: what was acted on is the last that is seen");
        assert!(table.steps.iter().all(|step| step.reward == 0.0));
        table.reset(None);
        assert_eq!(table.obs[0][1], 0.0);
        for _ in 0..4 {
            table.step();
        }
        assert_eq!(table.ends(), [(false, true), (false, true), (true, false)], "{fail}");
    }
}

#[test]
fn one_that_always_breaks_fails_with_its_words() {
    let mut table = Table::new(
        spec("Relay", json!({"fail": "raise"}), PythonConfig { losses: 1, ..PythonConfig::default() })
            .make()
            .unwrap(),
    );
    let mut last = Ok(());
    for _ in 0..3 {
        table.reset(Some(7));
        table.step();
        let actions = [Action::Discrete(1), Action::MultiDiscrete(&[1, 8]), Action::Continuous(&[-0.5, 4.0])];
        last = table.env.step(&actions, &mut table.obs, &mut table.steps);
        if last.is_err() {
            break;
        }
    }
    let error = last.unwrap_err().to_string();
    assert!(error.contains("was lost more than 1 times") && error.contains("the relay is broken"), "{error}");
}

#[test]
fn what_cannot_be_made_is_said() {
    let why = |env: &str| {
        let made =
            Registry::default().multi_spec_with(env, Map::new()).and_then(|spec| spec.make().map(|_| ()));
        made.unwrap_err().to_string()
    };
    assert!(why(&format!("{TINY}:unusable")).contains("cannot use the space Text(5)"));
    assert!(why("pettingzoo:no_such_game_v9").contains("no_such_game_v9"));
    assert!(why("Chess").contains("known: MultiCartPole, Pursuit, RockPaperScissors"));
    assert!(why("py:alone").contains("is not pettingzoo:NAME or py:MODULE:FUNCTION"));

    let mut table = Table::new(make("Uneven", json!({})));
    let error = table.env.reset(Some(1), &[true; 3], &mut table.obs).unwrap_err().to_string();
    assert!(error.contains("an observation of 1 items for red_0; its space has 4"), "{error}");
    let mut table = Table::new(make("Relay", json!({})));
    table.reset(Some(1));
    let error = table.env.reset(None, &[true, false, true], &mut table.obs).unwrap_err().to_string();
    assert_eq!(error, "the agents of an environment in Python begin together");
}

#[test]
fn policies_learn_in_it_and_teams_need_the_same_spaces() {
    let ppo = PpoConfig { envs: 2, steps: 64, hidden: vec![16], lr: 1e-2, ..PpoConfig::default() };
    let config = MultiPpoConfig { policies: Policies::Independent, ppo, ..MultiPpoConfig::default() };
    let env = spec("Relay", json!({"length": 8, "early": 3}), PythonConfig::default());
    let mut trainer = MultiPpo::new(config.clone(), env.clone(), 1).unwrap();
    let first = trainer.train().unwrap().learner.policies[1].mean_return.unwrap();
    let last = trainer.train_until(&Stop::after_iterations(40)).unwrap().last.learner.policies[1]
        .mean_return
        .unwrap();
    // The second one's best is 9 a step, what comes by chance 4.5.
    assert!(last > first + 8.0 && last > 55.0, "{first} {last}");

    let teams = MultiPpoConfig { policies: Policies::Teams, ..config };
    let error = MultiPpo::new(teams, env, 1).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("differs between agents"), "{error}");
}

/// Of the virtual environment in `$AIR_PYTHON`, where there is one.
#[test]
fn pettingzoo_itself_is_played() {
    let python = std::env::var("AIR_PYTHON").unwrap_or_else(|_| "python3".into());
    let imports = Command::new(&python).args(["-c", "import pettingzoo.butterfly.pistonball_v6"]).output();
    if !imports.is_ok_and(|output| output.status.success()) {
        println!("skipped: {python} has no pettingzoo[butterfly]; name one that has in $AIR_PYTHON");
        return;
    }
    let options = Map::from_iter([("n_pistons".to_owned(), json!(8)), ("max_cycles".to_owned(), json!(5))]);
    let spec = Registry::default().multi_spec_with("pettingzoo:pistonball_v6", options).unwrap();
    let mut table = Table::new(spec.make().unwrap());
    assert_eq!(table.env.agents(), 8);
    let Space::Box { shape, .. } = table.env.observation_space(0) else { panic!("no images") };
    assert_eq!(shape, [457, 120, 3]);
    assert_eq!(table.env.action_space(7), Space::bounded(&[-1.0], &[1.0]));
    // Without a window it draws nothing but its beginning, so what a step does shows in the rewards.
    let mut play = |seed, up: f32| {
        table.reset(Some(seed));
        assert!(table.obs.iter().flatten().all(|x| (0.0..=255.0).contains(x)));
        assert!(table.obs[0].iter().any(|x| *x != table.obs[0][0]));
        let mut rewards = Vec::new();
        for at in 1..=5 {
            table.env.step(&[Action::Continuous(&[up]); 8], &mut table.obs, &mut table.steps).unwrap();
            assert!(table.steps.iter().all(|step| step.truncated == (at == 5)), "{:?}", table.steps);
            rewards.push(table.steps[0].reward);
        }
        rewards
    };
    let first = play(1, 1.0);
    assert!(first.iter().all(|reward| *reward != 0.0), "{first:?}");
    assert_ne!(play(1, -1.0), first);
    assert_eq!(play(1, 1.0), first, "one seed, one run");
}
