//! The networks against what PyTorch computes of them (`scripts/llm_fixtures.py`), and against themselves.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use air_core::team::Team;
use serde_json::Value;

use super::model::{Inner, Net, Pooling};
use super::net::{Cache, Llama, Pool, Scratch, Segment};
use super::text::{Message, Pieces};
use super::{Llm, LlmConfig};

const CAUSAL: [&str; 3] = ["llama", "qwen2", "qwen3"];

pub(super) fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/llm", name].iter().collect()
}

fn load(name: &str) -> (Llm, Value) {
    let expected = std::fs::read(fixture(name).join("expected.json")).unwrap();
    (Llm::load(fixture(name)).unwrap(), serde_json::from_slice(&expected).unwrap())
}

fn net(llm: &Llm) -> (&Inner, &Llama) {
    match &llm.inner().net {
        Net::Causal { net, .. } => (llm.inner(), net),
        Net::Encoder { .. } => panic!("it is an encoder"),
    }
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn numbers(value: &Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn fresh(net: &Llama, tokens: usize) -> Cache {
    let mut cache = Pool::new(net.shape.page(), 64 << 20).cache();
    assert!(cache.make_room(tokens));
    cache
}

/// The logits after the last `count` of these tokens.
fn feed(net: &Llama, team: &Team, cache: &mut Cache, tokens: &[u32], count: usize) -> Vec<f32> {
    let mut scratch = Scratch::default();
    net.forward(team, &mut [Segment { tokens, cache, logits: count }], &mut scratch);
    scratch.logits
}

fn best(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap() as u32
}

/// With inputs of 32 bits, as PyTorch's numbers were computed.
fn exact(name: &str) -> Llm {
    let config = LlmConfig { round_inputs: false, ..LlmConfig::default() };
    Llm::load_with(fixture(name), config).unwrap()
}

#[test]
fn llm_logits_and_greedy_texts_are_pytorchs() {
    for name in CAUSAL {
        let (llm, expected) = (exact(name), load(name).1);
        let (inner, net) = net(&llm);
        let team = Team::new(1).unwrap();
        for case in expected["texts"].as_array().unwrap() {
            let text = case["text"].as_str().unwrap();
            let tokens = inner.tokens.encode(text, true).unwrap();
            assert_eq!(tokens, ids(&case["tokens"]), "{name}: {text}");
            let mut cache = fresh(net, tokens.len() + 24);
            let logits = feed(net, &team, &mut cache, &tokens, 3);
            let wanted: Vec<f32> = case["logits"].as_array().unwrap().iter().flat_map(numbers).collect();
            assert_eq!(logits.len(), wanted.len());
            let far = logits.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-4, "{name}: {text}: {far}");
            // With the cache, against PyTorch's that computed all tokens anew each time.
            let mut last = logits[2 * net.shape.vocab..].to_vec();
            let (mut greedy, mut pieces, mut written) = (Vec::new(), Pieces::default(), String::new());
            for _ in 0..24 {
                let id = best(&last);
                greedy.push(id);
                written += &pieces.push(&inner.tokens, id);
                last = feed(net, &team, &mut cache, &[id], 1);
            }
            written += &pieces.finish(&inner.tokens);
            assert_eq!(greedy, ids(&case["greedy"]), "{name}: {text}");
            assert_eq!(written, case["greedy_text"].as_str().unwrap(), "{name}: {text}");
        }
    }
}

/// The model's weights are of BF16. Each input is off by a 512th part of itself at most, to either side; over all layers logits are by little of the largest, where the
/// processor multiplies such numbers, and by nothing where it does not.
#[test]
fn llm_rounded_inputs_change_logits_little() {
    let (rounded, expected) = load("qwen2");
    let exact = exact("qwen2");
    let team = Team::new(2).unwrap();
    for case in expected["texts"].as_array().unwrap() {
        let tokens = ids(&case["tokens"]);
        let logits = |llm: &Llm| {
            let net = net(llm).1;
            feed(net, &team, &mut fresh(net, tokens.len()), &tokens, tokens.len())
        };
        let (rounded, exact) = (logits(&rounded), logits(&exact));
        let most = exact.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        let far = exact.iter().zip(&rounded).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < most / 16.0, "{far} of {most}");
    }
}

#[test]
fn llm_chat_template_gives_transformers_prompt() {
    let (llm, expected) = load("llama");
    let Net::Causal { chat: Some(chat), ends, .. } = &llm.inner().net else { panic!("no chat template") };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let messages = expected["chat"]["messages"].as_array().unwrap().iter();
    let messages: Vec<Message> = messages
        .map(|one| Message { role: text(&one["role"]), content: text(&one["content"]), name: None })
        .collect();
    assert_eq!(chat.render(&messages).unwrap(), text(&expected["chat"]["prompt"]));
    assert_eq!(*ends, [1]);
}

