//! Deployments that call each other: order, names and types, what goes along with a call, circles.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use air_core::{BoxError, Clock, RuntimeConfig};
use air_serve::{
    App, CallError, Deployment, DeploymentHandle, Execution, RequestContext, ServeError, each, run, run_with,
};
use crossbeam_channel::unbounded;
use parking_lot::Mutex;

use crate::client::{post, send};
use crate::gate::gated;
use crate::wait::until;

/// A model that cannot be built.
type Never = air_serve::Each<fn(i64) -> Result<i64, BoxError>, i64>;

fn app() -> App {
    App::new().with_http(|http| http.port = 0)
}

/// A deployment on replica threads that passes its input on.
fn passing(
    name: &str,
    to: DeploymentHandle<i64, i64>,
) -> Deployment<impl air_serve::Model<In = i64, Out = i64>> {
    Deployment::composed(name, to, |to| Ok(each(move |x: i64| Ok(to.call_blocking(x)?))))
        .with(|config| config.execution = Execution::Thread)
}

#[test]
fn a_handle_from_before_the_server_runs_is_refused_then_answers_and_stays_good_through_an_update() {
    let double = |factor: i64| Deployment::new("double", move || Ok(each(move |x: i64| Ok(factor * x))));
    let first = double(2);
    let handle = first.handle();
    match handle.call_blocking(1) {
        Err(error @ CallError::NotRunning { .. }) => {
            assert_eq!(error.status(), 503);
            assert_eq!(
                error.to_string(),
                "deployment `double` does not run: deploy it before its handle is called"
            );
        }
        other => panic!("{other:?}"),
    }
    let passing = passing("passing", handle.clone());
    let server = run(app().deploy(passing).deploy(first)).unwrap();
    let through = server.handle::<i64, i64>("passing").unwrap();
    assert_eq!((handle.call_blocking(4).unwrap(), through.call_blocking(4).unwrap()), (8, 8));
    let second = double(3);
    let of_update = second.handle();
    server.update(second.version("b")).unwrap();
    let answers = [&handle, &of_update, &through].map(|handle| handle.call_blocking(4).unwrap());
    assert_eq!(answers, [12; 3], "every handle leads to the version that runs");
    let broken = Deployment::new("double", || -> Result<Never, BoxError> { Err("no weights".into()) });
    let of_broken = broken.handle();
    assert!(matches!(server.update(broken), Err(ServeError::RolledBack { .. })));
    assert_eq!((of_broken.call_blocking(4).unwrap(), through.call_blocking(4).unwrap()), (12, 12));
    server.shutdown();
    assert!(matches!(handle.call_blocking(1), Err(CallError::Closed { .. })));
}

#[test]
fn what_is_called_starts_first_and_ends_last() {
    let (told, events) = unbounded::<&'static str>();
    struct Noisy(crossbeam_channel::Sender<&'static str>, &'static str, Option<DeploymentHandle<i64, i64>>);
    impl Drop for Noisy {
        fn drop(&mut self) {
            let _ = self.0.send(self.1);
        }
    }
    impl air_serve::Model for Noisy {
        type In = i64;
        type Out = i64;
        fn predict(&mut self, batch: Vec<i64>) -> Result<Vec<i64>, BoxError> {
            match &self.2 {
                None => Ok(batch),
                Some(to) => batch.into_iter().map(|x| Ok(to.call_blocking(x)?)).collect(),
            }
        }
    }
    let noisy = |name: &'static str, says: [&'static str; 2], to: Option<DeploymentHandle<i64, i64>>| {
        let (told, uses) = (told.clone(), to.clone().into_iter().collect::<Vec<_>>());
        let build = move || {
            // What it calls answers already.
            assert!(to.as_ref().is_none_or(|to| to.call_blocking(1).is_ok()));
            told.send(says[0]).unwrap();
            Ok(Noisy(told.clone(), says[1], to.clone()))
        };
        Deployment::new(name, build).uses(&uses)
    };
    let last = noisy("c", ["start c", "end c"], None);
    let middle = noisy("b", ["start b", "end b"], Some(last.handle()));
    let first = noisy("a", ["start a", "end a"], Some(middle.handle()));
    let server = run(app().deploy(first).deploy(middle).deploy(last)).unwrap();
    assert_eq!(server.handle::<i64, i64>("a").unwrap().call_blocking(5).unwrap(), 5);
    server.shutdown();
    let events: Vec<_> = events.try_iter().collect();
    assert_eq!(events, ["start c", "start b", "start a", "end a", "end b", "end c"]);
}

