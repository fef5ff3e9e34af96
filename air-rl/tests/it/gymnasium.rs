//! Our streams and our CartPole beside the real NumPy's and Gymnasium's (`fixtures/make_cartpole.py`), bit for bit.

use std::sync::LazyLock;

use air_rl::envs::{CartPole, Registry};
use air_rl::rng::NumpyRng;
use air_rl::{Action, Actions, Env, TimeLimit};
use serde::Deserialize;

#[derive(Deserialize)]
struct Fixture {
    bounds: Vec<[String; 2]>,
    streams: Vec<Stream>,
    traces: Vec<Trace>,
    vector: Vec<Vector>,
}

#[derive(Deserialize)]
struct Stream {
    seed: String,
    random: Vec<String>,
    uniform: Vec<String>,
    integers: Vec<String>,
    after: Vec<String>,
}

#[derive(Deserialize)]
struct Trace {
    seed: String,
    actions: String,
    resets: Vec<Reset>,
    ends: Vec<End>,
    samples: Vec<Sample>,
    hash: String,
}

#[derive(Deserialize)]
struct Reset {
    at: usize,
    seed: Option<String>,
    state: Vec<String>,
}

#[derive(Deserialize, Debug, PartialEq)]
struct End {
    at: usize,
    terminated: bool,
    truncated: bool,
}

#[derive(Deserialize, Debug, PartialEq)]
struct Sample {
    at: usize,
    state: Vec<String>,
}

#[derive(Deserialize)]
struct Vector {
    seed: u64,
    num_envs: usize,
    actions: String,
    ends: usize,
    hash: String,
}

static FIXTURE: LazyLock<Fixture> =
    LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/cartpole.json")).unwrap());

struct Fnv(u64);

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn add(&mut self, bytes: impl IntoIterator<Item = u8>) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn hex(&self) -> String {
        format!("{:016x}", self.0)
    }
}

fn bits(values: impl IntoIterator<Item = f64>) -> Vec<String> {
    values.into_iter().map(|v| format!("{:016x}", v.to_bits())).collect()
}

fn le32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn streams_equal_numpys() {
    for stream in &FIXTURE.streams {
        let mut rng = NumpyRng::new(stream.seed.parse().unwrap());
        assert_eq!(bits((0..4).map(|_| rng.random())), stream.random, "seed {}", stream.seed);
        assert_eq!(bits((0..4).map(|_| rng.uniform(-0.05, 0.05))), stream.uniform, "seed {}", stream.seed);
        let bounds = FIXTURE.bounds.iter().cycle().take(stream.integers.len());
        let integers: Vec<String> = bounds
            .map(|[low, high]| rng.integers(low.parse().unwrap(), high.parse().unwrap()).to_string())
            .collect();
        assert_eq!(integers, stream.integers, "seed {}", stream.seed);
        assert_eq!(bits([rng.random()]), stream.after, "seed {}", stream.seed);
    }
}

#[test]
fn cartpole_equals_gymnasiums_step_for_step() {
    for trace in &FIXTURE.traces {
        let mut env = TimeLimit::new(CartPole::new(), 500);
        let (mut obs, mut hash, mut ends, mut samples) = ([0.0; 4], Fnv::new(), vec![], vec![]);
        let mut resets = trace.resets.iter();
        let mut reset = |at: usize, env: &mut TimeLimit<CartPole>, obs: &mut [f32]| {
            let expected = resets.next().unwrap();
            env.reset(expected.seed.as_ref().map(|s| s.parse().unwrap()), obs).unwrap();
            assert_eq!(
                (at, bits(env.inner().state())),
                (expected.at, expected.state.clone()),
                "seed {}",
                trace.seed
            );
        };
        reset(0, &mut env, &mut obs);
        for (at, action) in trace.actions.bytes().enumerate() {
            let step = env.step(Action::Discrete(u32::from(action - b'0')), &mut obs).unwrap();
            assert_eq!(step.reward, 1.0);
            let state = env.inner().state();
            hash.add(state.iter().flat_map(|x| x.to_le_bytes()));
            hash.add(le32(&obs));
            hash.add([u8::from(step.terminated), u8::from(step.truncated)]);
            if (at + 1) % 100 == 0 {
                samples.push(Sample { at, state: bits(state) });
            }
            if step.ended() {
                ends.push(End { at, terminated: step.terminated, truncated: step.truncated });
                reset(at + 1, &mut env, &mut obs);
            }
        }
        assert_eq!(samples, trace.samples, "seed {}", trace.seed);
        assert_eq!(ends, trace.ends, "seed {}", trace.seed);
        assert_eq!(hash.hex(), trace.hash, "seed {}", trace.seed);
    }
}

#[test]
fn a_batch_equals_gymnasiums_vector_environment_with_same_step_autoreset() {
    for vector in &FIXTURE.vector {
        let n = vector.num_envs;
        let mut envs = Registry::default().spec("CartPole-v1").unwrap().make(n).unwrap();
        // Gymnasium gives environment i the seed `seed + i`.
        let seeds: Vec<u64> = (0..n as u64).map(|i| vector.seed + i).collect();
        envs.reset(&seeds).unwrap();
        let (mut hash, mut ends) = (Fnv::new(), 0);
        hash.add(le32(&envs.batch().obs));
        for actions in vector.actions.as_bytes().chunks(n) {
            let actions: Vec<u32> = actions.iter().map(|a| u32::from(a - b'0')).collect();
            envs.step(Actions::Discrete(&actions)).unwrap();
            let b = envs.batch();
            hash.add(le32(&b.obs));
            hash.add(b.reward.iter().flat_map(|r| r.to_le_bytes()));
            hash.add(b.terminated.iter().chain(&b.truncated).map(|&flag| u8::from(flag)));
            for i in 0..n {
                if let Some(last) = b.final_row(i) {
                    hash.add(le32(last));
                    ends += 1;
                }
            }
        }
        assert_eq!((ends, hash.hex()), (vector.ends, vector.hash.clone()), "seed {}", vector.seed);
    }
}
