//! The engine by itself: memory and order. What it answers over HTTP is in `tests/it/llm`.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use air_core::seed::Seed;
use air_core::team::Team;

use super::causal::{Causal, Text};
use super::request::{Answer, Asked, Finish, LlmRequest, TextRequest};
use crate::llm::LlmConfig;
use crate::llm::model::{Llm, Net};
use crate::llm::sample::Sampling;
use crate::llm::tests::fixture;
use crate::metrics::Metrics;

fn request(seed: u64, prompt: Vec<u32>, max_tokens: usize) -> TextRequest {
    let sampling = Sampling {
        temperature: 1.0,
        top_p: 1.0,
        top_k: 0,
        presence_penalty: 0.0,
        frequency_penalty: 0.0,
        repetition_penalty: 1.0,
        // No text ends before its time.
        logit_bias: vec![(1, -100.0)],
        seed: Seed::new(seed),
    };
    TextRequest { prompt, sampling, max_tokens, stop: Vec::new(), logprobs: None }
}

/// Requests of different lengths, the first of them the shortest.
fn requests() -> Vec<TextRequest> {
    (0..5).map(|i| request(i, (3..8 + 20 * i as u32).collect(), 30 + 7 * i as usize)).collect()
}

/// An engine with room for so many pages, whose texts share nothing.
fn engine(pages: usize, prefill_tokens: usize) -> (Llm, Causal) {
    engine_of("llama", pages, LlmConfig { prefill_tokens, prefix_reuse: false, ..LlmConfig::default() })
}

fn engine_of(name: &str, pages: usize, mut config: LlmConfig) -> (Llm, Causal) {
    let llm = Llm::load_with(fixture(name), config.clone()).unwrap();
    let Net::Causal { net, .. } = &llm.inner().net else { panic!("an encoder") };
    config.kv_cache_bytes = pages * net.shape.page().page_bytes();
    let llm = Llm::load_with(fixture(name), config).unwrap();
    let Net::Causal { net, .. } = &llm.inner().net else { panic!("an encoder") };
    let causal = Causal::new(llm.inner(), net, Arc::clone(llm.reused()));
    (llm, causal)
}

fn step(llm: &Llm, causal: &mut Causal, texts: &mut [Text]) -> Vec<(usize, Answer)> {
    let Net::Causal { net, ends, .. } = &llm.inner().net else { panic!("an encoder") };
    let mut going: Vec<(usize, &mut Text)> =
        texts.iter_mut().enumerate().filter(|(_, text)| !text.is_over()).collect();
    let places: Vec<usize> = going.iter().map(|(place, _)| *place).collect();
    let mut refs: Vec<&mut Text> = going.iter_mut().map(|(_, text)| &mut **text).collect();
    let told = causal.step(llm.inner(), (net, ends, &Team::new(2).unwrap()), &mut refs);
    told.into_iter().map(|(place, answer)| (places[place], answer)).collect()
}

/// What the texts become, and the most pages used at a time.
fn run(pages: usize, prefill_tokens: usize, requests: Vec<TextRequest>) -> (Vec<String>, usize) {
    let (llm, mut causal) = engine(pages, prefill_tokens);
    run_on(&llm, &mut causal, requests)
}

fn run_on(llm: &Llm, causal: &mut Causal, requests: Vec<TextRequest>) -> (Vec<String>, usize) {
    let begin = |request| causal.begin(LlmRequest(Asked::Text(request))).unwrap();
    let mut texts: Vec<Text> = requests.into_iter().map(begin).collect();
    let (mut written, mut most) = (vec![String::new(); texts.len()], 0);
    while texts.iter().any(|text| !text.is_over()) {
        for (place, answer) in step(llm, causal, &mut texts) {
            if let Answer::Piece(piece) = answer {
                written[place] += &piece.text;
            }
        }
        most = most.max(causal.pool().used());
        assert!(causal.pool().made() <= causal.pool().limit());
    }
    assert_eq!(causal.pool().used(), 0, "a text that has ended has no pages");
    (written, most)
}

/// Requests of which some begin alike, some are equal, and some are part of others.
fn alike() -> Vec<TextRequest> {
    let begins = |len: u32, then: u32| (3..3 + len).chain([then; 9]).collect::<Vec<u32>>();
    let prompts =
        [begins(40, 50), begins(40, 60), begins(40, 50), begins(20, 50), begins(70, 50), (3..35).collect()];
    prompts.into_iter().zip(0..).map(|(prompt, seed)| request(seed, prompt, 25)).collect()
}

#[test]
fn llm_texts_that_begin_alike_are_the_same_with_and_without_sharing_it() {
    for name in ["llama", "qwen2"] {
        let alone: Vec<String> = alike()
            .into_iter()
            .map(|request| {
                let config = LlmConfig { prefix_reuse: false, ..LlmConfig::default() };
                let (llm, mut causal) = engine_of(name, 100, config);
                run_on(&llm, &mut causal, vec![request]).0.remove(0)
            })
            .collect();
        for (pages, prefill_tokens) in [(100, 256), (100, 7), (7, 256), (9, 16), (13, 33)] {
            let config = LlmConfig { prefill_tokens, ..LlmConfig::default() };
            let (llm, mut causal) = engine_of(name, pages, config);
            // The second time their beginnings are there already, as far as there is room.
            for round in 0..2 {
                let (together, _) = run_on(&llm, &mut causal, alike());
                assert_eq!(
                    together, alone,
                    "{name}, {pages} pages, {prefill_tokens} tokens a step, round {round}"
                );
            }
        }
    }
}

