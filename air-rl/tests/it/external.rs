//! Clients that play elsewhere: what they are answered, what is learned from them, and what becomes of bad ones.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::thread;

use air_rl::envs::SimpleCorridor;
use air_rl::rng::NumpyRng;
use air_rl::{Action, Algorithm as _, Env as _, ExternalPpo, ExternalPpoConfig, PpoConfig, Space};
use serde_json::{Value, json};

const LENGTH: u32 = 5;

/// A batch of 128 steps.
fn config() -> ExternalPpoConfig {
    let ppo = PpoConfig { envs: 2, steps: 64, lambda: 1.0, ..PpoConfig::default() };
    ExternalPpoConfig { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ppo, ..ExternalPpoConfig::default() }
}

fn trainer(config: ExternalPpoConfig) -> ExternalPpo {
    let (observations, actions) = (Space::bounded(&[0.0], &[LENGTH as f32]), Space::discrete(2));
    ExternalPpo::new(config, "corridor", observations, actions, 1).unwrap()
}

struct Client {
    stream: TcpStream,
    packed: bool,
}

impl Client {
    fn connect(address: SocketAddr, packed: bool) -> Self {
        Self { stream: TcpStream::connect(address).unwrap(), packed }
    }

    fn send(&mut self, message: &Value) {
        let body = if self.packed {
            rmp_serde::to_vec(message).unwrap()
        } else {
            serde_json::to_vec(message).unwrap()
        };
        write!(self.stream, "{:08}", body.len()).unwrap();
        self.stream.write_all(&body).unwrap();
    }

    /// The next reply; none if the server has hung up.
    fn receive(&mut self) -> Option<Value> {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header).ok()?;
        let mut body = vec![0; std::str::from_utf8(&header).unwrap().parse().unwrap()];
        self.stream.read_exact(&mut body).unwrap();
        if body[0] == b'{' {
            return Some(serde_json::from_slice(&body).unwrap());
        }
        Some(rmp_serde::from_slice(&body).unwrap())
    }

    fn ask(&mut self, message: &Value) -> Value {
        self.send(message);
        self.receive().unwrap()
    }
}

/// Random walks of `steps` steps in all; the last of them goes on.
fn walks(rng: &mut NumpyRng, steps: usize) -> Value {
    let mut corridor = SimpleCorridor::new(LENGTH);
    let (mut episodes, mut left) = (Vec::new(), steps);
    while left > 0 {
        let mut at = [0.0];
        corridor.reset(None, &mut at).unwrap();
        let (mut obs, mut actions, mut rewards, mut ended) = (vec![at], Vec::new(), Vec::new(), false);
        while left > 0 && !ended {
            let choice = rng.integers(0, 2) as u32;
            let step = corridor.step(Action::Discrete(choice), &mut at).unwrap();
            (left, ended) = (left - 1, step.terminated);
            obs.push(at);
            actions.push(choice);
            rewards.push(step.reward);
        }
        episodes.push(json!({
            "obs": obs, "actions": actions, "rewards": rewards, "is_terminated": ended, "is_truncated": false,
        }));
    }
    json!(episodes)
}

