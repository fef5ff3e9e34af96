//! The HTTP front: the quick start to the byte, status codes, the server's own pages.

use std::thread;

use air_serve::onnx::OnnxModel;
use air_serve::{App, Deployment, Execution, Server, each, run};

use crate::client::{connect, get, post, read, send, write};
use crate::{examples, gate};

const QUICK: &str = r#"{"vector": [1.2, 1.0, 1.1, 0.9]}"#;
const ANSWER: &str = r#"{"result":"versicolor"}"#;

fn iris() -> Server {
    let model = OnnxModel::load(examples("iris_gbc.onnx")).unwrap();
    let model = model.with_names(["setosa", "versicolor", "virginica"]).unwrap();
    run(App::new().with_http(|http| http.port = 0).route("/iris", Deployment::onnx("iris", model))).unwrap()
}

#[test]
fn the_quick_start_answers_to_the_byte_with_get_and_with_post() {
    let server = iris();
    for method in ["GET", "POST"] {
        // More often than it takes to move the model to the HTTP thread.
        for _ in 0..20 {
            let response = send(server.addr(), method, "/iris", "", QUICK);
            assert_eq!((response.status, response.body.as_str()), (200, ANSWER), "{}", response.head);
            assert_eq!(response.header("content-type"), Some("application/json"));
        }
    }
}

