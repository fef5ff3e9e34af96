//! Updates, rollbacks, canaries and changes in place, under load: no request fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use air_core::BoxError;
use air_serve::{
    App, ApplicationState, CallError, Deployment, DeploymentHandle, DeploymentState, DeploymentStatus,
    Execution, Model, ServeError, Server, each, run,
};
use serde_json::{Value, json};

use crate::client::{connect, get, post, read, write};
use crate::wait::until;

/// Answers an input with it and the version's name; panics once when it is told to.
struct Tagged {
    tag: &'static str,
    panics: Arc<AtomicBool>,
}

impl Model for Tagged {
    type In = u64;
    type Out = (u64, &'static str);

    fn predict(&mut self, batch: Vec<u64>) -> Result<Vec<(u64, &'static str)>, BoxError> {
        assert!(!self.panics.swap(false, Ordering::SeqCst), "told to panic");
        Ok(batch.into_iter().map(|x| (x, self.tag)).collect())
    }
}

fn tagged(tag: &'static str, replicas: usize) -> (Arc<AtomicBool>, Deployment<Tagged>) {
    let panics = Arc::new(AtomicBool::new(false));
    let model = Arc::clone(&panics);
    let deployment = Deployment::new("model", move || Ok(Tagged { tag, panics: Arc::clone(&model) }));
    (panics, deployment.version(tag).with(|config| config.num_replicas = replicas))
}

fn broken(why: &'static str) -> Deployment<Tagged> {
    Deployment::new("model", move || Err(why.into())).version("broken")
}

fn serve<M: Model<In = u64, Out = (u64, &'static str)>>(deployment: Deployment<M>) -> Server {
    run(App::new().with_http(|http| http.port = 0).route("/model", deployment)).unwrap()
}

fn status(server: &Server) -> DeploymentStatus {
    server.status().applications["default"].deployments["model"].clone()
}

/// Callers by handle and over HTTP, each one call after another until it is told to stop. Every answer is checked.
struct Load {
    stop: AtomicBool,
    answered: AtomicUsize,
    failed: AtomicUsize,
}

/// Runs `change` under load; returns how many were answered, and how many not.
fn under_load(server: &Server, change: impl FnOnce(&Load)) -> (usize, usize) {
    /// Each caller ends after so many at the latest.
    const MOST: u64 = 200_000;
    let load =
        Load { stop: AtomicBool::new(false), answered: AtomicUsize::new(0), failed: AtomicUsize::new(0) };
    let handle: DeploymentHandle<u64, (u64, &'static str)> = server.handle("model").unwrap();
    thread::scope(|scope| {
        for caller in 0..4u64 {
            let (load, handle, addr) = (&load, handle.clone(), server.addr());
            scope.spawn(move || {
                let mut stream = connect(addr);
                for call in (0..MOST).take_while(|_| !load.stop.load(Ordering::SeqCst)) {
                    let x = caller * MOST + call;
                    let answered = if caller % 2 == 0 {
                        let answer = handle.call_blocking(x);
                        answer.map(|(y, _)| assert_eq!(y, x)).map_err(|error| error.to_string())
                    } else {
                        write(&mut stream, "POST", "/model", "", x.to_string());
                        let response = read(&mut stream);
                        let is_its_own = response.body.starts_with(&format!("[{x},"));
                        (response.status == 200 && is_its_own).then_some(()).ok_or(response.body)
                    };
                    match answered {
                        Ok(()) => load.answered.fetch_add(1, Ordering::SeqCst),
                        Err(error) => {
                            assert!(error.contains("told to panic"), "{error}");
                            load.failed.fetch_add(1, Ordering::SeqCst)
                        }
                    };
                }
            });
        }
        load.goes_on();
        change(&load);
        load.goes_on();
        load.stop.store(true, Ordering::SeqCst);
    });
    (load.answered.into_inner(), load.failed.into_inner())
}

impl Load {
    /// Waits until the callers have had a hundred further answers.
    fn goes_on(&self) {
        let before = self.answered.load(Ordering::SeqCst);
        until("the load goes on", || self.answered.load(Ordering::SeqCst) >= before + 100);
    }
}

#[test]
fn no_request_fails_through_updates_rollbacks_and_changes_of_size() {
    for execution in [Execution::Thread, Execution::Auto] {
        let with = |tag, replicas| tagged(tag, replicas).1.with(|config| config.execution = execution);
        let server = serve(with("a", 1));
        let handle = server.handle::<u64, (u64, &'static str)>("model").unwrap();
        let (answered, failed) = under_load(&server, |load| {
            // One replica, then more, then one again.
            for (tag, replicas) in [("b", 1), ("c", 3), ("d", 2), ("e", 1)] {
                server.update(with(tag, replicas)).unwrap();
                assert_eq!(handle.call_blocking(1).unwrap(), (1, tag));
                load.goes_on();
            }
            let error = server.update(broken("no weights here")).unwrap_err();
            assert!(matches!(&error, ServeError::RolledBack { .. }));
            assert_eq!(
                error.to_string(),
                "deployment `model`: the update to version broken was rolled back: no weights here (failed 3 times)"
            );
            assert_eq!(handle.call_blocking(1).unwrap(), (1, "e"));
        });
        assert_eq!(failed, 0, "of {answered}");
        until("only the last version is left", || {
            let status = status(&server);
            status.version == "e" && status.replicas.len() == 1 && status.status == DeploymentState::Healthy
        });
        assert!(status(&server).message.contains("no weights here"), "{:?}", status(&server));
    }
}

#[test]
fn a_crash_costs_what_the_replica_was_executing_and_nothing_where_that_may_run_twice() {
    for idempotent in [false, true] {
        let (panics, deployment) = tagged("a", 2);
        let deployment = if idempotent { deployment.idempotent() } else { deployment };
        let server = serve(deployment.with(|config| {
            config.execution = Execution::Thread;
            config.max_batch_size = 4;
        }));
        let (answered, failed) = under_load(&server, |load| {
            for _ in 0..3 {
                panics.store(true, Ordering::SeqCst);
                load.goes_on();
            }
        });
        // Three batches, of one to four requests.
        let bounds = if idempotent { 0..=0 } else { 3..=12 };
        assert!(bounds.contains(&failed), "{failed} of {answered}");
        let restarts = || status(&server).replicas.iter().map(|replica| replica.restarts).sum::<usize>();
        until("the replicas are back", || restarts() == 3);
    }
}

#[test]
fn a_version_that_fails_its_warm_up_gets_no_request() {
    let server = serve(tagged("a", 1).1);
    let picky = || {
        each(|x: u64| -> Result<(u64, &'static str), BoxError> {
            if x == 42 { Err("the weights do not fit".into()) } else { Ok((x, "picky")) }
        })
    };
    let deployment =
        move |input| Deployment::new("model", move || Ok(picky())).warm_up(move || vec![1, input]);
    let error = server.update(deployment(42)).unwrap_err().to_string();
    assert!(error.contains("warm-up: the weights do not fit"), "{error}");
    assert_eq!(post(server.addr(), "/model", "1").body, r#"[1,"a"]"#);
    let status = &server.status().applications["default"];
    assert_eq!(status.deployments["model"].version, "a");
    // A model of another type may take its place, as long as requests and answers are of the same.
    server.update(deployment(2)).unwrap();
    assert_eq!(post(server.addr(), "/model", "1").body, r#"[1,"picky"]"#);
    let other = Deployment::new("model", || Ok(each(|x: String| Ok(x))));
    let error = server.update(other).unwrap_err().to_string();
    assert!(error.contains("it takes u64 and gives") && error.contains("another name"), "{error}");
}

#[test]
fn a_canary_gets_exactly_its_share_until_it_is_promoted_or_rolled_back() {
    let server = serve(tagged("a", 2).1);
    let handle = server.handle::<u64, (u64, &'static str)>("model").unwrap();
    let share = || {
        let tags = (0..200).map(|x| handle.call_blocking(x).unwrap().1);
        tags.filter(|tag| *tag != "a").count()
    };
    server.canary(tagged("b", 2).1, 0.25).unwrap();
    assert_eq!(share(), 50);
    server.set_canary("model", 0.5).unwrap();
    assert_eq!(share(), 100);
    let update = status(&server).update.unwrap();
    assert_eq!((update.version.as_str(), update.share, update.canary), ("b", 0.5, true));
    let error = server.update(tagged("c", 1).1).unwrap_err().to_string();
    assert!(error.contains("a canary is under way: promote it or roll it back"), "{error}");
    server.roll_back("model", "it is no better").unwrap();
    assert_eq!(share(), 0);
    assert!(status(&server).message.ends_with("rolled back: it is no better"), "{:?}", status(&server));
    server.canary(tagged("b", 2).1, 0.1).unwrap();
    server.promote("model").unwrap();
    assert_eq!(share(), 200);
    for bad in [0.0, 1.0, -1.0, f64::NAN] {
        assert!(
            server.canary(tagged("c", 1).1, bad).unwrap_err().to_string().contains("above 0 and below 1")
        );
    }
    assert!(server.promote("model").unwrap_err().to_string().contains("no canary"));
    assert!(server.roll_back("model", "").unwrap_err().to_string().contains("no update"));
    assert!(server.promote("nobody").unwrap_err().to_string().contains("there are: model"));
}

/// Multiplies by what it is configured with.
struct Times(u64);

impl Model for Times {
    type In = u64;
    type Out = (u64, &'static str);

    fn predict(&mut self, batch: Vec<u64>) -> Result<Vec<(u64, &'static str)>, BoxError> {
        Ok(batch.into_iter().map(|x| (x * self.0, "times")).collect())
    }

    fn reconfigure(&mut self, user_config: &Value) -> Result<(), BoxError> {
        self.0 = user_config["factor"].as_u64().ok_or("factor is not a whole number")?;
        Ok(())
    }
}

#[test]
fn a_user_config_changes_in_place_or_is_taken_back() {
    let built = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&built);
    let build = move || {
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Times(0))
    };
    let times = |factor: Value| {
        Deployment::new("model", build.clone()).version("1").with(|config| {
            config.num_replicas = 3;
            config.user_config = Some(json!({ "factor": factor }));
        })
    };
    let server = serve(times(json!(2)));
    let answers = || -> Vec<u64> { (0..20).map(|_| ask(&server, 10)).collect() };
    assert_eq!(answers(), [20; 20]);
    server.reconfigure("model", json!({"factor": 3})).unwrap();
    assert_eq!(answers(), [30; 20]);
    server.update(times(json!(4))).unwrap();
    assert_eq!(answers(), [40; 20]);
    assert_eq!(built.load(Ordering::SeqCst), 3, "no model was built anew");
    let error = server.reconfigure("model", json!({"factor": "many"})).unwrap_err().to_string();
    assert!(error.contains("user_config: factor is not a whole number"), "{error}");
    assert_eq!(answers(), [40; 20]);
    assert!(status(&server).message.contains("taken back: factor is not"), "{:?}", status(&server));
    until("every replica is back", || status(&server).status == DeploymentState::Healthy);
    assert_eq!(answers(), [40; 20]);
}

fn ask(server: &Server, x: u64) -> u64 {
    server.handle::<u64, (u64, &'static str)>("model").unwrap().call_blocking(x).unwrap().0
}

#[test]
fn a_model_without_settings_says_so() {
    let app = tagged("a", 1).1.with(|config| config.user_config = Some(json!(1)));
    let error = run(App::new().with_http(|http| http.port = 0).deploy(app)).unwrap_err().to_string();
    assert!(error.contains("user_config: this model has no settings"), "{error}");
}

#[test]
fn a_deploy_adds_changes_and_ends_deployments_and_the_routes_with_them() {
    let hello = |tag| Deployment::new("hello", move || Ok(each(move |x: u64| Ok((x, tag)))));
    let server = serve(tagged("a", 1).1);
    let addr = server.addr();
    let app = || App::new().route("/model", tagged("b", 1).1).route("/hello", hello("one"));
    let (answered, failed) = under_load(&server, |_| server.deploy(app()).unwrap());
    assert_eq!(failed, 0, "of {answered}");
    assert_eq!(get(addr, "/-/routes").body, r#"{"/hello":"hello","/model":"model"}"#);
    assert_eq!(post(addr, "/hello", "1").body, r#"[1,"one"]"#);
    assert_eq!(post(addr, "/model", "1").body, r#"[1,"b"]"#);
    // What cannot start changes nothing, and is remembered.
    let bad = Deployment::new("bad", || -> Result<Tagged, BoxError> { Err("no disk".into()) });
    let error = server.deploy(app().route("/bad", bad)).unwrap_err().to_string();
    assert!(error.contains("`bad`") && error.contains("no disk"), "{error}");
    let status = &server.status().applications["default"];
    assert_eq!(status.status, ApplicationState::DeployFailed);
    assert_eq!(status.message, error);
    assert_eq!(status.deployments.keys().collect::<Vec<_>>(), ["hello", "model"]);
    assert_eq!(post(addr, "/bad", "1").status, 404);
    assert_eq!(post(addr, "/model", "1").body, r#"[1,"b"]"#);
    // What is left out ends; the path goes to another.
    let handle = server.handle::<u64, (u64, &'static str)>("model").unwrap();
    let (answered, failed) =
        under_http_load(&server, || server.deploy(App::new().route("/model", hello("two"))).unwrap());
    assert_eq!(failed, 0, "of {answered}");
    assert_eq!(get(addr, "/-/routes").body, r#"{"/model":"hello"}"#);
    assert_eq!(post(addr, "/hello", "1").status, 404);
    assert!(matches!(handle.call_blocking(1), Err(CallError::Closed { .. })));
    assert_eq!(server.status().applications["default"].status, ApplicationState::Running);
    let other_port = App::new().with_http(|http| http.port = 1).route("/model", hello("three"));
    assert!(server.deploy(other_port).unwrap_err().to_string().contains("cannot change while it runs"));
}

/// Load on the path only, since its deployment goes away.
fn under_http_load(server: &Server, change: impl FnOnce()) -> (usize, usize) {
    let (stop, answered, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut stream = connect(server.addr());
                for x in (0..200_000).take_while(|_| !stop.load(Ordering::SeqCst)) {
                    write(&mut stream, "POST", "/model", "", x.to_string());
                    let is_right = read(&mut stream).body.starts_with(&format!("[{x},"));
                    if is_right { &answered } else { &failed }.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let goes_on = |more| until("the load goes on", || answered.load(Ordering::SeqCst) >= more);
        goes_on(100);
        change();
        goes_on(answered.load(Ordering::SeqCst) + 100);
        stop.store(true, Ordering::SeqCst);
    });
    (answered.into_inner(), failed.into_inner())
}

#[test]
fn the_status_is_served_as_json() {
    let server = serve(tagged("a", 2).1);
    let response = get(server.addr(), "/-/status");
    assert_eq!(response.header("content-type"), Some("application/json"));
    let status: Value = serde_json::from_str(&response.body).unwrap();
    let application = &status["applications"]["default"];
    assert_eq!((&application["status"], &application["message"]), (&json!("RUNNING"), &json!("")));
    let deployment = &application["deployments"]["model"];
    assert_eq!(deployment["status"], "HEALTHY");
    assert_eq!(deployment["replica_states"], json!({"RUNNING": 2}));
    assert_eq!(deployment["target_num_replicas"], 2);
    let replica = &deployment["replicas"][1];
    assert_eq!(
        (&replica["name"], &replica["state"], &replica["restarts"]),
        (&json!("model#1"), &json!("RUNNING"), &json!(0))
    );
    assert!(replica["since_s"].as_f64().unwrap() > 1e9 && replica["last_exit"].is_null());
    let metrics = server.metrics();
    for line in [
        "air_serve_replicas{deployment=\"model\",state=\"RUNNING\"} 2",
        "air_serve_replicas{deployment=\"model\",state=\"STARTING\"} 0",
        "air_serve_replicas_target{deployment=\"model\"} 2",
        "air_serve_replica_restarts_total{deployment=\"model\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}
