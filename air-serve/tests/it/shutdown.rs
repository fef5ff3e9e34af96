//! Ending: nothing that was let in is lost.

use std::net::TcpStream;
use std::thread;

use air_serve::{App, CallError, Execution, run};

use crate::client::{connect, read, write};
use crate::gate::gated;

#[test]
fn shutting_down_finishes_what_is_under_way() {
    let (gate, deployment) = gated("model");
    let deployment = deployment.with(|config| config.execution = Execution::Thread);
    let server = run(App::new().with_http(|http| http.port = 0).route("/model", deployment)).unwrap();
    let addr = server.addr();
    let handle = server.handle::<i64, i64>("model").unwrap();
    let mut clients: Vec<_> = (0..5).map(|_| connect(addr)).collect();
    for (x, client) in clients.iter_mut().enumerate() {
        write(client, "POST", "/model", "", &x.to_string());
    }
    // One runs, four are queued.
    gate.started.recv().unwrap();
    while !server.metrics().contains("air_serve_queue_items{deployment=\"model\"} 4") {
        thread::yield_now();
    }
    let down = thread::spawn(move || server.shutdown());
    // Draining has begun when the port is closed.
    while TcpStream::connect(addr).is_ok() {
        thread::yield_now();
    }
    (0..5).for_each(|_| gate.open.send(()).unwrap());
    for (x, client) in clients.iter_mut().enumerate() {
        let response = read(client);
        assert_eq!((response.status, response.body), (200, x.to_string()));
    }
    down.join().unwrap();
    assert!(matches!(handle.call_blocking(1), Err(CallError::Closed { .. })));
}

#[test]
fn a_server_that_is_dropped_leaves_no_thread() {
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        };
        tasks.filter_map(name).filter(|name| name.starts_with("only-here")).count()
    };
    let (_gate, deployment) = gated("only-here");
    let server =
        run(App::new().with_http(|http| http.port = 0).deploy(deployment.with(|c| c.num_replicas = 3)))
            .unwrap();
    assert_eq!(threads(), 3);
    drop(server);
    assert_eq!(threads(), 0);
}
