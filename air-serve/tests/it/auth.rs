//! API keys over HTTP.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use air_serve::{App, Deployment, KeyConfig, KeyHash, Scope, Server, each, run};

use crate::client::{Response, get, post, send};
use crate::v2::grpc::messages::{Empty, ServerLiveResponse, ServerMetadataResponse};
use crate::v2::rpc::call;

fn key(name: &str, scopes: &[Scope]) -> KeyConfig {
    KeyConfig {
        name: name.into(),
        sha256: KeyHash::of(name.as_bytes()),
        scopes: scopes.into(),
        rate_per_s: None,
        burst: None,
    }
}

fn serve(keys: Vec<KeyConfig>) -> Server {
    let app = App::new().with_http(|http| {
        http.port = 0;
        http.auth.keys = keys;
    });
    run(app.route("/double", Deployment::new("double", || Ok(each(|x: i64| Ok(2 * x)))))).unwrap()
}

fn ask(addr: SocketAddr, path: &str, header: &str) -> Response {
    send(addr, "POST", path, &format!("{header}\r\n"), "21")
}

#[test]
fn a_request_needs_a_key_of_the_right_scope() {
    let server = serve(vec![key("app", &[Scope::Predict]), key("prometheus", &[Scope::Metrics])]);
    let addr = server.addr();
    for (header, status, says) in [
        ("X-None: 1", 401, "send an API key"),
        ("Authorization: Bearer wrong", 401, "unknown"),
        ("X-Api-Key: prometheus", 403, "the API key `prometheus` lacks the scope `predict`"),
    ] {
        let response = ask(addr, "/double", header);
        assert_eq!(response.status, status, "{header}: {}", response.body);
        assert!(response.body.contains(says), "{header}: {}", response.body);
        assert_eq!(response.header("www-authenticate").is_some(), status == 401);
        assert_eq!(response.header("x-request-id").unwrap().len(), 32);
    }
    assert_eq!(ask(addr, "/double", "Authorization: Bearer app").body, "42");
    assert_eq!(ask(addr, "/double", "x-api-key: app").body, "42");
    assert_eq!(ask(addr, "/metrics", "x-api-key: app").status, 403);
    assert_eq!(send(addr, "GET", "/metrics", "x-api-key: prometheus\r\n", "").status, 200);
    assert_eq!(ask(addr, "/nowhere", "X-None: 1").status, 401);
    for open in ["/-/healthz", "/health/live", "/health/ready"] {
        assert_eq!(get(addr, open).status, 200, "{open}");
    }
    let counted = server.metrics();
    assert!(counted.contains("air_serve_requests_total{code=\"401\",route=\"other\"} 3"), "{counted}");
}

#[test]
fn a_key_that_is_used_too_often_is_429_with_retry_after() {
    let slow = KeyConfig { rate_per_s: Some(0.001), burst: Some(2), ..key("slow", &[Scope::Predict]) };
    let server = serve(vec![slow, key("app", &[Scope::Predict])]);
    let statuses: Vec<u16> =
        (0..4).map(|_| ask(server.addr(), "/double", "x-api-key: slow").status).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
    let refused = ask(server.addr(), "/double", "x-api-key: slow");
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((900..=1000).contains(&seconds), "{seconds}");
    assert_eq!(ask(server.addr(), "/double", "x-api-key: app").status, 200);
}

#[test]
fn calls_over_grpc_are_refused_in_its_own_words() {
    let slow = KeyConfig { rate_per_s: Some(0.001), ..key("slow", &[Scope::Predict]) };
    let server = serve(vec![key("app", &[Scope::Predict]), key("prometheus", &[Scope::Metrics]), slow]);
    let method = |name: &str| format!("/inference.GRPCInferenceService/{name}");
    let ask =
        |headers: &[(&'static str, &str)], name: &str| call(server.addr(), &method(name), headers, &Empty {});
    assert!(ask(&[], "ServerLive").decode::<ServerLiveResponse>().live);
    for (headers, status, says) in [
        (&[][..], 16, "send an API key"),
        (&[("authorization", "Bearer wrong")], 16, "unknown"),
        (&[("x-api-key", "prometheus")], 7, "lacks the scope `predict`"),
    ] {
        let refused = ask(headers, "ServerMetadata");
        assert_eq!((refused.http, refused.status), (200, status), "{}", refused.message);
        assert!(refused.message.contains(says), "{}", refused.message);
    }
    assert_eq!(ask(&[("x-api-key", "app")], "RepositoryIndex").status, 7);
    ask(&[("x-api-key", "app")], "ServerMetadata").decode::<ServerMetadataResponse>();
    assert_eq!(ask(&[("x-api-key", "slow")], "ServerMetadata").status, 0);
    assert_eq!(ask(&[("x-api-key", "slow")], "ServerMetadata").status, 8);
    let counted = server.metrics();
    assert!(counted.contains("air_serve_requests_total{code=\"429\",route=\"other\"} 1"), "{counted}");
}

#[test]
fn without_keys_nobody_is_asked() {
    let server = serve(Vec::new());
    assert_eq!(post(server.addr(), "/double", "4").body, "8");
    assert_eq!(ask(server.addr(), "/double", "Authorization: Bearer whatever").body, "42");
}

#[test]
fn key_new_prints_a_key_and_a_table_that_knows_it() {
    let air_serve = || Command::new(env!("CARGO_BIN_EXE_air-serve"));
    let made = air_serve().args(["key", "new", "--name", "ci \"x\""]).output().unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let key = text.lines().find_map(|line| line.strip_prefix("# air_")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let kept = &table["http"]["auth"]["keys"][0];
    assert_eq!(kept["name"].as_str(), Some("ci \"x\""));
    let hash = KeyHash::of(format!("air_{key}").as_bytes()).to_string();
    assert_eq!(kept["sha256"].as_str(), Some(hash.as_str()));

    let mut child =
        air_serve().args(["key", "hash"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("air_{key}\n").as_bytes()).unwrap();
    assert_eq!(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim(), hash);
}
