//! Pictures of environments, in the terminal and in files.

use std::process::{Command, Output};

use air_rl::view::{Canvas, Viewer, text};
use air_rl::{Registry, RlError};
use serde_json::{Map, Value, json};

fn air_rl(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_air-rl")).args(args).output().unwrap()
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn viewer(env: &str, options: Value) -> Viewer {
    let Value::Object(options) = options else { panic!("{options}") };
    let registry = Registry::default();
    Viewer::new(&registry, &registry.spec_with(env, options).unwrap()).unwrap()
}

/// The middle of the pixels of one colour: red, green, blue.
fn middle(canvas: &Canvas, colour: [u8; 3]) -> Option<(f64, f64)> {
    let number = Canvas::palette().iter().position(|c| *c == colour).unwrap() as u8;
    let at = |i: usize| ((i % canvas.width()) as f64 + 0.5, (i / canvas.width()) as f64 + 0.5);
    let places: Vec<_> = canvas
        .pixels()
        .iter()
        .enumerate()
        .filter(|(_, pixel)| **pixel == number)
        .map(|(i, _)| at(i))
        .collect();
    let n = places.len() as f64;
    (n > 0.0).then(|| {
        let sum = places.iter().fold((0.0, 0.0), |sum, place| (sum.0 + place.0, sum.1 + place.1));
        (sum.0 / n, sum.1 / n)
    })
}

const RED: [u8; 3] = [204, 77, 77];
const WOOD: [u8; 3] = [202, 152, 101];
const BLUE: [u8; 3] = [70, 120, 200];

#[test]
fn what_is_observed_is_where_it_is_seen() {
    let near = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).abs() < 1.5 && (a.1 - b.1).abs() < 1.5;
    // A pole of length 1 that leans to the right by 90° on a cart at 1: 100 pixels a metre, the view from -2.6 to 2.6. Its axle hides its
    // beginning.
    let cart = viewer("CartPole-v1", json!({}));
    let lying = cart.draw(&[1.0, 0.0, std::f32::consts::FRAC_PI_2, 0.0], 520, 220);
    let pole = middle(&lying, WOOD).unwrap();
    assert!(near(pole, (260.0 + 154.0, 150.0)), "{pole:?}");
    // A pendulum that hangs down, then one that lies to the left (a quarter turn counter-clockwise).
    let pendulum = viewer("Pendulum-v1", json!({}));
    let rod = middle(&pendulum.draw(&[-1.0, 0.0, 0.0], 260, 260), RED).unwrap();
    assert!(near(rod, (130.0, 130.0 + 52.0)), "{rod:?}");
    let rod = middle(&pendulum.draw(&[0.0, 1.0, 0.0], 260, 260), RED).unwrap();
    assert!(near(rod, (130.0 - 52.0, 130.0)), "{rod:?}");
    // Cells: the walker in the second row, third column of four.
    let lake = viewer("FrozenLake-v1", json!({}));
    let at = middle(&lake.draw(&[6.0], 420, 420), RED).unwrap();
    assert!(near(at, (10.0 + 250.0, 10.0 + 150.0)), "{at:?}");
    let at = middle(&viewer("CliffWalking-v1", json!({})).draw(&[13.0], 1220, 420), RED).unwrap();
    assert!(near(at, (10.0 + 150.0, 10.0 + 150.0)), "{at:?}");
    // Pixels: the ball of Breakout in row 4, column 7.
    let mut planes = vec![0.0; 400];
    planes[100 + 47] = 1.0;
    let at = middle(&viewer("AirBreakout-v0", json!({})).draw(&planes, 104, 104), RED).unwrap();
    assert!(near(at, (2.0 + 75.0, 2.0 + 45.0)), "{at:?}");
    // A lander above the pad.
    let (x, y) = middle(
        &viewer("AirLander-v0", json!({})).draw(&[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 400, 300),
        BLUE,
    )
    .unwrap();
    assert!((x - 200.0).abs() < 1.5 && (y - (260.0 - 20.0 * 7.36)).abs() < 5.0, "{x} {y}");
}

#[test]
fn wrappers_do_not_change_the_picture() {
    let plain = viewer("FrozenLake-v1", json!({})).draw(&[6.0], 80, 80);
    let mut hot = [0.0; 32];
    (hot[5], hot[16 + 6]) = (1.0, 1.0);
    let wrapped = viewer("FrozenLake-v1", json!({"wrap": ["frame_stack=2", "one_hot", "time_limit=5"]}));
    assert_eq!(wrapped.draw(&hot, 80, 80), plain);
    let wrapped = viewer("FrozenLake-v1", json!({"wrap": ["one_hot", "frame_stack=2"]}));
    assert_eq!(wrapped.draw(&hot, 80, 80), plain);
    let plain = viewer("MountainCar-v0", json!({})).draw(&[0.3, 0.0], 90, 60);
    assert_eq!(
        viewer("MountainCar-v0", json!({"wrap": ["frame_stack=3"]})).draw(
            &[-1.0, 0.0, 0.1, 0.0, 0.3, 0.0],
            90,
            60
        ),
        plain
    );
}

/// Every environment that can be drawn is drawn, whatever it shows, numbers that are none included; others are named.
#[test]
fn no_observation_is_too_much() {
    let registry = Registry::default();
    let mut drawn = 0;
    for name in registry.names() {
        let spec = registry.spec(&name).unwrap();
        let viewer = match Viewer::new(&registry, &spec) {
            Ok(viewer) => viewer,
            Err(RlError::NotDrawn { name, drawn }) => {
                assert!(name == "Recall" && drawn.len() == 15, "{name}");
                continue;
            }
            Err(other) => panic!("{other}"),
        };
        drawn += 1;
        let mut envs = spec.make(1).unwrap();
        envs.reset(&[1]).unwrap();
        let first = viewer.draw(&envs.batch().obs, 64, 48);
        assert!(first.pixels().iter().any(|pixel| *pixel != 0), "{name}");
        assert!(!text(&first, false).trim().is_empty());
        let items = envs.batch().obs.len();
        for obs in [
            vec![f32::NAN; items],
            vec![f32::INFINITY; items],
            vec![-1e30; items],
            vec![1e30; items],
            Vec::new(),
        ] {
            assert_eq!(viewer.draw(&obs, 64, 48).pixels().len(), 64 * 48);
        }
    }
    assert_eq!(drawn, 15);
    let spec =
        registry.spec_with("SimpleCorridor", Map::from_iter([("length".to_owned(), json!(5000))])).unwrap();
    let error = Viewer::new(&registry, &spec).err().unwrap();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(source, "a world of 5001 cells is not drawn, only of 4096 at most");
}

#[test]
fn a_policy_is_watched_and_filmed() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (out, film) = (path("out"), path("film.gif"));
    let train = [
        "train",
        "ppo",
        "SimpleCorridor",
        "--env-set",
        "length=6",
        "--until-return",
        "0.4",
        "--set",
        "lambda=1.0",
        "--out",
        &out,
    ];
    assert!(air_rl(&train).status.success());

    let enjoyed = air_rl(&[
        "enjoy",
        &out,
        "--episodes",
        "2",
        "--out",
        &film,
        "--json",
        "--width",
        "160",
        "--height",
        "64",
    ]);
    assert!(enjoyed.status.success(), "{}", said(&enjoyed.stderr));
    let enjoyed: Value = serde_json::from_slice(&enjoyed.stdout).unwrap();
    let evaluated = air_rl(&["eval", &out, "--episodes", "2", "--json"]);
    let evaluated: Value = serde_json::from_slice(&evaluated.stdout).unwrap();
    assert_eq!(enjoyed["mean_return"], evaluated["mean_return"], "they are the same episodes");
    assert_eq!((&enjoyed["steps"], &enjoyed["pictures"]), (&json!(12), &json!(14)));
    let bytes = std::fs::read(&film).unwrap();
    let (head, size) = (&bytes[..6], [160, 0, 64, 0]);
    assert_eq!((head, &bytes[6..10], bytes.last()), (&b"GIF89a"[..], &size[..], Some(&0x3b)));

    // What is printed elsewhere than on a terminal is plain text: in its last picture the walker is at the end.
    let shown = air_rl(&["enjoy", &out, "--show", "always", "--columns", "36"]);
    let shown = said(&shown.stdout);
    assert!(!shown.contains('\x1b') && shown.contains("episode 1, step 6, return 0.50"), "{shown}");
    assert_eq!(shown.matches("episode 1, step ").count(), 7);

    let says = |args: &[&str]| {
        let refused = air_rl(&[&["enjoy", &out], args].concat());
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
        said(&refused.stderr)
    };
    assert!(says(&["--out", "film.mp4"]).contains("--out must be a file whose name ends in .gif"));
    assert!(says(&["--fps", "200"]).contains("fps must be between 1 and 50 pictures a second"));
    let drawn = says(&["--env", "Recall", "--out", &path("recall.gif")]);
    assert!(drawn.contains("there is no picture of `Recall`; there is one of Acrobot-v1, "), "{drawn}");
    assert!(!dir.path().join("recall.gif").exists());
    let nowhere = air_rl(&["enjoy", &out, "--out", &path("no/where.gif")]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(said(&nowhere.stderr).contains("cannot write "), "{nowhere:?}");
}
