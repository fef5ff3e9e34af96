//! From tokens to what is told of a text: pieces, stop strings, probabilities. Pure but for the tokenizer.

use std::collections::VecDeque;

use super::request::{Answer, Finish, Piece, TextRequest, Token};
use crate::llm::text::{Pieces, Stop, Tokens};

/// One text on its way.
#[derive(Debug)]
pub(super) struct Writer {
    pieces: Pieces,
    stop: Stop,
    /// Bytes of text that its tokens have come to, and that have been given.
    written: usize,
    given: usize,
    /// Tokens of which nothing has been given yet, and where the text of each begins.
    held: VecDeque<(usize, Token)>,
    tokens: usize,
    max_tokens: usize,
}

impl Writer {
    pub(super) fn new(request: &TextRequest) -> Self {
        Writer {
            pieces: Pieces::default(),
            stop: Stop::new(request.stop.clone()),
            written: 0,
            given: 0,
            held: VecDeque::new(),
            tokens: 0,
            max_tokens: request.max_tokens,
        }
    }

    /// Takes the next token; `ends` says that it is one that ends texts, which is not part of them. Gives what can be told, the end as the last.
    pub(super) fn push(&mut self, tokens: &Tokens, id: u32, info: Option<Token>, ends: bool) -> Vec<Answer> {
        self.tokens += 1;
        let mut text = String::new();
        if !ends {
            self.held.extend(info.map(|info| (self.written, info)));
            let piece = self.pieces.push(tokens, id);
            self.written += piece.len();
            text = self.stop.push(&piece);
        }
        let over = ends || self.tokens >= self.max_tokens;
        if over && !self.stop.is_stopped() {
            let rest = self.pieces.finish(tokens);
            self.written += rest.len();
            text += &self.stop.push(&rest);
            if !self.stop.is_stopped() {
                text += &self.stop.finish();
            }
        }
        let stopped = self.stop.is_stopped();
        self.given += text.len();
        // A token is told with the first of its text; of those in and after a stop string nothing is told.
        let all = !stopped && (over || self.given == self.written);
        let count = if all {
            self.held.len()
        } else {
            self.held.iter().take_while(|(begin, _)| *begin < self.given).count()
        };
        let tokens = self.held.drain(..count).map(|(_, token)| token).collect();
        let piece = Piece { text, tokens };
        let mut answers = Vec::new();
        if !piece.text.is_empty() || !piece.tokens.is_empty() {
            answers.push(Answer::Piece(piece));
        }
        if over || stopped {
            let reason = if ends || stopped { Finish::Stop } else { Finish::Length };
            answers.push(Answer::End { reason, tokens: self.tokens });
        }
        answers
    }
}
