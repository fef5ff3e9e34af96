//! The limits that a language model is served with.

use serde::{Deserialize, Serialize};

use super::LlmError;

/// How a language model is served: what it may use of the machine, and what a request may ask for. In a file, the `args` of an `llm://`
/// application.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LlmConfig {
    /// Threads that share the work of a step; 0, the default, is one a core.
    pub threads: usize,
    /// Whether what is multiplied with weights of BF16 is rounded to BF16 too, as PyTorch always does, where the processor multiplies such numbers
    /// (default true): prompts are read about twice as fast, and the last bits of every number differ from those of other processors.
    pub round_inputs: bool,
    /// Tokens of prompt and answer together, at most those of the model (default: the model's, at most 8192).
    pub max_context_tokens: Option<usize>,
    /// Memory for keys and values of past tokens, in bytes (default 1 GiB). It is taken as it is needed. A request waits until there is room for all that it can come to.
    pub kv_cache_bytes: usize,
    /// Whether texts that begin alike share what is known of their beginning, and the next ones find it as long as its memory is not needed
    /// (default true). It changes no text. Who can measure how soon an answer begins can tell whether its prompt's beginning had been read: turn it off where that must not be.
    pub prefix_reuse: bool,
    /// Tokens of prompts that are read in one step, beside one token of every text under way (default 256): more reads prompts faster, fewer
    /// makes the others' pauses shorter.
    pub prefill_tokens: usize,
    /// Most tokens that an answer may have (default: what the context leaves).
    pub max_tokens: Option<usize>,
    /// Most answers to one request: `n` times the prompts (default 8).
    pub max_choices: usize,
    /// Most stop strings (default 4, as OpenAI's).
    pub max_stops: usize,
    /// Longest stop string, in bytes (default 256).
    pub max_stop_bytes: usize,
    /// Most `top_logprobs` (default 20, as OpenAI's).
    pub max_top_logprobs: usize,
    /// Most entries of `logit_bias` (default 300).
    pub max_logit_biases: usize,
    /// Most messages of a conversation (default 1024).
    pub max_messages: usize,
    /// Largest prompt, in bytes (default 1 MiB).
    pub max_prompt_bytes: usize,
    /// Most texts in one request for embeddings (default 256).
    pub max_embedding_inputs: usize,
    /// Tokens of texts that are embedded in one step (default 2048).
    pub embedding_tokens: usize,
}

impl Default for LlmConfig {
    fn default() -> Self {
        LlmConfig {
            threads: 0,
            round_inputs: true,
            max_context_tokens: None,
            kv_cache_bytes: 1 << 30,
            prefix_reuse: true,
            prefill_tokens: 256,
            max_tokens: None,
            max_choices: 8,
            max_stops: 4,
            max_stop_bytes: 256,
            max_top_logprobs: 20,
            max_logit_biases: 300,
            max_messages: 1024,
            max_prompt_bytes: 1 << 20,
            max_embedding_inputs: 256,
            embedding_tokens: 2048,
        }
    }
}

impl LlmConfig {
    /// Checks every setting.
    pub fn validate(&self) -> Result<(), LlmError> {
        for (name, value, limit) in [
            ("kv_cache_bytes", self.kv_cache_bytes, 1 << 46),
            ("prefill_tokens", self.prefill_tokens, 1 << 16),
            ("max_choices", self.max_choices, 1 << 10),
            ("max_stops", self.max_stops, 1 << 10),
            ("max_stop_bytes", self.max_stop_bytes, 1 << 16),
            ("max_top_logprobs", self.max_top_logprobs, 1 << 10),
            ("max_logit_biases", self.max_logit_biases, 1 << 16),
            ("max_messages", self.max_messages, 1 << 16),
            ("max_prompt_bytes", self.max_prompt_bytes, 1 << 30),
            ("max_embedding_inputs", self.max_embedding_inputs, 1 << 16),
            ("embedding_tokens", self.embedding_tokens, 1 << 20),
            ("max_context_tokens", self.max_context_tokens.unwrap_or(1), 1 << 24),
            ("max_tokens", self.max_tokens.unwrap_or(1), 1 << 24),
        ] {
            if value == 0 || value > limit {
                let message = format!("`{name}` must be 1 to {limit}, not {value}");
                return Err(LlmError::Config { message });
            }
        }
        if self.threads > 256 {
            let message = format!("`threads` must be 0 to 256, not {}", self.threads);
            return Err(LlmError::Config { message });
        }
        Ok(())
    }

    pub(crate) fn thread_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        if self.threads == 0 { cores().min(256) } else { self.threads }
    }
}
