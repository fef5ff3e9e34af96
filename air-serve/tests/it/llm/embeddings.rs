//! Embeddings: over HTTP, and of a real model.

use air_serve::llm::Llm;
use air_serve::{App, Deployment, run};
use serde_json::{Value, json};

use super::{ask, expected, server};
use crate::fixtures;

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn llm_embeddings_come_in_order_as_numbers_or_base64() {
    let server = server(|_| {});
    let expected = expected("bert");
    // So many that one step does not take all of them.
    let texts: Vec<&str> = expected["texts"]
        .as_array()
        .unwrap()
        .iter()
        .cycle()
        .take(90)
        .map(|text| text.as_str().unwrap())
        .collect();
    let mut body = json!({ "model": "bert", "input": texts });
    let answer = ask(server.addr(), "/v1/embeddings", &body);
    let data = answer["data"].as_array().unwrap();
    assert_eq!(data.len(), texts.len());
    for (number, one) in data.iter().enumerate() {
        assert_eq!((one["index"].as_u64(), &one["object"]), (Some(number as u64), &json!("embedding")));
        let wanted = numbers(&expected["embeddings"][number % 3]);
        let far =
            numbers(&one["embedding"]).iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(far < 1e-5, "{far}");
    }
    assert_eq!(answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"]);
    body["encoding_format"] = "base64".into();
    body["input"] = json!("Hello, world");
    let packed = ask(server.addr(), "/v1/embeddings", &body);
    let packed = packed["data"][0]["embedding"].as_str().unwrap();
    // 32 numbers of 4 bytes; the first four characters are the first three bytes.
    assert_eq!(packed.len(), (32_usize * 4).div_ceil(3) * 4);
    let first = (data[0]["embedding"][0].as_f64().unwrap() as f32).to_le_bytes();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let sixths: Vec<usize> = packed.chars().take(4).map(|c| alphabet.find(c).unwrap()).collect();
    let bits = sixths.iter().fold(0, |bits, sixth| bits << 6 | sixth);
    assert_eq!(bits.to_be_bytes()[5..], first[..3]);
}

/// all-MiniLM-L6-v2 against sentence-transformers (`scripts/llm_fixtures.py`).
#[test]
fn llm_minilm_embeds_as_sentence_transformers_does() {
    let root = std::env::var_os("AIR_TEST_DATA")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../data").into(), std::path::PathBuf::from);
    let directory = root.join("all-minilm-l6-v2");
    if !directory.exists() {
        eprintln!(
            "no {}: nothing was checked (python3 scripts/fetch_data.py brings it)",
            directory.display()
        );
        return;
    }
    let llm = Llm::load(directory).unwrap();
    assert!(llm.is_encoder());
    assert_eq!(llm.context_tokens(), 256);
    let server =
        run(App::new().with_http(|http| http.port = 0).deploy(Deployment::llm("minilm", llm))).unwrap();
    let expected: Value =
        serde_json::from_slice(&std::fs::read(fixtures("llm").join("minilm.json")).unwrap()).unwrap();
    let answer =
        ask(server.addr(), "/v1/embeddings", &json!({ "model": "minilm", "input": expected["texts"] }));
    for (one, wanted) in
        answer["data"].as_array().unwrap().iter().zip(expected["embeddings"].as_array().unwrap())
    {
        let cosine = cosine(&numbers(&one["embedding"]), &numbers(wanted));
        assert!(cosine > 0.9999, "{cosine}");
    }
}
