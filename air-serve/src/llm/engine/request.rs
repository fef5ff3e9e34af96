//! What goes into the engine and comes out.

use crate::llm::sample::{LogProb, Sampling};

/// What is asked of a language model, in its tokens. The OpenAI routes make these.
#[derive(Clone, Debug)]
pub struct LlmRequest(pub(crate) Asked);

#[derive(Clone, Debug)]
pub(crate) enum Asked {
    Text(TextRequest),
    /// Tokens of texts to be embedded.
    Embeddings(Vec<Vec<u32>>),
}

/// A prompt to be continued.
#[derive(Clone, Debug)]
pub(crate) struct TextRequest {
    pub prompt: Vec<u32>,
    pub sampling: Sampling,
    pub max_tokens: usize,
    pub stop: Vec<String>,
    /// With each token how likely it was, and so many others.
    pub logprobs: Option<usize>,
}

/// A part of an answer.
#[derive(Clone, Debug)]
pub struct LlmEvent(pub(crate) Answer);

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Piece(Piece),
    /// The last of a text.
    End {
        reason: Finish,
        tokens: usize,
    },
    /// One of the texts, by its number.
    Embedding {
        index: usize,
        values: Vec<f32>,
    },
}

/// Text, and what is to be told of its tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Piece {
    pub text: String,
    pub tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub this: LogProb,
    pub top: Vec<LogProb>,
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finish {
    /// With a token that ends texts, or a stop string.
    Stop,
    /// At the limit of tokens.
    Length,
}

impl Finish {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Finish::Stop => "stop",
            Finish::Length => "length",
        }
    }
}
