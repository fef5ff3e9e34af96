//! Searches for settings, from the command line to the file of the best ones.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use air_core::cli::CliError;
use air_tune::space::parse_param;
use serde_json::Value;

const ARGS: &str = "AIR_RL_TEST_AIR_TUNE";

/// The program `air-tune`: a script that starts this test program, which is it for as long as the script says so.
fn air_tune(dir: &Path) -> PathBuf {
    let (program, me) = (dir.join("air-tune"), std::env::current_exe().unwrap());
    let script = format!(
        "#!/bin/sh\n{ARGS}=$(printf '%s\\n' \"$@\") exec '{}' --exact sweep::settings_are_searched_and_the_best_train_again --nocapture\n",
        me.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// Is this process to be `air-tune`? Then it is, and ends so.
fn be_air_tune() {
    let Ok(args) = std::env::var(ARGS) else { return };
    let args = std::iter::once("air-tune").chain(args.lines()).map(Into::into).collect();
    let code = match air_tune::cli::run(args) {
        Ok(()) => 0,
        Err(CliError::Usage(why)) => {
            eprintln!("error: {why}");
            2
        }
        Err(error) => {
            eprintln!("error: {error:?}");
            1
        }
    };
    std::process::exit(code);
}

fn sweep(program: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_air-rl"));
    command.arg("sweep").args(args).env("AIR_TUNE", program).env_remove(ARGS).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn settings_are_searched_and_the_best_train_again() {
    be_air_tune();
    let dir = tempfile::tempdir().unwrap();
    let program = air_tune(dir.path());
    let out = dir.path().join("sweep");
    let space = dir.path().join("space.toml");
    std::fs::write(&space, "lr = \"choice(1e-9,3e-3)\"\nhidden = \"choice([8],[16,16])\"\n").unwrap();
    let corridor = ["ppo", "SimpleCorridor", "--env-set", "length=4"];
    let wrap = ["--wrap", "time_limit=50"];
    let search =
        ["--space", space.to_str().unwrap(), "--set", "lambda=1.0", "--steps", "8000", "--seed", "3"];
    let rest = ["--trials", "6", "--out", out.to_str().unwrap(), "--json", "--", "--search", "random"];
    let ran = sweep(&program, &[&corridor[..], &wrap, &search, &rest].concat());
    assert!(ran.status.success(), "{}\n{}", text(&ran.stdout), text(&ran.stderr));

    let printed = text(&ran.stdout);
    let lines = printed.lines().filter(|line| line.starts_with('{'));
    let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6 + 2, "a line a trial, the best, its settings: {printed}");
    let best = &lines[6]["best"];
    let values = lines[..6].iter().filter_map(|trial| trial["value"].as_f64());
    assert_eq!(best["value"].as_f64(), values.max_by(f64::total_cmp), "the largest return is the best");
    assert_eq!(lines[7]["settings"].as_str(), out.join("best.toml").to_str());

    // The file has what the best trial was told, what was set for all of them, and nothing else.
    let settings: toml::Table = std::fs::read_to_string(out.join("best.toml")).unwrap().parse().unwrap();
    assert_eq!(settings["lr"].as_float(), best["config"]["lr"].as_f64());
    assert_eq!(settings["lr"].as_float(), Some(3e-3), "a walk of 4 is not learned at a rate of 1e-9");
    assert_eq!(settings["lambda"].as_float(), Some(1.0));
    assert_eq!(settings.keys().collect::<Vec<_>>(), ["hidden", "lambda", "lr", "wrap"]);

    // One seed is one result: whoever trains with it gets what the trial got.
    let file = out.join("best.toml");
    let again = [&["train"], &corridor[..], &["--no-preset", "--config", file.to_str().unwrap()]].concat();
    let again = [&again[..], &["--steps", "8000", "--seed", "3", "--quiet", "--json"]].concat();
    let again = Command::new(env!("CARGO_BIN_EXE_air-rl")).args(again).output().unwrap();
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["mean_return"], best["value"]);
}

#[test]
fn what_cannot_be_searched_is_said_before_anything_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    let (program, out) = (air_tune(dir.path()), dir.path().join("sweep"));
    let bad = dir.path().join("bad.toml");
    std::fs::write(&bad, "lr = [1, 2]\n").unwrap();
    let bad = bad.to_str().unwrap();
    let cases: [(&[&str], &str); 9] = [
        (&["ppo", "Cartpole"], "unknown environment `Cartpole`; known: Acrobot-v1"),
        (&["a3c", "CartPole-v1"], "unknown algorithm `a3c`; known: ppo"),
        (&["ppo", "CartPole-v1", "--param", "rate=uniform(0,1)"], "`rate` is no setting of ppo; known: "),
        (
            &["multi-ppo", "MultiCartPole", "--param", "lr=1"],
            "`lr` is no setting of multi-ppo; known: copies, ",
        ),
        (&["ppo", "CartPole-v1", "--param", "lr=1", "--set", "lr=1.0"], "`lr` is both searched and set"),
        (&["ppo", "CartPole-v1", "--space", bad], "`lr` of the space has no domain: one is text"),
        (&["ppo", "CartPole-v1", "--set", "gamma=2.0"], "gamma must be between 0 and 1"),
        (&["ppo", "CartPole-v1", "--seeds", "2", "--scheduler", "asha"], "are not stopped early"),
        // What air-tune refuses, it says itself.
        (&["ppo", "CartPole-v1", "--param", "lr=normalish(1,2)"], "`normalish` is no domain"),
    ];
    for (args, why) in cases {
        let ran = sweep(&program, &[args, &["--out", out.to_str().unwrap()]].concat());
        assert_eq!(ran.status.code(), Some(2), "{args:?}: {}", text(&ran.stderr));
        assert!(text(&ran.stderr).contains(why), "{args:?}: {}", text(&ran.stderr));
        assert!(!out.exists());
    }
    let ran = sweep(&dir.path().join("none"), &["ppo", "CartPole-v1"]);
    assert_eq!(ran.status.code(), Some(2));
    assert!(text(&ran.stderr).contains("which --air-tune or $AIR_TUNE names, is no program"));
}