#[test]
fn llm_what_was_read_is_not_read_again() {
    let config = LlmConfig { prefill_tokens: 64, ..LlmConfig::default() };
    let (llm, mut causal) = engine_of("llama", 100, config);
    let registry = Metrics::new(air_core::metrics::Metrics::new()).unwrap();
    llm.reused().count_in(registry.prefixes("llama").unwrap());
    let counted = || {
        let text = registry.render();
        ["hits", "tokens"].map(|what| {
            let name = format!("air_serve_llm_prefix_{what}_total{{");
            let line = text.lines().find(|line| line.starts_with(&name)).unwrap();
            line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
        })
    };
    let begin = |causal: &Causal, prompt: Vec<u32>| {
        causal.begin(LlmRequest(Asked::Text(request(0, prompt, 1)))).unwrap()
    };
    let prompt: Vec<u32> = (3..63).collect();
    // Three at a time: the first reads, and the others wait a step for what it reads.
    let mut texts: Vec<Text> = (0..3).map(|_| begin(&causal, prompt.clone())).collect();
    let ended = |texts: &[Text]| texts.iter().map(Text::is_over).collect::<Vec<_>>();
    step(&llm, &mut causal, &mut texts);
    assert_eq!((ended(&texts), counted()), (vec![true, false, false], [0, 0]));
    step(&llm, &mut causal, &mut texts);
    assert_eq!((ended(&texts), counted()), (vec![true; 3], [2, 2 * 48]));
    // Of a longer one the beginning is there, of another nothing; the last token is always read.
    for (prompt, [hits, tokens]) in [
        ((3..103).collect(), [3, 144]),
        ((4..64).collect(), [3, 144]),
        ((3..51).collect::<Vec<u32>>(), [4, 176]),
    ] {
        let mut texts = vec![begin(&causal, prompt)];
        while !texts[0].is_over() {
            step(&llm, &mut causal, &mut texts);
        }
        assert_eq!(counted(), [hits, tokens]);
    }
    assert_eq!(causal.pool().used(), 0);
}

#[test]
fn llm_texts_are_the_same_alone_together_and_with_so_little_memory_that_they_take_turns() {
    let alone: Vec<String> =
        requests().into_iter().map(|request| run(100, 256, vec![request]).0.remove(0)).collect();
    assert!(alone.iter().all(|text| !text.is_empty()));
    let (together, most) = run(100, 256, requests());
    assert_eq!(together, alone);
    // The longest needs 10 pages; all together as many as were used just now.
    assert!(most > 20, "{most}");
    for (pages, prefill_tokens) in [(10, 256), (13, 5), (17, 16)] {
        let (tight, most) = run(pages, prefill_tokens, requests());
        assert_eq!(tight, alone, "{pages} pages");
        assert!(most > pages - 2, "memory is used: {most} of {pages}");
    }
}

#[test]
fn llm_pages_of_a_text_that_is_dropped_are_free_at_once() {
    let (llm, mut causal) = engine(100, 256);
    let begin = |request| causal.begin(LlmRequest(Asked::Text(request))).unwrap();
    let mut texts: Vec<Text> = requests().into_iter().map(begin).collect();
    for _ in 0..3 {
        step(&llm, &mut causal, &mut texts);
    }
    // Prompts of 5, 25, 45, 65 and 85 tokens, and two that were written and fed.
    assert_eq!(causal.pool().used(), 1 + 2 + 3 + 5 + 6);
    texts.remove(3);
    assert_eq!(causal.pool().used(), 1 + 2 + 3 + 6);
    drop(texts);
    assert_eq!(causal.pool().used(), 0);
}

#[test]
fn llm_a_text_that_can_never_have_room_is_refused() {
    let (_, causal) = engine(2, 256);
    let begin = |tokens| causal.begin(LlmRequest(Asked::Text(request(0, vec![5; 12], tokens))));
    assert!(begin(20).is_ok());
    let error = begin(21).unwrap_err().to_string();
    assert!(error.contains("at most 32 tokens together"), "{error}");
}

#[test]
fn llm_prompts_are_read_within_the_budget_and_nobody_waits_for_them() {
    let (llm, mut causal) = engine(100, 8);
    let begin = |request| causal.begin(LlmRequest(Asked::Text(request))).unwrap();
    let mut texts = vec![begin(request(0, vec![5; 4], 50)), begin(request(1, vec![6; 40], 50))];
    let mut first: Vec<Vec<usize>> = Vec::new();
    for _ in 0..7 {
        let told = step(&llm, &mut causal, &mut texts);
        let pieces = told.into_iter().map(|(place, _)| place);
        first.push(pieces.collect());
    }
    // Eight tokens a step beside the one of the first text: four in the first step, then 8 five times less four, whose last is the sixth step.
    let last = first.iter().position(|places| places.contains(&1));
    assert!(last.is_none_or(|step| step >= 5), "{first:?}");
}

#[test]
fn llm_ends_are_told_with_their_reason() {
    let (llm, mut causal) = engine(100, 256);
    let mut ending = request(0, vec![5, 6], 50);
    // A token that ends texts is the only one there is.
    ending.sampling.logit_bias = vec![(1, 100.0)];
    let mut texts = vec![
        causal.begin(LlmRequest(Asked::Text(ending))).unwrap(),
        causal.begin(LlmRequest(Asked::Text(request(1, vec![7], 1)))).unwrap(),
    ];
    let ends: Vec<_> = step(&llm, &mut causal, &mut texts)
        .into_iter()
        .filter(|(_, answer)| matches!(answer, Answer::End { .. }))
        .collect();
    let end = |reason| Answer::End { reason, tokens: 1 };
    assert_eq!(ends, [(0, end(Finish::Stop)), (1, end(Finish::Length))]);
}
