//! Ending: nothing that was let in is lost.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use air_core::BoxError;
use air_serve::{App, CallError, Deployment, Execution, Model, run};

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
        write(client, "POST", "/model", "", x.to_string());
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
fn idle_and_silent_connections_do_not_hold_up_the_end() {
    let deployment = Deployment::new("echo", || Ok(air_serve::each(|x: i64| Ok(x))));
    let server = run(App::new().with_http(|http| http.port = 0).route("/echo", deployment)).unwrap();
    let (_silent, mut idle) = (connect(server.addr()), connect(server.addr()));
    write(&mut idle, "POST", "/echo", "", "1");
    assert_eq!(read(&mut idle).body, "1");
    let start = Instant::now();
    server.shutdown();
    // Far below the time that requests under way would get.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

/// A model that says when it is dropped.
struct Last(Arc<AtomicUsize>);

impl Drop for Last {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Model for Last {
    type In = ();
    type Out = ();

    fn predict(&mut self, batch: Vec<()>) -> Result<Vec<()>, BoxError> {
        Ok(batch)
    }
}

#[test]
fn a_server_that_is_dropped_closes_its_port_and_leaves_no_model() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&dropped);
    let deployment = Deployment::new("model", move || Ok(Last(Arc::clone(&counter))))
        .with(|config| config.num_replicas = 3);
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment)).unwrap();
    let addr = server.addr();
    assert!(TcpStream::connect(addr).is_ok());
    drop(server);
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
    assert!(TcpStream::connect(addr).is_err());
}
