//! [`Exchange`]: what a rank called that sends, receives or does both, in words for errors.

use std::fmt;

use super::mail::{Header, Incoming, Outgoing};

/// The words are only made where the call fails.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Exchange {
    sends: Option<(usize, Header)>,
    receives: Option<(usize, Header)>,
}

impl Exchange {
    pub(super) fn of(out: Option<&Outgoing<'_>>, into: Option<&Incoming<'_>>) -> Self {
        Self {
            sends: out.map(|message| (message.to, message.header)),
            receives: into.map(|message| (message.from, message.header)),
        }
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.sends, self.receives) {
            (Some((to, sent)), Some((from, _))) => {
                write!(f, "send_recv of {} {} to rank {to} and from rank {from}", sent.len, sent.dtype)
            }
            (Some((to, sent)), None) => write!(f, "send of {} {} to rank {to}", sent.len, sent.dtype),
            (None, Some((from, wanted))) => {
                write!(f, "recv of {} {} from rank {from}", wanted.len, wanted.dtype)
            }
            (None, None) => write!(f, "nothing"),
        }
    }
}
