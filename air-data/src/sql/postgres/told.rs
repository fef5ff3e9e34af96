//! [`told`]: what the server, or the way to it, says is wrong, and what to do about it.

use std::error::Error as _;
use std::fmt::Write as _;

use tokio_postgres::Error;
use tokio_postgres::error::{ErrorPosition, SqlState};

/// Where a user's query stands in a statement that is made of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Within {
    /// Characters before it.
    pub(super) before: usize,
    /// Its characters.
    pub(super) length: usize,
}

/// An error in words: the server's own with its code, and where in the query it is.
pub(super) fn told(error: &Error, within: Within) -> String {
    let Some(server) = error.as_db_error() else {
        if error.is_closed() {
            return "the connection was lost: the server or something on the way to it has closed it"
                .to_owned();
        }
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        return text;
    };
    let mut text = format!("{} ({})", server.message(), server.code().code());
    if let Some(ErrorPosition::Original(position)) = server.position() {
        // Its positions begin with one.
        let place = (*position as usize).saturating_sub(within.before);
        if (1..=within.length + 1).contains(&place) {
            let _ = write!(text, " at character {place} of the query");
        }
    }
    let more = [server.detail(), server.hint(), advice(server.code())];
    for more in more.into_iter().flatten() {
        let _ = write!(text, "; {more}");
    }
    text
}

/// What to do about errors that are not the query's.
fn advice(code: &SqlState) -> Option<&'static str> {
    Some(match *code {
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "check the user and the password in the URL, where characters such as @ : / ? # % are written as %40 and so on"
        }
        SqlState::INVALID_CATALOG_NAME => "the path of the URL names the database",
        SqlState::TOO_MANY_CONNECTIONS => {
            "read in fewer parts or with fewer threads: each part takes a connection"
        }
        SqlState::LOCK_NOT_AVAILABLE => "another transaction holds the table; try again when it has ended",
        SqlState::DUPLICATE_TABLE => "WriteMode::Overwrite replaces it",
        SqlState::READ_ONLY_SQL_TRANSACTION => "queries are read only",
        _ => return None,
    })
}
