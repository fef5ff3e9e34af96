//! What a runtime does now, as values, over HTTP and on the command line.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;

use air_core::resource::Resources;
use air_core::state::{Event, EventKind, State, StateConfig};
use air_core::{
    Backoff, Clock, Mailbox, ManualClock, Runtime, RuntimeConfig, Spec, SupervisorSpec, WorkerPhase,
};

use super::probe::{Do, Probe, SECOND, act, boom, hold, new_probe, until};

pub(super) fn nothing() -> Do {
    act(|_| Ok(()))
}

pub(super) fn spawn(runtime: &Runtime, name: &str) -> Mailbox<Probe> {
    let spec = SupervisorSpec::new(format!("over {name}")).backoff(Backoff::NONE).intensity(2, SECOND * 60);
    runtime.supervisor(spec).unwrap().spawn(Spec::new(name), new_probe).unwrap()
}

#[test]
fn the_state_says_what_workers_do_and_how_they_ended() {
    let runtime =
        Runtime::with(RuntimeConfig::default().resources(Resources::new().cpu(4.0).gpu(1.0))).unwrap();
    let idle = spawn(&runtime, "idle");
    idle.ask_blocking(nothing()).unwrap();
    let failing = spawn(&runtime, "failing");
    failing.ask_blocking(boom("first")).unwrap_err();
    failing.ask_blocking(boom("second")).unwrap_err();
    let gpu = Spec::new("busy").resources(Resources::new().gpu(0.5));
    let busy = runtime.spawn(gpu, new_probe).unwrap();
    let release = hold(&busy);
    busy.tell_blocking(nothing()).unwrap();
    failing.ask_blocking(nothing()).unwrap();
    let state = runtime.state();
    release.send(()).unwrap();

    let find = |name: &str| state.workers.iter().find(|worker| &*worker.name == name).unwrap();
    let worker = find("idle");
    assert_eq!((worker.phase, worker.handled, worker.restarts), (WorkerPhase::Idle, 1, 0));
    assert!(worker.exits.is_empty() && worker.devices.is_empty());
    let worker = find("failing");
    assert_eq!((worker.restarts, worker.last_exit.as_deref()), (2, Some("panicked: second")));
    let exits: Vec<_> = worker.exits.iter().map(|exit| (exit.generation, exit.cause.as_str())).collect();
    assert_eq!(exits, [(1, "panicked: first"), (2, "panicked: second")]);
    let worker = find("busy");
    assert_eq!((worker.phase, worker.queued), (WorkerPhase::Busy, 1));
    assert_eq!(worker.devices, [air_core::device::Device::Cuda(0)]);
    assert_eq!(state.counters.restarts, 2);
    assert_eq!(state.resources.free.gpu, 0.5);
    assert!(!state.devices.devices.is_empty());

    // It is plain data: what is written is what is read.
    let json = serde_json::to_value(&state).unwrap();
    let read: State = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), json);
    let summary = state.summary();
    for part in ["4 cpu, 1 gpu", "0.5 gpu by busy in 1 leases", "failing (panicked: second)", "lately"] {
        assert!(summary.contains(part), "{part} is not in\n{summary}");
    }
}

#[test]
fn supervision_is_told_in_order_with_its_time_and_causes() {
    let (clock, time) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock)).unwrap();
    time.advance(SECOND);
    let worker = spawn(&runtime, "w");
    for _ in 0..2 {
        worker.ask_blocking(boom("again")).unwrap_err();
    }
    // Answered by the third life, so all before it has been told.
    worker.ask_blocking(nothing()).unwrap();
    time.advance(SECOND);
    worker.ask_blocking(boom("at last")).unwrap_err();
    // The mailbox closes once its supervisor has given up.
    until(|| worker.ended().is_some());
    let events = runtime.state().events;
    let told: Vec<(u64, u64, &str, &str)> = events
        .iter()
        .map(|event| (event.number, event.at.as_secs(), &*event.name, event.kind.name()))
        .collect();
    assert_eq!(
        told,
        [
            (0, 1, "w", "started"),
            (1, 1, "w", "exited"),
            (2, 1, "w", "restarted"),
            (3, 1, "w", "exited"),
            (4, 1, "w", "restarted"),
            (5, 2, "w", "exited"),
            (6, 2, "over w", "gave_up"),
        ]
    );
    let exited = EventKind::Exited { generation: 3, failure: true, cause: "panicked: at last".into() };
    assert_eq!(events[5].kind, exited);
    let EventKind::GaveUp { cause } = &events[6].kind else { panic!("{:?}", events[6]) };
    assert_eq!(cause, "was given up after 2 restarts of w, which panicked: at last");
}

