//! What `config.json` says of a network.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::file;
use crate::llm::LlmError;
use crate::llm::net::{BertShape, Llama3Scaling, LlamaShape};

/// A network that can be served.
#[derive(Debug)]
pub(crate) enum NetShape {
    Llama(LlamaShape, Vec<u32>),
    Bert(BertShape),
}

/// The keys that are read; others say nothing about the forward pass.
#[derive(Debug, Deserialize)]
struct Keys {
    #[serde(default)]
    architectures: Vec<String>,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: usize,
    rms_norm_eps: Option<f32>,
    layer_norm_eps: Option<f32>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeKeys>,
    /// As transformers 5 writes it.
    rope_parameters: Option<RopeKeys>,
    #[serde(default)]
    tie_word_embeddings: bool,
    hidden_act: Option<String>,
    eos_token_id: Option<Value>,
    sliding_window: Option<usize>,
    use_sliding_window: Option<bool>,
    partial_rotary_factor: Option<f64>,
    quantization_config: Option<Value>,
    type_vocab_size: Option<usize>,
    position_embedding_type: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RopeKeys {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    /// As it was called before.
    #[serde(rename = "type")]
    kind: Option<String>,
    factor: Option<f64>,
    #[serde(flatten)]
    rest: Value,
}

/// The tokens that end a text: one, or several.
pub(crate) fn token_ids(value: Option<&Value>) -> Vec<u32> {
    let one = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Some(Value::Array(values)) => values.iter().filter_map(one).collect(),
        Some(value) => one(value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// Reads `config.json`.
pub(crate) fn read(path: &Path) -> Result<NetShape, LlmError> {
    let keys: Keys =
        file::json(path, "it says what the network is, as transformers' `save_pretrained` writes it")?;
    let bad = |key: &'static str, reason: String| LlmError::Setting { path: path.to_owned(), key, reason };
    let architecture = keys.architectures.first().map_or("that is not named", String::as_str);
    let is_bert = match architecture {
        "LlamaForCausalLM" | "MistralForCausalLM" | "Qwen2ForCausalLM" | "Qwen3ForCausalLM" => false,
        "BertModel" | "BertForMaskedLM" => true,
        found => {
            return Err(LlmError::Architecture { path: path.to_owned(), found: found.to_owned() });
        }
    };
    for (key, value, limit) in [
        ("hidden_size", keys.hidden_size, 1 << 16),
        ("intermediate_size", keys.intermediate_size, 1 << 18),
        ("num_hidden_layers", keys.num_hidden_layers, 1 << 10),
        ("num_attention_heads", keys.num_attention_heads, 1 << 10),
        ("vocab_size", keys.vocab_size, 1 << 22),
        ("max_position_embeddings", keys.max_position_embeddings, 1 << 24),
        ("num_key_value_heads", keys.num_key_value_heads.unwrap_or(1), 1 << 10),
        ("head_dim", keys.head_dim.unwrap_or(1), 1 << 12),
    ] {
        if value == 0 || value > limit {
            return Err(bad(key, format!("is {value}, expected 1 to {limit}")));
        }
    }
    if keys.quantization_config.is_some() {
        return Err(bad("quantization_config", "is set; quantised weights are not supported".to_owned()));
    }
    let heads = keys.num_attention_heads;
    if keys.head_dim.is_none() && !keys.hidden_size.is_multiple_of(heads) {
        return Err(bad("num_attention_heads", format!("is {heads}, which does not divide hidden_size")));
    }
    let act = keys.hidden_act.as_deref().unwrap_or(if is_bert { "gelu" } else { "silu" });
    if act != if is_bert { "gelu" } else { "silu" } {
        return Err(bad("hidden_act", format!("is {act:?}, which is not supported")));
    }
    if is_bert {
        if let Some(kind) = keys.position_embedding_type.filter(|kind| kind != "absolute") {
            return Err(bad("position_embedding_type", format!("is {kind:?}, expected \"absolute\"")));
        }
        return Ok(NetShape::Bert(BertShape {
            hidden: keys.hidden_size,
            inner: keys.intermediate_size,
            layers: keys.num_hidden_layers,
            heads,
            vocab: keys.vocab_size,
            positions: keys.max_position_embeddings,
            types: keys.type_vocab_size.unwrap_or(2),
            eps: keys.layer_norm_eps.unwrap_or(1e-12),
        }));
    }
    if keys.partial_rotary_factor.is_some_and(|factor| factor != 1.0) {
        return Err(bad("partial_rotary_factor", "is not 1, which is not supported".to_owned()));
    }
    let head_dim = keys.head_dim.unwrap_or(keys.hidden_size / heads);
    if !head_dim.is_multiple_of(2) {
        return Err(bad("head_dim", format!("is {head_dim}, expected an even number")));
    }
    let kv_heads = keys.num_key_value_heads.unwrap_or(heads);
    if !heads.is_multiple_of(kv_heads) {
        return Err(bad(
            "num_key_value_heads",
            format!("is {kv_heads}, which does not divide the {heads} heads"),
        ));
    }
    let rope = keys.rope_scaling.or(keys.rope_parameters);
    let theta = keys.rope_theta.or(rope.as_ref().and_then(|rope| rope.rope_theta)).unwrap_or(10_000.0);
    let (mut linear, mut llama3) = (1.0, None::<Llama3Scaling>);
    if let Some(rope) = rope {
        match rope.rope_type.as_deref().or(rope.kind.as_deref()).unwrap_or("default") {
            "default" => {}
            "linear" => linear = rope.factor.unwrap_or(1.0),
            "llama3" => {
                let mut keys = rope.rest;
                keys["factor"] = rope.factor.into();
                let read = serde_json::from_value(keys);
                llama3 = Some(read.map_err(|source| LlmError::Json { path: path.to_owned(), source })?);
            }
            other => {
                return Err(bad(
                    "rope_scaling",
                    format!("is of type {other:?}; there are default, linear, llama3"),
                ));
            }
        }
    }
    // Within its window a model with one sees what it would see without.
    let window = keys.sliding_window.filter(|_| keys.use_sliding_window != Some(false)).unwrap_or(usize::MAX);
    let shape = LlamaShape {
        hidden: keys.hidden_size,
        inner: keys.intermediate_size,
        layers: keys.num_hidden_layers,
        heads,
        kv_heads,
        head_dim,
        vocab: keys.vocab_size,
        positions: keys.max_position_embeddings.min(window),
        eps: keys.rms_norm_eps.unwrap_or(1e-6),
        theta,
        linear,
        llama3,
        tied: keys.tie_word_embeddings,
    };
    Ok(NetShape::Llama(shape, token_ids(keys.eos_token_id.as_ref())))
}
