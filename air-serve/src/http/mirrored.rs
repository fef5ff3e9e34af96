//! A route whose requests are copied, in part, for another deployment: what a file calls `mirror`.

use bytes::Bytes;

use super::front::Refusal;
use super::route::{Answered, Asked, Endpoint, Opening};
use crate::deploy::Offer;

/// What answers the requests of a route, and what copies of their bodies are offered to.
pub(crate) struct Mirrored {
    pub inner: Box<dyn Endpoint>,
    pub mirror: Box<dyn Offer<Bytes>>,
}

impl Endpoint for Mirrored {
    fn answer(&self, asked: &Asked<'_>, body: &Bytes) -> Answered {
        let answered = self.inner.answer(asked, body);
        // What nobody could read is nothing to the other either.
        let is_refused = matches!(&answered, Answered::Now(response) if response.status().is_client_error());
        if !is_refused {
            self.mirror.offer(body);
        }
        answered
    }

    fn ask(&self, message: &[u8]) -> Result<Opening, Refusal> {
        let opening = self.inner.ask(message)?;
        self.mirror.offer(&Bytes::copy_from_slice(message));
        Ok(opening)
    }

    fn content_types(&self) -> &'static [&'static str] {
        self.inner.content_types()
    }

    fn converses(&self) -> bool {
        self.inner.converses()
    }
}
