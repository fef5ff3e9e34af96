//! Texts that are embedded, as many in each step as there are tokens for.

use std::collections::VecDeque;

use air_core::BoxError;
use air_core::team::Team;

use super::request::{Answer, Asked, LlmRequest};
use crate::llm::model::Pooling;
use crate::llm::net::Bert;

/// Texts of one request that are not embedded yet, with their numbers.
#[derive(Debug)]
pub(crate) struct Texts {
    left: VecDeque<(usize, Vec<u32>)>,
}

pub(super) fn begin(request: LlmRequest) -> Result<Texts, BoxError> {
    match request.0 {
        Asked::Embeddings(texts) => Ok(Texts { left: texts.into_iter().enumerate().collect() }),
        Asked::Text(_) => Err("a model that embeds texts was asked to continue one".into()),
    }
}

impl Texts {
    pub(super) fn is_over(&self) -> bool {
        self.left.is_empty()
    }
}

/// Embeds texts of as many tokens as the budget has, those that came first before. Gives embeddings, with the place of their request.
pub(super) fn step(
    (net, pooling, team): (&Bert, Pooling, &Team),
    mut budget: usize,
    requests: &mut [&mut Texts],
) -> Vec<(usize, Answer)> {
    let mut taken = Vec::new();
    for (place, texts) in requests.iter_mut().enumerate() {
        // One at least, whatever its length.
        while let Some((index, text)) =
            texts.left.pop_front_if(|(_, text)| text.len() <= budget || taken.is_empty())
        {
            budget = budget.saturating_sub(text.len());
            taken.push((place, index, text));
        }
    }
    let tokens: Vec<&[u32]> = taken.iter().map(|(.., text)| &**text).collect();
    let states = net.forward(team, &tokens);
    let mut states = &states[..];
    let answer = |(place, index, text): (usize, usize, Vec<u32>)| {
        let (mine, rest) = states.split_at(text.len() * net.shape.hidden);
        states = rest;
        (place, Answer::Embedding { index, values: pooling.apply(mine, net.shape.hidden) })
    };
    taken.into_iter().map(answer).collect()
}
