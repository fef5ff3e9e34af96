//! Texts that are continued, all of them in each step.
//!
//! Who came first goes first. When the memory for past tokens is used up, those that came last give theirs back and wait; later they read again what
//! they have written, which gives the same bits, so that their readers notice nothing but the pause. Texts that begin alike share what is known of their
//! beginning, for the same reason.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use air_core::BoxError;
use air_core::team::Team;

use super::request::{Answer, Asked, LlmRequest, TextRequest, Token};
use super::reused::Reused;
use super::writer::Writer;
use crate::error::CallError;
use crate::llm::LlmConfig;
use crate::llm::model::Inner;
use crate::llm::net::{Cache, Llama, PAGE_TOKENS, Pool, Scratch, Segment};
use crate::llm::sample::{LogProbs, Seen};

/// The engine of one replica.
#[derive(Debug)]
pub(crate) struct Causal {
    pool: Arc<Pool>,
    scratch: Scratch,
    reused: Arc<Reused>,
}

/// One text that is continued.
#[derive(Debug)]
pub(crate) struct Text {
    request: TextRequest,
    /// The prompt and what has been written.
    tokens: Vec<u32>,
    /// What the network knows of them. None while it waits for room.
    cache: Option<Cache>,
    seen: Seen,
    writer: Writer,
    over: bool,
    /// Whether it has had tokens that others read.
    hit: bool,
}

impl Causal {
    pub(super) fn new(inner: &Inner, net: &Llama, reused: Arc<Reused>) -> Self {
        let pool = Pool::new(net.shape.page(), inner.config.kv_cache_bytes);
        Causal { pool, scratch: Scratch::default(), reused }
    }

    #[cfg(test)]
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn begin(&self, request: LlmRequest) -> Result<Text, BoxError> {
        let Asked::Text(mut request) = request.0 else {
            return Err("a model that continues texts was asked for embeddings".into());
        };
        let (tokens, room) = (request.prompt.len() + request.max_tokens, self.pool.limit() * PAGE_TOKENS);
        if tokens > room {
            let expected =
                format!("prompt and answer of at most {room} tokens together, by `kv_cache_bytes`");
            return Err(CallError::Invalid { expected, got: tokens.to_string() }.into());
        }
        let (seen, writer) = (Seen::new(&request.prompt), Writer::new(&request));
        let tokens = std::mem::take(&mut request.prompt);
        Ok(Text { request, tokens, cache: None, seen, writer, over: false, hit: false })
    }

    /// Takes texts, those that came first before, one step on. Gives what is to be told, with the place of its text.
    pub(super) fn step(
        &mut self,
        inner: &Inner,
        (net, ends, team): (&Llama, &[u32], &Team),
        texts: &mut [&mut Text],
    ) -> Vec<(usize, Answer)> {
        let plan = self.plan(&inner.config, texts);
        let mut segments = Vec::new();
        for (text, take) in texts.iter_mut().zip(&plan) {
            if let Some(cache) = text.cache.as_mut().filter(|_| *take > 0) {
                let (first, last) = (cache.len(), cache.len() + take);
                let logits = usize::from(last == text.tokens.len());
                segments.push(Segment { tokens: &text.tokens[first..last], cache, logits });
            }
        }
        if segments.is_empty() {
            // They wait for the room of texts whose readers take nothing. These end, or read on; neither is told here.
            thread::sleep(Duration::from_millis(1));
            return Vec::new();
        }
        net.forward(team, &mut segments, &mut self.scratch);
        if inner.config.prefix_reuse {
            for text in texts.iter_mut() {
                if let Some(cache) = &mut text.cache {
                    cache.publish(&text.tokens);
                }
            }
        }
        let mut logits = self.scratch.logits.chunks_exact_mut(net.shape.vocab);
        let mut told = Vec::new();
        for (place, (text, take)) in texts.iter_mut().zip(plan).enumerate() {
            if take == 0 || text.unread() > 0 {
                continue;
            }
            let Some(logits) = logits.next() else { break };
            told.extend(text.write(inner, ends, logits).into_iter().map(|answer| (place, answer)));
        }
        told
    }

    /// How many tokens each text reads in this step: the last one of those under way, and pieces of prompts as far as the budget goes. There is room for these.
    fn plan(&self, config: &LlmConfig, texts: &mut [&mut Text]) -> Vec<usize> {
        let (mut budget, mut plan) = (config.prefill_tokens, vec![0; texts.len()]);
        let (mut is_full, mut read) = (false, Vec::new());
        for place in 0..texts.len() {
            let text = &mut *texts[place];
            if text.cache.is_none() {
                // For all it has, and a page for each text before it: or else it would soon have to give it back.
                let spare = place * PAGE_TOKENS;
                let (mut cache, alone) = (self.pool.cache(), self.pool.used() == 0);
                if config.prefix_reuse && !is_full {
                    cache.reuse(&text.tokens);
                }
                let more = text.tokens.len() - cache.len();
                is_full = is_full || !(alone || self.has_room(more + spare)) || !cache.make_room(more);
                // Who finds no room is not overtaken by those that need less; those that have theirs go on.
                if is_full {
                    continue;
                }
                self.count(text, cache.len());
                text.cache = Some(cache);
            }
            if config.prefix_reuse
                && text.unread() > 1
                && let Some(cache) = &mut text.cache
            {
                let tokens = cache.reuse(&text.tokens);
                // What another reads in this step is there in the next.
                let block = cache.next_block(&text.tokens);
                self.count(text, tokens);
                if block.is_some() && read.contains(&block) {
                    continue;
                }
                read.push(block);
            }
            let unread = text.unread();
            let take = if unread == 1 { 1 } else { unread.min(budget) };
            budget -= if unread == 1 { 0 } else { take };
            while texts[place].cache.as_mut().is_some_and(|cache| !cache.make_room(take)) {
                let youngest = texts.iter().rposition(|text| text.cache.is_some()).unwrap_or(place);
                texts[youngest].cache = None;
            }
            plan[place] = if texts[place].cache.is_some() { take } else { 0 };
        }
        plan
    }

    /// One that is alone needs no spare.
    fn has_room(&self, tokens: usize) -> bool {
        tokens.div_ceil(PAGE_TOKENS) <= self.pool.limit() - self.pool.used()
    }

    /// Notes that so many tokens of a text need not be read.
    fn count(&self, text: &mut Text, tokens: usize) {
        if tokens > 0 {
            self.reused.count(!std::mem::replace(&mut text.hit, true), tokens);
        }
    }
}

impl Text {
    /// Tokens that the network has not seen.
    fn unread(&self) -> usize {
        self.tokens.len() - self.cache.as_ref().map_or(0, Cache::len)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Chooses the next token.
    fn write(&mut self, inner: &Inner, ends: &[u32], logits: &mut [f32]) -> Vec<Answer> {
        // What is told is how likely tokens were for the model itself, before penalties and temperature.
        let before = self.request.logprobs.map(|count| (count, logits.to_vec()));
        let id = self.request.sampling.choose(logits, &self.seen);
        let info = before.map(|(count, logits)| {
            let all = LogProbs::new(&logits);
            Token { this: all.of(id), top: all.top(count) }
        });
        self.seen.push(id);
        self.tokens.push(id);
        let answers = self.writer.push(&inner.tokens, id, info, ends.contains(&id));
        self.over = answers.iter().any(|answer| matches!(answer, Answer::End { .. }));
        if self.over {
            self.cache = None;
        }
        answers
    }
}
