//! From the bodies of requests to what the engine is asked: every field checked against the model's limits.

use std::fmt::Display;

use air_core::seed::Seed;
use serde_json::{Map, Value};

use super::fault::Fault;
use super::wire::{Chat, ChatMessage, Common, Completion, Content, Embeddings, Prompt};
use crate::llm::engine::TextRequest;
use crate::llm::model::{Inner, Net};
use crate::llm::net::Llama;
use crate::llm::sample::Sampling;
use crate::llm::text::Message;

/// Tokens of an answer to a completion that does not say how many, as OpenAI's.
const COMPLETION_TOKENS: usize = 16;

/// A request for texts, checked.
#[derive(Debug)]
pub(super) struct Ask {
    /// One for each choice.
    pub requests: Vec<TextRequest>,
    /// What of the prompt each choice begins with.
    pub echo: Vec<String>,
    pub prompt_tokens: usize,
    pub stream: bool,
    pub include_usage: bool,
}

fn causal(inner: &Inner) -> Result<(&Llama, Option<&crate::llm::text::ChatTemplate>), Fault> {
    match &inner.net {
        Net::Causal { net, chat, .. } => Ok((net, chat.as_deref())),
        Net::Encoder { .. } => {
            Err(Fault::bad("model", "this model embeds texts: use /v1/embeddings")
                .code("model_not_supported"))
        }
    }
}

pub(super) fn chat(inner: &Inner, chat: Chat) -> Result<Ask, Fault> {
    let template = causal(inner)?.1.ok_or_else(|| {
        Fault::bad("messages", "this model has no chat template: use /v1/completions")
            .code("model_not_supported")
    })?;
    let limit = inner.config.max_messages;
    at_most("messages", "entries", chat.messages.len(), limit)?;
    if chat.messages.is_empty() {
        return Err(Fault::bad("messages", "`messages` is empty"));
    }
    let messages = chat.messages.into_iter().map(message).collect::<Result<Vec<_>, _>>()?;
    prompt_size(inner, "messages", messages.iter().map(|message| message.content.len()).sum())?;
    let prompt = template
        .render(&messages)
        .map_err(|error| Fault::bad("messages", format!("the chat template refuses them: {error}")))?;
    let prompt = encode(inner, "messages", &prompt, false)?;
    let logprobs = match (chat.logprobs, chat.top_logprobs) {
        (true, top) => Some(top),
        (false, 0) => None,
        (false, _) => return Err(Fault::bad("top_logprobs", "`top_logprobs` needs `logprobs` to be true")),
    };
    at_most("top_logprobs", "tokens", logprobs.unwrap_or(0), inner.config.max_top_logprobs)?;
    let max_tokens = chat.common.max_tokens;
    ask(inner, chat.common, vec![prompt], logprobs, max_tokens, None)
}

fn message(message: ChatMessage) -> Result<Message, Fault> {
    let content = match message.content {
        None => String::new(),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let mut text = String::new();
            for part in parts {
                match part.text {
                    Some(piece) if part.kind == "text" || part.kind == "input_text" => text.push_str(&piece),
                    _ => {
                        let kind: String = part.kind.chars().take(64).collect();
                        let reason =
                            format!("a part of a message is of type {kind:?}, only \"text\" is supported");
                        return Err(Fault::bad("messages", reason));
                    }
                }
            }
            text
        }
    };
    Ok(Message { role: message.role, content, name: message.name })
}

pub(super) fn completion(inner: &Inner, completion: Completion) -> Result<Ask, Fault> {
    causal(inner)?;
    let n = completion.common.n.unwrap_or(1);
    if completion.best_of.is_some_and(|best| best != n) {
        return Err(
            Fault::bad("best_of", "`best_of` other than `n` is not supported").code("unsupported_parameter")
        );
    }
    if let Some(count) = completion.logprobs {
        at_most("logprobs", "tokens", count, inner.config.max_top_logprobs)?;
    }
    let echo = completion.echo;
    if echo && completion.logprobs.is_some() {
        let reason = "`echo` together with `logprobs` is not supported";
        return Err(Fault::bad("echo", reason).code("unsupported_parameter"));
    }
    let (prompts, texts) = prompts(inner, "prompt", completion.prompt, inner.config.max_choices)?;
    let common = completion.common;
    let max_tokens = Some(common.max_tokens.unwrap_or(COMPLETION_TOKENS));
    ask(inner, common, prompts, completion.logprobs, max_tokens, echo.then_some(texts))
}

