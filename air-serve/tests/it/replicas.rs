//! Replicas that fail: they are replaced, their callers are told, others never notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use air_core::{BoxError, Clock, ManualClock, RuntimeConfig};
use air_serve::{
    App, CallError, Deployment, DeploymentHandle, DeploymentState, DeploymentStatus, Execution, Model,
    ReplicaState, Server, run_with,
};
use crossbeam_channel::{Receiver, Sender, unbounded};
use futures::executor::block_on;
use futures::future::join_all;

use crate::wait::until;

const HANG: i64 = -1;
const PANIC: i64 = -2;
const PANIC_ONCE: i64 = -3;

/// Gives back its inputs, but for some.
struct Moody {
    hangs: Sender<()>,
    /// Never sent to: receiving waits until the test is over.
    forever: Receiver<()>,
    panics: Arc<AtomicUsize>,
}

impl Model for Moody {
    type In = i64;
    type Out = i64;

    fn predict(&mut self, batch: Vec<i64>) -> Result<Vec<i64>, BoxError> {
        if batch.contains(&HANG) {
            let _ = self.hangs.send(());
            let _ = self.forever.recv();
        }
        let first = batch.contains(&PANIC_ONCE) && self.panics.fetch_add(1, Ordering::SeqCst) == 0;
        assert!(!first && !batch.contains(&PANIC), "in a bad mood");
        Ok(batch)
    }
}

/// The test's side of moody models.
struct Mood {
    /// A model hangs now.
    hanging: Receiver<()>,
    /// Dropped, it lets go of those that hang.
    #[expect(dead_code, reason = "it is held, not used")]
    end: Sender<()>,
}

fn moody() -> (Mood, Deployment<Moody>) {
    let ((end, forever), (hangs, hanging)) = (unbounded(), unbounded());
    let panics = Arc::new(AtomicUsize::new(0));
    let build = move || {
        let (hangs, forever, panics) = (hangs.clone(), forever.clone(), Arc::clone(&panics));
        Ok(Moody { hangs, forever, panics })
    };
    let deployment = Deployment::new("model", build).with(|config| {
        config.execution = Execution::Thread;
        config.request_timeout_s = 10_000.0;
    });
    (Mood { hanging, end }, deployment)
}

struct Served<M: Model> {
    server: Server,
    handle: DeploymentHandle<M::In, M::Out>,
    clock: ManualClock,
}

/// Serves a deployment on a clock that stands still, so that nothing hangs and nothing is late but by the test's will.
fn serve<M: Model>(deployment: Deployment<M>) -> Served<M> {
    let (clock, manual) = Clock::manual();
    let app = App::new().with_http(|http| http.port = 0).deploy(deployment);
    let server = run_with(app, RuntimeConfig::default().clock(clock)).unwrap();
    let handle = server.handle("model").unwrap();
    Served { server, handle, clock: manual }
}

/// The same, and the end of the server has all the time that there is.
fn serve_patiently<M: Model>(deployment: Deployment<M>) -> Served<M> {
    let (clock, manual) = Clock::manual();
    let app = App::new().with_http(|http| {
        http.port = 0;
        http.graceful_shutdown_timeout_s = 10_000.0;
    });
    let runtime = RuntimeConfig::default().clock(clock).shutdown_grace(Duration::from_secs(10_000));
    let server = run_with(app.deploy(deployment), runtime).unwrap();
    let handle = server.handle("model").unwrap();
    Served { server, handle, clock: manual }
}

impl<M: Model> Served<M> {
    fn status(&self) -> DeploymentStatus {
        self.server.status().applications["default"].deployments["model"].clone()
    }

    /// Lets so much time pass, once who looks after the deployment waits for it to.
    fn pass(&self, ms: u64) {
        self.clock.wait_for_sleepers(1);
        self.clock.advance(Duration::from_millis(ms));
    }

    /// Lets time pass, a tenth of a second after another, until it is so.
    #[track_caller]
    fn pass_until(&self, what: &str, mut is_so: impl FnMut() -> bool) {
        until(what, || {
            self.pass(100);
            is_so()
        });
    }

    /// Waits for something while time passes.
    #[track_caller]
    fn passing<T: Send>(&self, what: &str, wait: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let waiting = scope.spawn(wait);
            self.pass_until(what, || waiting.is_finished());
            waiting.join().unwrap()
        })
    }
}

#[test]
fn a_model_that_never_returns_is_given_up_and_its_callers_are_told() {
    let (mood, deployment) = moody();
    let served = serve(deployment.with(|config| config.health_check_timeout_s = Some(0.2)));
    let stuck = served.handle.call(HANG);
    // The only replica hangs, so that this is answered by the one that takes its place.
    let next = served.handle.call(7);
    mood.hanging.recv_timeout(Duration::from_mins(1)).unwrap();
    served.pass(300);
    match block_on(stuck) {
        Err(CallError::GivenUp { replica, reason }) => {
            assert_eq!(&*replica, "model#0");
            assert_eq!(&*reason, "its model did not return within 200ms");
        }
        other => panic!("{other:?}"),
    }
    // For the delay before the next start. Then time stands still, and nothing else can seem to hang.
    served.pass(100);
    assert_eq!(block_on(next).unwrap(), 7);
    let [replica] = &served.status().replicas[..] else { panic!("{:?}", served.status()) };
    assert_eq!((replica.name.as_str(), replica.restarts), ("model#0", 1));
    assert_eq!(replica.last_exit.as_deref(), Some("its model did not return within 200ms"));
    assert!(served.server.metrics().contains("air_serve_replica_restarts_total{deployment=\"model\"} 1"));
    drop(mood);
}

