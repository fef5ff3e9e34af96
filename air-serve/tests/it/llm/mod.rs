//! Language models over HTTP, as OpenAI's clients see them. The models are tiny, and what they answer is what PyTorch computes
//! (`scripts/llm_fixtures.py`).

mod bad;
mod embeddings;
mod texts;

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;

use air_serve::llm::{Llm, LlmConfig};
use air_serve::{App, Deployment, DeploymentConfig, Server, run};
use serde_json::Value;

use crate::client::{connect, post, write};
use crate::fixtures;

fn directory(name: &str) -> PathBuf {
    fixtures("llm").join(name)
}

fn expected(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(directory(name).join("expected.json")).unwrap()).unwrap()
}

/// A server of `llama` and `bert`.
fn server(change: impl Fn(&mut DeploymentConfig)) -> Server {
    let mut app = App::new().with_http(|http| http.port = 0);
    for name in ["llama", "bert"] {
        let limits = LlmConfig { threads: 2, prefill_tokens: 16, max_choices: 4, ..LlmConfig::default() };
        let llm = Llm::load_with(directory(name), limits).unwrap();
        app = app.deploy(Deployment::llm(name, llm).with(&change));
    }
    run(app).unwrap()
}

/// Asks for JSON and gets it.
fn ask(addr: SocketAddr, path: &str, body: &Value) -> Value {
    let response = post(addr, path, &body.to_string());
    assert_eq!(response.status, 200, "{}", response.body);
    serde_json::from_str(&response.body).unwrap()
}

/// The events of a stream, the last of them `[DONE]`.
fn events(addr: SocketAddr, path: &str, body: &Value) -> Vec<Value> {
    let mut stream = connect(addr);
    write(&mut stream, "POST", path, "Connection: close\r\n", body.to_string());
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, mut rest) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/event-stream"), "{head}\n{rest}");
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body += &after[..size];
        rest = &after[size..];
        rest = rest.strip_prefix("\r\n").unwrap();
    }
    let mut events: Vec<&str> =
        body.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap()).collect();
    assert_eq!(events.pop(), Some("[DONE]"), "{body}");
    events.into_iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}
