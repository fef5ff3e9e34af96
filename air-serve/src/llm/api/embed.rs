//! Embeddings of texts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::fault::Fault;
use super::models::Served;
use crate::llm::engine::{Answer, Asked, LlmRequest};

/// The list of embeddings, in the order of the texts.
pub(super) async fn answer(model: &Served, texts: Vec<Vec<u32>>, base64: bool) -> Result<Value, Fault> {
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let mut embeddings = vec![Value::Null; texts.len()];
    let call = model.handle.call(LlmRequest(Asked::Embeddings(texts)));
    let mut items = call.await.map_err(|error| Fault::from(&error))?;
    while let Some(event) = items.next().await {
        if let Answer::Embedding { index, values } = event.map_err(|error| Fault::from(&error))?.0 {
            let embedding = if base64 {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                STANDARD.encode(bytes).into()
            } else {
                json!(values)
            };
            embeddings[index] = json!({ "object": "embedding", "index": index, "embedding": embedding });
        }
    }
    Ok(json!({
        "object": "list", "model": &*model.name, "data": embeddings,
        "usage": { "prompt_tokens": tokens, "total_tokens": tokens },
    }))
}
