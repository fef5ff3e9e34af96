//! Spans, as a collector gets them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};

use air_serve::{App, Deployment, Execution, RequestContext, each, each_async, run};
use prost::Message as _;

use crate::client::{connect, post, read, send, write};
use crate::gate::gated;
use crate::wait::until;

/// The parts of OTLP's messages that are looked at (opentelemetry/proto/trace/v1/trace.proto).
mod otlp {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Export {
        #[prost(message, repeated, tag = "1")]
        pub resources: Vec<ResourceSpans>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub scopes: Vec<ScopeSpans>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub attributes: Vec<KeyValue>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        pub spans: Vec<Span>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub id: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub name: String,
        #[prost(int32, tag = "6")]
        pub kind: i32,
        #[prost(fixed64, tag = "7")]
        pub start: u64,
        #[prost(fixed64, tag = "8")]
        pub end: u64,
        #[prost(message, repeated, tag = "9")]
        pub attributes: Vec<KeyValue>,
        #[prost(message, optional, tag = "15")]
        pub status: Option<Status>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Status {
        #[prost(int32, tag = "3")]
        pub code: i32,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct KeyValue {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(message, optional, tag = "2")]
        pub value: Option<Value>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Value {
        #[prost(oneof = "Kind", tags = "1, 3")]
        pub kind: Option<Kind>,
    }
    #[derive(Clone, PartialEq, prost::Oneof)]
    pub enum Kind {
        #[prost(string, tag = "1")]
        Text(String),
        #[prost(int64, tag = "3")]
        Number(i64),
    }
}

fn of<'a>(attributes: &'a [otlp::KeyValue], key: &str) -> Option<&'a otlp::Kind> {
    attributes.iter().find(|pair| pair.key == key)?.value.as_ref()?.kind.as_ref()
}

fn text(value: &str) -> otlp::Kind {
    otlp::Kind::Text(value.to_owned())
}

/// A collector: takes what is posted to it, and answers 200.
fn collector() -> (SocketAddr, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, posts) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut got, mut piece) = (Vec::new(), [0; 4096]);
            let (head, body) = loop {
                let count = stream.read(&mut piece).unwrap();
                got.extend_from_slice(&piece[..count]);
                let Some(end) = got.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
                let head = String::from_utf8(got[..end].to_vec()).unwrap().to_lowercase();
                let (_, length) = head.split_once("content-length: ").unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if got.len() >= end + 4 + length {
                    break (head, got[end + 4..].to_vec());
                }
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
            if sender.send((head, body)).is_err() {
                return;
            }
        }
    });
    (addr, posts)
}

fn app(endpoint: SocketAddr, sample: f64) -> App {
    let double = each(|x: f64| if x < 0.0 { panic!("negative") } else { Ok(2.0 * x) });
    let deployment = Deployment::new("double", {
        let double = std::sync::Mutex::new(Some(double));
        move || {
            let first = double.lock().unwrap().take();
            first.ok_or_else(|| "only one life".into())
        }
    });
    App::new()
        .with_http(|http| {
            http.port = 0;
            http.traces.endpoint = Some(format!("http://{endpoint}"));
            "doubler".clone_into(&mut http.traces.service_name);
            http.traces.sample = sample;
        })
        .route("/double", deployment)
}

