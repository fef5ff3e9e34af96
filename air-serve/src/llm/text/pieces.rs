//! A text that comes token by token, without ever giving half a character.

use super::tokens::Tokens;

/// What a character that is not whole is decoded as.
const REPLACEMENT: char = '\u{fffd}';

/// The text of tokens, in pieces.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pieces {
    /// The tokens that are decoded together: those of the piece before, on which the first characters of the next may depend, and those that
    /// have not been given as a whole.
    window: Vec<u32>,
    /// Tokens of the window that have been given.
    read: usize,
    /// What has been given of the window's text.
    given: String,
}

impl Pieces {
    /// Takes a token; gives the text that is certain now.
    pub(crate) fn push(&mut self, tokens: &Tokens, id: u32) -> String {
        self.window.push(id);
        let text = tokens.decode(&self.window);
        // What ends in the middle of a character is decoded with at most three of these at its end.
        let open = text.chars().rev().take(3).take_while(|last| *last == REPLACEMENT).count();
        let certain = &text[..text.len() - open * REPLACEMENT.len_utf8()];
        if open > 0 {
            return match certain.strip_prefix(self.given.as_str()) {
                Some(piece) => {
                    let piece = piece.to_owned();
                    self.given.push_str(&piece);
                    piece
                }
                None => String::new(),
            };
        }
        let piece = self.since(tokens, certain);
        self.window.drain(..self.read);
        self.read = self.window.len();
        self.given = tokens.decode(&self.window);
        piece
    }

    /// The rest of the text, when no more tokens come: what is half a character then is none.
    pub(crate) fn finish(&mut self, tokens: &Tokens) -> String {
        let text = tokens.decode(&self.window);
        let piece = self.since(tokens, &text);
        *self = Pieces::default();
        piece
    }

    fn since(&self, tokens: &Tokens, text: &str) -> String {
        match text.strip_prefix(self.given.as_str()) {
            Some(piece) => piece.to_owned(),
            // Some decoders take back what they gave when bytes follow that are no character.
            None => tokens.decode(&self.window[self.read..]),
        }
    }
}
