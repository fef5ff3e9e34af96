//! Wrappers change what they say, and nothing else.

use air_rl::envs::{
    CartPole, FrozenLake, FrozenLakeOptions, Pendulum, PendulumOptions, SimpleCorridor, Taxi, TaxiOptions,
};
use air_rl::wrap::{ClipAction, ClipReward, FrameStack, OneHot, RecordEpisodes};
use air_rl::{Action, Algorithm as _, Env, EnvSpec, Ppo, PpoConfig, Space, Stop, TimeLimit, check_env};

#[test]
fn frames_are_the_last_ones_oldest_first_and_begin_with_the_first() {
    let mut plain = CartPole::new();
    let mut stacked = FrameStack::new(CartPole::new(), 3);
    let mut rows = [[0.0_f32; 4]; 4];
    let mut obs = [0.0; 12];
    plain.reset(Some(3), &mut rows[0]).unwrap();
    stacked.reset(Some(3), &mut obs).unwrap();
    assert_eq!(obs[..], rows[0].repeat(3));
    for row in &mut rows[1..] {
        plain.step(Action::Discrete(1), row).unwrap();
        stacked.step(Action::Discrete(1), &mut obs).unwrap();
    }
    assert_eq!(obs[..], rows[1..].concat());
    let Space::Box { shape, low, .. } = stacked.observation_space() else { panic!("not a box") };
    assert_eq!((shape, low.len()), (vec![3, 4], 12));
    check_env(&mut stacked).unwrap();
    let lake = FrozenLake::new(&FrozenLakeOptions::default(), "4x4").unwrap();
    assert_eq!(FrameStack::new(lake, 2).observation_space(), Space::multi_discrete(&[16, 16]));
}

#[test]
fn one_hot_shows_choices_as_one_among_zeros() {
    let options = TaxiOptions { action_masks: true, ..TaxiOptions::default() };
    let mut plain = Taxi::new(&options).unwrap();
    let mut env = OneHot::new(Taxi::new(&options).unwrap());
    let (mut state, mut obs) = ([0.0], vec![0.0; 500]);
    plain.reset(Some(1), &mut state).unwrap();
    env.reset(Some(1), &mut obs).unwrap();
    assert_eq!(obs.iter().position(|&x| x == 1.0), Some(state[0] as usize));
    assert_eq!(obs.iter().sum::<f32>(), 1.0);
    // Masks pass through.
    let (mut ours, mut theirs) = ([true; 6], [true; 6]);
    plain.action_mask(&mut theirs);
    env.action_mask(&mut ours);
    assert!(env.masks_actions() && ours == theirs && ours.contains(&false));
    check_env(&mut env).unwrap();
    check_env(&mut OneHot::new(CartPole::new())).unwrap();
}

#[test]
fn actions_and_rewards_are_held_within_their_limits() {
    let (mut plain, mut clipped) =
        (Pendulum::new(&PendulumOptions::default()), Pendulum::new(&PendulumOptions::default()));
    let mut wrapped = ClipAction::new(&mut clipped);
    assert_eq!(wrapped.action_space(), Space::bounded(&[f32::NEG_INFINITY], &[f32::INFINITY]));
    let (mut a, mut b) = ([0.0; 3], [0.0; 3]);
    plain.reset(Some(5), &mut a).unwrap();
    wrapped.reset(Some(5), &mut b).unwrap();
    for x in [50.0, -3.0, 0.5] {
        plain.step(Action::Continuous(&[f32::clamp(x, -2.0, 2.0)]), &mut a).unwrap();
        wrapped.step(Action::Continuous(&[x]), &mut b).unwrap();
        assert_eq!(a, b);
    }
    let mut rewards = ClipReward::new(SimpleCorridor::new(1), -0.05, 0.5);
    let mut obs = [0.0];
    rewards.reset(None, &mut obs).unwrap();
    assert_eq!(rewards.step(Action::Discrete(0), &mut obs).unwrap().reward, -0.05);
    assert_eq!(rewards.step(Action::Discrete(1), &mut obs).unwrap().reward, 0.5);
}

#[test]
fn the_last_episodes_are_recorded() {
    let mut env = RecordEpisodes::new(TimeLimit::new(SimpleCorridor::new(3), 4), 2);
    let mut obs = [0.0];
    for choices in [&[1, 1, 1][..], &[0, 0, 0, 0], &[0, 1, 1, 1]] {
        env.reset(None, &mut obs).unwrap();
        for &choice in choices {
            env.step(Action::Discrete(choice), &mut obs).unwrap();
        }
    }
    let seen: Vec<(f64, u64)> = env.episodes().map(|p| ((p.total * 10.0).round(), p.length)).collect();
    assert_eq!(seen, [(-4.0, 4), (7.0, 4)]);
}