#[test]
fn a_collector_gets_a_span_for_each_request_within_the_callers_trace() {
    let (collector, posts) = collector();
    let server = run(app(collector, 1.0)).unwrap();
    let addr = server.addr();
    let parent =
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nx-request-id: mine\r\n";
    assert_eq!(send(addr, "POST", "/double", parent, "2").status, 200);
    assert_eq!(post(addr, "/nowhere", "2").status, 404);
    assert_eq!(post(addr, "/double", "-1").status, 500);
    server.shutdown();

    let (head, body) = posts.recv().unwrap();
    assert!(head.starts_with("post /v1/traces "), "{head}");
    assert!(head.contains("content-type: application/x-protobuf"), "{head}");
    let export = otlp::Export::decode(&*body).unwrap();
    let resource = export.resources[0].resource.as_ref().unwrap();
    assert_eq!(of(&resource.attributes, "service.name"), Some(&text("doubler")));
    let spans: Vec<_> = spans(&export).into_iter().filter(|span| span.kind == 2).collect();
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["POST /double", "POST", "POST /double"]);
    assert!(spans.iter().all(|span| span.end > span.start));

    let first = spans[0];
    assert_eq!(first.trace_id, 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c_u128.to_be_bytes());
    assert_eq!(first.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    assert_eq!(of(&first.attributes, "http.route"), Some(&text("/double")));
    assert_eq!(of(&first.attributes, "air.serve.deployment"), Some(&text("double")));
    assert_eq!(of(&first.attributes, "http.response.status_code"), Some(&otlp::Kind::Number(200)));
    assert_eq!(of(&first.attributes, "http.request.header.x-request-id"), Some(&text("mine")));
    assert_eq!(of(&spans[1].attributes, "http.route"), None);
    assert_eq!(of(&spans[2].attributes, "error.type"), Some(&text("500")));
    assert_eq!(spans[2].status.as_ref().map(|status| status.code), Some(2));
    assert!(spans[1].trace_id != spans[2].trace_id && spans[1].parent_span_id.is_empty());
}

#[test]
fn the_caller_decides_whether_its_trace_is_sampled_and_the_share_decides_otherwise() {
    let (collector, posts) = collector();
    let server = run(app(collector, 0.0)).unwrap();
    let addr = server.addr();
    let parent = |flags: &str| {
        format!("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}\r\n")
    };
    assert_eq!(post(addr, "/double", "1").status, 200);
    assert_eq!(send(addr, "POST", "/double", &parent("00"), "2").status, 200);
    assert_eq!(send(addr, "POST", "/double", &parent("01"), "3").status, 200);
    server.shutdown();
    let export = otlp::Export::decode(&*posts.recv().unwrap().1).unwrap();
    assert_eq!(spans(&export).iter().filter(|span| span.kind == 2).count(), 1);
}

fn spans(export: &otlp::Export) -> Vec<&otlp::Span> {
    export.resources.iter().flat_map(|it| &it.scopes).flat_map(|scope| &scope.spans).collect()
}