/// Moves time on until a worker that is stuck for longer than a second has been left behind.
fn wait_until_abandoned(runtime: &Runtime, time: &ManualClock) {
    time.wait_for_sleepers(1);
    // The watch looks twice: it sees the message at the first, and that it is still there at the second.
    until(|| {
        time.advance(SECOND);
        runtime.counters().abandoned != 0
    });
}

#[test]
fn a_worker_left_behind_is_told_of() {
    let (clock, time) = Clock::manual();
    let config = RuntimeConfig::default().clock(clock).shutdown_grace(SECOND);
    let runtime = Runtime::with(config).unwrap();
    let supervisor = runtime.supervisor(SupervisorSpec::new("s").backoff(Backoff::NONE)).unwrap();
    let worker = supervisor.spawn(Spec::new("stuck").stall(SECOND), new_probe).unwrap();
    let release = hold(&worker);
    wait_until_abandoned(&runtime, &time);
    worker.ask_blocking(nothing()).unwrap();
    let kinds: Vec<_> = runtime.state().events.iter().map(|event| event.kind.name()).collect();
    assert_eq!(kinds[..4], ["started", "abandoned", "exited", "restarted"]);
    release.send(()).unwrap();
}

#[test]
fn a_worker_left_behind_keeps_what_it_holds_until_its_thread_lets_go() {
    let (clock, time) = Clock::manual();
    let gpu = Resources::new().gpu(1.0);
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock).resources(gpu.clone())).unwrap();
    let supervisor = runtime.supervisor(SupervisorSpec::new("s").backoff(Backoff::NONE)).unwrap();
    let spec = Spec::new("stuck").stall(SECOND).resources(gpu.clone());
    let worker = supervisor.spawn(spec, new_probe).unwrap();
    let release = hold(&worker);
    wait_until_abandoned(&runtime, &time);
    worker.ask_blocking(nothing()).unwrap();
    worker.stop();
    worker.wait_ended_blocking();

    // The worker is gone, its first life is not.
    let state = runtime.state();
    assert!(state.workers.is_empty());
    let left: Vec<_> = state.left_behind.iter().map(|life| (&*life.name, life.generation)).collect();
    assert_eq!(left, [("stuck", 1)]);
    assert_eq!(state.left_behind[0].resources, gpu);
    assert_eq!(state.left_behind[0].devices, [air_core::device::Device::Cuda(0)]);
    assert_eq!(state.resources.free.gpu, 0.0);
    assert!(runtime.acquire(gpu.clone()).now().is_err());
    assert!(state.summary().contains("life 1 of stuck"), "{}", state.summary());

    let next = runtime.spawn(Spec::new("next").resources(gpu), new_probe).unwrap();
    let answer = next.send_blocking(nothing());
    release.send(()).unwrap();
    answer.wait().unwrap();
    let state = runtime.state();
    assert!(state.left_behind.is_empty());
    assert_eq!(state.resources.held[0].owner.as_deref(), Some("next"));
}