#[test]
fn llm_prompt_in_pieces_gives_the_same_bits_as_whole() {
    for name in CAUSAL {
        let (llm, expected) = load(name);
        let net = net(&llm).1;
        let (one, three) = (Team::new(1).unwrap(), Team::new(3).unwrap());
        let tokens = ids(&expected["texts"][1]["tokens"]);
        let mut cache = fresh(net, tokens.len());
        let whole = feed(net, &three, &mut cache, &tokens, 1);
        for size in [1, 7, 16, 17] {
            let mut cache = fresh(net, tokens.len());
            let mut last = Vec::new();
            for piece in tokens.chunks(size) {
                last = feed(net, &one, &mut cache, piece, 1);
            }
            assert_eq!(last, whole, "{name}, {size} at a time");
        }
    }
}

#[test]
fn llm_text_gets_the_same_bits_in_a_batch_as_alone() {
    for name in CAUSAL {
        let (llm, expected) = load(name);
        let net = net(&llm).1;
        let team = Team::new(2).unwrap();
        let texts: Vec<Vec<u32>> = (0..3).map(|i| ids(&expected["texts"][i]["tokens"])).collect();
        let alone: Vec<Vec<f32>> = texts
            .iter()
            .map(|tokens| {
                let mut cache = fresh(net, tokens.len());
                feed(net, &team, &mut cache, tokens, 1)
            })
            .collect();
        let mut caches: Vec<Cache> = texts.iter().map(|tokens| fresh(net, tokens.len())).collect();
        let mut scratch = Scratch::default();
        // The first two have read all but one token; the third comes with its whole prompt.
        for (tokens, cache) in texts.iter().zip(&mut caches).take(2) {
            let head = &tokens[..tokens.len() - 1];
            net.forward(&team, &mut [Segment { tokens: head, cache, logits: 0 }], &mut scratch);
            assert!(scratch.logits.is_empty());
        }
        let mut segments: Vec<Segment<'_>> = texts
            .iter()
            .zip(&mut caches)
            .map(|(tokens, cache)| Segment { tokens: &tokens[cache.len()..], cache, logits: 1 })
            .collect();
        net.forward(&team, &mut segments, &mut scratch);
        assert_eq!(scratch.logits, alone.concat(), "{name}");
    }
}

#[test]
fn llm_embeddings_are_pytorchs() {
    let (llm, expected) = load("bert");
    let Net::Encoder { net, pooling } = &llm.inner().net else { panic!("it is no encoder") };
    assert_eq!(*pooling, Pooling { mean: true, normalise: true });
    assert_eq!(llm.context_tokens(), 48);
    let texts: Vec<Vec<u32>> = expected["texts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| llm.inner().tokens.encode(text.as_str().unwrap(), true).unwrap())
        .collect();
    let slices: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let states = net.forward(&Team::new(2).unwrap(), &slices);
    let mut rest = &states[..];
    for (text, expected) in texts.iter().zip(expected["embeddings"].as_array().unwrap()) {
        let (mine, others) = rest.split_at(text.len() * net.shape.hidden);
        rest = others;
        let alone = net.forward(&Team::new(1).unwrap(), &[text]);
        assert_eq!(alone, mine, "alone and in company");
        let got = pooling.apply(mine, net.shape.hidden);
        let far = got.iter().zip(numbers(expected)).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 1e-5, "{far}");
    }
}

#[test]
fn llm_pieces_never_are_half_a_character_and_make_up_the_whole() {
    let (llm, _) = load("llama");
    let tokens = &llm.inner().tokens;
    // Every byte has a token: any order of them, whether it makes characters or not.
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 16) % 280
    };
    let noise: Vec<u32> = (0..3000).map(|_| random()).collect();
    let clean = tokens.encode("naïve 你好🙂🙂 é\u{fffd}x 日本語 \u{10ffff}", false).unwrap();
    for ids in [noise, clean] {
        let (mut pieces, mut text) = (Pieces::default(), String::new());
        for id in &ids {
            text += &pieces.push(tokens, *id);
        }
        text += &pieces.finish(tokens);
        assert_eq!(text, tokens.decode(&ids));
    }
    let (mut pieces, ids) = (Pieces::default(), tokens.encode("🙂", false).unwrap());
    assert!(ids.len() > 1);
    for id in &ids[..ids.len() - 1] {
        assert_eq!(pieces.push(tokens, *id), "");
    }
    assert_eq!(pieces.push(tokens, ids[ids.len() - 1]), "🙂");
}

#[test]
fn llm_limits_are_checked() {
    for (config, word) in [
        (LlmConfig { kv_cache_bytes: 0, ..LlmConfig::default() }, "kv_cache_bytes"),
        (LlmConfig { threads: 1000, ..LlmConfig::default() }, "threads"),
        (LlmConfig { max_context_tokens: Some(0), ..LlmConfig::default() }, "max_context_tokens"),
    ] {
        let error = Llm::load_with(fixture("llama"), config).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