pub(super) fn embeddings(inner: &Inner, embeddings: Embeddings) -> Result<(Vec<Vec<u32>>, bool), Fault> {
    let Net::Encoder { net, .. } = &inner.net else {
        let reason = "this model continues texts: use /v1/completions or /v1/chat/completions";
        return Err(Fault::bad("model", reason).code("model_not_supported"));
    };
    if let Some(dimensions) = embeddings.dimensions.filter(|dimensions| *dimensions != net.shape.hidden) {
        let reason =
            format!("`dimensions` is {dimensions}, the model's embeddings have {}", net.shape.hidden);
        return Err(Fault::bad("dimensions", reason).code("unsupported_parameter"));
    }
    let base64 = match embeddings.encoding_format.as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => {
            return Err(Fault::bad(
                "encoding_format",
                "`encoding_format` is neither \"float\" nor \"base64\"",
            ));
        }
    };
    let (prompts, _) = prompts(inner, "input", embeddings.input, inner.config.max_embedding_inputs)?;
    if let Some(long) = prompts.iter().map(Vec::len).find(|len| *len > inner.context) {
        let reason = format!("a text has {long} tokens, the model takes {}", inner.context);
        return Err(Fault::bad("input", reason).code("context_length_exceeded"));
    }
    Ok((prompts, base64))
}

/// The tokens of prompts, and their texts.
fn prompts(
    inner: &Inner,
    param: &'static str,
    prompt: Prompt,
    limit: usize,
) -> Result<(Vec<Vec<u32>>, Vec<String>), Fault> {
    let (tokens, texts): (Vec<_>, Vec<_>) = match prompt {
        Prompt::Text(text) => {
            prompt_size(inner, param, text.len())?;
            (vec![encode(inner, param, &text, true)?], vec![text])
        }
        Prompt::Texts(texts) => {
            at_most(param, "texts", texts.len(), limit)?;
            prompt_size(inner, param, texts.iter().map(String::len).sum())?;
            let tokens = texts.iter().map(|text| encode(inner, param, text, true));
            (tokens.collect::<Result<_, _>>()?, texts)
        }
        Prompt::Tokens(tokens) => decoded(inner, param, vec![tokens])?,
        Prompt::ManyTokens(tokens) => {
            at_most(param, "texts", tokens.len(), limit)?;
            decoded(inner, param, tokens)?
        }
    };
    if tokens.is_empty() || tokens.iter().any(Vec::is_empty) {
        return Err(Fault::bad(param, format!("`{param}` is empty")));
    }
    Ok((tokens, texts))
}

fn decoded(
    inner: &Inner,
    param: &'static str,
    tokens: Vec<Vec<u32>>,
) -> Result<(Vec<Vec<u32>>, Vec<String>), Fault> {
    let vocab = vocab(inner);
    if let Some(id) = tokens.iter().flatten().find(|id| **id as usize >= vocab) {
        return Err(Fault::bad(param, format!("there is no token {id}: the model has {vocab}")));
    }
    let texts = tokens.iter().map(|tokens| inner.tokens.decode(tokens)).collect();
    Ok((tokens, texts))
}

fn vocab(inner: &Inner) -> usize {
    match &inner.net {
        Net::Causal { net, .. } => net.shape.vocab,
        Net::Encoder { net, .. } => net.shape.vocab,
    }
}

fn encode(inner: &Inner, param: &'static str, text: &str, special: bool) -> Result<Vec<u32>, Fault> {
    inner
        .tokens
        .encode(text, special)
        .map_err(|error| Fault::bad(param, format!("it has no tokens: {error}")))
}

fn prompt_size(inner: &Inner, param: &'static str, bytes: usize) -> Result<(), Fault> {
    at_most(param, "bytes of text", bytes, inner.config.max_prompt_bytes)
}

fn at_most(param: &'static str, what: &str, got: usize, limit: usize) -> Result<(), Fault> {
    if got > limit {
        return Err(Fault::bad(param, format!("`{param}` has {got} {what}, the limit is {limit}")));
    }
    Ok(())
}

fn within<T: PartialOrd + Display + Copy>(
    param: &'static str,
    value: Option<T>,
    default: T,
    least: T,
    most: T,
) -> Result<T, Fault> {
    let value = value.unwrap_or(default);
    if !(least..=most).contains(&value) {
        return Err(Fault::bad(param, format!("`{param}` is {value}, expected {least} to {most}")));
    }
    Ok(value)
}

