//! Many requests at a time: each step takes all of them one token further, with one pass over the weights (Yu et al., "Orca", OSDI 2022).
//!
//! | file | idea |
//! |---|---|
//! | `request` | what goes in and comes out |
//! | `causal` | texts that are continued |
//! | `encoder` | texts that are embedded |
//! | `reused` | how much need not be read |
//! | `writer` | from tokens to what is told of a text |

mod causal;
mod encoder;
mod request;
mod reused;
#[cfg(test)]
mod tests;
mod writer;

use std::sync::Arc;

use air_core::BoxError;
use air_core::team::Team;

use self::causal::{Causal, Text};
use self::encoder::Texts;
pub(crate) use self::request::{Answer, Asked, Finish, TextRequest, Token};
pub use self::request::{LlmEvent, LlmRequest};
pub(crate) use self::reused::Reused;
use super::model::{Inner, Llm, Net};
use crate::stream::{Generate, Running};

/// A language model at work: what a replica has. [`Deployment::llm`](crate::Deployment::llm) makes it.
#[derive(Debug)]
pub struct LlmEngine {
    inner: Arc<Inner>,
    team: Team,
    /// None for an encoder.
    causal: Option<Causal>,
    /// Requests begun so far.
    begun: u64,
}

/// What is kept of a request.
#[derive(Debug)]
pub struct LlmSequence {
    number: u64,
    kept: Kept,
}

#[derive(Debug)]
enum Kept {
    Text(Box<Text>),
    Texts(Texts),
}

impl LlmEngine {
    pub(crate) fn new(llm: &Llm) -> Result<Self, BoxError> {
        let inner = Arc::clone(llm.inner());
        let causal = match &inner.net {
            Net::Causal { net, .. } => Some(Causal::new(&inner, net, Arc::clone(llm.reused()))),
            Net::Encoder { .. } => None,
        };
        let team = Team::new(inner.config.thread_count())?;
        Ok(LlmEngine { inner, team, causal, begun: 0 })
    }
}

impl LlmSequence {
    fn is_over(&self) -> bool {
        match &self.kept {
            Kept::Text(text) => text.is_over(),
            Kept::Texts(texts) => texts.is_over(),
        }
    }
}

impl Generate for LlmEngine {
    type In = LlmRequest;
    type Item = LlmEvent;
    type Sequence = LlmSequence;

    fn begin(&mut self, request: LlmRequest) -> Result<LlmSequence, BoxError> {
        self.begun += 1;
        let kept = match &self.causal {
            Some(causal) => Kept::Text(Box::new(causal.begin(request)?)),
            None => Kept::Texts(encoder::begin(request)?),
        };
        Ok(LlmSequence { number: self.begun, kept })
    }

    fn step(&mut self, running: &mut [Running<LlmSequence, LlmEvent>]) -> Result<(), BoxError> {
        running.sort_unstable_by_key(|one| one.sequence.number);
        let (mut texts, mut requests) = (Vec::new(), Vec::new());
        for one in &mut *running {
            match &mut one.sequence.kept {
                Kept::Text(text) => texts.push(&mut **text),
                Kept::Texts(texts) => requests.push(texts),
            }
        }
        let (inner, team) = (&*self.inner, &self.team);
        let told = match (&inner.net, &mut self.causal) {
            (Net::Causal { net, ends, .. }, Some(causal)) => {
                causal.step(inner, (net, ends, team), &mut texts)
            }
            (Net::Encoder { net, pooling }, _) => {
                encoder::step((net, *pooling, team), inner.config.embedding_tokens, &mut requests)
            }
            (Net::Causal { .. }, None) => Vec::new(),
        };
        for (place, answer) in told {
            running[place].send(LlmEvent(answer));
        }
        running.iter_mut().filter(|one| one.sequence.is_over()).for_each(Running::finish);
        Ok(())
    }
}
