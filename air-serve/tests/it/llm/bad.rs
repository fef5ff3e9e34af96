//! What is refused, and how: requests, and directories.

use std::fs;
use std::path::Path;

use air_serve::llm::{Llm, LlmConfig};
use air_serve::{App, Deployment, KeyConfig, KeyHash, Scope, run};
use serde_json::{Value, json};

use super::{directory, server};
use crate::client::{get, post, send};

#[test]
fn llm_refusals_before_a_request_is_read_are_openais_objects_too() {
    let key = |name: &str, rate_per_s: Option<f64>, scopes: &[Scope]| KeyConfig {
        name: name.into(),
        sha256: KeyHash::of(name.as_bytes()),
        scopes: scopes.into(),
        rate_per_s,
        burst: None,
    };
    let mut app = App::new().with_http(|http| {
        http.port = 0;
        http.max_body_bytes = 200;
        http.auth.keys = vec![
            key("app", None, &[Scope::Predict]),
            key("slow", Some(0.001), &[Scope::Predict]),
            key("ops", None, &[Scope::Metrics]),
        ];
    });
    let limits = LlmConfig { threads: 1, ..LlmConfig::default() };
    app = app.deploy(Deployment::llm("bert", Llm::load_with(directory("bert"), limits).unwrap()));
    let server = run(app).unwrap();
    let ask = |key: &str, body: &str| {
        let headers = if key.is_empty() { String::new() } else { format!("Authorization: Bearer {key}\r\n") };
        let response = send(server.addr(), "POST", "/v1/embeddings", &headers, body);
        let object: Value = serde_json::from_str(&response.body).unwrap();
        (response, object["error"].clone())
    };
    let small = r#"{"model": "bert", "input": "a"}"#;
    assert_eq!(ask("app", small).0.status, 200);
    assert_eq!(ask("slow", small).0.status, 200);
    for (key, body, status, kind, code, says) in [
        ("", small.to_owned(), 401, "authentication_error", json!("invalid_api_key"), "send an API key"),
        ("wrong", small.to_owned(), 401, "authentication_error", json!("invalid_api_key"), "key is unknown"),
        ("ops", small.to_owned(), 403, "permission_error", json!(null), "lacks the scope"),
        ("slow", small.to_owned(), 429, "rate_limit_error", json!("rate_limit_exceeded"), "come back in"),
        (
            "app",
            "x".repeat(201),
            413,
            "invalid_request_error",
            json!("request_too_large"),
            "limit of 200 bytes",
        ),
    ] {
        let (response, error) = ask(key, &body);
        assert_eq!(response.status, status, "{}", response.body);
        assert_eq!((&error["type"], &error["code"], &error["param"]), (&json!(kind), &code, &json!(null)));
        assert!(error["message"].as_str().unwrap().contains(says), "{error}");
        assert_eq!(response.header("www-authenticate").is_some(), status == 401);
        assert_eq!(response.header("retry-after").is_some(), status == 429);
    }
    // Elsewhere errors are what they were.
    let other = send(server.addr(), "GET", "/v2/models", "", "");
    assert_eq!(other.status, 401);
    assert!(other.body.starts_with(r#"{"error":"send an API key"#), "{}", other.body);
}

#[test]
fn llm_bad_requests_are_told_which_field_is_wrong() {
    let server = server(|_| {});
    let addr = server.addr();
    let long = "x".repeat(2 << 20);
    let cases = [
        ("completions", json!({ "prompt": "x" }), 400, "model", "missing"),
        ("completions", json!({ "model": "llama" }), 400, "prompt", "missing"),
        ("completions", json!({ "model": "gpt", "prompt": "x" }), 404, "model", "there are: llama, bert"),
        ("completions", json!({ "model": "bert", "prompt": "x" }), 400, "model", "/v1/embeddings"),
        (
            "completions",
            json!({ "model": "llama", "prompt": "" , "temperature": "hot" }),
            400,
            "temperature",
            "f32",
        ),
        ("completions", json!({ "model": "llama", "prompt": [] }), 400, "prompt", "empty"),
        ("completions", json!({ "model": "llama", "prompt": [999] }), 400, "prompt", "there is no token 999"),
        ("completions", json!({ "model": "llama", "prompt": long }), 400, "prompt", "the limit is 1048576"),
        (
            "completions",
            json!({ "model": "llama", "prompt": "x".repeat(300) }),
            400,
            "max_tokens",
            "context is 256",
        ),
        (
            "completions",
            json!({ "model": "llama", "prompt": "x", "max_tokens": 0 }),
            400,
            "max_tokens",
            "expected 1",
        ),
        (
            "completions",
            json!({ "model": "llama", "prompt": "x", "max_tokens": -1 }),
            400,
            "max_tokens",
            "usize",
        ),
        (
            "completions",
            json!({ "model": "llama", "prompt": "x", "temperature": 3 }),
            400,
            "temperature",
            "0 to 2",
        ),
        ("completions", json!({ "model": "llama", "prompt": "x", "top_p": 1.5 }), 400, "top_p", "0 to 1"),
        ("completions", json!({ "model": "llama", "prompt": "x", "n": 5 }), 400, "n", "1 to 4"),
        (
            "completions",
            json!({ "model": "llama", "prompt": ["x", "y", "z"], "n": 2 }),
            400,
            "n",
            "limit is 4",
        ),
        (
            "completions",
            json!({ "model": "llama", "prompt": "x", "stop": ["a", "b", "c", "d", "e"] }),
            400,
            "stop",
            "4",
        ),
        ("completions", json!({ "model": "llama", "prompt": "x", "stop": "" }), 400, "stop", "empty"),
        (
            "completions",
            json!({ "model": "llama", "prompt": "x", "stop": "y".repeat(300) }),
            400,
            "stop",
            "256",
        ),
        ("completions", json!({ "model": "llama", "prompt": "x", "logprobs": 21 }), 400, "logprobs", "20"),
        (
            "completions",
            json!({ "model": "llama", "prompt": "x", "logit_bias": { "a": 1 } }),
            400,
            "logit_bias",
            "token",
        ),
        (
            "completions",
            json!({ "model": "llama", "prompt": "x", "logit_bias": { "1": 101 } }),
            400,
            "logit_bias",
            "100",
        ),
        (
            "completions",
            json!({ "model": "llama", "prompt": "x", "best_of": 3 }),
            400,
            "best_of",
            "not supported",
        ),
        (
            "completions",
            json!({ "model": "llama", "prompt": "x", "suffix": "y" }),
            400,
            "suffix",
            "not supported",
        ),
        ("completions", json!({ "model": "llama", "prompt": "x", "temprature": 1 }), 400, "", "temprature"),
        (
            "completions",
            json!({ "model": "llama", "prompt": "x", "stream_options": {} }),
            400,
            "stream_options",
            "stream",
        ),
        ("completions", json!([1]), 400, "", "no JSON object"),
        ("chat/completions", json!({ "model": "llama", "messages": [] }), 400, "messages", "empty"),
        ("chat/completions", json!({ "model": "llama", "messages": "hi" }), 400, "messages", "sequence"),
        (
            "chat/completions",
            json!({ "model": "llama", "messages": [{ "role": "dog", "content": "wuff" }] }),
            400,
            "messages",
            "there is no role dog",
        ),
        (
            "chat/completions",
            json!({ "model": "llama", "messages": [{ "role": "user", "content": [{ "type": "image_url" }] }] }),
            400,
            "messages",
            "image_url",
        ),
        (
            "chat/completions",
            json!({ "model": "llama", "messages": [{ "role": "user", "content": "x" }], "top_logprobs": 1 }),
            400,
            "top_logprobs",
            "logprobs",
        ),
        (
            "chat/completions",
            json!({ "model": "llama", "messages": [{ "role": "user", "content": "x" }], "tools": [{}] }),
            400,
            "tools",
            "not supported",
        ),
        (
            "chat/completions",
            json!({ "model": "llama", "messages": [{ "role": "user", "content": "x" }], "response_format": { "type": "json_object" } }),
            400,
            "response_format",
            "not supported",
        ),
        ("embeddings", json!({ "model": "llama", "input": "x" }), 400, "model", "continues texts"),
        (
            "embeddings",
            json!({ "model": "bert", "input": ["x", ""] , "dimensions": 7 }),
            400,
            "dimensions",
            "32",
        ),
        (
            "embeddings",
            json!({ "model": "bert", "input": "x", "encoding_format": "hex" }),
            400,
            "encoding_format",
            "base64",
        ),
        (
            "embeddings",
            json!({ "model": "bert", "input": "x".repeat(100) }),
            400,
            "input",
            "the model takes 48",
        ),
        ("embeddings", json!({ "model": "bert", "input": 5 }), 400, "input", "expected a string"),
        ("nothing", json!({}), 404, "", "/v1/nothing"),
    ];
    for (path, body, status, param, words) in cases {
        let response = post(addr, &format!("/v1/{path}"), &body.to_string());
        let shown: String = body.to_string().chars().take(120).collect();
        assert_eq!(response.status, status, "{path} {shown}: {}", response.body);
        let error: Value = serde_json::from_str(&response.body).unwrap();
        let error = &error["error"];
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(words), "{path} {shown}: {message}");
        assert_eq!(error["param"].as_str().unwrap_or_default(), param, "{path} {shown}: {message}");
        assert_eq!(error["type"], "invalid_request_error");
    }
    let response = post(addr, "/v1/completions", "{\"model\": ");
    assert!(response.status == 400 && response.body.contains("not JSON"), "{}", response.body);
    assert_eq!(get(addr, "/v1/completions").status, 405);
    assert_eq!(post(addr, "/v1/models", "").status, 405);
    assert_eq!(send(addr, "POST", "/v1/completions", "Content-Type: image/png\r\n", "{}").status, 415);
    // And what asks for nothing is taken.
    let body = json!({
        "model": "llama", "messages": [{ "role": "user", "content": "x" }], "max_tokens": 1, "tools": [], "tool_choice": "none",
        "response_format": { "type": "text" }, "user": "me", "store": false, "seed": null, "stop": null,
    });
    assert_eq!(post(addr, "/v1/chat/completions", &body.to_string()).status, 200);
}

/// A copy of a model, spoilt.
fn spoilt(name: &str, spoil: impl Fn(&Path)) -> String {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(directory(name)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    spoil(copy.path());
    let error = Llm::load(copy.path()).unwrap_err();
    air_error(&error)
}

/// An error and its causes.
fn air_error(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn edit(directory: &Path, key: &str, value: Value) {
    let path = directory.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn llm_directories_that_cannot_be_served_say_why() {
    let has = |text: String, words: &[&str]| assert!(words.iter().all(|word| text.contains(word)), "{text}");
    let remove = |file: &'static str| move |directory: &Path| fs::remove_file(directory.join(file)).unwrap();
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        has(spoilt("llama", remove(file)), &[file, "is missing"]);
    }
    has(
        spoilt("qwen2", remove("model-00002-of-00004.safetensors")),
        &["model-00002-of-00004.safetensors", "is missing"],
    );
    has(
        spoilt("llama", |directory| edit(directory, "hidden_size", json!(40))),
        &["model.", "has the shape [", "expected [", "40"],
    );
    has(
        spoilt("llama", |directory| edit(directory, "num_hidden_layers", json!(3))),
        &["model.layers.2.input_layernorm.weight", "of shape [32]", "in none of the safetensors files"],
    );
    has(
        spoilt("llama", |directory| edit(directory, "architectures", json!(["MambaForCausalLM"]))),
        &["MambaForCausalLM", "LlamaForCausalLM"],
    );
    has(
        spoilt("llama", |directory| edit(directory, "vocab_size", json!(100))),
        &["tokenizer.json", "279", "100"],
    );
    has(spoilt("llama", |directory| edit(directory, "hidden_act", json!("relu"))), &["hidden_act", "relu"]);
    has(
        spoilt("llama", |directory| edit(directory, "num_key_value_heads", json!(3))),
        &["num_key_value_heads", "3"],
    );
    has(
        spoilt("llama", |directory| edit(directory, "rope_parameters", json!({ "rope_type": "yarn" }))),
        &["rope_scaling", "yarn"],
    );
    has(spoilt("llama", |directory| edit(directory, "hidden_size", json!("big"))), &["config.json", "big"]);
    let weights = |change: fn(&mut Vec<u8>)| {
        move |directory: &Path| {
            let path = directory.join("model.safetensors");
            let mut bytes = fs::read(&path).unwrap();
            change(&mut bytes);
            fs::write(path, bytes).unwrap();
        }
    };
    has(
        spoilt("llama", weights(|bytes| bytes.truncate(90_000))),
        &["model.safetensors", "not a whole", "90000 bytes"],
    );
    has(
        spoilt("llama", weights(|bytes| bytes.truncate(100))),
        &["model.safetensors", "its header should have"],
    );
    has(spoilt("llama", weights(|bytes| bytes.truncate(3))), &["it has 3 bytes"]);
    has(spoilt("llama", weights(|bytes| bytes[7] = 255)), &["its header should have"]);
    has(spoilt("llama", weights(|bytes| bytes[9] = b'#')), &["model.safetensors", "its header"]);
    has(
        spoilt("llama", |directory| fs::write(directory.join("chat_template.jinja"), "{% if %}").unwrap()),
        &["chat template"],
    );
    has(
        spoilt("llama", |directory| fs::write(directory.join("tokenizer.json"), "{}").unwrap()),
        &["tokenizer.json", "is not a tokenizer"],
    );
    has(
        spoilt("qwen2", |directory| {
            let index = json!({ "weight_map": { "a": "../model.safetensors" } });
            fs::write(directory.join("model.safetensors.index.json"), index.to_string()).unwrap();
        }),
        &["../model.safetensors", "same directory"],
    );
}
