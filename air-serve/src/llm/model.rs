//! A model that has been read from its directory.

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::config::LlmConfig;
use super::engine::Reused;
use super::error::LlmError;
use super::load::{NetShape, Tensors, file, read_shape, token_ids};
use super::net::{Bert, Llama};
use super::text::{ChatTemplate, TokenizerKeys, Tokens};

/// The context of a model where nothing else is said: what models claim may take more memory than there is.
const CONTEXT: usize = 8192;

/// A language model or an encoder of texts, read from a directory. Cheap to clone: clones share the weights.
///
/// The directory is what transformers' `save_pretrained` or sentence-transformers' `save` writes: `config.json`, `tokenizer.json`, weights as safetensors, and
/// where there are `tokenizer_config.json`, `generation_config.json`, `chat_template.jinja`, `modules.json`.
#[derive(Clone, Debug)]
pub struct Llm {
    inner: Arc<Inner>,
    reused: Arc<Reused>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub config: LlmConfig,
    pub tokens: Tokens,
    pub net: Net,
    /// Tokens of prompt and answer together, or of a text to be embedded.
    pub context: usize,
}

/// What it can do.
#[derive(Debug)]
pub(crate) enum Net {
    Causal { net: Box<Llama>, chat: Option<Box<ChatTemplate>>, ends: Vec<u32> },
    Encoder { net: Box<Bert>, pooling: Pooling },
}

/// How the embedding of a text is made of those of its tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pooling {
    /// The mean of all tokens; else the first token's.
    pub mean: bool,
    /// To the length 1.
    pub normalise: bool,
}

impl Pooling {
    /// The embedding of a text from the states of its tokens.
    pub(crate) fn apply(self, states: &[f32], hidden: usize) -> Vec<f32> {
        let mut values = states[..hidden].to_vec();
        if self.mean {
            for state in states.chunks_exact(hidden).skip(1) {
                values.iter_mut().zip(state).for_each(|(sum, value)| *sum += value);
            }
            let count = (states.len() / hidden) as f32;
            for value in &mut values {
                *value /= count;
            }
        }
        if self.normalise {
            let length = values.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
            for value in &mut values {
                *value /= length;
            }
        }
        values
    }
}

impl Llm {
    /// Reads the model of a directory.
    pub fn load(directory: impl AsRef<Path>) -> Result<Self, LlmError> {
        Self::load_with(directory, LlmConfig::default())
    }