fn ask(
    inner: &Inner,
    common: Common,
    prompts: Vec<Vec<u32>>,
    logprobs: Option<usize>,
    max_tokens: Option<usize>,
    echo: Option<Vec<String>>,
) -> Result<Ask, Fault> {
    let config = &inner.config;
    let n = within("n", common.n, 1, 1, config.max_choices)?;
    at_most("n", "choices for all prompts together", n * prompts.len(), config.max_choices)?;
    let stop = common.stop;
    at_most("stop", "strings", stop.len(), config.max_stops)?;
    if stop.iter().any(String::is_empty) {
        return Err(Fault::bad("stop", "a stop string is empty"));
    }
    at_most(
        "stop",
        "bytes in one string",
        stop.iter().map(String::len).max().unwrap_or(0),
        config.max_stop_bytes,
    )?;
    let seed = common.seed.map_or_else(fresh_seed, |seed| Seed::new(seed as u64));
    let top_k = within("top_k", common.top_k, 0, -1, i64::from(u32::MAX))?;
    let sampling = |choice: usize| -> Result<Sampling, Fault> {
        Ok(Sampling {
            temperature: within("temperature", common.temperature, 1.0, 0.0, 2.0)?,
            top_p: within("top_p", common.top_p, 1.0, 0.0, 1.0)?,
            top_k: top_k.max(0) as usize,
            presence_penalty: within("presence_penalty", common.presence_penalty, 0.0, -2.0, 2.0)?,
            frequency_penalty: within("frequency_penalty", common.frequency_penalty, 0.0, -2.0, 2.0)?,
            repetition_penalty: within("repetition_penalty", common.repetition_penalty, 1.0, 0.01, 100.0)?,
            logit_bias: biases(&common.logit_bias, vocab(inner), config.max_logit_biases)?,
            seed: seed.child("choice", choice as u64),
        })
    };
    let mut requests = Vec::new();
    for prompt in &prompts {
        let left = inner.context.saturating_sub(prompt.len());
        let most = config.max_tokens.unwrap_or(usize::MAX);
        let wanted = within("max_tokens", max_tokens, left.clamp(1, most), 1, most)?;
        if wanted > left {
            let reason = format!(
                "the model's context is {} tokens; the prompt has {}, and {wanted} are asked for",
                inner.context,
                prompt.len()
            );
            return Err(Fault::bad("max_tokens", reason).code("context_length_exceeded"));
        }
        for _ in 0..n {
            requests.push(TextRequest {
                prompt: prompt.clone(),
                sampling: sampling(requests.len())?,
                max_tokens: wanted,
                stop: stop.clone(),
                logprobs,
            });
        }
    }
    let echo = match echo {
        Some(texts) => texts.iter().flat_map(|text| vec![text.clone(); n]).collect(),
        None => vec![String::new(); requests.len()],
    };
    if common.stream_options.is_some() && !common.stream {
        return Err(Fault::bad("stream_options", "`stream_options` needs `stream` to be true"));
    }
    Ok(Ask {
        requests,
        echo,
        prompt_tokens: prompts.iter().map(Vec::len).sum(),
        stream: common.stream,
        include_usage: common.stream_options.is_some_and(|options| options.include_usage),
    })
}

/// What is added to the logits of tokens, by their ids.
fn biases(given: &Map<String, Value>, vocab: usize, limit: usize) -> Result<Vec<(u32, f32)>, Fault> {
    at_most("logit_bias", "entries", given.len(), limit)?;
    let bad = |reason: String| Fault::bad("logit_bias", reason);
    let read = given.iter().map(|(id, bias)| {
        let shown: String = id.chars().take(32).collect();
        let id = id.parse::<u32>().ok().filter(|id| (*id as usize) < vocab);
        let id =
            id.ok_or_else(|| bad(format!("`logit_bias`: {shown:?} is no token; the model has {vocab}")))?;
        let bias = bias.as_f64().filter(|bias| (-100.0..=100.0).contains(bias));
        let bias =
            bias.ok_or_else(|| bad(format!("`logit_bias` of {id} must be a number from -100 to 100")))?;
        Ok((id, bias as f32))
    });
    read.collect()
}

/// One that nobody else has.
fn fresh_seed() -> Seed {
    let mut bytes = [0; 8];
    // Without the system's randomness a fixed seed is as good as any.
    let _ = getrandom::fill(&mut bytes);
    Seed::new(u64::from_le_bytes(bytes))
}
