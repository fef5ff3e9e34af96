//! Async models: many requests on one thread, each for itself.

use std::future::pending;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use air_core::BoxError;
use air_serve::{
    App, Async, AsyncModel, CallError, Deployment, DeploymentHandle, Execution, Model, RequestContext,
    ServeError, Server, each, each_async, run,
};
use crossbeam_channel::{Receiver, Sender, unbounded};
use futures::FutureExt as _;
use futures::executor::block_on;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};

use crate::client::{connect, post, read, write};
use crate::wait::until;

fn app() -> App {
    App::new().with_http(|http| http.port = 0)
}

fn serve<M: Model>(deployment: Deployment<M>) -> (Server, DeploymentHandle<M::In, M::Out>) {
    let server = run(app().deploy(deployment)).unwrap();
    let handle = server.handle("model").unwrap();
    (server, handle)
}

/// A model whose requests wait until the test lets them through, and tell when they begin and when they are dropped.
struct Waiting {
    began: Sender<i64>,
    ended: Sender<i64>,
    open: Arc<Semaphore>,
}

struct Guard(Sender<i64>, i64);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

impl AsyncModel for Waiting {
    type In = i64;
    type Out = i64;

    async fn call(&self, x: i64) -> Result<i64, BoxError> {
        let _guard = Guard(self.ended.clone(), x);
        let _ = self.began.send(x);
        self.open.acquire().await?.forget();
        assert!(x >= 0, "told to panic");
        Ok(2 * x)
    }
}

fn waiting() -> (Receiver<i64>, Receiver<i64>, Arc<Semaphore>, Deployment<Async<Waiting>>) {
    let ((began, has_begun), (ended, has_ended), open) =
        (unbounded(), unbounded(), Arc::new(Semaphore::new(0)));
    let gate = Arc::clone(&open);
    let build = move || {
        Ok(Async::new(Waiting { began: began.clone(), ended: ended.clone(), open: Arc::clone(&gate) }))
    };
    (has_begun, has_ended, open, Deployment::new("model", build))
}

fn queued(server: &Server) -> usize {
    server.status().applications["default"].deployments["model"].queued
}

#[test]
fn one_replica_answers_many_side_by_side_up_to_its_limit() {
    let (began, _, open, deployment) = waiting();
    let (server, handle) = serve(deployment.with(|config| config.max_ongoing_requests = 3));
    let calls: Vec<_> = (0..5).map(|x| handle.call(x)).collect();
    let first: Vec<_> = (0..3).map(|_| began.recv().unwrap()).collect();
    assert_eq!(first, [0, 1, 2]);
    until("two wait", || queued(&server) == 2);
    open.add_permits(1);
    assert_eq!(began.recv().unwrap(), 3, "the next begins when one has ended");
    open.add_permits(9);
    let answers: Vec<_> = block_on(join_all(calls)).into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [0, 2, 4, 6, 8]);
}

#[test]
fn a_panic_and_an_error_are_their_callers_alone() {
    let (began, _, open, deployment) = waiting();
    let (server, handle) = serve(deployment);
    let calls: Vec<_> = [1, -1, 2].into_iter().map(|x| handle.call(x)).collect();
    assert_eq!(began.iter().take(3).count(), 3);
    open.add_permits(3);
    let answers = block_on(join_all(calls));
    assert_eq!((answers[0].as_ref().unwrap(), answers[2].as_ref().unwrap()), (&2, &4));
    match &answers[1] {
        Err(CallError::Panicked { replica, reason }) => {
            assert_eq!((&**replica, &**reason), ("model#0", "told to panic"));
        }
        other => panic!("{other:?}"),
    }
    assert!(server.metrics().contains("air_serve_panics_total{deployment=\"model\"} 1"));
    open.close();
    let error = handle.call_blocking(1).unwrap_err();
    assert!(error.to_string().contains("replica model#0 failed: semaphore closed"), "{error}");
    assert_eq!(server.status().applications["default"].deployments["model"].replicas[0].restarts, 0);
}

#[test]
fn a_caller_that_goes_and_a_deadline_drop_the_request() {
    let (began, ended, open, deployment) = waiting();
    let (_server, handle) = serve(deployment);
    let call = handle.call(1);
    assert_eq!(began.recv().unwrap(), 1);
    drop(call);
    assert_eq!(ended.recv().unwrap(), 1);
    // A caller outside a runtime keeps no time itself.
    let limit = Duration::from_millis(20);
    let late = block_on(handle.within(limit).call(2));
    assert!(matches!(late, Err(CallError::Timeout { limit: l }) if l == limit), "{late:?}");
    assert_eq!(ended.recv().unwrap(), 2);
    open.add_permits(1);
    assert_eq!(handle.call_blocking(3).unwrap(), 6);
}

#[test]
fn a_client_that_goes_drops_the_request_and_those_it_made() {
    let (began, ended, _open, inner) = waiting();
    let outer = Deployment::composed("outer", inner.handle(), |inner| {
        Ok(each_async(move |x: i64| {
            let inner = inner.clone();
            async move { Ok(inner.call(x).await?) }
        }))
    });
    let server = run(app().deploy(inner).route("/outer", outer)).unwrap();
    let mut stream = connect(server.addr());
    write(&mut stream, "POST", "/outer", "", "7");
    assert_eq!(began.recv().unwrap(), 7);
    drop(stream);
    assert_eq!(ended.recv().unwrap(), 7);
}