    /// Reads the model of a directory, to be served within these limits.
    pub fn load_with(directory: impl AsRef<Path>, config: LlmConfig) -> Result<Self, LlmError> {
        config.validate()?;
        let directory = directory.as_ref();
        let shape = read_shape(&directory.join("config.json"))?;
        let keys: TokenizerKeys =
            file::json_if_there(&directory.join("tokenizer_config.json"))?.unwrap_or_default();
        let vocab = match &shape {
            NetShape::Llama(shape, _) => shape.vocab,
            NetShape::Bert(shape) => shape.vocab,
        };
        let tokens = Tokens::read(&directory.join("tokenizer.json"), vocab)?;
        let tensors = Tensors::open(directory, config.round_inputs)?;
        let wanted = config.max_context_tokens.unwrap_or(CONTEXT);
        let (net, context) = match shape {
            NetShape::Llama(shape, ends) => {
                let context = wanted.min(shape.positions);
                let ends = ends_of(directory, ends, &keys, &tokens)?;
                let chat = ChatTemplate::read(directory, &keys)?.map(Box::new);
                (Net::Causal { net: Box::new(Llama::read(shape, context, &tensors)?), chat, ends }, context)
            }
            NetShape::Bert(shape) => {
                let (pooling, longest) = sentences(directory)?;
                let context = wanted.min(shape.positions).min(longest);
                (Net::Encoder { net: Box::new(Bert::read(shape, &tensors)?), pooling }, context)
            }
        };
        let inner = Inner { config, tokens, net, context };
        Ok(Llm { inner: Arc::new(inner), reused: Arc::default() })
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    pub(crate) fn reused(&self) -> &Arc<Reused> {
        &self.reused
    }

    /// The same for another deployment, which counts for itself.
    pub(crate) fn afresh(self) -> Self {
        Llm { reused: Arc::default(), ..self }
    }

    /// Tokens of prompt and answer together, or of a text to be embedded.
    pub fn context_tokens(&self) -> usize {
        self.inner.context
    }

    /// Whether it embeds texts; else it continues them.
    pub fn is_encoder(&self) -> bool {
        matches!(self.inner.net, Net::Encoder { .. })
    }

    /// Bytes of the weights that each step reads from memory, whatever the number of texts: what limits its speed. 0 for an encoder.
    pub fn step_bytes(&self) -> usize {
        match &self.inner.net {
            Net::Causal { net, .. } => net.bytes(),
            Net::Encoder { .. } => 0,
        }
    }
}

/// The tokens that end a text, from whichever file names them.
fn ends_of(
    directory: &Path,
    mut ends: Vec<u32>,
    keys: &TokenizerKeys,
    tokens: &Tokens,
) -> Result<Vec<u32>, LlmError> {
    #[derive(Deserialize)]
    struct Generation {
        eos_token_id: Option<Value>,
    }
    let generation: Option<Generation> = file::json_if_there(&directory.join("generation_config.json"))?;
    ends.extend(generation.iter().flat_map(|generation| token_ids(generation.eos_token_id.as_ref())));
    ends.extend(keys.eos().and_then(|token| tokens.id(token)));
    ends.sort_unstable();
    ends.dedup();
    Ok(ends)
}

/// What sentence-transformers says of pooling, and of the longest text. Without its files: the mean, normalised.
fn sentences(directory: &Path) -> Result<(Pooling, usize), LlmError> {
    #[derive(Deserialize)]
    struct Module {
        path: String,
        #[serde(rename = "type")]
        kind: String,
    }
    #[derive(Deserialize)]
    struct PoolingKeys {
        #[serde(rename = "pooling_mode")]
        named: Option<Value>,
        #[serde(default, rename = "pooling_mode_mean_tokens")]
        mean: bool,
        #[serde(default, rename = "pooling_mode_cls_token")]
        first: bool,
    }
    #[derive(Deserialize)]
    struct SentenceKeys {
        max_seq_length: Option<usize>,
    }
    let sentence: Option<SentenceKeys> = file::json_if_there(&directory.join("sentence_bert_config.json"))?;
    let longest =
        sentence.and_then(|keys| keys.max_seq_length).filter(|length| *length > 0).unwrap_or(usize::MAX);
    let path = directory.join("modules.json");
    let Some(modules) = file::json_if_there::<Vec<Module>>(&path)? else {
        return Ok((Pooling { mean: true, normalise: true }, longest));
    };
    let mut pooling = Pooling { mean: true, normalise: false };
    for module in modules {
        match module.kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" => {}
            "Normalize" => pooling.normalise = true,
            "Pooling" => {
                let at = directory.join(&module.path).join("config.json");
                let keys: PoolingKeys = file::json(&at, "it says how embeddings are pooled")?;
                let named = keys.named.as_ref().and_then(Value::as_str);
                pooling.mean = match (named, keys.mean, keys.first) {
                    (Some("mean"), ..) | (None, true, false) => true,
                    (Some("cls"), ..) | (None, false, true) => false,
                    _ => {
                        let reason = "is neither of the mean nor of the first token, which is not supported"
                            .to_owned();
                        return Err(LlmError::Setting { path: at, key: "pooling_mode", reason });
                    }
                };
            }
            _ => {
                let reason = format!("has a module of type {:?}, which is not supported", module.kind);
                return Err(LlmError::Setting { path, key: "type", reason });
            }
        }
    }
    Ok((pooling, longest))
}