#[test]
fn a_name_that_is_missing_or_of_other_types_is_refused_before_anything_starts() {
    let (gate, other) = gated("other");
    let error =
        run(app().deploy(other).deploy(passing("passing", DeploymentHandle::named("double")))).unwrap_err();
    assert_eq!(
        error.to_string(),
        "deployment `passing` uses `double`, which is not deployed with it: add a deployment of that name"
    );
    let texts = || Deployment::new("double", || Ok(each(|text: String| Ok(text))));
    let error =
        run(app().deploy(texts()).deploy(passing("passing", DeploymentHandle::named("double")))).unwrap_err();
    assert!(matches!(error, ServeError::Dependency { .. }));
    let says = "deployment `passing` uses `double`, as one that takes i64 and gives i64, which it does not";
    assert_eq!(error.to_string(), says);
    assert_eq!(gate.built.load(std::sync::atomic::Ordering::SeqCst), 0);
    // Nor may what is called be taken away, or an update call what is not there.
    let double = || Deployment::new("double", || Ok(each(|x: i64| Ok(2 * x))));
    let by_name = || passing("passing", DeploymentHandle::named("double"));
    let server = run(app().deploy(double()).deploy(by_name())).unwrap();
    let handle = server.handle::<i64, i64>("passing").unwrap();
    assert_eq!(handle.call_blocking(3).unwrap(), 6);
    assert!(matches!(server.deploy(app().deploy(by_name())), Err(ServeError::Dependency { .. })));
    let elsewhere = passing("passing", DeploymentHandle::named("elsewhere"));
    assert!(matches!(server.update(elsewhere), Err(ServeError::Dependency { .. })));
    assert_eq!(handle.call_blocking(3).unwrap(), 6);
}

#[test]
fn an_id_a_priority_and_the_way_go_along_with_calls() {
    for execution in [Execution::Thread, Execution::Inline] {
        let what = Deployment::new("inner", || Ok(each(|(): ()| Ok(RequestContext::current()))));
        let (told, seen) = unbounded();
        let outer = Deployment::composed("outer", what.handle(), move |inner| {
            let told = told.clone();
            Ok(each(move |(): ()| {
                let _ = told.send(inner.call_blocking(())?);
                Ok(())
            }))
        });
        let outer = outer.with(|config| config.execution = execution);
        let what = what.with(|config| config.execution = Execution::Thread);
        let server = run(app().route("/outer", outer).deploy(what)).unwrap();
        let headers = "x-request-id: r-7\r\nx-request-priority: 3\r\n";
        assert_eq!(send(server.addr(), "POST", "/outer", headers, "").status, 200);
        let context = seen.recv().unwrap();
        assert_eq!((context.id.as_deref(), context.priority), (Some("r-7"), Some(3)));
        let way: Vec<_> = context.deployments.iter().map(|name| &**name).collect();
        let expected: &[&str] = if execution == Execution::Thread { &["outer", "inner"] } else { &["inner"] };
        assert_eq!(way, expected, "{execution:?}");
        server.handle::<(), ()>("outer").unwrap().call_blocking(()).unwrap();
        let context = seen.recv().unwrap();
        assert_eq!((context.id, context.priority), (None, None));
    }
    assert_eq!(RequestContext::current(), RequestContext::default());
}

#[test]
fn a_call_takes_no_longer_than_is_left_of_its_callers_time() {
    let (clock, manual) = Clock::manual();
    let manual = Arc::new(manual);
    let (gate, inner) = gated("inner");
    let (told, asked) = unbounded();
    let late = Deployment::composed("outer", inner.handle(), move |inner| {
        let (told, manual) = (told.clone(), Arc::clone(&manual));
        Ok(each(move |x: i64| {
            // So much of its time has passed when it makes the call.
            manual.advance(Duration::from_millis(9_950));
            let reply = inner.call_blocking(x);
            told.send(reply.as_ref().map(|_| ()).map_err(Clone::clone)).unwrap();
            Ok(reply?)
        }))
    });
    let late = late.with(|config| (config.execution, config.request_timeout_s) = (Execution::Thread, 10.0));
    let server = run_with(app().deploy(late).deploy(inner), RuntimeConfig::default().clock(clock)).unwrap();
    let outer = server.handle::<i64, i64>("outer").unwrap();
    let call = outer.call(1);
    match asked.recv().unwrap() {
        Err(CallError::Timeout { limit }) => assert_eq!(limit, Duration::from_millis(50)),
        other => panic!("{other:?}"),
    }
    // That the call was too late is told as what it is.
    assert!(matches!(futures::executor::block_on(call), Err(CallError::Timeout { .. })));
    drop(gate);
}