#[test]
fn a_search_is_shown_as_a_command_line() {
    let shown = sweep(
        Path::new("not asked for"),
        &[
            "ppo",
            "CartPole-v1",
            "--param",
            "lr=loguniform(1e-4,1e-2)",
            "--out",
            "runs/s",
            "--print",
            "--seed",
            "7",
        ],
    );
    let line = text(&shown.stdout);
    let begins = "air-tune run --param 'lr=loguniform(1e-4,1e-2)' --metric mean_return --mode max --trials 20 --seed 7 \
                  --scheduler asha --max-t 100 --grace-period 10 --out runs/s -- /";
    let ends = "/air-rl train ppo CartPole-v1 --set 'lr={lr}' --steps 100000 --seed 7 --quiet --report --log-every 1000\n";
    assert!(line.starts_with(begins) && line.ends_with(ends), "{line}");

    let shown = sweep(Path::new(""), &["dqn", "CartPole-v1", "--print", "--seeds", "3"]);
    let line = text(&shown.stdout);
    assert!(line.contains("--metric median_mean_return") && !line.contains("--scheduler"), "{line}");
    assert!(
        line.contains("--param 'prioritized=choice(false,true)'") && line.ends_with("--json --seeds 3\n")
    );
}

/// Whatever is drawn from a space that comes with the crate is a setting that its algorithm takes.
#[test]
fn spaces_hold_nothing_but_settings() {
    use air_core::seed::Seed;
    use air_rl::*;

    fn check<C: Settings>(algorithm: &str) {
        let flat = |table: &toml::Table, prefix: &str| -> Vec<(String, String)> {
            let one = |(key, value): (&String, &toml::Value)| {
                (format!("{prefix}{key}"), value.as_str().unwrap().to_owned())
            };
            table.iter().map(one).collect()
        };
        let table = presets::space(algorithm).unwrap();
        let inner = table.get("ppo").and_then(toml::Value::as_table);
        let params = inner.map_or_else(|| flat(&table, ""), |inner| flat(inner, ""));
        let domains = params.iter().map(|(name, domain)| parse_param(&format!("{name}={domain}")).unwrap());
        let domains: Vec<_> = domains.collect();
        let mut rng = Seed::new(1).rng();
        for _ in 0..50 {
            let drawn = domains.iter().map(|(name, domain)| (name.clone(), domain.sample(&mut rng)));
            let drawn = toml::Table::try_from(drawn.collect::<serde_json::Map<_, _>>()).unwrap();
            let drawn = match inner {
                Some(_) => toml::Table::from_iter([("ppo".to_owned(), drawn.into())]),
                None => drawn,
            };
            presets::settings::<C>(drawn.clone()).unwrap_or_else(|e| panic!("{algorithm}: {e}: {drawn}"));
        }
    }
    check::<PpoConfig>("ppo");
    check::<RecurrentPpoConfig>("recurrent-ppo");
    check::<ImpalaConfig>("impala");
    check::<AppoConfig>("appo");
    check::<PqnConfig>("pqn");
    check::<DqnConfig>("dqn");
    check::<SacConfig>("sac");
    check::<Td3Config>("td3");
    check::<MultiPpoConfig>("multi-ppo");
    check::<BcConfig>("bc");
    check::<MarwilConfig>("marwil");
    check::<CqlConfig>("cql");
    check::<IqlConfig>("iql");
    assert!(presets::space("a3c").is_err());
}
