//! The bodies of requests, as OpenAI's API has them. A field that is not known is refused, as there: one that does nothing had better be heard of.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::fault::Fault;

/// What both kinds of text have.
#[derive(Debug)]
pub(super) struct Common {
    pub model: String,
    pub temperature: Option<f32>,
    pub top_p: Option<f32>,
    pub top_k: Option<i64>,
    pub n: Option<usize>,
    pub stream: bool,
    pub stream_options: Option<StreamOptions>,
    pub stop: Vec<String>,
    pub max_tokens: Option<usize>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub logit_bias: Map<String, Value>,
    pub seed: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamOptions {
    #[serde(default)]
    pub include_usage: bool,
    /// Padding against the length of events telling what is in them: there is none.
    #[serde(default, rename = "include_obfuscation")]
    _include_obfuscation: bool,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of strings")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug)]
pub(super) struct Chat {
    pub common: Common,
    pub messages: Vec<ChatMessage>,
    pub logprobs: bool,
    pub top_logprobs: usize,
}

#[derive(Debug, Deserialize)]
pub(super) struct ChatMessage {
    pub role: String,
    pub content: Option<Content>,
    pub name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or an array of parts as the content of a message")]
pub(super) enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize)]
pub(super) struct ContentPart {
    #[serde(rename = "type")]
    pub kind: String,
    pub text: Option<String>,
}

#[derive(Debug)]
pub(super) struct Completion {
    pub common: Common,
    pub prompt: Prompt,
    pub logprobs: Option<usize>,
    pub echo: bool,
    pub best_of: Option<usize>,
}

/// One text or several, as texts or as tokens.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a string, an array of strings, an array of tokens, or an array of such arrays"
)]
pub(super) enum Prompt {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    ManyTokens(Vec<Vec<u32>>),
}

#[derive(Debug)]
pub(super) struct Embeddings {
    pub model: String,
    pub input: Prompt,
    pub encoding_format: Option<String>,
    pub dimensions: Option<usize>,
}

/// Fields that say nothing about the answer.
const INERT: [&str; 9] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
    "verbosity",
];

/// Fields of OpenAI's that are not supported, which may be there if they ask for nothing: null, empty, or this.
const UNSUPPORTED: [(&str, &str); 11] = [
    ("tools", ""),
    ("tool_choice", "none"),
    ("functions", ""),
    ("function_call", "none"),
    ("response_format", "text"),
    ("modalities", "text"),
    ("audio", ""),
    ("prediction", ""),
    ("suffix", ""),
    ("reasoning_effort", "none"),
    ("web_search_options", ""),
];

/// The fields of a body that nobody has taken.
struct Fields(Map<String, Value>);

impl Fields {
    fn read(body: &[u8]) -> Result<Self, Fault> {
        if body.is_empty() {
            return Err(Fault::bad("", "the request has no body, expected a JSON object"));
        }
        serde_json::from_slice(body).map(Fields).map_err(|error| {
            let what = if error.is_data() { "the body is no JSON object" } else { "the body is not JSON" };
            Fault::bad("", format!("{what}: {error}"))
        })
    }

    /// Takes a field; null is as good as none.
    fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<Option<T>, Fault> {
        let value = self.0.remove(name).filter(|value| !value.is_null());
        let read = value.map(serde_json::from_value).transpose();
        read.map_err(|error| Fault::bad(name, format!("`{name}`: {error}")).code("invalid_type"))
    }

    fn need<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T, Fault> {
        let missing = || Fault::bad(name, format!("`{name}` is missing")).code("missing_required_parameter");
        self.take(name)?.ok_or_else(missing)
    }

    fn common(&mut self) -> Result<Common, Fault> {
        let stop = match self.take("stop")? {
            Some(OneOrMany::One(one)) => vec![one],
            Some(OneOrMany::Many(many)) => many,
            None => Vec::new(),
        };
        let (old, new) = (self.take("max_tokens")?, self.take("max_completion_tokens")?);
        Ok(Common {
            model: self.need("model")?,
            temperature: self.take("temperature")?,
            top_p: self.take("top_p")?,
            top_k: self.take("top_k")?,
            n: self.take("n")?,
            stream: self.take("stream")?.unwrap_or(false),
            stream_options: self.take("stream_options")?,
            stop,
            max_tokens: new.or(old),
            presence_penalty: self.take("presence_penalty")?,
            frequency_penalty: self.take("frequency_penalty")?,
            repetition_penalty: self.take("repetition_penalty")?,
            logit_bias: self.take("logit_bias")?.unwrap_or_default(),
            seed: self.take("seed")?,
        })
    }

    /// Whether those that are left may be ignored.
    fn end(self) -> Result<(), Fault> {
        for (field, value) in &self.0 {
            if INERT.contains(&&**field) {
                continue;
            }
            let Some((known, nothing)) = UNSUPPORTED.iter().find(|(known, _)| known == field) else {
                let shown: String = field.chars().take(64).collect();
                let reason = format!("unrecognized request argument supplied: {shown}");
                return Err(Fault::bad("", reason).code("unknown_parameter"));
            };
            let asks = match value {
                Value::Null => false,
                Value::Array(all) => all.iter().any(|one| one != nothing),
                Value::String(one) => one != nothing,
                Value::Object(keys) => {
                    !keys.is_empty() && keys.get("type").and_then(Value::as_str) != Some(nothing)
                }
                _ => true,
            };
            if asks {
                let reason = format!("`{known}` is not supported");
                return Err(Fault::bad(known, reason).code("unsupported_parameter"));
            }
        }
        Ok(())
    }
}

impl Chat {
    pub(super) fn read(body: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::read(body)?;
        let chat = Chat {
            common: fields.common()?,
            messages: fields.need("messages")?,
            logprobs: fields.take("logprobs")?.unwrap_or(false),
            top_logprobs: fields.take("top_logprobs")?.unwrap_or(0),
        };
        fields.end().map(|()| chat)
    }
}

impl Completion {
    pub(super) fn read(body: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::read(body)?;
        let completion = Completion {
            common: fields.common()?,
            prompt: fields.need("prompt")?,
            logprobs: fields.take("logprobs")?,
            echo: fields.take("echo")?.unwrap_or(false),
            best_of: fields.take("best_of")?,
        };
        fields.end().map(|()| completion)
    }
}

impl Embeddings {
    pub(super) fn read(body: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::read(body)?;
        let embeddings = Embeddings {
            model: fields.need("model")?,
            input: fields.need("input")?,
            encoding_format: fields.take("encoding_format")?,
            dimensions: fields.take("dimensions")?,
        };
        fields.end().map(|()| embeddings)
    }
}
