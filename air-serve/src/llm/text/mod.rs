//! Text: tokens, pieces, stop strings, chat templates.

mod chat;
mod pieces;
mod stop;
mod tokens;

pub(crate) use chat::{ChatTemplate, Message};
pub(crate) use pieces::Pieces;
pub(crate) use stop::Stop;
pub(crate) use tokens::{TokenizerKeys, Tokens};
