//! Our environments beside the real Gymnasium's (`fixtures/make_envs.py`), bit for bit over long runs.

use air_rl::envs::{
    Acrobot, CliffWalking, CliffWalkingOptions, FrozenLake, FrozenLakeOptions, MountainCar,
    MountainCarContinuous, Pendulum, PendulumOptions, Registry, Taxi, TaxiOptions,
};
use air_rl::{Action, Env, TimeLimit, check_env};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Deserialize)]
struct Fixture {
    traces: Vec<Trace>,
}

#[derive(Deserialize)]
struct Trace {
    env: String,
    options: Value,
    seed: String,
    steps: usize,
    noise: f64,
    /// Bits of the first observation.
    first: Vec<String>,
    /// Bits of every 500th.
    samples: Vec<Vec<String>>,
    /// Terminated, truncated.
    ends: [usize; 2],
    /// Of everything.
    hash: String,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../fixtures/envs.json")).unwrap()
}

/// The stream that the fixture's actions are drawn from.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
}

enum Chosen {
    Choice(u32),
    Real([f32; 1]),
}

/// The rule of the fixture.
fn choose(env: &str, rng: &mut SplitMix, noise: f64, obs: &[f32], mask: &[bool]) -> Chosen {
    let at_random = unit(rng.next()) < noise;
    let bits = rng.next();
    let signed = |x: f32, width: f64, most: f32| {
        let fixed = if x >= 0.0 { most } else { -most };
        Chosen::Real([if at_random { (unit(bits) * 2.0 * width - width) as f32 } else { fixed }])
    };
    let pushed = |x: f32| Chosen::Choice(if at_random { (bits % 3) as u32 } else { 2 * u32::from(x >= 0.0) });
    match env {
        "MountainCar-v0" => pushed(obs[1]),
        "Acrobot-v1" => pushed(obs[5]),
        "MountainCarContinuous-v0" => signed(obs[1], 1.0, 1.0),
        "Pendulum-v1" => signed(obs[2], 2.5, 2.0),
        "CliffWalking-v1" if !at_random => Chosen::Choice(if obs[0] == 36.0 {
            0
        } else if obs[0] % 12.0 == 11.0 {
            2
        } else {
            1
        }),
        _ if !mask.is_empty() && !at_random => {
            let allowed: Vec<usize> = (0..mask.len()).filter(|&i| mask[i]).collect();
            Chosen::Choice(allowed[(bits % allowed.len() as u64) as usize] as u32)
        }
        taxi if taxi.starts_with("Taxi") => Chosen::Choice((bits % 6) as u32),
        _ => Chosen::Choice((bits % 4) as u32),
    }
}

fn hex(obs: &[f32]) -> Vec<String> {
    obs.iter().map(|x| format!("{:08x}", x.to_bits())).collect()
}

struct Fnv(u64);

