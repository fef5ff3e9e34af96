//! Policies of air-rl, exported and served, act as they do there.

use std::collections::BTreeSet;

use air_core::seed::Seed;
use air_rl::{
    Algorithm as _, Dqn, DqnConfig, EnvSpec, OwnedAction, Policy, Ppo, PpoConfig, Pqn, PqnConfig,
    RecurrentPpo, RecurrentPpoConfig, Registry, Sac, SacConfig, Space, Td3, Td3Config, rng::NumpyRng,
};
use air_serve::onnx::{OnnxModel, Prediction, Value, Vector, from_bytes};
use ndarray::Array2;
use serde_json::{Map, json};

const ROWS: usize = 200;

/// Observations as an environment might show them.
fn observations(policy: &Policy) -> Vec<Vec<f32>> {
    let (space, mut rng) = (policy.observation_space(), NumpyRng::new(5));
    let mut row = vec![0.0; space.row_len()];
    let mut draw = || {
        space.sample(&mut rng, &mut row);
        row.clone()
    };
    (0..ROWS).map(|_| draw()).collect()
}

/// What the exported graph chooses for all of them at once, with what each was chosen by.
fn served(policy: &Policy, rows: &[Vec<f32>], mask: Option<&[Vec<bool>]>) -> Vec<Value> {
    let matrix = |rows: &[Vec<f32>]| {
        let (n, width) = (rows.len(), rows[0].len());
        Value::F32(Array2::from_shape_vec((n, width), rows.concat()).unwrap().into_dyn())
    };
    let mut inputs = vec![matrix(rows)];
    if let Some(mask) = mask {
        let floats = |row: &Vec<bool>| row.iter().map(|&allowed| f32::from(u8::from(allowed))).collect();
        inputs.push(matrix(&mask.iter().map(floats).collect::<Vec<Vec<f32>>>()));
    }
    from_bytes(&policy.to_onnx().unwrap()).unwrap().run(inputs).unwrap()
}

/// The same choices and reals within a millionth of their range, and not always the same.
fn acts_alike(policy: &Policy) {
    assert!(alike(policy).len() > 1, "the policy always does the same, which shows nothing");
}

/// What it does, which must be the same.
fn alike(policy: &Policy) -> BTreeSet<u32> {
    let rows = observations(policy);
    let outputs = served(policy, &rows, None);
    let mut kinds = BTreeSet::new();
    for (i, row) in rows.iter().enumerate() {
        match (policy.act(row).unwrap(), &outputs[0]) {
            (OwnedAction::Discrete(ours), Value::I64(theirs)) => {
                assert_eq!(i64::from(ours), theirs[[i]], "{row:?}");
                kinds.insert(ours);
            }
            (OwnedAction::MultiDiscrete(ours), Value::I64(theirs)) => {
                for (j, &ours) in ours.iter().enumerate() {
                    assert_eq!(i64::from(ours), theirs[[i, j]], "{row:?}");
                    kinds.insert(ours);
                }
            }
            (OwnedAction::Continuous(ours), Value::F32(theirs)) => {
                for (j, &ours) in ours.iter().enumerate() {
                    assert!((ours - theirs[[i, j]]).abs() < 4e-6, "{row:?}: {ours} {theirs}");
                    kinds.insert(ours.to_bits());
                }
            }
            (ours, theirs) => panic!("{ours:?} and {theirs:?}"),
        }
    }
    kinds
}

fn env(name: &str) -> EnvSpec {
    Registry::default().spec(name).unwrap()
}

fn ppo(env: EnvSpec, normalize_observations: bool, iterations: usize) -> Policy {
    let config = PpoConfig { normalize_observations, ..PpoConfig::default() };
    let mut ppo = Ppo::new(config, env, 3).unwrap();
    for _ in 0..iterations {
        ppo.train().unwrap();
    }
    ppo.policy()
}

#[test]
fn choices_are_the_same_with_and_without_normalised_observations() {
    for normalize in [false, true] {
        acts_alike(&ppo(env("CartPole-v1"), normalize, 10));
    }
}

#[test]
fn observations_that_are_choices_are_too() {
    acts_alike(&ppo(env("FrozenLake8x8-v1"), false, 5));
}

#[test]
fn several_decisions_are_too() {
    struct Two;
    impl air_rl::Env for Two {
        fn observation_space(&self) -> Space {
            Space::multi_discrete(&[4, 3])
        }
        fn action_space(&self) -> Space {
            Space::multi_discrete(&[3, 2])
        }
        fn reset(&mut self, _: Option<u64>, obs: &mut [f32]) -> Result<(), air_core::BoxError> {
            obs.copy_from_slice(&[1.0, 2.0]);
            Ok(())
        }
        fn step(
            &mut self,
            _: air_rl::Action<'_>,
            obs: &mut [f32],
        ) -> Result<air_rl::Step, air_core::BoxError> {
            obs.copy_from_slice(&[3.0, 0.0]);
            Ok(air_rl::Step { reward: 1.0, terminated: false, truncated: false })
        }
    }
    acts_alike(&ppo(EnvSpec::new("two", || Two), false, 1));
}

