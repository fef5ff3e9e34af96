//! Small language models and text embeddings, over OpenAI's API.
//!
//! ```no_run
//! use air_serve::llm::Llm;
//! use air_serve::{App, Deployment, run};
//!
//! let llm = Llm::load("models/smollm")?;          // config.json, tokenizer.json, *.safetensors
//! let server = run(App::new().deploy(Deployment::llm("smollm", llm)))?;
//! // curl http://127.0.0.1:8000/v1/chat/completions -d '{"model": "smollm", "messages": [{"role": "user", "content": "Hi"}]}'
//! # Ok::<(), air_core::BoxError>(())
//! ```
//!
//! | module | what |
//! |---|---|
//! | `model`, `config` | a directory that has been read; the limits it is served with |
//! | `load` | the files of a directory |
//! | `net` | the networks: a forward pass on slices |
//! | `text` | tokens, pieces, stop strings, chat templates |
//! | `sample` | from logits to the next token: pure |
//! | `engine` | many requests at a time, step by step |
//! | `api` | OpenAI's API |
//!
//! # Invariants
//!
//! 1. What a text becomes depends on its request alone (with a `seed`), to the bit: not on what else runs, on how its prompt was cut into steps, on the
//!    number of threads, nor on whether it had to give its memory back on the way, nor on whether its beginning had been read before.
//! 2. Keys and values of past tokens take at most `kv_cache_bytes`, and those of a text that ends, fails or is cancelled are another's to take before the next step.
//! 3. No piece of a text ends within a character, and none has anything of a stop string in it.

pub(crate) mod api;
mod config;
mod engine;
mod error;
mod load;
mod model;
mod net;
mod sample;
#[cfg(test)]
mod tests;
mod text;

pub use config::LlmConfig;
pub use engine::{LlmEngine, LlmEvent, LlmRequest, LlmSequence};
pub use error::{LlmError, Shape};
pub use model::Llm;

pub(crate) use api::{Models, Served, answer, owns, refused};

use crate::deploy::Deployment;
use crate::stream::Generator;

impl Deployment<Generator<LlmEngine>> {
    /// A language model, reached by its name at `/v1/chat/completions`, `/v1/completions`, or `/v1/embeddings` if it is an encoder of texts. A replica works on
    /// `max_batch_size` requests at a time, 32 unless set; replicas share the weights.
    pub fn llm(name: impl Into<std::sync::Arc<str>>, llm: Llm) -> Self {
        let llm = llm.afresh();
        let engine = llm.clone();
        let mut deployment = Deployment::generate(name, move || LlmEngine::new(&engine));
        deployment.llm = Some(llm);
        deployment
    }
}