#[test]
fn what_is_under_way_is_finished_when_it_ends_and_hung_ones_by_their_deadline() {
    let (began, _, open, deployment) = waiting();
    let (server, handle) = serve(deployment.with(|config| config.max_ongoing_requests = 2));
    let calls: Vec<_> = (0..4).map(|x| handle.call(x)).collect();
    assert_eq!(began.iter().take(2).count(), 2);
    let ending = thread::spawn(move || server.shutdown());
    until("nothing is let in", || {
        matches!(handle.call(9).now_or_never(), Some(Err(CallError::Closed { .. })))
    });
    open.add_permits(4);
    let answers: Vec<_> = block_on(join_all(calls)).into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [0, 2, 4, 6]);
    ending.join().unwrap();

    let hung = Deployment::new("model", || {
        Ok(each_async(|(): ()| async { pending::<Result<(), BoxError>>().await }))
    });
    let (server, handle) = serve(hung.with(|config| config.request_timeout_s = 0.02));
    let call = handle.call(());
    drop(server);
    assert!(matches!(block_on(call), Err(CallError::Timeout { .. })));
}

#[test]
fn its_settings_change_while_requests_are_under_way_and_it_is_updated_without_losing_one() {
    struct Settable(watch::Sender<i64>);
    impl AsyncModel for Settable {
        type In = i64;
        type Out = i64;
        async fn call(&self, x: i64) -> Result<i64, BoxError> {
            let factor = *self.0.subscribe().wait_for(|factor| *factor > 0).await?;
            Ok(factor * x)
        }
        fn reconfigure(&self, user_config: &Value) -> Result<(), BoxError> {
            self.0.send_replace(user_config.as_i64().ok_or("no number")?);
            Ok(())
        }
    }
    let settable = || Ok(Async::new(Settable(watch::Sender::new(0))));
    let (server, handle) = serve(Deployment::new("model", settable).warm_up(Vec::new));
    let call = handle.call(4);
    server.reconfigure("model", json!(3)).unwrap();
    assert_eq!(block_on(call).unwrap(), 12);
    assert!(matches!(server.reconfigure("model", json!("x")), Err(ServeError::RolledBack { .. })));
    until("the replica is back", || handle.call_blocking(4).is_ok_and(|answer| answer == 12));
    let done = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let mut answered = 0;
            loop {
                let answers = block_on(join_all((0..8).map(|x| handle.call(x))));
                answered +=
                    answers.into_iter().map(|answer| answer.unwrap()).filter(|answer| *answer >= 0).count();
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    break answered;
                }
            }
        });
        let update = Deployment::new("model", || Ok(each_async(|x: i64| async move { Ok(5 * x) })));
        server.update(update.version("b").warm_up(|| vec![1, 2])).unwrap();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(calls.join().unwrap() > 0);
    });
    assert_eq!(handle.call_blocking(4).unwrap(), 20);
}

#[test]
fn settings_that_do_not_suit_are_refused() {
    let fine = || Deployment::new("model", || Ok(each_async(|x: i64| async move { Ok(x) })));
    let refused = |deployment: Deployment<_>| run(app().deploy(deployment)).unwrap_err().to_string();
    for (error, says) in [
        (refused(fine().with(|config| config.execution = Execution::Thread)), "make it `async`"),
        (refused(fine().with(|config| config.max_batch_size = 2)), "leave max_batch_size at 1"),
    ] {
        assert!(error.contains(says), "{error}");
    }
    let sync = Deployment::new("model", || Ok(each(|x: i64| Ok(x))))
        .with(|config| config.execution = Execution::Async);
    let error = run(app().deploy(sync)).unwrap_err().to_string();
    assert!(error.contains("execution is `async` and its model is not"), "{error}");
    serve(fine().with(|config| config.execution = Execution::Async));
}

#[test]
fn endless_recursion_ends_in_an_error() {
    let myself = DeploymentHandle::<i64, i64>::named("model");
    let deployment = Deployment::composed("model", myself, |myself| {
        Ok(each_async(move |x: i64| {
            let myself = myself.clone();
            async move { if x == 0 { Ok(0) } else { Ok(1 + myself.call(x - 1).await?) } }
        }))
    });
    let (server, handle) = serve(deployment);
    assert_eq!(handle.call_blocking(9).unwrap(), 9);
    let error = handle.call_blocking(1000).unwrap_err().to_string();
    assert!(error.contains("32 deployments deep: model → model"), "{error}");
    drop(server);
}

#[test]
fn a_thousand_side_by_side_get_each_its_own_answer_from_several_replicas_over_http_too() {
    let deployment = Deployment::new("model", || {
        Ok(each_async(|x: i64| async move {
            tokio::task::yield_now().await;
            let id = RequestContext::current().id;
            tokio::time::sleep(Duration::from_micros(x.unsigned_abs() % 7 * 100)).await;
            assert_eq!(RequestContext::current().id, id, "each has its own");
            Ok((2 * x, id))
        }))
    });
    let server = run(app().route("/model", deployment.with(|config| config.num_replicas = 2))).unwrap();
    let handle = server.handle::<i64, (i64, Option<Arc<str>>)>("model").unwrap();
    let answers = block_on(join_all((0..1000).map(|x| handle.call(x))));
    for (x, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), (2 * x as i64, None));
    }
    let mut stream = connect(server.addr());
    for x in 0..20 {
        write(&mut stream, "POST", "/model", &format!("x-request-id: r{x}\r\n"), x.to_string());
        assert_eq!(read(&mut stream).body, format!("[{},\"r{x}\"]", 2 * x));
    }
    assert_eq!(post(server.addr(), "/model", "1").status, 200);
}