#[test]
fn clients_in_either_coding_are_answered_and_learned_from() {
    let mut ppo = trainer(config());
    let address = ppo.address().unwrap();
    let client = thread::spawn(move || {
        let mut rng = NumpyRng::new(1);
        for packed in [true, false] {
            let mut client = Client::connect(address, packed);
            assert_eq!(client.ask(&json!({"type": "PING"})), json!({"type": "PONG"}));
            let config = client.ask(&json!({"type": "GET_CONFIG"}));
            assert_eq!(
                config,
                json!({"type": "SET_CONFIG", "env_steps_per_sample": 128, "force_on_policy": true})
            );
            let first = client.ask(&json!({"type": "GET_STATE"}));
            let begun = first["weights_seq_no"].as_u64().unwrap();
            assert!(first["onnx_file"].as_str().unwrap().starts_with("H4sI"), "base64 of gzip");
            for round in 1..=10 {
                // Half without an answer, half with one, which comes with the weights that were learned from both.
                client.send(&json!({"type": "EPISODES", "episodes": walks(&mut rng, 64)}));
                let more = json!({
                    "type": "EPISODES_AND_GET_STATE", "episodes": walks(&mut rng, 64), "env_steps": 64,
                    "weights_seq_no": begun + round - 1,
                });
                let state = client.ask(&more);
                assert_eq!(
                    (&state["type"], &state["weights_seq_no"]),
                    (&json!("SET_STATE"), &json!(begun + round))
                );
                assert_ne!(state["onnx_file"], first["onnx_file"]);
            }
        }
    });
    let last = (0..20).map(|_| ppo.train().unwrap()).last().unwrap();
    client.join().unwrap();
    assert_eq!((last.iteration, last.steps, ppo.stale_steps()), (20, 20 * 128, 0));
    assert!(last.episodes > 20 && last.mean_return.unwrap() < 0.0, "{last:?}");
    // From nothing but random walks: straight to the end.
    let played = ppo.policy().play(SimpleCorridor::new(LENGTH), 0, 100).unwrap();
    assert_eq!(played.length, u64::from(LENGTH));
}

#[test]
fn bad_clients_are_told_why_and_the_next_one_is_served() {
    let mut ppo = trainer(ExternalPpoConfig { max_bytes: 1 << 16, ..config() });
    let address = ppo.address().unwrap();
    let client = thread::spawn(move || {
        let episode = |key: &str, value: Value| {
            let mut episode = json!({
                "obs": [[0.0], [1.0]], "actions": [1], "rewards": [-0.1], "is_terminated": false, "is_truncated": false,
            });
            episode[key] = value;
            json!({"type": "EPISODES", "episodes": [episode]})
        };
        let cases = [
            (json!({"type": "GET_ACTION"}), "a message of the type `GET_ACTION`; read are PING, "),
            (json!({"kind": "PING"}), "missing field `type`"),
            (episode("actions", json!([2])), "episode 0: action 0 is [2.0], which is outside Discrete(2)"),
            (episode("actions", json!([1, 1])), "has 2 observations and 1 rewards for 2 actions"),
            (
                episode("obs", json!([[0.0, 0.0], [1.0, 1.0]])),
                "observation 0 is [0.0, 0.0], which is not finite or not of Box(0, 5, [1])",
            ),
            (episode("rewards", json!([[0.1, 0.2]])), "reward 0 is [0.1, 0.2], not one finite number"),
            (episode("rewards", json!("much")), "cannot read the message"),
            (json!({"type": "PING", "padding": "x".repeat(1 << 16)}), "at most 65536 are allowed"),
        ];
        for (message, why) in &cases {
            for packed in [true, false] {
                let mut client = Client::connect(address, packed);
                let reply = client.ask(message);
                assert_eq!(reply["type"], "ERROR");
                assert!(reply["message"].as_str().unwrap().contains(why), "{reply}");
                assert!(client.receive().is_none(), "the connection is closed");
            }
        }
        // NaN exists in MessagePack only.
        let nan = b"\x82\xa4type\xa8EPISODES\xa8episodes\x91\x85\xa3obs\x92\x91\xca\x7f\xc0\x00\x00\x91\x00\
            \xa7actions\x91\x01\xa7rewards\x91\x00\xadis_terminated\xc2\xacis_truncated\xc2";
        let mut client = Client::connect(address, true);
        client.stream.write_all(format!("{:08}", nan.len()).as_bytes()).unwrap();
        client.stream.write_all(nan).unwrap();
        let reply = client.receive().unwrap();
        assert!(reply["message"].as_str().unwrap().contains("observation 0 is [NaN]"), "{reply}");
        // One that speaks something else, and one that dies within a message.
        let mut other = Client::connect(address, true);
        other.stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let reply = other.receive().unwrap();
        assert!(
            reply["message"].as_str().unwrap().contains("a length in eight digits, got \"GET / HT\""),
            "{reply}"
        );
        let mut dies = Client::connect(address, true);
        dies.stream.write_all(b"00000100abc").unwrap();
        drop(dies);
        // What an old policy played is not learned from; then one that does all right, and goes before it is answered.
        let mut good = Client::connect(address, true);
        let mut rng = NumpyRng::new(1);
        let stale =
            json!({"type": "EPISODES_AND_GET_STATE", "episodes": walks(&mut rng, 100), "weights_seq_no": 7});
        assert_eq!(good.ask(&stale)["weights_seq_no"], 0);
        good.send(&json!({"type": "EPISODES_AND_GET_STATE", "episodes": walks(&mut rng, 128)}));
    });
    let first = ppo.train().unwrap();
    client.join().unwrap();
    assert_eq!((first.steps, ppo.stale_steps()), (128, 100));
}

