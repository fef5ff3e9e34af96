//! What answers look like: choices, pieces of choices, probabilities. Pure.

use serde_json::{Value, json};

use crate::llm::engine::{Finish, Token};
use crate::llm::text::Tokens;

/// Which of the two kinds of text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Chat,
    Completion,
}

/// What every object of an answer begins with.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub kind: Kind,
    pub id: String,
    pub created: u64,
    pub model: String,
    pub prompt_tokens: usize,
}

/// A choice, or a piece of one.
#[derive(Clone, Debug, Default)]
pub(super) struct Part {
    pub index: usize,
    pub text: String,
    /// None where they are not asked for.
    pub logprobs: Option<Vec<Token>>,
    pub finish: Option<Finish>,
}

impl Head {
    fn object(&self, name: &str, choices: Vec<Value>) -> Value {
        json!({ "id": self.id, "object": name, "created": self.created, "model": self.model, "choices": choices })
    }

    /// A whole answer.
    pub(super) fn whole(&self, parts: Vec<Part>, tokens: &Tokens, completion_tokens: usize) -> Value {
        let choice = |part: Part| {
            let mut choice = self.choice(&part, tokens, &mut 0);
            match self.kind {
                Kind::Chat => {
                    choice["message"] = json!({ "role": "assistant", "content": part.text, "refusal": null });
                }
                Kind::Completion => choice["text"] = part.text.into(),
            }
            choice
        };
        let name = if self.kind == Kind::Chat { "chat.completion" } else { "text_completion" };
        let mut object = self.object(name, parts.into_iter().map(choice).collect());
        object["usage"] = self.usage(completion_tokens);
        object
    }

    /// A piece of an answer; `first` is that of its choice, and `offset` counts the characters of the choice's text.
    pub(super) fn piece(&self, part: Part, tokens: &Tokens, first: bool, offset: &mut usize) -> Value {
        let mut choice = self.choice(&part, tokens, offset);
        match self.kind {
            Kind::Completion => choice["text"] = part.text.into(),
            Kind::Chat => {
                let mut delta = json!({});
                if first {
                    delta["role"] = "assistant".into();
                }
                if first || !part.text.is_empty() {
                    delta["content"] = part.text.into();
                }
                choice["delta"] = delta;
            }
        }
        self.object(self.piece_name(), vec![choice])
    }

    /// The last object of a stream that tells of tokens.
    pub(super) fn usage_piece(&self, completion_tokens: usize) -> Value {
        let mut object = self.object(self.piece_name(), Vec::new());
        object["usage"] = self.usage(completion_tokens);
        object
    }

    fn piece_name(&self) -> &'static str {
        if self.kind == Kind::Chat { "chat.completion.chunk" } else { "text_completion" }
    }

    fn usage(&self, completion_tokens: usize) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": self.prompt_tokens + completion_tokens,
        })
    }

    fn choice(&self, part: &Part, tokens: &Tokens, offset: &mut usize) -> Value {
        let logprobs = match (&part.logprobs, self.kind) {
            (None, _) => Value::Null,
            (Some(list), Kind::Chat) => chat_logprobs(list, tokens),
            (Some(list), Kind::Completion) => completion_logprobs(list, tokens, offset),
        };
        json!({ "index": part.index, "logprobs": logprobs, "finish_reason": part.finish.map(Finish::name) })
    }
}

/// A token as completions name it: one that is no whole characters by its bytes, as OpenAI does.
fn name(tokens: &Tokens, id: u32) -> String {
    String::from_utf8(tokens.bytes(id)).unwrap_or_else(|error| {
        let escaped = error.as_bytes().iter().map(|byte| format!("\\x{byte:02x}"));
        format!("bytes:{}", escaped.collect::<String>())
    })
}

fn chat_logprobs(list: &[Token], tokens: &Tokens) -> Value {
    let one = |id: u32, logprob: f32| {
        let bytes = tokens.bytes(id);
        json!({ "token": String::from_utf8_lossy(&bytes), "logprob": logprob, "bytes": bytes })
    };
    let content = list.iter().map(|token| {
        let mut object = one(token.this.id, token.this.logprob);
        object["top_logprobs"] = token.top.iter().map(|other| one(other.id, other.logprob)).collect();
        object
    });
    json!({ "content": content.collect::<Value>(), "refusal": null })
}

fn completion_logprobs(list: &[Token], tokens: &Tokens, offset: &mut usize) -> Value {
    let mut offsets = Vec::new();
    for token in list {
        offsets.push(*offset);
        *offset += String::from_utf8_lossy(&tokens.bytes(token.this.id)).chars().count();
    }
    let top = list.iter().map(|token| {
        let others = token.top.iter().map(|other| (name(tokens, other.id), json!(other.logprob)));
        others.collect::<serde_json::Map<_, _>>()
    });
    json!({
        "tokens": list.iter().map(|token| name(tokens, token.this.id)).collect::<Vec<_>>(),
        "token_logprobs": list.iter().map(|token| token.this.logprob).collect::<Vec<_>>(),
        "top_logprobs": top.collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}