#[test]
fn what_a_lost_replica_had_is_tried_again_where_it_may_run_twice() {
    let (_mood, deployment) = moody();
    let deployment = deployment.idempotent().with(|config| {
        config.max_batch_size = 8;
        config.batch_wait_timeout_s = 0.05;
    });
    let served = serve(deployment);
    // All in one batch. The one that panics does so again when it is tried alone; the others are answered.
    let calls: Vec<_> = [1, PANIC, 2, PANIC_ONCE, 3].into_iter().map(|x| served.handle.call(x)).collect();
    let answers = served.passing("all are answered", || block_on(join_all(calls)));
    let said: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok().copied()).collect();
    assert_eq!(said, [Some(1), None, Some(2), Some(PANIC_ONCE), Some(3)]);
    assert!(matches!(&answers[1], Err(CallError::Panicked { .. })), "{answers:?}");
    let metrics = served.server.metrics();
    assert!(metrics.contains("air_serve_retries_total{deployment=\"model\"} 5"), "{metrics}");
}

#[test]
fn an_inline_call_is_tried_again_too() {
    let (_mood, deployment) = moody();
    let served = serve(deployment.idempotent().with(|config| config.execution = Execution::Inline));
    let ask = |x| served.passing("it is answered", || served.handle.call_blocking(x));
    assert_eq!(ask(PANIC_ONCE).unwrap(), PANIC_ONCE);
    assert!(matches!(ask(PANIC), Err(CallError::Panicked { .. })));
}

#[test]
fn others_never_notice_a_replica_that_is_lost() {
    let (mood, deployment) = moody();
    let served = serve(deployment.with(|config| config.num_replicas = 3));
    thread::scope(|scope| {
        for caller in 0..4 {
            let handle = served.handle.clone();
            scope.spawn(move || {
                for call in 0..500 {
                    let x = caller * 1000 + call;
                    assert_eq!(handle.call_blocking(x).unwrap(), x);
                }
            });
        }
        // One hangs all the while, of another the model is lost again and again.
        let stuck = served.handle.call(HANG);
        mood.hanging.recv_timeout(Duration::from_mins(1)).unwrap();
        for _ in 0..3 {
            let lost = served.passing("it is answered", || block_on(served.handle.call(PANIC)));
            assert!(matches!(lost, Err(CallError::Panicked { .. })), "{lost:?}");
        }
        drop(stuck);
    });
    served.pass_until("all replicas are back", || {
        served.status().replica_states.get(&ReplicaState::Running) == Some(&3)
    });
    drop(mood);
}

#[test]
fn a_request_without_a_replica_still_ends_in_time() {
    let failing = Arc::new(AtomicUsize::new(0));
    let fails = Arc::clone(&failing);
    let deployment = Deployment::new("model", move || {
        if fails.load(Ordering::SeqCst) == 1 {
            return Err("the disk is gone".into());
        }
        Ok(air_serve::each(|x: i64| {
            assert!(x >= 0, "negative");
            Ok(x)
        }))
    });
    let served = serve(deployment.with(|config| config.request_timeout_s = 0.5));
    failing.store(1, Ordering::SeqCst);
    assert!(matches!(block_on(served.handle.call(-1)), Err(CallError::Panicked { .. })));
    // Without a runtime of its own the future knows no time: whoever looks after the deployment does.
    let call = served.handle.call(1);
    let late = served.passing("it ends", || block_on(call));
    assert!(
        matches!(late, Err(CallError::Timeout { limit }) if limit == Duration::from_millis(500)),
        "{late:?}"
    );
    served.pass_until("it says why", || {
        let status = served.status();
        status.message == "replica model#0: the disk is gone" && status.status == DeploymentState::Unhealthy
    });
    failing.store(0, Ordering::SeqCst);
    served.pass_until("it recovers", || served.status().status == DeploymentState::Healthy);
    assert_eq!(block_on(served.handle.call(1)).unwrap(), 1);
}

#[test]
fn a_replica_that_is_known_to_hang_is_not_waited_for_at_the_end() {
    let (mood, deployment) = moody();
    let deployment = deployment.with(|config| {
        config.health_check_timeout_s = Some(0.2);
        config.graceful_shutdown_timeout_s = 10_000.0;
    });
    // Whatever waited for the thread of that replica would do so for hours.
    let served = serve_patiently(deployment);
    let stuck = served.handle.call(HANG);
    mood.hanging.recv_timeout(Duration::from_mins(1)).unwrap();
    served.pass(300);
    assert!(matches!(block_on(stuck), Err(CallError::GivenUp { .. })));
    served.server.shutdown();
    drop(mood);
}

