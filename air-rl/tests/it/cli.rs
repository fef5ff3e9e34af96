//! The binary, as a user meets it.

use std::process::{Command, Output};

use serde_json::Value;

fn air_rl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_air-rl")).args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn cartpole_is_trained_to_475_saved_and_evaluated() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let train =
        ["train", "ppo", "CartPole-v1", "--seed", "1", "--until-return", "475", "--json", "--out", out];
    let trained = json(&air_rl(&train));
    assert!(trained["mean_return"].as_f64().unwrap() >= 475.0, "{trained}");
    assert!(trained["steps"].as_u64().unwrap() > 47_500 / 2 && trained["seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(trained["reason"], "mean_return");

    for (name, begins) in [("policy.onnx", &b"\x08\x08\x12\x06air-rl"[..]), ("policy.safetensors", &[][..])] {
        let file = dir.path().join(name);
        let exported = air_rl(&["export", out, "--out", file.to_str().unwrap()]);
        assert!(exported.status.success(), "{exported:?}");
        let bytes = std::fs::read(&file).unwrap();
        assert!(bytes.starts_with(begins));
        assert_eq!(text(&exported.stdout), format!("{} bytes in {}\n", bytes.len(), file.display()));
    }
    assert_eq!(air_rl(&["export", out, "--out", "policy"]).status.code(), Some(2));

    let file = dir.path().join("policy.onnx");
    let no_checkpoint = air_rl(&["eval", file.to_str().unwrap()]);
    assert_eq!(no_checkpoint.status.code(), Some(1));
    assert!(text(&no_checkpoint.stderr).contains("policy.onnx: it is a file; a checkpoint is a directory"));

    let eval = ["eval", out, "--episodes", "20", "--json"];
    let first = json(&air_rl(&eval));
    assert_eq!(first["episodes"], 20);
    assert!(first["mean_return"].as_f64().unwrap() >= 475.0, "{first}");
    assert_eq!(first, json(&air_rl(&eval)), "evaluation does not repeat");

    let elsewhere = air_rl(&["eval", out, "--env", "SimpleCorridor"]);
    assert_eq!(elsewhere.status.code(), Some(1));
    assert!(
        text(&elsewhere.stderr).contains(
            "observation space Box(0, 20, [1]) does not fit the policy, which was trained on Box(-inf, inf, [4]): that was \
             `CartPole-v1`, and this is `SimpleCorridor`"
        ),
        "{elsewhere:?}"
    );
}

#[test]
fn options_and_settings_reach_environment_and_algorithm() {
    let dir = tempfile::tempdir().unwrap();
    let (out, file) = (dir.path().join("out"), dir.path().join("ppo.toml"));
    std::fs::write(&file, "envs = 4\nsteps = 100\nhidden = [8]\n").unwrap();
    let (out, file) = (out.to_str().unwrap(), file.to_str().unwrap());
    let corridor = ["SimpleCorridor", "--env-set", "length=3", "--config", file, "--set", "steps=50"];
    let train = [&["train", "ppo"], &corridor[..], &["--iterations", "10", "--json", "--out", out]].concat();
    let trained = json(&air_rl(&train));
    assert_eq!((trained["steps"].as_u64(), trained["iterations"].as_u64()), (Some(4 * 50 * 10), Some(10)));
    let best = json(&air_rl(&["eval", out, "--json"]));
    assert_eq!(best["max_return"].as_f64().map(|r| (r * 10.0).round()), Some(8.0), "{best}");
}

#[test]
fn what_is_asked_wrongly_is_said_and_exits_with_2() {
    let cases: [(&[&str], &str); 9] = [
        (&["train", "ppo", "CartPole-v1", "--until-return", "nan"], "stop has a NaN mean_return"),
        (&["train", "ppo", "Cartpole"], "unknown environment `Cartpole`; known: Acrobot-v1, AirAsterix-v0, "),
        (&["train", "a3c", "CartPole-v1"], "unknown algorithm `a3c`; known: ppo"),
        (&["train", "ppo", "CartPole-v1", "--set", "learning_rate=1"], "unknown field `learning_rate`"),
        (&["train", "ppo", "CartPole-v1", "--set", "gamma=2.0"], "gamma must be between 0 and 1"),
        (&["train", "ppo", "CartPole-v1", "--set", "gamma"], "`gamma` is not KEY=VALUE"),
        (&["train", "ppo", "SimpleCorridor", "--env-set", "length=0"], "length must be at least 1"),
        (&["eval", "x", "--episodes", "0"], "invalid value '0'"),
        (&["train", "ppo"], "<ENV>"),
    ];
    for (args, says) in cases {
        let output = air_rl(args);
        assert_eq!(
            (output.status.code(), text(&output.stdout)),
            (Some(2), String::new()),
            "{args:?} {output:?}"
        );
        assert!(text(&output.stderr).contains(says), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn work_that_fails_exits_with_1() {
    let missing = air_rl(&["eval", "/nowhere/at/all"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).starts_with("error: "), "{missing:?}");
    let short =
        air_rl(&["train", "ppo", "CartPole-v1", "--until-return", "475", "--steps", "1000", "--quiet"]);
    assert_eq!(short.status.code(), Some(1));
    assert!(text(&short.stderr).contains("mean return 475 not reached in 1024 steps"), "{short:?}");
}

#[test]
fn several_agents_are_trained_by_their_settings() {
    let train = ["train", "multi-ppo", "MultiCartPole", "--iterations", "2", "--json"];
    let set = ["--set", "policies=independent", "--set", "ppo.envs=2", "--set", "ppo.steps=10"];
    let trained = json(&air_rl(&[&train[..], &set[..]].concat()));
    assert_eq!(trained["steps"], 2 * 2 * 10);
    assert_eq!(trained["learner"]["policies"].as_array().map(Vec::len), Some(2), "{trained}");
    let unknown = air_rl(&["train", "multi-ppo", "CartPole-v1"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        text(&unknown.stderr).contains("known: MultiCartPole, Pursuit, RockPaperScissors"),
        "{unknown:?}"
    );
    let nested = air_rl(&["train", "multi-ppo", "MultiCartPole", "--set", "copies=2", "--set", "copies.x=1"]);
    assert_eq!(nested.status.code(), Some(2), "{nested:?}");
}

#[test]
fn several_seeds_are_logged_evaluated_kept_and_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (out, log, svg) = (path("out"), path("log"), path("curve.svg"));
    let train = [
        &["train", "ppo", "CartPole-v1", "--seeds", "2", "--seed", "5", "--steps", "6000", "--quiet"][..],
        &["--evaluate-every", "2000", "--evaluate-episodes", "3", "--log", &log, "--log-every", "500"],
        &["--report", "--wrap", "time_limit=50", "--out", &out, "--json"],
    ];
    let trained = air_rl(&train.concat());
    assert!(trained.status.success(), "{trained:?}");
    let lines: Vec<Value> =
        text(&trained.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary = lines.last().unwrap();
    assert_eq!((&summary["seeds"], &summary["median_steps"]), (&2.into(), &6144.0.into()), "{summary}");
    let seeds: Vec<_> = lines.iter().filter_map(|line| line["seed"].as_u64()).collect();
    assert_eq!(seeds, [5, 6]);
    let reports = lines.iter().filter(|line| line["training_iteration"].is_u64());
    assert!(reports.clone().count() >= 2 * 10 && reports.clone().all(|line| line["mean_return"].is_f64()));

    for seed in [5, 6] {
        let read = |file: &str| std::fs::read_to_string(format!("{log}/seed-{seed}/{file}")).unwrap();
        let progress: Vec<Value> =
            read("progress.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let evaluations: Vec<f64> = progress.iter().filter_map(|line| line["evaluation"].as_f64()).collect();
        assert_eq!(evaluations.len(), 3);
        assert_eq!(read("progress.csv").lines().count(), progress.len() + 1);
        let best = evaluations.iter().copied().fold(f64::MIN, f64::max);
        assert!(
            lines.iter().any(|line| line["seed"] == seed && line["best_evaluation"] == best),
            "{lines:?}"
        );
        // The best policy plays as it was evaluated: the same seed, in the same wrappers.
        let at = format!("{out}/seed-{seed}/best");
        let again = json(&air_rl(&["eval", &at, "--episodes", "3", "--seed", &seed.to_string(), "--json"]));
        assert_eq!(again["mean_return"], best);
        assert!(best <= 50.0, "the limit is a wrapper's");
    }

    let drawn = air_rl(&["curve", &log, "--out", &svg, "--title", "CartPole"]);
    assert!(drawn.status.success(), "{drawn:?}");
    let svg = std::fs::read_to_string(svg).unwrap();
    assert!(svg.contains("log (2 seeds)") && svg.contains("<polygon") && svg.ends_with("</svg>\n"));
}

#[test]
fn a_checkpoint_alone_does_not_start_a_class_of_python() {
    let dir = tempfile::tempdir().unwrap();
    let (env, out) = ("py:tests.fixtures.python.tiny_envs:Corridor", dir.path().to_str().unwrap());
    let train = ["train", "ppo", env, "--iterations", "1", "--set", "lambda=1.0", "--out", out, "--json"];
    assert_eq!(json(&air_rl(&train))["env"], env);
    let refused = air_rl(&["eval", out]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("which a checkpoint alone does not start: give it with --env"));
    let played = json(&air_rl(&["eval", out, "--env", env, "--episodes", "2", "--max-steps", "5", "--json"]));
    assert_eq!(played["episodes"], 2);
}

#[test]
fn an_environment_is_stepped_for_as_long_as_it_is_told() {
    let bench = json(&air_rl(&["bench", "Pendulum-v1", "--envs", "3", "--seconds", "0.01", "--json"]));
    assert_eq!(bench["steps"].as_u64().unwrap() % (3 * 64), 0);
    assert!(bench["seconds"].as_f64().unwrap() >= 0.01 && bench["steps_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(air_rl(&["bench", "Pendulum-v1", "--seconds", "-1"]).status.code(), Some(2));
}

#[test]
fn wrappers_come_from_the_command_line_or_the_file_or_the_preset() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("ppo.toml"), "envs = 4\nwrap = [\"time_limit=7\", \"normalize_observations\"]\n")
        .unwrap();
    let wrapped = |name: &str, further: &[&str]| {
        let out = path(name);
        let train = ["train", "ppo", "SimpleCorridor", "--iterations", "1", "--json", "--out", &out];
        let trained = json(&air_rl(&[&train, further].concat()));
        let location = trained["checkpoint"].as_str().unwrap();
        let run = std::fs::read_to_string(format!("{location}/run.json")).unwrap();
        let run: Value = serde_json::from_str(&run).unwrap();
        (run["env_options"]["wrap"].clone(), run["config"]["normalize_observations"] == true)
    };
    let file = path("ppo.toml");
    assert_eq!(wrapped("file", &["--config", &file]), (serde_json::json!(["time_limit=7"]), true));
    assert_eq!(
        wrapped("line", &["--config", &file, "--wrap", "time_limit=9", "--wrap", "clip_reward=1"]),
        (serde_json::json!(["time_limit=9", "clip_reward=1"]), false)
    );
    assert_eq!(wrapped("none", &["--config", &file, "--wrap", "none"]), (Value::Null, false));
    assert_eq!(
        wrapped("set", &["--config", &file, "--set", "normalize_observations=false"]),
        (serde_json::json!(["time_limit=7"]), false)
    );
    // Whoever plays with the policy meets the limit, too.
    let played = json(&air_rl(&["eval", &path("file"), "--episodes", "3", "--json"]));
    assert!(played["mean_length"].as_f64().unwrap() <= 7.0, "{played}");

    let says = |args: &[&str]| {
        let refused = air_rl(&[&["train"], args].concat());
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        text(&refused.stderr)
    };
    let order = says(&["ppo", "SimpleCorridor", "--wrap", "normalize_rewards", "--wrap", "time_limit=5"]);
    assert!(order.contains("the wrapper `normalize_rewards` stands inside `time_limit=5`"), "{order}");
    let whose = says(&["dqn", "CartPole-v1", "--wrap", "normalize_observations"]);
    assert!(
        whose.contains("is kept by the algorithm, and dqn has no such setting; ppo and multi-ppo have"),
        "{whose}"
    );
    let unknown = says(&["ppo", "SimpleCorridor", "--wrap", "stack=4"]);
    assert!(
        unknown.contains("the wrapper `stack=4` is not known; known: frame_stack=K, one_hot, clip_action"),
        "{unknown}"
    );
    std::fs::write(path("bad.toml"), "wrap = 4\n").unwrap();
    let bad = says(&["ppo", "SimpleCorridor", "--config", &path("bad.toml")]);
    assert!(bad.contains("is no list of wrappers"), "{bad}");
}

#[test]
fn list_names_everything() {
    let all = json(&air_rl(&["list", "--json"]));
    assert_eq!(all["algorithms"][0], "ppo");
    let names: Vec<_> =
        all["environments"].as_array().unwrap().iter().map(|e| e["name"].as_str().unwrap()).collect();
    for name in ["CartPole-v1", "FrozenLake-v1", "Pendulum-v1", "SimpleCorridor", "Taxi-v4"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
    assert!(text(&air_rl(&["list"]).stdout).contains("acts in Discrete(2)"));
}