/// One-hot by the algorithm itself: discrete observations need no wrapper.
#[test]
fn ppo_learns_a_lake_whose_observations_are_choices() {
    let options = FrozenLakeOptions { is_slippery: false, ..FrozenLakeOptions::default() };
    let env = EnvSpec::new("Lake", move || TimeLimit::new(FrozenLake::new(&options, "4x4").unwrap(), 100));
    for seed in 1..=3 {
        let config = PpoConfig { entropy: 0.02, gamma: 0.95, ..PpoConfig::default() };
        let mut ppo = Ppo::new(config, env.clone(), seed).unwrap();
        ppo.train_until(&Stop::at_return(0.9).or_steps(200_000)).unwrap();
        let played = ppo.policy().evaluate(&env, 1, 0, 100).unwrap();
        assert_eq!((played[0].total, played[0].length), (1.0, 6), "seed {seed}");
    }
}

#[test]
fn wrappers_are_named_in_options_innermost_first() {
    use air_rl::{Actions, Registry, Space};
    use serde_json::{Map, Value, json};

    let registry = Registry::default();
    let spec = |wrap: Value| {
        let options = Map::from_iter([("length".to_owned(), json!(9)), ("wrap".to_owned(), wrap)]);
        registry.spec_with("SimpleCorridor", options)
    };
    let made = spec(json!(["frame_stack=3", "clip_reward=0.05", "time_limit=2"])).unwrap();
    assert_eq!(made.options()["wrap"][0], "frame_stack=3", "a checkpoint says how it was wrapped");
    let mut envs = made.make(2).unwrap();
    assert_eq!(
        envs.observation_space(),
        &Space::Box { low: vec![0.0; 3], high: vec![9.0; 3], shape: vec![3, 1] }
    );
    envs.reset(&[0, 1]).unwrap();
    envs.step(Actions::Discrete(&[1, 0])).unwrap();
    assert_eq!((&envs.batch().obs[..], envs.batch().reward[0]), (&[0.0, 0.0, 1.0, 0.0, 0.0, 0.0][..], -0.05));
    envs.step(Actions::Discrete(&[1, 0])).unwrap();
    assert_eq!((envs.batch().truncated[0], envs.batch().final_row(0)), (true, Some(&[0.0, 1.0, 2.0][..])));

    let says = |wrap: Value| format!("{:?}", spec(wrap).unwrap_err());
    assert!(says(json!(["stack=3"])).contains("the wrapper `stack=3` is not known"));
    assert!(says(json!("frame_stack=3")).contains("invalid type"));
}

#[test]
fn wrappers_with_nothing_to_do_or_named_twice_are_refused_with_what_is_there() {
    use air_rl::Registry;
    use serde_json::{Map, json};

    let says = |env: &str, wrap: &[&str]| {
        let options = Map::from_iter([("wrap".to_owned(), json!(wrap))]);
        let error = Registry::default().spec_with(env, options).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        source.unwrap_or_else(|| error.to_string())
    };
    assert_eq!(
        says("SimpleCorridor", &["time_limit=9", "one_hot"]),
        "the wrapper `one_hot` has nothing to do: the observation space inside it is Box(0, 20, [1])"
    );
    assert_eq!(
        says("Taxi-v3", &["one_hot", "one_hot"]),
        "the wrapper `one_hot` stands twice: `one_hot` and `one_hot`"
    );
    assert_eq!(
        says("CartPole-v1", &["clip_action"]),
        "the wrapper `clip_action` has nothing to do: the action space inside it is Discrete(2)"
    );
    assert_eq!(
        says("CartPole-v1", &["one_hot=2"]),
        "the wrapper `one_hot=2` takes no setting: write `one_hot`"
    );
    // Said without starting Python.
    assert!(
        says("gym:CartPole-v1", &["frame_stack=2"]).contains("is wrapped there, before it is handed over")
    );
}

/// Either order of these two has a meaning.
#[test]
fn frames_of_choices_and_choices_of_frames_show_the_same() {
    use air_rl::{Actions, Registry};
    use serde_json::{Map, json};

    let shown = |wrap: [&str; 2]| {
        let options =
            Map::from_iter([("wrap".to_owned(), json!(wrap)), ("is_slippery".to_owned(), json!(false))]);
        let mut envs = Registry::default().spec_with("FrozenLake-v1", options).unwrap().make(1).unwrap();
        envs.reset(&[1]).unwrap();
        envs.step(Actions::Discrete(&[2])).unwrap();
        envs.batch().obs.clone()
    };
    let rows = shown(["frame_stack=2", "one_hot"]);
    assert_eq!(rows, shown(["one_hot", "frame_stack=2"]));
    let lit: Vec<usize> = rows.iter().enumerate().filter(|(_, x)| **x == 1.0).map(|(i, _)| i).collect();
    assert_eq!((rows.len(), lit), (32, vec![0, 16 + 1]));
}
