//! Deployments through handles: batching, back-pressure, cancelling, failures.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use air_core::{BoxError, Clock, RuntimeConfig};
use air_serve::{
    App, CallError, Deployment, DeploymentHandle, Execution, Model, ServeError, Server, each, run, run_with,
};

use crate::gate::{FAIL, ONE_TOO_FEW, PANIC, gated};

fn serve<M: Model>(deployment: Deployment<M>) -> (Server, DeploymentHandle<M::In, M::Out>)
where
    M::In: Send,
{
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment.with(|config| {
        if config.execution == Execution::Auto {
            config.execution = Execution::Thread;
        }
    })))
    .unwrap();
    let handle = server.handle("model").unwrap();
    (server, handle)
}

#[test]
fn a_thousand_calls_at_once_get_each_its_own_answer() {
    for max_batch_size in [1, 16] {
        let double = || Ok(each(|x: i64| Ok(2 * x)));
        let deployment = Deployment::new("model", double).with(|config| {
            config.num_replicas = 3;
            config.max_batch_size = max_batch_size;
        });
        let (_server, handle) = serve(deployment);
        thread::scope(|scope| {
            for caller in 0..10 {
                let handle = handle.clone();
                scope.spawn(move || {
                    for call in 0..100 {
                        let x = caller * 1000 + call;
                        assert_eq!(handle.call_blocking(x).unwrap(), 2 * x);
                    }
                });
            }
        });
    }
}

