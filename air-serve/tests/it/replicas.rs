//! Replicas that fail: they are replaced, their callers are told, others never notice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use air_core::BoxError;
use air_serve::{App, CallError, Deployment, DeploymentHandle, Execution, Model, ReplicaState, Server, run};
use crossbeam_channel::{Receiver, Sender, unbounded};
use futures::executor::block_on;
use futures::future::join_all;

use crate::wait::until;

const HANG: i64 = -1;
const PANIC: i64 = -2;
const PANIC_ONCE: i64 = -3;

/// Gives back its inputs, but for some.
struct Moody {
    /// Never sent to: receiving waits until the test is over.
    forever: Receiver<()>,
    panics: Arc<AtomicUsize>,
}

impl Model for Moody {
    type In = i64;
    type Out = i64;

    fn predict(&mut self, batch: Vec<i64>) -> Result<Vec<i64>, BoxError> {
        if batch.contains(&HANG) {
            let _ = self.forever.recv();
        }
        let first = batch.contains(&PANIC_ONCE) && self.panics.fetch_add(1, Ordering::SeqCst) == 0;
        assert!(!first && !batch.contains(&PANIC), "in a bad mood");
        Ok(batch)
    }
}

/// A deployment of moody models. The model that hangs goes on when the sender is dropped.
fn moody() -> (Sender<()>, Deployment<Moody>) {
    let (end, forever) = unbounded();
    let panics = Arc::new(AtomicUsize::new(0));
    let build = move || Ok(Moody { forever: forever.clone(), panics: Arc::clone(&panics) });
    let deployment = Deployment::new("model", build).with(|config| config.execution = Execution::Thread);
    (end, deployment)
}

fn serve<M: Model>(deployment: Deployment<M>) -> (Server, DeploymentHandle<M::In, M::Out>) {
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment)).unwrap();
    let handle = server.handle("model").unwrap();
    (server, handle)
}

#[test]
fn a_model_that_never_returns_is_given_up_and_its_callers_are_told() {
    let (end, deployment) = moody();
    let (server, handle) = serve(deployment.with(|config| config.health_check_timeout_s = Some(0.2)));
    let stuck = handle.call(HANG);
    // The only replica hangs, so that this is answered by the one that takes its place.
    let next = handle.call(7);
    match block_on(stuck) {
        Err(CallError::GivenUp { replica, reason }) => {
            assert_eq!(&*replica, "model#0");
            assert_eq!(&*reason, "its model did not return within 200ms");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(block_on(next).unwrap(), 7);
    let deployment = &server.status().applications["default"].deployments["model"];
    let [replica] = &deployment.replicas[..] else { panic!("{deployment:?}") };
    assert_eq!((replica.name.as_str(), replica.restarts), ("model#0", 1));
    assert_eq!(replica.last_exit.as_deref(), Some("its model did not return within 200ms"));
    assert!(server.metrics().contains("air_serve_replica_restarts_total{deployment=\"model\"} 1"));
    drop(end);
}

#[test]
fn what_a_lost_replica_had_is_tried_again_where_it_may_run_twice() {
    let (end, deployment) = moody();
    let deployment = deployment.idempotent().with(|config| {
        config.health_check_timeout_s = Some(0.5);
        config.max_batch_size = 8;
        config.batch_wait_timeout_s = 0.05;
    });
    let (server, handle) = serve(deployment);
    // All in one batch. The one that panics does so again when it is tried alone; the others are answered.
    let calls: Vec<_> = [1, PANIC, 2, PANIC_ONCE, 3].into_iter().map(|x| handle.call(x)).collect();
    let answers = block_on(join_all(calls));
    let said: Vec<_> = answers.iter().map(|answer| answer.as_ref().ok().copied()).collect();
    assert_eq!(said, [Some(1), None, Some(2), Some(PANIC_ONCE), Some(3)]);
    assert!(matches!(&answers[1], Err(CallError::Panicked { .. })), "{answers:?}");
    assert!(
        server.metrics().contains("air_serve_retries_total{deployment=\"model\"} 5"),
        "{}",
        server.metrics()
    );
    drop(end);
}

#[test]
fn an_inline_call_is_tried_again_too() {
    let (_end, deployment) = moody();
    let deployment = deployment.idempotent().with(|config| config.execution = Execution::Inline);
    let (_server, handle) = serve(deployment);
    assert_eq!(handle.call_blocking(PANIC_ONCE).unwrap(), PANIC_ONCE);
    assert!(matches!(handle.call_blocking(PANIC), Err(CallError::Panicked { .. })));
}

#[test]
fn others_never_notice_a_replica_that_is_lost() {
    let (end, deployment) = moody();
    let (server, handle) = serve(deployment.with(|config| {
        config.num_replicas = 2;
        config.health_check_timeout_s = Some(0.3);
    }));
    std::thread::scope(|scope| {
        for caller in 0..4 {
            let handle = handle.clone();
            scope.spawn(move || {
                for call in 0..500 {
                    let x = caller * 1000 + call;
                    assert_eq!(handle.call_blocking(x).unwrap(), x);
                }
            });
        }
        for bad in [PANIC, HANG, PANIC] {
            assert!(handle.call_blocking(bad).is_err());
        }
    });
    until("both replicas are back", || {
        let status = server.status();
        let deployment = &status.applications["default"].deployments["model"];
        deployment.replica_states.get(&ReplicaState::Running) == Some(&2)
    });
    drop(end);
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
    let (server, handle) = serve(deployment.with(|config| config.request_timeout_s = 0.5));
    failing.store(1, Ordering::SeqCst);
    assert!(matches!(handle.call_blocking(-1), Err(CallError::Panicked { .. })));
    // Without a runtime of its own the future knows no time: whoever looks after the deployment does.
    assert!(
        matches!(block_on(handle.call(1)), Err(CallError::Timeout { limit }) if limit == Duration::from_millis(500))
    );
    let status = server.status();
    let deployment = &status.applications["default"].deployments["model"];
    assert_eq!(deployment.status, air_serve::DeploymentState::Unhealthy);
    assert_eq!(deployment.message, "replica model#0: the disk is gone");
    failing.store(0, Ordering::SeqCst);
    until("it recovers", || handle.call_blocking(1).is_ok());
}
