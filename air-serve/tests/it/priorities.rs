//! Priorities and time limits of single requests: by handle, by header, by parameter.

use std::thread;
use std::time::Duration;

use air_serve::{App, CallError, Execution, run};

use crate::client::{post, send};
use crate::gate::gated;
use crate::wait::until;

#[test]
fn the_first_priority_goes_first_by_handle_and_by_header() {
    let (gate, deployment) = gated("model");
    let deployment = deployment.with(|config| {
        (config.execution, config.priority_levels, config.priority_aging_s) = (Execution::Thread, 3, 3600.0);
    });
    let server = run(App::new().with_http(|http| http.port = 0).route("/model", deployment)).unwrap();
    let (addr, handle) = (server.addr(), server.handle::<i64, i64>("model").unwrap());
    let queued = || server.status().applications["default"].deployments["model"].queued;
    let mut calls = vec![handle.call(0)];
    gate.started.recv().unwrap();
    calls.push(handle.priority(3).call(1));
    calls.push(handle.call(2));
    thread::scope(|scope| {
        let first = scope.spawn(move || send(addr, "POST", "/model", "x-request-priority: 1\r\n", "3"));
        until("it waits", || queued() == 3);
        calls.push(handle.priority(2).call(4));
        calls.push(handle.priority(9).call(5));
        let order: Vec<_> = (0..5)
            .map(|_| {
                gate.open.send(()).unwrap();
                gate.started.recv().unwrap()[0]
            })
            .collect();
        gate.open.send(()).unwrap();
        assert_eq!(order, [3, 2, 4, 1, 5]);
        assert_eq!(first.join().unwrap().body, "3");
    });
    for call in calls {
        futures::executor::block_on(call).unwrap();
    }
    assert_eq!(send(addr, "POST", "/model", "x-request-priority: 0\r\n", "3").status, 400);
}

#[test]
fn a_request_says_how_long_it_may_take() {
    let (gate, deployment) = gated("model");
    let deployment = deployment.with(|config| config.execution = Execution::Thread);
    let server = run(App::new().with_http(|http| http.port = 0).route("/model", deployment)).unwrap();
    let late = send(server.addr(), "POST", "/model", "x-request-timeout-seconds: 0.02\r\n", "1");
    assert_eq!((late.status, late.body.as_str()), (504, "{\"error\":\"no answer within 20ms\"}"));
    gate.open.send(()).unwrap();
    gate.started.recv().unwrap();
    gate.open.send(()).unwrap();
    assert_eq!(post(server.addr(), "/model", "2").body, "2");
    let handle = server.handle::<i64, i64>("model").unwrap();
    let error = handle.within(Duration::ZERO).call_blocking(1).unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
}
