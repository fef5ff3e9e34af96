//! Serve a language model from a directory and talk to it as OpenAI's clients do.
//!
//!     cargo run --release -p air-serve --features llm --example llm [DIR]
//!
//! DIR is what transformers' `save_pretrained` writes of a Llama, Mistral, Qwen 2 or Qwen 3. Without it: a tiny model with random weights, whose
//! answers are noise.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use air_core::BoxError;
use air_serve::llm::{Llm, LlmConfig};
use air_serve::{App, Deployment, run};
use serde_json::{Value, json};

fn main() -> Result<(), BoxError> {
    let tiny = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/llm/llama");
    let directory = std::env::args_os().nth(1).map_or_else(|| PathBuf::from(tiny), PathBuf::from);
    let llm = Llm::load_with(directory, LlmConfig { kv_cache_bytes: 256 << 20, ..LlmConfig::default() })?;
    println!(
        "a context of {} tokens, {} bytes of weights read a step",
        llm.context_tokens(),
        llm.step_bytes()
    );

    // It works on 16 requests at a time; each joins at the next step and leaves with its last token.
    let deployment = Deployment::llm("tiny", llm).with(|config| config.max_batch_size = 16);
    let server = run(App::new().with_http(|http| http.port = 0).deploy(deployment))?;
    let url = format!("http://{}/v1/chat/completions", server.addr());

    let messages = json!([{ "role": "user", "content": "Say something" }]);
    let mut body = json!({ "model": "tiny", "messages": messages, "max_tokens": 24, "seed": 7 });
    let answer: Value =
        serde_json::from_str(&ureq::post(&url).send(body.to_string())?.body_mut().read_to_string()?)?;
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap_or_default().to_owned();
    println!("{text:?}, {}", answer["usage"]);

    // The same again as a stream, which the same seed makes the same text.
    body["stream"] = true.into();
    let mut streamed = String::new();
    let response = ureq::post(&url).send(body.to_string())?;
    for line in BufReader::new(response.into_body().into_reader()).lines() {
        let line = line?;
        let Some(event) = line.strip_prefix("data: ").filter(|event| *event != "[DONE]") else { continue };
        let event: Value = serde_json::from_str(event)?;
        streamed += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
    }
    assert_eq!(streamed, text);
    println!("streamed the same");
    Ok(())
}
