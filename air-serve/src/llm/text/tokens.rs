//! The tokenizer of a model.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use tokenizers::Tokenizer;

use crate::llm::LlmError;
use crate::llm::load::file;

/// Text to tokens and back.
#[derive(Debug)]
pub(crate) struct Tokens {
    tokenizer: Tokenizer,
    /// The bytes that the characters of its tokens stand for, if it is one of bytes.
    bytes: Option<HashMap<char, u8>>,
}

/// What of `tokenizer_config.json` matters.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct TokenizerKeys {
    pub chat_template: Option<Value>,
    bos_token: Option<Value>,
    eos_token: Option<Value>,
}

impl TokenizerKeys {
    pub(crate) fn bos(&self) -> Option<&str> {
        content(self.bos_token.as_ref()?)
    }

    pub(crate) fn eos(&self) -> Option<&str> {
        content(self.eos_token.as_ref()?)
    }
}

/// A token is written as its text, or as an object with it.
fn content(token: &Value) -> Option<&str> {
    token.as_str().or_else(|| token.get("content")?.as_str())
}

impl Tokens {
    /// Reads `tokenizer.json`, for a network of that many tokens.
    pub(crate) fn read(path: &Path, vocab: usize) -> Result<Self, LlmError> {
        let hint = "the tokenizer, as transformers' fast tokenizers write it";
        let bad = |reason: String| LlmError::Tokenizer { path: path.to_owned(), reason };
        let text = file::bytes(path, hint)?;
        let mut tokenizer =
            Tokenizer::from_bytes(&text).map_err(|error| bad(format!("is not a tokenizer: {error}")))?;
        let most = tokenizer.get_vocab(true).into_values().max();
        if most.is_some_and(|most| most as usize >= vocab) {
            let most = most.unwrap_or_default();
            return Err(bad(format!("it has a token {most}, the network has those below {vocab}")));
        }
        // How long a text may be is ours to say, and texts of a batch are not padded.
        let untruncated = tokenizer.with_truncation(None).map(drop);
        untruncated.map_err(|error| bad(error.to_string()))?;
        tokenizer.with_padding(None);
        let keys: Value = serde_json::from_slice(&text)
            .map_err(|source| LlmError::Json { path: path.to_owned(), source })?;
        let bytes = is_of_bytes(&keys["decoder"]).then(byte_characters);
        Ok(Tokens { tokenizer, bytes })
    }

    /// The tokens of a text; `special` adds those that a model expects around it.
    pub(crate) fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>, String> {
        let encoding = self.tokenizer.encode_fast(text, special);
        encoding.map(|encoding| encoding.get_ids().to_vec()).map_err(|error| error.to_string())
    }

    /// The text of tokens, without those that stand for none.
    pub(crate) fn decode(&self, ids: &[u32]) -> String {
        // Only what is no token can fail, and that has no text.
        self.tokenizer.decode(ids, true).unwrap_or_default()
    }

    pub(crate) fn id(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// The bytes of one token, which need not be whole characters.
    pub(crate) fn bytes(&self, id: u32) -> Vec<u8> {
        let Some(token) = self.tokenizer.id_to_token(id) else { return Vec::new() };
        if let Some(bytes) = &self.bytes
            && let Some(bytes) = token.chars().map(|c| bytes.get(&c).copied()).collect()
        {
            return bytes;
        }
        let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => vec![byte],
            None => token.replace('▁', " ").into_bytes(),
        }
    }
}

fn is_of_bytes(decoder: &Value) -> bool {
    let parts = decoder["decoders"].as_array();
    decoder["type"] == "ByteLevel" || parts.is_some_and(|parts| parts.iter().any(is_of_bytes))
}

/// GPT-2's writing of bytes as characters: printable ones as themselves, the others from U+0100 on.
fn byte_characters() -> HashMap<char, u8> {
    let prints = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    let others = (0..=u8::MAX).filter(|byte| !prints(byte)).zip('\u{100}'..).map(|(byte, c)| (c, byte));
    (0..=u8::MAX).filter(prints).map(|byte| (char::from(byte), byte)).chain(others).collect()
}