#[test]
fn a_caller_that_goes_cancels_what_was_called_for_it() {
    let (gate, inner) = gated("inner");
    let (told, ended) = unbounded();
    let outer = Deployment::composed("outer", inner.handle(), move |inner| {
        let told = told.clone();
        Ok(each(move |x: i64| {
            let reply = inner.call_blocking(x);
            told.send(reply.clone().map_err(|error| error.to_string())).unwrap();
            Ok(reply?)
        }))
    });
    let outer = outer.with(|config| config.execution = Execution::Thread);
    let server = run(app().deploy(outer).deploy(inner)).unwrap();
    let (outer, inner) =
        (server.handle::<i64, i64>("outer").unwrap(), server.handle::<i64, i64>("inner").unwrap());
    let busy = inner.call(0);
    assert_eq!(gate.started.recv().unwrap(), [0]);
    let call = outer.call(1);
    let queued = || server.status().applications["default"].deployments["inner"].queued;
    until("the inner call is queued", || queued() == 1);
    drop(call);
    assert_eq!(ended.recv().unwrap().unwrap_err(), "the request that this call was made for was cancelled");
    until("the inner call has left the queue", || queued() == 0);
    gate.open.send(()).unwrap();
    futures::executor::block_on(busy).unwrap();
    assert_eq!(gate.seen.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn those_that_wait_for_themselves_are_told_the_way_by_their_deadline() {
    let myself = DeploymentHandle::<i64, i64>::named("a");
    let b = passing("b", myself);
    let a = passing("a", b.handle()).with(|config| config.request_timeout_s = 1.0);
    let server = run(app().deploy(a).deploy(b)).unwrap();
    let error = server.handle::<i64, i64>("b").unwrap().call_blocking(1).unwrap_err();
    assert_eq!(error.status(), 504, "{error}");
    assert!(error.to_string().contains("deployments wait for each other, b → a → b"), "{error}");
    // In place it is seen at once that the replica is its own caller.
    let slot = Arc::new(Mutex::new(None::<DeploymentHandle<i64, i64>>));
    let inside = Arc::clone(&slot);
    let own = Deployment::new("own", move || {
        let inside = Arc::clone(&inside);
        Ok(each(move |x: i64| Ok(inside.lock().clone().ok_or("no handle")?.call_blocking(x)?)))
    });
    let own = own.with(|config| (config.execution, config.request_timeout_s) = (Execution::Inline, 0.1));
    *slot.lock() = Some(own.handle());
    let server = run(app().deploy(own)).unwrap();
    let error = server.handle::<i64, i64>("own").unwrap().call_blocking(1).unwrap_err();
    assert!(error.to_string().contains("wait for each other, own → own"), "{error}");
}

#[test]
fn a_refusal_of_what_is_called_is_told_as_such_over_http() {
    let (gate, inner) = gated("inner");
    let inner = inner.with(|config| config.max_queued_requests = 1);
    let outer = passing("outer", inner.handle()).with(|config| config.num_replicas = 3);
    let server = run(app().route("/outer", outer).deploy(inner)).unwrap();
    let addr = server.addr();
    thread::scope(|scope| {
        let ask = |x: i64| scope.spawn(move || post(addr, "/outer", &x.to_string()));
        let first = ask(0);
        let ongoing = || server.status().applications["default"].deployments["inner"].queued;
        gate.started.recv().unwrap();
        let waiting = [first, ask(1)];
        until("one waits", || ongoing() == 1);
        let refused = post(addr, "/outer", "2");
        assert_eq!(refused.status, 503, "{}", refused.body);
        assert!(
            refused.body.contains("deployment `inner` is busy") && refused.header("retry-after").is_some()
        );
        (0..2).for_each(|_| gate.open.send(()).unwrap());
        for waiting in waiting {
            assert_eq!(waiting.join().unwrap().status, 200);
        }
    });
}