impl Fnv {
    fn add(&mut self, bytes: impl IntoIterator<Item = u8>) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// Plays a trace with `env` and compares; `state` is its full state, where the fixture has one.
fn compare<E: Env>(trace: &Trace, mut env: E, state: impl Fn(&E) -> Vec<f64>) {
    let what = format!("{} {} seed {}", trace.env, trace.options, trace.seed);
    let seed: u64 = trace.seed.parse().unwrap();
    let mut obs = vec![0.0; env.observation_space().row_len()];
    let mut mask = vec![true; if env.masks_actions() { env.action_space().choices() } else { 0 }];
    let (mut rng, mut fnv) = (SplitMix(seed ^ 0x5eed), Fnv(0xcbf2_9ce4_8422_2325));
    let see = |env: &E, obs: &[f32], mask: &mut [bool], fnv: &mut Fnv| {
        fnv.add(obs.iter().flat_map(|x| x.to_le_bytes()));
        fnv.add(state(env).iter().flat_map(|x| x.to_le_bytes()));
        if !mask.is_empty() {
            env.action_mask(mask);
            fnv.add(mask.iter().map(|&allowed| u8::from(allowed)));
        }
    };
    let (mut ends, mut resets, mut samples) = ([0, 0], 0, vec![]);
    env.reset(Some(seed), &mut obs).unwrap();
    see(&env, &obs, &mut mask, &mut fnv);
    assert_eq!(hex(&obs), trace.first, "first observation of {what}");
    for i in 0..trace.steps {
        let step = match choose(&trace.env, &mut rng, trace.noise, &obs, &mask) {
            Chosen::Choice(choice) => env.step(Action::Discrete(choice), &mut obs).unwrap(),
            Chosen::Real(row) => env.step(Action::Continuous(&row), &mut obs).unwrap(),
        };
        see(&env, &obs, &mut mask, &mut fnv);
        fnv.add(step.reward.to_le_bytes());
        fnv.add([u8::from(step.terminated), u8::from(step.truncated)]);
        if i % 500 == 499 {
            samples.push(hex(&obs));
        }
        if step.ended() {
            ends[usize::from(!step.terminated)] += 1;
            resets += 1;
            let seed = (resets % 3 == 0).then_some(seed + resets);
            env.reset(seed, &mut obs).unwrap();
            see(&env, &obs, &mut mask, &mut fnv);
        }
    }
    let parted = samples.iter().zip(&trace.samples).position(|(ours, theirs)| ours != theirs);
    assert_eq!(parted, None, "{what}: parted within these 500 steps");
    assert_eq!((ends, format!("{:016x}", fnv.0)), (trace.ends, trace.hash.clone()), "{what}");
}

fn options<T: DeserializeOwned>(trace: &Trace) -> T {
    serde_json::from_value(trace.options.clone()).unwrap()
}

#[test]
fn environments_equal_gymnasiums_step_for_step() {
    let mut compared = std::collections::BTreeMap::new();
    for trace in &fixture().traces {
        *compared.entry(trace.env.clone()).or_insert(0) += trace.ends[0];
        let nothing = Vec::new;
        match trace.env.as_str() {
            "Pendulum-v1" => {
                let env = TimeLimit::new(Pendulum::new(&options(trace)), 200);
                compare(trace, env, |env| env.inner().state().to_vec());
            }
            "MountainCar-v0" => {
                compare(trace, TimeLimit::new(MountainCar::new(), 200), |env| env.inner().state().to_vec());
            }
            "MountainCarContinuous-v0" => {
                let env = TimeLimit::new(MountainCarContinuous::new(), 999);
                compare(trace, env, |env| env.inner().state().to_vec());
            }
            "Acrobot-v1" => {
                compare(trace, TimeLimit::new(Acrobot::new(), 500), |env| env.inner().state().to_vec());
            }
            "FrozenLake-v1" => {
                let lake = FrozenLake::new(&options(trace), "4x4").unwrap();
                compare(trace, TimeLimit::new(lake, 100), |_| nothing());
            }
            "FrozenLake8x8-v1" => {
                let lake = FrozenLake::new(&options(trace), "8x8").unwrap();
                compare(trace, TimeLimit::new(lake, 200), |_| nothing());
            }
            "CliffWalking-v1" => compare(trace, CliffWalking::new(&options(trace)), |_| nothing()),
            "Taxi-v4" => {
                let options = TaxiOptions { action_masks: true, ..options(trace) };
                compare(trace, TimeLimit::new(Taxi::new(&options).unwrap(), 200), |_| nothing());
            }
            other => panic!("the fixture has {other}, which is not compared"),
        }
    }
    // Every environment that can terminate did, many times.
    assert_eq!(compared.len(), 8);
    for (env, ends) in compared {
        assert!(ends > 20 || env == "Pendulum-v1", "{env} ended {ends} times");
    }
}

#[test]
fn registered_environments_keep_their_contract_and_have_their_limits() {
    check_env(&mut Pendulum::new(&PendulumOptions::default())).unwrap();
    check_env(&mut MountainCar::new()).unwrap();
    check_env(&mut MountainCarContinuous::new()).unwrap();
    check_env(&mut Acrobot::new()).unwrap();
    check_env(&mut FrozenLake::new(&FrozenLakeOptions::default(), "8x8").unwrap()).unwrap();
    check_env(&mut CliffWalking::new(&CliffWalkingOptions::default())).unwrap();
    check_env(&mut Taxi::new(&TaxiOptions::default()).unwrap()).unwrap();
    let registry = Registry::default();
    let wrong = [
        ("FrozenLake-v1", r#"{"map_name": "5x5"}"#, "neither 4x4 nor 8x8"),
        ("FrozenLake-v1", r#"{"desc": ["FF", "FG"]}"#, "at least one S"),
        ("FrozenLake-v1", r#"{"desc": ["SF", "G"]}"#, "rows of one length"),
        ("FrozenLake-v1", r#"{"desc": ["SX", "FG"]}"#, "letter `X`"),
        ("FrozenLake-v1", r#"{"success_rate": 1.5}"#, "between 0 and 1"),
        ("Taxi-v4", r#"{"rainy_probability": -1}"#, "between 0 and 1"),
        ("Taxi-v3", r#"{"is_rainy": true}"#, "unknown field"),
        ("Pendulum-v1", r#"{"gravity": 9.8}"#, "unknown field"),
    ];
    for (env, options, says) in wrong {
        let error = registry.spec_with(env, serde_json::from_str(options).unwrap()).unwrap_err();
        let chain = air_core::cli::Chain(&error).to_string();
        assert!(chain.contains(says), "{env} {options}: {chain}");
    }
}

#[test]
fn actions_outside_are_refused_by_name() {
    let mut obs = [0.0; 1];
    let mut lake = FrozenLake::new(&FrozenLakeOptions::default(), "4x4").unwrap();
    lake.reset(Some(0), &mut obs).unwrap();
    let error = lake.step(Action::Discrete(4), &mut obs).unwrap_err().to_string();
    assert_eq!(error, "action Discrete(4) of environment 0 is outside Discrete(4)");
    assert!(
        Pendulum::new(&PendulumOptions::default())
            .step(Action::Continuous(&[0.0, 0.0]), &mut [0.0; 3])
            .is_err()
    );
}