#[test]
fn reals_are_the_same_for_every_way_of_reading_them() {
    acts_alike(&ppo(env("Pendulum-v1"), true, 5));
    let small = |algorithm: &dyn Fn() -> Policy| acts_alike(&algorithm());
    small(&|| Sac::new(SacConfig::default(), env("Pendulum-v1"), 1).unwrap().policy());
    small(&|| Td3::new(Td3Config::default(), env("Pendulum-v1"), 1).unwrap().policy());
}

#[test]
fn values_are_read_the_same_however_they_are_held() {
    for (duelling, atoms) in [(false, 0), (true, 0), (false, 21), (true, 21)] {
        let config = DqnConfig { duelling, atoms, v_min: -10.0, v_max: 10.0, ..DqnConfig::default() };
        // One that has learned nothing may like one action best everywhere; not all like the same.
        let policy = |seed| Dqn::new(config.clone(), env("CartPole-v1"), seed).unwrap().policy();
        let all: BTreeSet<u32> = (0..8).flat_map(|seed| alike(&policy(seed))).collect();
        assert_eq!(all.len(), 2);
    }
}

#[test]
fn normalised_layers_are_the_same() {
    let mut pqn = Pqn::new(PqnConfig::default(), env("CartPole-v1"), 2).unwrap();
    for _ in 0..20 {
        pqn.train().unwrap();
    }
    assert!(pqn.policy().actor().layers().iter().any(|layer| layer.normalized));
    acts_alike(&pqn.policy());
}

#[test]
fn convolutions_are_the_same() {
    let conv = vec![[6, 3, 1], [8, 2, 2]];
    // Evenly drawn pixels are like no game, and one policy may always do the same; several do not do the same.
    let ppo = |seed| {
        let config = PpoConfig { conv: conv.clone(), normalize_observations: true, ..PpoConfig::default() };
        let mut ppo = Ppo::new(config, env("AirBreakout-v0"), seed).unwrap();
        ppo.train().unwrap();
        alike(&ppo.policy())
    };
    let pqn = |seed| {
        let config = PqnConfig { conv: conv.clone(), ..PqnConfig::default() };
        alike(&Pqn::new(config, env("AirBreakout-v0"), seed).unwrap().policy())
    };
    assert!((1..=8).flat_map(ppo).collect::<BTreeSet<u32>>().len() > 1);
    assert!((1..=8).flat_map(pqn).collect::<BTreeSet<u32>>().len() > 1);
}

#[test]
fn a_policy_that_remembers_is_refused() {
    let config = RecurrentPpoConfig::default();
    let policy = RecurrentPpo::new(config, env("CartPole-v1"), 1).unwrap().policy();
    for refused in [policy.to_onnx(), policy.to_safetensors()] {
        assert!(refused.unwrap_err().to_string().contains("a policy that remembers cannot be exported"));
    }
}

#[test]
fn masks_rule_out_the_same() {
    let options = Map::from_iter([("action_masks".to_owned(), json!(true))]);
    let policy = ppo(Registry::default().spec_with("Taxi-v3", options).unwrap(), false, 1);
    let (rows, mut rng) = (observations(&policy), Seed::new(1).rng());
    let masks: Vec<Vec<bool>> = (0..ROWS)
        .map(|i| (0..6).map(|choice| choice == i % 6 || rand::Rng::next_u32(&mut rng) % 2 == 0).collect())
        .collect();
    let Value::I64(theirs) = &served(&policy, &rows, Some(&masks))[0] else { panic!("no choices") };
    for (i, (row, mask)) in rows.iter().zip(&masks).enumerate() {
        let ours = policy.act_masked(row, mask).unwrap();
        assert_eq!(ours.discrete().map(i64::from), Some(theirs[[i]]));
        assert!(mask[theirs[[i]] as usize]);
    }
}

#[test]
fn a_vector_is_answered_with_the_action() {
    let policy = ppo(env("CartPole-v1"), true, 3);
    let model = OnnxModel::new(from_bytes(&policy.to_onnx().unwrap()).unwrap()).unwrap();
    assert_eq!(model.width(), Some(4));
    for row in observations(&policy) {
        let vector = Vector { vector: row.iter().map(|&x| f64::from(x)).collect() };
        let answer = model.predict(&[vector]).unwrap().pop().unwrap();
        let ours = i64::from(policy.act(&row).unwrap().discrete().unwrap());
        assert_eq!(answer.result, Prediction::Class(ours));
    }
}