/// All of them have connected, and said what they will ever say, before the first is listened to.
#[test]
fn clients_that_hang_do_not_hold_up_the_others_and_nobody_is_waited_for_without_end() {
    let mut ppo = trainer(ExternalPpoConfig { idle_seconds: 0.2, ..config() });
    let address = ppo.address().unwrap();
    let mut silent = Client::connect(address, true);
    let mut slow = Client::connect(address, true);
    slow.stream.write_all(b"00000016{\"type\"").unwrap();
    let mut good = Client::connect(address, false);
    good.send(&json!({"type": "EPISODES_AND_GET_STATE", "episodes": walks(&mut NumpyRng::new(1), 128)}));
    assert_eq!(ppo.train().unwrap().steps, 128);
    for hung in [&mut silent, &mut slow] {
        assert_eq!(
            hung.receive().unwrap(),
            json!({"type": "ERROR", "message": "the message did not come in time"})
        );
        assert!(hung.receive().is_none());
    }
    assert_eq!(good.receive().unwrap()["weights_seq_no"], 1);

    // The one that did all right is silent now, and nobody comes after it.
    let error = ppo.train().unwrap_err();
    assert!(error.to_string().starts_with("external environments at 127.0.0.1:"), "{error}");
    let source = std::error::Error::source(&error).unwrap();
    let cause = std::error::Error::source(source).unwrap().to_string();
    assert_eq!(cause, "no client came within 0.2 s");
}

#[test]
fn an_address_that_others_reach_has_to_be_meant() {
    let open = ExternalPpoConfig { listen: SocketAddr::from(([0, 0, 0, 0], 0)), ..config() };
    let new = |config| ExternalPpo::new(config, "x", Space::discrete(2), Space::discrete(2), 1).map(|_| ());
    let error = new(open.clone()).unwrap_err().to_string();
    assert_eq!(
        error,
        "invalid config: listen is an address that other machines reach: set `expose` if that is meant"
    );
    new(ExternalPpoConfig { expose: true, ..open }).unwrap();
    let taken = trainer(config());
    let error = new(ExternalPpoConfig { listen: taken.address().unwrap(), ..config() }).unwrap_err();
    assert!(format!("{error:?}").contains("AddrInUse"), "{error:?}");
}

#[test]
fn the_command_line_awaits_clients_and_saves_what_they_taught() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_air-rl"))
        .args(["train", "external-ppo", "SimpleCorridor", "--set", "listen=127.0.0.1:0", "--iterations", "2"])
        .args(["--set", "ppo.envs=1", "--json", "--out", out])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("clients are awaited at ").unwrap().parse().unwrap();
    let mut client = Client::connect(address, true);
    let mut rng = NumpyRng::new(2);
    for round in 1..=2 {
        let state = client.ask(&json!({"type": "EPISODES_AND_GET_STATE", "episodes": walks(&mut rng, 64)}));
        assert_eq!(state["weights_seq_no"], round);
    }
    let ended = server.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    let trained: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&trained["algorithm"], &trained["steps"]), (&json!("external-ppo"), &json!(128)));
    let played =
        Command::new(env!("CARGO_BIN_EXE_air-rl")).args(["eval", out, "--max-steps", "30"]).output().unwrap();
    assert!(played.status.success(), "{played:?}");

    let unknown = Command::new(env!("CARGO_BIN_EXE_air-rl"))
        .args(["train", "external-ppo", "MyGame"])
        .output()
        .unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    let why = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        why.contains("unknown environment `MyGame`") && why.contains("--set 'action_space={Discrete={n=2}}'"),
        "{why}"
    );
}