#[test]
fn a_thousand_requests_at_once_are_all_answered_right() {
    let server = iris();
    let addr = server.addr();
    let setosa = r#"{"vector": [5.1, 3.5, 1.4, 0.2]}"#;
    thread::scope(|scope| {
        for client in 0..50 {
            scope.spawn(move || {
                let mut stream = connect(addr);
                for request in 0..20 {
                    let (body, want) = if (client + request) % 2 == 0 {
                        (QUICK, ANSWER)
                    } else {
                        (setosa, r#"{"result":"setosa"}"#)
                    };
                    write(&mut stream, "POST", "/iris", "", body);
                    let response = read(&mut stream);
                    assert_eq!((response.status, response.body.as_str()), (200, want));
                }
            });
        }
    });
    let metrics = get(addr, "/metrics").body;
    assert!(metrics.contains("air_serve_requests_total{code=\"200\",route=\"/iris\"} 1000"), "{metrics}");
    assert!(metrics.contains("air_serve_request_seconds_count{route=\"/iris\"} 1000"), "{metrics}");
    assert!(metrics.contains("air_serve_batch_items_count{deployment=\"iris\"} 1000"), "{metrics}");
}

#[test]
fn what_needs_no_input_needs_no_body() {
    let hello = Deployment::new("hello", || Ok(each(|()| Ok("Hello world!"))));
    let twice = Deployment::new("twice", || Ok(each(|x: Option<i64>| Ok(x.map(|x| 2 * x)))));
    let app = App::new().with_http(|http| http.port = 0).route("/hello", hello).route("/twice", twice);
    let server = run(app).unwrap();
    let addr = server.addr();
    assert_eq!(get(addr, "/hello").body, "\"Hello world!\"");
    assert_eq!(get(addr, "/twice").body, "null");
    assert_eq!(post(addr, "/twice", "21").body, "42");
    assert_eq!(post(addr, "/hello", "1").status, 422);
}

#[test]
fn what_does_not_fit_is_told_so() {
    let server = iris();
    let addr = server.addr();
    for (body, status, says) in [
        ("", 400, "no body"),
        ("{\"vector\": [1.2,", 400, "not JSON"),
        ("hello", 400, "not JSON"),
        ("{\"vector\": \"x\"}", 422, "list of numbers"),
        ("{\"vector\": [1.2, 1.0, 1.1]}", 422, "expected a vector of 4 numbers, got 3"),
        ("{\"vector\": [1,2,3,4,5]}", 422, "got 5"),
        ("{\"vectors\": [1,2,3,4]}", 422, "unknown field"),
        ("[[[[[[[[", 422, ""),
    ] {
        let response = post(addr, "/iris", body);
        assert_eq!(response.status, status, "{body}: {}", response.body);
        let error: serde_json::Value = serde_json::from_str(&response.body).unwrap();
        assert!(error["error"].as_str().unwrap().contains(says), "{body}: {error}");
    }
    let response = send(addr, "DELETE", "/iris", "", "");
    assert_eq!((response.status, response.header("allow")), (405, Some("GET, POST")));
    assert_eq!(send(addr, "POST", "/-/healthz", "", "").status, 405);
    assert_eq!(send(addr, "POST", "/iris", "Content-Type: image/png\r\n", QUICK).status, 415);
    assert_eq!(
        send(addr, "POST", "/iris", "Content-Type: application/x-www-form-urlencoded\r\n", QUICK).status,
        200
    );
    assert_eq!(get(addr, "/nowhere").status, 404);
    assert_eq!(post(addr, "/iris", QUICK).body, ANSWER);
}

#[test]
fn the_servers_own_pages() {
    let server = iris();
    let addr = server.addr();
    let healthy = get(addr, "/-/healthz");
    assert_eq!((healthy.status, healthy.body.as_str()), (200, "success"));
    assert_eq!(get(addr, "/-/routes").body, r#"{"/iris":"iris"}"#);
    assert_eq!(get(addr, "/health/live").status, 200);
    assert_eq!(get(addr, "/health/ready").status, 200);
    assert!(get(addr, "/metrics").header("content-type").unwrap().starts_with("text/plain"));
}

#[test]
fn every_response_carries_a_request_id() {
    let server = iris();
    let kept = send(server.addr(), "POST", "/iris", "X-Request-Id: mine-7\r\n", QUICK);
    assert_eq!(kept.header("x-request-id"), Some("mine-7"));
    let (a, b) = (get(server.addr(), "/nowhere"), get(server.addr(), "/-/healthz"));
    assert_eq!(a.header("x-request-id").unwrap().len(), 32);
    assert_ne!(a.header("x-request-id"), b.header("x-request-id"));
}

#[test]
fn the_mistakes_of_a_model_are_server_errors() {
    let (gate, deployment) = gate::gated("model");
    let deployment = deployment.with(|config| config.execution = Execution::Thread);
    let server = run(App::new().with_http(|http| http.port = 0).route("/model", deployment)).unwrap();
    for (input, says) in
        [("-1", "replica model#0 panicked: told to panic"), ("-2", "told to fail"), ("-3", "batch of 1")]
    {
        gate.open.send(()).unwrap();
        let response = post(server.addr(), "/model", input);
        assert_eq!(response.status, 500, "{}", response.body);
        assert!(response.body.contains(says), "{}", response.body);
    }
    gate.open.send(()).unwrap();
    assert_eq!(post(server.addr(), "/model", "5").body, "5");
}

#[test]
fn a_late_answer_is_504_and_a_full_queue_503_with_retry_after() {
    let (gate, deployment) = gate::gated("model");
    let deployment = deployment.with(|config| {
        config.execution = Execution::Thread;
        config.max_queued_requests = 1;
        config.request_timeout_s = 0.3;
    });
    let server = run(App::new().with_http(|http| http.port = 0).route("/model", deployment)).unwrap();
    let addr = server.addr();
    let handle = server.handle::<i64, i64>("model").unwrap();
    let _running = handle.call(1);
    gate.started.recv().unwrap();
    let queued = handle.call(2);
    let busy = post(addr, "/model", "3");
    assert_eq!(busy.status, 503, "{}", busy.body);
    assert_eq!(busy.header("retry-after"), Some("1"));
    drop(queued);
    let late = post(addr, "/model", "4");
    assert_eq!(late.status, 504, "{}", late.body);
    gate.open.send(()).unwrap();
}

#[test]
fn a_client_that_goes_away_cancels_its_request() {
    let (gate, deployment) = gate::gated("model");
    let deployment = deployment.with(|config| config.execution = Execution::Thread);
    let server = run(App::new().with_http(|http| http.port = 0).route("/model", deployment)).unwrap();
    let handle = server.handle::<i64, i64>("model").unwrap();
    let running = handle.call(1);
    gate.started.recv().unwrap();
    let mut gone = connect(server.addr());
    write(&mut gone, "POST", "/model", "", "2");
    wait_for(&server, "air_serve_queue_items{deployment=\"model\"} 1");
    drop(gone);
    wait_for(&server, "air_serve_cancelled_total{deployment=\"model\"} 1");
    gate.open.send(()).unwrap();
    futures::executor::block_on(running).unwrap();
    gate.open.send(()).unwrap();
    assert_eq!(handle.call_blocking(3).unwrap(), 3);
    assert_eq!(gate.seen.load(std::sync::atomic::Ordering::SeqCst), 2);
}

/// Waits until the metrics say so.
fn wait_for(server: &Server, line: &str) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !server.metrics().contains(line) {
        assert!(std::time::Instant::now() < until, "never: {line}\n{}", server.metrics());
        thread::yield_now();
    }
}

#[test]
fn any_function_is_a_model() {
    let app = App::new()
        .with_http(|http| http.port = 0)
        .route("/double", Deployment::new("double", || Ok(each(|x: f64| Ok(2.0 * x)))))
        .route("/", Deployment::new("hello", || Ok(each(|name: String| Ok(format!("hello {name}"))))));
    let server = run(app).unwrap();
    assert_eq!(post(server.addr(), "/double", "1.5").body, "3.0");
    assert_eq!(post(server.addr(), "/", "\"air\"").body, "\"hello air\"");
}

#[test]
fn the_status_page_needs_nothing_from_elsewhere() {
    let server = iris();
    let page = get(server.addr(), "/-/");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.header("content-security-policy").unwrap().contains("connect-src 'self'"));
    // Only a namespace, which nobody fetches.
    let elsewhere: Vec<_> = page.body.matches("://").collect();
    assert_eq!(elsewhere.len(), page.body.matches("http://www.w3.org/2000/svg").count());
}