/// Async models that block their thread as they are told.
struct Blocking {
    /// What a model has begun with.
    began: Receiver<i64>,
    end: Sender<()>,
}

impl Blocking {
    fn has_begun(&self, x: i64) {
        while self.began.recv_timeout(Duration::from_mins(1)).unwrap() != x {}
    }
}

const WAIT: i64 = -4;
const HANG_ONCE: i64 = -5;
const HANG_WHEN_DROPPED: i64 = -6;

/// Blocks its thread when it is dropped.
struct Clinging(Receiver<()>);

impl Drop for Clinging {
    fn drop(&mut self) {
        let _ = self.0.recv();
    }
}

fn blocking() -> (Blocking, Deployment<impl Model<In = i64, Out = i64>>) {
    let ((end, forever), (begins, began)) = (unbounded::<()>(), unbounded());
    let first = Arc::new(AtomicUsize::new(0));
    let build = move || {
        let (begins, forever, first) = (begins.clone(), forever.clone(), Arc::clone(&first));
        Ok(air_serve::each_async(move |x: i64| {
            let (begins, forever, first) = (begins.clone(), forever.clone(), Arc::clone(&first));
            async move {
                let _ = begins.send(x);
                let _clinging = (x == HANG_WHEN_DROPPED).then(|| Clinging(forever.clone()));
                if x == HANG || (x == HANG_ONCE && first.fetch_add(1, Ordering::SeqCst) == 0) {
                    let _ = forever.recv();
                }
                if x == WAIT || x == HANG_WHEN_DROPPED {
                    std::future::pending::<()>().await;
                }
                Ok(x)
            }
        }))
    };
    let deployment = Deployment::new("model", build).with(|config| {
        config.request_timeout_s = 10_000.0;
        config.health_check_timeout_s = Some(0.2);
    });
    (Blocking { began, end }, deployment)
}

#[test]
fn an_async_model_that_blocks_its_thread_is_given_up_and_all_its_callers_are_told() {
    let (model, deployment) = blocking();
    let served = serve(deployment);
    let (waits, stuck) = (served.handle.call(WAIT), served.handle.call(HANG));
    model.has_begun(WAIT);
    model.has_begun(HANG);
    served.pass(300);
    for call in [waits, stuck] {
        match block_on(call) {
            Err(CallError::GivenUp { replica, reason }) => {
                assert_eq!(&*replica, "model#0");
                assert_eq!(&*reason, "its model did not return within 200ms");
            }
            other => panic!("{other:?}"),
        }
    }
    served.pass(100);
    assert_eq!(block_on(served.handle.call(7)).unwrap(), 7);
    let [replica] = &served.status().replicas[..] else { panic!("{:?}", served.status()) };
    assert_eq!((replica.name.as_str(), replica.restarts), ("model#0", 1));
    drop(model.end);
}

#[test]
fn requests_of_an_async_model_that_blocks_are_tried_again_where_they_may_run_twice() {
    let (model, deployment) = blocking();
    let served = serve(deployment.idempotent());
    let calls = [served.handle.call(HANG_ONCE), served.handle.call(3)];
    model.has_begun(HANG_ONCE);
    served.pass(300);
    // Then time stands still but for the delay before the next start, and nothing else can seem to hang.
    until("it is given up", || served.status().replicas[0].last_exit.is_some());
    served.pass(100);
    let answers: Vec<_> = block_on(join_all(calls)).into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [HANG_ONCE, 3]);
    drop(model.end);
}

#[test]
fn an_async_model_that_blocks_where_it_is_let_go_of_is_given_up_too() {
    let (model, deployment) = blocking();
    let served = serve(deployment);
    let call = served.handle.call(HANG_WHEN_DROPPED);
    model.has_begun(HANG_WHEN_DROPPED);
    drop(call);
    served.pass_until("it is replaced", || served.status().replicas[0].restarts > 0);
    served.pass_until("the next is there", || {
        served.status().replica_states.get(&ReplicaState::Running) == Some(&1)
    });
    drop(model.end);
    assert_eq!(block_on(served.handle.call(7)).unwrap(), 7);
}

/// An input that cannot always be copied.
#[derive(Debug, PartialEq)]
struct Odd(i64);

impl Clone for Odd {
    fn clone(&self) -> Self {
        assert!(self.0 >= 0, "no copies of this");
        Odd(self.0)
    }
}

#[test]
fn a_replica_that_ends_outside_its_model_is_replaced_too() {
    let deployment = Deployment::new("model", || Ok(air_serve::each(|x: Odd| Ok(x.0)))).idempotent();
    let served = serve(deployment.with(|config| {
        config.execution = Execution::Thread;
        config.request_timeout_s = 10_000.0;
    }));
    let ask = |x| served.passing("it is answered", || served.handle.call_blocking(Odd(x)));
    assert!(ask(-1).is_err());
    assert_eq!(ask(3).unwrap(), 3);
    let [replica] = &served.status().replicas[..] else { panic!("{:?}", served.status()) };
    assert_eq!(replica.restarts, 1);
    assert_eq!(replica.last_exit.as_deref(), Some("panicked: no copies of this"));
}