#[test]
fn full_batches_form_while_the_replica_is_busy() {
    let (gate, deployment) = gated("model");
    let (_server, handle) = serve(deployment.with(|config| config.max_batch_size = 4));
    let first = handle.call(0);
    assert_eq!(gate.started.recv().unwrap(), [0]);
    let rest: Vec<_> = (1..=6).map(|x| handle.call(x)).collect();
    gate.open.send(()).unwrap();
    assert_eq!(gate.started.recv().unwrap(), [1, 2, 3, 4]);
    gate.open.send(()).unwrap();
    assert_eq!(gate.started.recv().unwrap(), [5, 6]);
    gate.open.send(()).unwrap();
    let answers = futures::executor::block_on(futures::future::join_all(std::iter::once(first).chain(rest)));
    let answers: Vec<i64> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn a_full_queue_refuses_and_says_when_to_come_back() {
    let (gate, deployment) = gated("model");
    let (server, handle) = serve(deployment.with(|config| config.max_queued_requests = 2));
    let mut calls = vec![handle.call(0)];
    gate.started.recv().unwrap();
    calls.extend([handle.call(1), handle.call(2)]);
    match handle.call_blocking(3) {
        Err(CallError::Busy { queued: 2, retry_after, .. }) => assert!(retry_after >= Duration::from_secs(1)),
        other => panic!("{other:?}"),
    }
    assert!(
        server.metrics().contains("air_serve_refused_total{deployment=\"model\"} 1"),
        "{}",
        server.metrics()
    );
    (0..3).for_each(|_| gate.open.send(()).unwrap());
    for (x, call) in calls.into_iter().enumerate() {
        assert_eq!(futures::executor::block_on(call).unwrap(), x as i64);
    }
}

#[test]
fn a_call_that_is_dropped_never_reaches_the_model_and_makes_room() {
    let (gate, deployment) = gated("model");
    let (server, handle) = serve(deployment.with(|config| config.max_queued_requests = 2));
    let running = handle.call(0);
    gate.started.recv().unwrap();
    let (dropped, kept) = (handle.call(1), handle.call(2));
    drop(dropped);
    let last = handle.call(3);
    (0..3).for_each(|_| gate.open.send(()).unwrap());
    for call in [running, kept, last] {
        futures::executor::block_on(call).unwrap();
    }
    assert_eq!(gate.seen.load(Ordering::SeqCst), 3);
    assert!(server.metrics().contains("air_serve_cancelled_total{deployment=\"model\"} 1"));
}

#[test]
fn a_caller_waits_no_longer_than_the_limit() {
    let (gate, deployment) = gated("model");
    let (_server, handle) = serve(deployment);
    let hasty = handle.within(Duration::from_millis(50));
    let running = handle.call(0);
    gate.started.recv().unwrap();
    let limit = Duration::from_millis(50);
    assert!(matches!(hasty.call_blocking(1), Err(CallError::Timeout { limit: l }) if l == limit));
    gate.open.send(()).unwrap();
    futures::executor::block_on(running).unwrap();
    // That one was still queued when its caller gave up.
    let after = handle.call(2);
    assert_eq!(gate.started.recv().unwrap(), [2]);
    gate.open.send(()).unwrap();
    futures::executor::block_on(after).unwrap();
    assert_eq!(gate.seen.load(Ordering::SeqCst), 2);
}

#[test]
fn a_panic_names_the_replica_costs_only_its_batch_and_the_replica_is_replaced() {
    let (gate, deployment) = gated("model");
    let (server, handle) = serve(deployment.with(|config| config.num_replicas = 2));
    let (broken, fine) = (handle.call(PANIC), handle.call(7));
    gate.started.recv().unwrap();
    gate.started.recv().unwrap();
    gate.open.send(()).unwrap();
    gate.open.send(()).unwrap();
    assert_eq!(futures::executor::block_on(fine).unwrap(), 7);
    match futures::executor::block_on(broken) {
        Err(CallError::Panicked { replica, reason }) => {
            assert!(replica.starts_with("model#"), "{replica}");
            assert!(reason.contains("told to panic"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    // Both replicas answer again: each takes one and neither can finish before both have started.
    let again = [handle.call(1), handle.call(2)];
    gate.started.recv().unwrap();
    gate.started.recv().unwrap();
    (0..2).for_each(|_| gate.open.send(()).unwrap());
    for call in again {
        futures::executor::block_on(call).unwrap();
    }
    assert_eq!(gate.built.load(Ordering::SeqCst), 3);
    assert!(server.metrics().contains("air_serve_panics_total{deployment=\"model\"} 1"));
}

#[test]
fn an_error_and_a_wrong_batch_length_go_to_every_caller_and_the_latter_replaces_the_replica() {
    let (gate, deployment) = gated("model");
    let (_server, handle) = serve(deployment.with(|config| config.max_batch_size = 8));
    for (bad, want, models) in [(FAIL, "told to fail", 1), (ONE_TOO_FEW, "gave 1 answers to a batch of 2", 2)]
    {
        let first = handle.call(0);
        gate.started.recv().unwrap();
        let batch = [handle.call(bad), handle.call(5)];
        gate.open.send(()).unwrap();
        gate.started.recv().unwrap();
        gate.open.send(()).unwrap();
        futures::executor::block_on(first).unwrap();
        for call in batch {
            let error = futures::executor::block_on(call).unwrap_err().to_string();
            assert!(error.contains("replica model#0") && error.contains(want), "{error}");
        }
        let after = handle.call(7);
        gate.started.recv().unwrap();
        gate.open.send(()).unwrap();
        assert_eq!(futures::executor::block_on(after).unwrap(), 7);
        assert_eq!(gate.built.load(Ordering::SeqCst), models);
    }
}

#[test]
fn inline_calls_run_here_and_survive_a_panic() {
    let careful = |x: i64| -> Result<std::thread::ThreadId, BoxError> {
        assert!(x >= 0, "negative");
        Ok(thread::current().id())
    };
    let deployment = Deployment::new("model", move || Ok(each(careful)))
        .with(|config| config.execution = Execution::Inline);
    let (_server, handle) = serve(deployment);
    assert_eq!(handle.call_blocking(1).unwrap(), thread::current().id());
    assert!(matches!(handle.call_blocking(-1), Err(CallError::Panicked { .. })));
    // Until the replica is back the call waits in the queue like any other.
    handle.call_blocking(1).unwrap();
}

#[test]
fn a_cheap_model_moves_to_the_callers_thread() {
    let deployment = Deployment::new("model", || Ok(each(|(): ()| Ok(thread::current().id()))));
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment)).unwrap();
    let handle = server.handle::<(), thread::ThreadId>("model").unwrap();
    assert_ne!(handle.call_blocking(()).unwrap(), thread::current().id());
    let here = (0..10_000).any(|_| handle.call_blocking(()).unwrap() == thread::current().id());
    assert!(here, "it never moved");
}

#[test]
fn a_model_that_cannot_be_built_fails_the_start_with_its_reason() {
    type Never = air_serve::Each<fn(i64) -> Result<i64, BoxError>, i64>;
    let factory = || -> Result<Never, BoxError> { Err("no weights here".into()) };
    let error = run(App::new().with_http(|http| http.port = 0).deploy(Deployment::new("model", factory)))
        .unwrap_err();
    assert!(matches!(error, ServeError::Model { .. }));
    assert!(error.to_string().contains("no weights here"), "{error}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let good = || Deployment::new("model", || Ok(each(|x: i64| Ok(x))));
    let start = |app: App| run(app.with_http(|http| http.port = 0)).unwrap_err().to_string();
    assert!(start(App::new()).contains("nothing to serve"));
    assert!(start(App::new().deploy(good()).deploy(good())).contains("taken"));
    assert!(start(App::new().route("/metrics", good())).contains("own"));
    assert!(start(App::new().route("iris", good())).contains("path"));
    assert!(
        start(App::new().deploy(good().with(|config| config.num_replicas = 2000))).contains("num_replicas")
    );
    assert!(
        start(App::new().deploy(good().with(|config| config.request_timeout_s = f64::NAN)))
            .contains("request_timeout_s")
    );
}

#[test]
fn a_call_that_cannot_make_its_deadline_is_refused_at_once() {
    let (gate, deployment) = gated("model");
    let (clock, manual) = Clock::manual();
    let deployment = deployment.with(|config| config.execution = Execution::Thread);
    let app = App::new().with_http(|http| http.port = 0).deploy(deployment);
    let server = run_with(app, RuntimeConfig::default().clock(clock)).unwrap();
    let handle = server.handle::<i64, i64>("model").unwrap();
    // Eight batches, each of which takes 20 ms.
    for x in 0..8 {
        let call = handle.call(x);
        gate.started.recv().unwrap();
        manual.advance(Duration::from_millis(20));
        gate.open.send(()).unwrap();
        futures::executor::block_on(call).unwrap();
    }
    let mut calls = vec![handle.call(0)];
    gate.started.recv().unwrap();
    calls.extend((1..=100).map(|x| handle.call(x)));
    let hasty = handle.within(Duration::from_secs(1));
    match futures::executor::block_on(hasty.call(7)) {
        Err(CallError::TooLate { wait, limit, .. }) => {
            assert_eq!(
                (wait.as_secs_f64() * 1e3).round(),
                2142.0,
                "100 before it, one that runs, its own, and a twentieth"
            );
            assert_eq!(limit, Duration::from_secs(1));
        }
        other => panic!("{other:?}"),
    }
    assert!(server.metrics().contains("air_serve_refused_total{deployment=\"model\"} 1"));
    // Those that have the time are answered.
    (0..=100).for_each(|_| gate.open.send(()).unwrap());
    for (x, call) in calls.into_iter().enumerate() {
        assert_eq!(futures::executor::block_on(call).unwrap(), x as i64);
    }
    gate.open.send(()).unwrap();
    assert_eq!(hasty.call_blocking(7).unwrap(), 7);
}

#[test]
fn what_answers_took_longer_than_was_foretold_is_kept_in_reserve_afterwards() {
    let ms = Duration::from_millis;
    // In the one case an answer comes late, in the other its caller's time runs out in the queue.
    for limit in [ms(10_000), ms(100)] {
        let (gate, deployment) = gated("model");
        let (clock, manual) = Clock::manual();
        let app = App::new().with_http(|http| http.port = 0).deploy(deployment.with(|config| {
            config.execution = Execution::Thread;
        }));
        let server = run_with(app, RuntimeConfig::default().clock(clock)).unwrap();
        let handle = server.handle::<i64, i64>("model").unwrap();
        let pass = |took| {
            manual.advance(took);
            gate.open.send(()).unwrap();
        };
        let started = || gate.started.recv().unwrap();
        let foretold = |limit| match futures::executor::block_on(handle.within(limit).call(0)) {
            Err(CallError::TooLate { wait, .. }) => (wait.as_secs_f64() * 1e6).round(),
            other => panic!("{other:?}"),
        };
        for x in 0..8 {
            let call = handle.call(x);
            started();
            pass(ms(20));
            futures::executor::block_on(call).unwrap();
        }
        let running = handle.call(0);
        started();
        let next = handle.call(1);
        assert_eq!([foretold(ms(40)), foretold(ms(50))], [63_000.0; 2], "nothing was late yet");
        // Told that it takes 63 ms; it has to wait for more than 130.
        let late = handle.within(limit).call(2);
        pass(ms(110));
        started();
        pass(ms(20));
        futures::executor::block_on(running).unwrap();
        futures::executor::block_on(next).unwrap();
        if limit > ms(100) {
            started();
            pass(ms(20));
            futures::executor::block_on(late).unwrap();
        } else {
            assert!(matches!(futures::executor::block_on(late), Err(CallError::Timeout { .. })));
        }
        // Both are told in the same situation how long they would wait, and for each a quarter of its limit is added.
        let more = [handle.call(3), handle.call(4)];
        started();
        assert_eq!(foretold(ms(50)) - foretold(ms(40)), 2_500.0);
        for call in more {
            pass(ms(20));
            futures::executor::block_on(call).unwrap();
        }
    }
}

#[test]
fn a_deployments_limit_holds_for_all_its_calls() {
    let (gate, deployment) = gated("model");
    let (_server, handle) = serve(deployment.with(|config| config.request_timeout_s = 0.05));
    let handle = handle.within(Duration::from_secs(1000));
    let limit = Duration::from_millis(50);
    assert!(matches!(handle.call_blocking(0), Err(CallError::Timeout { limit: l }) if l == limit));
    drop(gate);
}

#[test]
fn batches_can_be_limited_by_what_requests_are_measured_in() {
    let (gate, deployment) = gated("model");
    let deployment = deployment.batch_size_fn(|x| *x as usize).with(|config| config.max_batch_size = 10);
    let (_server, handle) = serve(deployment);
    let mut calls = vec![handle.call(1)];
    gate.started.recv().unwrap();
    calls.extend([4, 6, 3, 20, 5].map(|x| handle.call(x)));
    for batch in [&[4, 6][..], &[3], &[20], &[5]] {
        gate.open.send(()).unwrap();
        assert_eq!(gate.started.recv().unwrap(), batch);
    }
    gate.open.send(()).unwrap();
    let answers = futures::executor::block_on(futures::future::join_all(calls));
    assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [1, 4, 6, 3, 20, 5]);
}
