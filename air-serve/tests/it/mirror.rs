//! Shadow traffic.

use std::io::Write as _;
use std::process::{Command, Stdio};

use air_core::BoxError;
use air_serve::{App, Deployment, Execution, ServeError, each, run};
use crossbeam_channel::unbounded;

use crate::client::{get, post};
use crate::examples;
use crate::gate::{PANIC, gated};
use crate::lines::Running;
use crate::wait::until;

fn app() -> App {
    App::new().with_http(|http| http.port = 0)
}

#[test]
fn a_share_goes_to_the_other_too_and_its_answers_are_dropped_and_counted() {
    let (told, seen) = unbounded();
    let shadow = Deployment::new("shadow", move || {
        let told = told.clone();
        Ok(each(move |x: i64| -> Result<String, BoxError> {
            told.send(x)?;
            if x == 8 { Err("not eight".into()) } else { Ok("nobody reads this".into()) }
        }))
    });
    let main = Deployment::new("main", || Ok(each(|x: i64| Ok(2 * x)))).mirror(&shadow.handle(), 0.5);
    let server = run(app().deploy(main).deploy(shadow)).unwrap();
    let handle = server.handle::<i64, i64>("main").unwrap();
    for x in 1..=10 {
        assert_eq!(handle.call_blocking(x).unwrap(), 2 * x);
        if x % 2 == 0 {
            assert_eq!(seen.recv().unwrap(), x, "every second, exactly");
        }
    }
    let line = |outcome: &str, count: usize| {
        let labels = format!("deployment=\"main\",to=\"shadow\",outcome=\"{outcome}\"");
        let other = format!("deployment=\"main\",outcome=\"{outcome}\",to=\"shadow\"");
        [labels, other].map(|labels| format!("air_serve_mirrored_total{{{labels}}} {count}"))
    };
    let counted = |outcome: &str, count: usize| {
        let metrics = server.metrics();
        line(outcome, count).iter().any(|line| metrics.contains(line))
    };
    until("all are counted", || counted("ok", 4) && counted("failed", 1) && counted("dropped", 0));
    assert!(server.metrics().contains("air_serve_mirror_seconds_count"), "{}", server.metrics());
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_air-serve");

/// Two applications of one model, the first with this mirror.
fn file(mirror: &str) -> tempfile::NamedTempFile {
    let text = format!(
        "http_options:\n  port: 0\napplications:\n- name: main\n  route_prefix: /main\n  import_path: onnx://{0}\n  \
         mirror: {mirror}\n- name: shadow\n  route_prefix: /shadow\n  import_path: onnx://{0}\n",
        examples("iris_gbc.onnx").display()
    );
    let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn a_file_says_what_is_mirrored() {
    let file = file("{to: shadow, share: 0.5}");
    let mut command = Command::new(PROGRAM);
    command.arg("run").arg(file.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut server = Running(command.spawn().unwrap());
    let addr = server.addr();
    for _ in 0..4 {
        assert_eq!(post(addr, "/main", r#"{"vector": [1.2, 1.0, 1.1, 0.9]}"#).body, r#"{"result":1}"#);
    }
    // What is refused is nothing to the other either.
    assert_eq!(post(addr, "/main", "{").status, 400);
    assert_eq!(post(addr, "/main", r#"{"vector": [1.2]}"#).status, 422);
    let mirrored = |outcome: &str| {
        let metrics = get(addr, "/metrics").body;
        let is_it = |line: &&str| {
            line.starts_with("air_serve_mirrored_total")
                && ["deployment=\"main\"", "to=\"shadow\"", outcome].iter().all(|part| line.contains(part))
        };
        let line = metrics.lines().find(is_it).unwrap().rsplit_once(' ').unwrap().1.to_owned();
        line.parse::<u64>().unwrap()
    };
    until("every second is", || mirrored("ok") == 2);
    assert_eq!((mirrored("failed"), mirrored("dropped")), (0, 0));
    server.signal("-TERM");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

#[test]
fn what_is_wrong_with_a_mirror_of_a_file_is_told_before_it_runs() {
    for (mirror, says) in [
        ("{to: shadow, share: 0}", "application `main`: its mirror: the share is 0, it must be above 0"),
        ("{to: shadow, share: 1.5}", "the share is 1.5, it must be above 0 and at most 1"),
        ("{to: main}", "`main` is its own deployment, name another one"),
        ("{to: elsewhere}", "there is no deployment `elsewhere` in the file; there are `shadow`"),
        ("{share: 0.5}", "missing field `to`"),
        ("{to: shadow, shares: 0.5}", "unknown field `shares`"),
    ] {
        let output = Command::new(PROGRAM).arg("run").arg(file(mirror).path()).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{mirror}: {error}");
        assert!(error.contains(says), "expected {says:?}: {error}");
    }
}

#[test]
fn a_shadow_that_stands_still_or_panics_neither_delays_nor_fails_the_answer() {
    let (gate, shadow) = gated("shadow");
    let shadow = shadow.with(|config| config.execution = Execution::Thread);
    let main = Deployment::new("main", || Ok(each(|x: i64| Ok(x)))).mirror(&shadow.handle(), 1.0);
    let server = run(app().deploy(main).deploy(shadow)).unwrap();
    let handle = server.handle::<i64, i64>("main").unwrap();
    assert_eq!(handle.call_blocking(PANIC).unwrap(), PANIC);
    assert_eq!(gate.started.recv().unwrap(), [PANIC]);
    // It answers nothing, and 64 may be under way and 64 wait.
    for x in 0..500 {
        assert_eq!(handle.call_blocking(x).unwrap(), x);
    }
    let dropped = || {
        let metrics = server.metrics();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("air_serve_mirrored_total") && line.contains("dropped"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0)
    };
    assert!((300.0..=500.0).contains(&dropped()), "{}", dropped());
    // A caller that is asked for each leaves in its own time.
    (0..500).for_each(|_| gate.open.send(()).unwrap());
    assert_eq!(handle.call_blocking(7).unwrap(), 7);
}

#[test]
fn a_mirror_to_nobody_or_of_no_share_is_refused() {
    let main = |share: f64| {
        let to = air_serve::DeploymentHandle::<i64, i64>::named("shadow");
        Deployment::new("main", || Ok(each(|x: i64| Ok(x)))).mirror(&to, share)
    };
    assert!(matches!(run(app().deploy(main(0.5))), Err(ServeError::Dependency { .. })));
    for share in [0.0, -1.0, 1.5, f64::NAN] {
        let (_gate, shadow) = gated("shadow");
        let error = run(app().deploy(main(share)).deploy(shadow)).unwrap_err().to_string();
        assert!(error.contains("the share that is mirrored is"), "{error}");
    }
}