#[test]
fn the_timeline_has_each_message_on_its_workers_line_while_it_is_on() {
    let (clock, time) = Clock::manual();
    let runtime = Runtime::with(RuntimeConfig::default().clock(clock).timeline_spans(3)).unwrap();
    let (one, two) = (spawn(&runtime, "one"), spawn(&runtime, "two"));
    one.ask_blocking(nothing()).unwrap();
    assert_eq!(runtime.timeline().spans(), []);
    runtime.timeline().start();
    let release = hold(&one);
    time.advance(SECOND);
    release.send(()).unwrap();
    one.ask_blocking(nothing()).unwrap();
    two.ask_blocking(boom("recorded too")).unwrap_err();
    two.ask_blocking(nothing()).unwrap();
    // The last of them is noted after its answer is sent.
    until(|| runtime.timeline().dropped() + runtime.timeline().spans().len() as u64 == 4);
    assert_eq!(runtime.timeline().dropped(), 1);
    let spans = runtime.timeline().spans();
    // A span is kept just after its answer is sent, so those of two workers come in any order.
    let mut lanes: Vec<_> = spans.iter().map(|span| &*span.lane).collect();
    lanes.sort_unstable();
    assert_eq!(lanes, ["one", "two", "two"]);
    assert!(spans.iter().all(|span| span.name.ends_with("probe::Do") && span.kind == "message"));
    assert!(spans.iter().all(|span| span.start == SECOND && span.duration.is_zero()));
    let trace: serde_json::Value = serde_json::from_str(&runtime.timeline().chrome_trace()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert_eq!(events.iter().filter(|event| event["ph"] == "X" && event["name"] == "Do").count(), 3);
}

#[test]
fn tasks_are_on_their_threads_lines_and_in_the_state() {
    let runtime = Runtime::start().unwrap();
    runtime.timeline().start();
    assert_eq!(*runtime.task("sum").spawn(|| Ok(1 + 1)).get().unwrap(), 2);
    let spans = runtime.timeline().spans();
    assert_eq!(spans.len(), 1);
    assert_eq!((&*spans[0].name, spans[0].kind), ("sum", "task"));
    let server = runtime.serve_state(StateConfig::default()).unwrap();
    let (_, text) = get(server.address(), "/metrics", "");
    assert!(text.contains("\nair_core_task_threads 1.0\n"), "{text}");
    assert_eq!(runtime.state().tasks.threads, 1);
    assert!(runtime.state().summary().contains("tasks under way on 1 threads"));
}

/// Sends a request as it is written and returns the whole answer.
fn send(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(address: SocketAddr, path: &str, headers: &str) -> (u16, String) {
    let answer = send(address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[test]
fn the_endpoint_serves_the_state_to_who_has_the_token() {
    let runtime = Runtime::start().unwrap();
    let worker = spawn(&runtime, "served");
    worker.ask_blocking(nothing()).unwrap();
    let server = runtime.serve_state(StateConfig::default().token("s3cret")).unwrap();
    let address = server.address();
    assert!(address.ip().is_loopback());
    for headers in [
        "",
        "authorization: Bearer s3cre\r\n",
        "authorization: Bearer s3cret2\r\n",
        "authorization: Basic s3cret\r\n",
    ] {
        let (status, body) = get(address, "/state", headers);
        assert_eq!((status, body.contains("served")), (401, false), "{headers}");
    }
    let token = "authorization: Bearer s3cret\r\n";
    let (status, body) = get(address, "/state", token);
    assert_eq!(status, 200);
    let state: State = serde_json::from_str(&body).unwrap();
    assert_eq!(&*state.workers[0].name, "served");
    let (status, text) = get(address, "/metrics", token);
    assert_eq!(status, 200);
    for line in
        ["\nair_core_workers 1.0\n", "# TYPE air_core_worker_restarts_total counter\n", "what=\"free\""]
    {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert_eq!(get(address, "/timeline", token).0, 200);
    assert_eq!(get(address, "/secrets", token).0, 404);
    let post = format!("POST /state HTTP/1.1\r\nhost: {address}\r\n{token}content-length: 0\r\n\r\n");
    assert!(send(address, &post).starts_with("HTTP/1.1 405 "));
    let long = format!("x-long: {}\r\n", "x".repeat(64 << 10));
    assert_eq!(get_status(address, &long), Some(431));
    assert!(send(address, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400 "));
    drop(runtime);
    assert!(TcpStream::connect(address).is_err(), "the server outlived its runtime");
}

/// The status of an answer that the server may cut off, as it does not read what it refuses.
fn get_status(address: SocketAddr, headers: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).unwrap();
    // The server may hang up before all of it is sent.
    let _ = stream.write_all(format!("GET /state HTTP/1.1\r\n{headers}\r\n").as_bytes());
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).ok()?;
    line.split(' ').nth(1)?.parse().ok()
}

#[test]
fn without_a_token_only_this_machine_s_names_are_answered() {
    let runtime = Runtime::start().unwrap();
    let address = runtime.serve_state(StateConfig::default()).unwrap().address();
    assert_eq!(get(address, "/state", "").0, 200);
    let foreign = send(address, "GET /state HTTP/1.1\r\nhost: evil.example\r\n\r\n");
    assert!(foreign.starts_with("HTTP/1.1 403 "), "{foreign}");
    // The port is taken now.
    let taken = runtime.serve_state(StateConfig::default().port(address.port())).unwrap_err();
    assert!(taken.to_string().starts_with("cannot serve the state on port"), "{taken}");
    assert!(runtime.serve_state(StateConfig::default().token("two words")).is_err());
    assert!(!format!("{:?}", StateConfig::default().token("s3cret")).contains("s3cret"));
    let handle = runtime.handle();
    drop(runtime);
    assert_eq!(handle.serve_state(StateConfig::default()).unwrap_err().to_string(), "the runtime has ended");
}

/// Reads server-sent events off a connection.
struct Follower(BufReader<TcpStream>);

impl Follower {
    fn new(address: SocketAddr, headers: &str) -> Self {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /events HTTP/1.1\r\nhost: {address}\r\n{headers}\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    fn next(&mut self) -> Option<Event> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            if let Some(json) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(json).unwrap());
            }
        }
    }
}

#[test]
fn events_are_followed_as_they_happen_until_the_runtime_ends() {
    let runtime = Runtime::start().unwrap();
    let address = runtime.serve_state(StateConfig::default()).unwrap().address();
    let worker = spawn(&runtime, "w");
    worker.ask_blocking(nothing()).unwrap();
    let mut follower = Follower::new(address, "");
    let first = follower.next().unwrap();
    assert_eq!((first.number, first.kind), (0, EventKind::Started));
    worker.ask_blocking(boom("live")).unwrap_err();
    let EventKind::Exited { cause, .. } = follower.next().unwrap().kind else { panic!("it exited") };
    assert_eq!(cause, "panicked: live");
    assert_eq!(follower.next().unwrap().kind, EventKind::Restarted { generation: 2 });
    // One that comes back goes on where it was.
    assert_eq!(Follower::new(address, "last-event-id: 1\r\n").next().unwrap().number, 2);
    drop(runtime);
    while let Some(event) = follower.next() {
        assert!(event.number > 2);
    }
}

fn air_core(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_air-core"));
    command.args(args).stdin(Stdio::null()).env_remove("AIR_TOKEN").output().unwrap()
}

fn texts(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn the_command_line_reads_a_running_program() {
    let runtime = Runtime::start().unwrap();
    let worker = spawn(&runtime, "seen");
    runtime.timeline().start();
    worker.ask_blocking(nothing()).unwrap();
    worker.ask_blocking(nothing()).unwrap();
    let url = runtime.serve_state(StateConfig::default().token("s3cret")).unwrap().url();
    let (code, out, err) = texts(&air_core(&["status", &url, "--token", "s3cret"]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.contains("seen\n") && out.contains("1 workers"), "{out}");
    let (code, out, _) = texts(&air_core(&["status", &url, "--token", "s3cret", "--json"]));
    let state: State = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &*state.workers[0].name), (Some(0), "seen"));

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.json");
    let args = ["timeline", &url, "--token", "s3cret", "-o", file.to_str().unwrap()];
    let (code, out, err) = texts(&air_core(&args));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(out.ends_with("trace.json\n"), "{out}");
    let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert!(trace["traceEvents"].as_array().unwrap().iter().any(|event| event["ph"] == "X"));
    let args = ["timeline", &url, "--token", "s3cret", "-o", "/nowhere/trace.json"];
    let (code, _, err) = texts(&air_core(&args));
    assert_eq!(code, Some(1));
    assert!(err.starts_with("error: cannot write `/nowhere/trace.json`\n  caused by: "), "{err}");
}

#[test]
fn the_command_line_says_why_it_cannot_read() {
    let fail = |args: &[&str]| {
        let (code, out, err) = texts(&air_core(args));
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        err
    };
    let runtime = Runtime::start().unwrap();
    let url = runtime.serve_state(StateConfig::default().token("s3cret")).unwrap().url();
    assert!(fail(&["status", &url]).contains("wants a token, and none was given"));
    assert!(fail(&["status", &url, "--token", "guess"]).contains("wants a token, and this is not it"));
    assert!(fail(&["status", &url, "--token", "a\r\nb"]).contains("no token has"));
    assert!(fail(&["status", "https://localhost"]).contains("its scheme is `https`"));
    drop(runtime);
    let refused = fail(&["status", &url]);
    assert!(refused.starts_with("error: cannot reach 127.0.0.1:"), "{refused}");
    assert!(refused.contains("caused by: "), "{refused}");

    // Something else listens there.
    for answer in ["HTTP/1.1 200 OK\r\nserver: nginx\r\ncontent-length: 2\r\n\r\n{}", "SSH-2.0-x\r\n", ""] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let other = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        assert!(fail(&["status", &address]).contains("is not a state endpoint of air-core"), "{answer}");
        other.join().unwrap();
    }
}