/// The one span of that name.
#[track_caller]
fn named<'a>(spans: &[&'a otlp::Span], name: &str) -> &'a otlp::Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} among {:?}", spans.iter().map(|it| &it.name).collect::<Vec<_>>());
    found[0]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn a_composed_request_is_one_trace_with_its_waiting_and_its_executions() {
    let (collector, posts) = collector();
    let threads = |config: &mut air_serve::DeploymentConfig| config.execution = Execution::Thread;
    let inner = Deployment::new("inner", || {
        Ok(each(|x: f64| {
            if x < 0.0 {
                return Err("negative".into());
            }
            Ok(RequestContext::current().traceparent.map(|header| header.to_string()))
        }))
    });
    let inner = inner.with(threads);
    let outer = Deployment::composed("outer", inner.handle(), |inner| {
        Ok(each_async(move |x: f64| {
            let inner = inner.clone();
            async move {
                let own = RequestContext::current().traceparent.map(|header| header.to_string());
                Ok((own, inner.call(x).await?))
            }
        }))
    });
    let app = App::new().with_http(|http| {
        http.port = 0;
        http.traces.endpoint = Some(format!("http://{collector}"));
        http.traces.sample = 0.0;
    });
    let server = run(app.deploy(inner).route("/outer", outer)).unwrap();
    let ask = |flags: &str, body: &str| {
        let parent = format!("traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}\r\n");
        send(server.addr(), "POST", "/outer", &parent, body)
    };
    // Carried on as decided by the caller, and without a caller decided here.
    let unsampled: (String, String) = serde_json::from_str(&ask("00", "1").body).unwrap();
    assert!(unsampled.0.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{unsampled:?}");
    assert!(unsampled.0.ends_with("-00") && unsampled.1.ends_with("-00"), "{unsampled:?}");
    assert_eq!(post(server.addr(), "/outer", "1").body, "[null,null]");
    let told: (String, String) = serde_json::from_str(&ask("01", "1").body).unwrap();
    server.shutdown();

    let export = otlp::Export::decode(&*posts.recv().unwrap().1).unwrap();
    let spans = spans(&export);
    assert_eq!(spans.len(), 5, "{spans:?}");
    assert!(spans.iter().all(|span| hex(&span.trace_id) == "0af7651916cd43dd8448eb211c80319c"));
    let request = named(&spans, "POST /outer");
    assert_eq!(request.parent_span_id, 0xb7ad_6b71_6920_3331_u64.to_be_bytes());
    let (outer, inner) = (named(&spans, "execute outer"), named(&spans, "execute inner"));
    for (name, parent) in [
        ("queue outer", request),
        ("execute outer", request),
        ("queue inner", outer),
        ("execute inner", outer),
    ] {
        let span = named(&spans, name);
        assert_eq!(span.parent_span_id, parent.id, "{name}");
        assert_eq!((span.kind, span.end >= span.start), (1, true), "{name}");
        let (_, deployment) = name.split_once(' ').unwrap();
        assert_eq!(of(&span.attributes, "air.serve.deployment"), Some(&text(deployment)));
    }
    assert_eq!(of(&inner.attributes, "air.serve.replica"), Some(&text("inner#0")));
    assert_eq!(of(&inner.attributes, "air.serve.batch_items"), Some(&otlp::Kind::Number(1)));
    // What a model is told to send along is the span of its execution.
    let header = |span: &otlp::Span| format!("00-{}-{}-01", hex(&span.trace_id), hex(&span.id));
    assert_eq!(told, (header(outer), header(inner)));
}

#[test]
fn each_request_of_a_batch_has_an_execution_in_its_own_trace() {
    let (collector, posts) = collector();
    let (gate, deployment) = gated("model");
    let deployment = deployment.with(|config| {
        config.execution = Execution::Thread;
        config.max_batch_size = 4;
    });
    let app = App::new().with_http(|http| {
        http.port = 0;
        http.traces.endpoint = Some(format!("http://{collector}"));
    });
    let server = run(app.route("/model", deployment)).unwrap();
    let mut clients: Vec<_> = (0..3).map(|_| connect(server.addr())).collect();
    let mut asks = clients.iter_mut().enumerate();
    let mut ask = |inputs: usize| {
        for (x, client) in asks.by_ref().take(inputs) {
            let input = if x == 0 { 0 } else { crate::gate::FAIL };
            let parent = format!("traceparent: 00-{:032x}-b7ad6b7169203331-01\r\n", x + 1);
            write(client, "POST", "/model", &parent, input.to_string());
        }
    };
    ask(1);
    gate.started.recv().unwrap();
    // While the first is executed two wait, and make the next batch.
    ask(2);
    until("two wait", || server.metrics().contains("air_serve_queue_items{deployment=\"model\"} 2"));
    (0..2).for_each(|_| gate.open.send(()).unwrap());
    let statuses: Vec<u16> = clients.iter_mut().map(|client| read(client).status).collect();
    assert_eq!(statuses, [200, 500, 500]);
    drop(clients);
    server.shutdown();

    let export = otlp::Export::decode(&*posts.recv().unwrap().1).unwrap();
    let spans = spans(&export);
    for (trace, (size, failed)) in [(1u128, (1, false)), (2, (2, true)), (3, (2, true))] {
        let of_it: Vec<_> = spans.iter().copied().filter(|it| it.trace_id == trace.to_be_bytes()).collect();
        assert_eq!(of_it.len(), 3, "{of_it:?}");
        let (request, execute) = (named(&of_it, "POST /model"), named(&of_it, "execute model"));
        let queue = named(&of_it, "queue model");
        assert_eq!((&queue.parent_span_id, &execute.parent_span_id), (&request.id, &request.id));
        assert_eq!(of(&execute.attributes, "air.serve.batch_items"), Some(&otlp::Kind::Number(size)));
        assert_eq!(of(&execute.attributes, "error.type").is_some(), failed);
        assert_eq!(execute.status.as_ref().map_or(0, |status| status.code), if failed { 2 } else { 0 });
    }
}

#[test]
fn a_collector_that_is_not_there_fails_no_request() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = run(app(gone, 1.0)).unwrap();
    assert_eq!(post(server.addr(), "/double", "1").status, 200);
    server.shutdown();
}
