//! Ending: nothing that was let in is lost.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use air_core::{BoxError, RuntimeConfig};
use air_serve::{App, CallError, Deployment, Execution, Model, run, run_with};

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

/// What is logged on this thread while something is done.
fn logged(run: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, run);
    let text = log.0.lock().unwrap().clone();
    String::from_utf8(text).unwrap()
}

#[test]
fn a_model_that_does_not_return_holds_up_the_end_until_its_deadline_and_is_named() {
    for execution in [Execution::Thread, Execution::Inline] {
        let (gate, deployment) = gated("model");
        let deployment = deployment.with(|config| {
            // Nothing but the server's deadline ends before hours are over.
            config.execution = execution;
            config.request_timeout_s = 10_000.0;
            config.health_check_timeout_s = Some(10_000.0);
            config.graceful_shutdown_timeout_s = 10_000.0;
        });
        let app = App::new().with_http(|http| {
            http.port = 0;
            http.graceful_shutdown_timeout_s = 0.05;
        });
        let runtime = RuntimeConfig::default().shutdown_grace(Duration::from_secs(10_000));
        let server = run_with(app.route("/model", deployment), runtime).unwrap();
        let mut client = connect(server.addr());
        write(&mut client, "POST", "/model", "", "1");
        gate.started.recv().unwrap();
        let log = logged(|| server.shutdown());
        let line = log.lines().find(|line| line.contains("the replica is given up"));
        let line = line.unwrap_or_else(|| panic!("{log}"));
        assert!(line.contains("model#0") && line.contains("ERROR"), "{line}");
        assert!(line.contains("it had not finished when the time to end was over"), "{line}");
        assert!(line.contains("its model has been at work on 1 requests for"), "{line}");
        assert_eq!(
            log.contains("a model that is called in place on it does not return"),
            execution == Execution::Inline
        );
        drop(gate);
    }
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
