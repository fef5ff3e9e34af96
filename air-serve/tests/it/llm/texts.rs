//! Completions and chats: every field.

use serde_json::{Value, json};

use super::{ask, events, expected, server};
use crate::client::{connect, get, post, write};
use crate::wait::until;

/// A prompt and the 24 likeliest tokens' text after it.
fn greedy(case: usize) -> (String, String, usize) {
    let expected = expected("llama");
    let case = &expected["texts"][case];
    let text = |key: &str| case[key].as_str().unwrap().to_owned();
    (text("text"), text("greedy_text"), case["tokens"].as_array().unwrap().len())
}

#[test]
fn llm_models_are_listed() {
    let server = server(|_| {});
    let list: Value = serde_json::from_str(&get(server.addr(), "/v1/models").body).unwrap();
    let ids: Vec<_> =
        list["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert_eq!((list["object"].as_str(), ids), (Some("list"), vec!["llama", "bert"]));
    let one: Value = serde_json::from_str(&get(server.addr(), "/v1/models/llama").body).unwrap();
    assert_eq!((one["id"].as_str(), one["max_model_len"].as_u64()), (Some("llama"), Some(256)));
    assert_eq!(get(server.addr(), "/v1/models/none").status, 404);
    let openapi = get(server.addr(), "/openapi.json").body;
    assert!(openapi.contains("/v1/chat/completions"));
}

#[test]
fn llm_streams_are_counted_once_when_they_have_ended() {
    let server = server(|_| {});
    let body =
        json!({ "model": "llama", "prompt": "the dog", "max_tokens": 24, "temperature": 0, "stream": true });
    let counted = |code: u16| {
        server.metrics().contains(&format!("air_serve_requests_total{{route=\"/v1\",code=\"{code}\"}} 1"))
            || server
                .metrics()
                .contains(&format!("air_serve_requests_total{{code=\"{code}\",route=\"/v1\"}} 1"))
    };
    assert!(!events(server.addr(), "/v1/completions", &body).is_empty());
    until("the whole one is counted", || counted(200));
    let metrics = server.metrics();
    let line = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name) && line.contains("route=\"/v1\""));
        line.unwrap().rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert_eq!(line("air_serve_request_seconds_count"), 1.0);
}

#[test]
fn llm_a_prompt_asked_again_is_not_read_again() {
    let server = server(|_| {});
    let prompt: Vec<u32> = (3..50).collect();
    let body = json!({ "model": "llama", "prompt": prompt, "max_tokens": 3, "temperature": 0 });
    let counted = |what: &str| {
        let (metrics, name) =
            (server.metrics(), format!("air_serve_llm_prefix_{what}_total{{deployment=\"llama\"}}"));
        let line = metrics.lines().find(|line| line.starts_with(&name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    let first = ask(server.addr(), "/v1/completions", &body);
    assert_eq!([counted("hits"), counted("tokens")], [0, 0]);
    let second = ask(server.addr(), "/v1/completions", &body);
    assert_eq!([counted("hits"), counted("tokens")], [1, 32]);
    assert_eq!(second["choices"], first["choices"]);
    assert_eq!(second["usage"], first["usage"]);
}

#[test]
fn llm_completion_is_pytorchs_whole_and_as_a_stream() {
    let server = server(|_| {});
    for case in 0..3 {
        let (prompt, text, prompt_tokens) = greedy(case);
        let mut body = json!({ "model": "llama", "prompt": prompt, "max_tokens": 24, "temperature": 0 });
        let whole = ask(server.addr(), "/v1/completions", &body);
        let ended = text.len();
        let choice = &whole["choices"][0];
        assert_eq!(choice["text"], text, "{ended}");
        assert_eq!(choice["finish_reason"], "length");
        let usage = json!({ "prompt_tokens": prompt_tokens, "completion_tokens": 24, "total_tokens": prompt_tokens + 24 });
        assert_eq!(whole["usage"], usage);
        assert_eq!(whole["object"], "text_completion");
        body["stream"] = true.into();
        body["stream_options"] = json!({ "include_usage": true });
        let mut pieces = events(server.addr(), "/v1/completions", &body);
        let last = pieces.pop().unwrap();
        assert_eq!((&last["usage"], &last["choices"]), (&usage, &json!([])));
        let streamed: String =
            pieces.iter().map(|piece| piece["choices"][0]["text"].as_str().unwrap()).collect();
        assert_eq!(streamed, text);
        assert!(pieces.iter().all(|piece| piece["usage"].is_null() && piece["id"] == last["id"]));
        let reasons: Vec<_> =
            pieces.iter().filter_map(|piece| piece["choices"][0]["finish_reason"].as_str()).collect();
        assert_eq!(reasons, ["length"]);
        body["echo"] = true.into();
        body["stream"] = false.into();
        body.as_object_mut().unwrap().remove("stream_options");
        let echoed = ask(server.addr(), "/v1/completions", &body);
        assert_eq!(echoed["choices"][0]["text"], format!("{prompt}{text}"));
    }
}

#[test]
fn llm_chat_is_a_completion_of_its_template() {
    let server = server(|_| {});
    let expected = expected("llama");
    let prompt = expected["chat"]["prompt"].as_str().unwrap();
    // The template has no token for the beginning; a text prompt gets one, tokens do not.
    let messages = json!([
        { "role": "system", "content": " Be brief. " },
        { "role": "user", "content": [{ "type": "text", "text": "H" }, { "type": "text", "text": "i" }] },
    ]);
    let mut body = json!({ "model": "llama", "messages": messages, "max_completion_tokens": 20, "temperature": 0, "seed": 1 });
    let chat = ask(server.addr(), "/v1/chat/completions", &body);
    let message = &chat["choices"][0]["message"];
    assert_eq!((&chat["object"], &message["role"]), (&json!("chat.completion"), &json!("assistant")));
    let text = message["content"].as_str().unwrap();
    assert!(!text.is_empty() && prompt.len() > 10);
    body["stream"] = true.into();
    let pieces = events(server.addr(), "/v1/chat/completions", &body);
    assert_eq!(pieces[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(pieces[0]["object"], "chat.completion.chunk");
    let said =
        |piece: &Value| piece["choices"][0]["delta"]["content"].as_str().unwrap_or_default().to_owned();
    assert_eq!(pieces.iter().map(said).collect::<String>(), text);
    assert!(pieces.iter().all(|piece| piece.get("usage").is_none()), "nobody asked for it");
}

#[test]
fn llm_text_of_a_seed_is_the_same_in_any_company() {
    let server = server(|_| {});
    let addr = server.addr();
    let body = |seed: i64| json!({ "model": "llama", "prompt": "the dog", "max_tokens": 40, "seed": seed, "top_p": 0.95, "top_k": 50 });
    let text = move |seed| {
        ask(addr, "/v1/completions", &body(seed))["choices"][0]["text"].as_str().unwrap().to_owned()
    };
    let alone: Vec<String> = (0..12).map(text).collect();
    let threads: Vec<_> = (0..12).map(|seed| std::thread::spawn(move || text(seed))).collect();
    let together: Vec<String> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(together, alone);
    assert_ne!(alone[0], alone[1]);
}

/// The text of tokens, of which those that are no whole characters are named by their bytes.
fn spelled(tokens: &[Value]) -> String {
    let mut bytes = Vec::new();
    for token in tokens {
        let token = token.as_str().unwrap();
        match token.strip_prefix("bytes:") {
            Some(named) => {
                bytes.extend(named.split("\\x").skip(1).map(|byte| u8::from_str_radix(byte, 16).unwrap()));
            }
            None => bytes.extend(token.as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn llm_stop_strings_end_a_text_before_them() {
    let server = server(|_| {});
    let (prompt, text, _) = greedy(1);
    // Two characters from the middle of the text, which need not be one token.
    let letters: Vec<char> = text.chars().collect();
    let stop: String = letters[6..9].iter().collect();
    let before = text.split(&stop).next().unwrap();
    for stop in [json!(stop), json!(["none of it", stop])] {
        let mut body = json!({ "model": "llama", "prompt": prompt, "max_tokens": 24, "temperature": 0, "stop": stop, "logprobs": 0 });
        let choice = &ask(server.addr(), "/v1/completions", &body)["choices"][0];
        assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(before), &json!("stop")));
        let tokens = spelled(choice["logprobs"]["tokens"].as_array().unwrap());
        let (told, kept) = (tokens.chars().count(), before.chars().count());
        assert!(tokens.starts_with(before) && told < kept + 8, "{tokens:?} {before:?}");
        body["stream"] = true.into();
        let pieces = events(server.addr(), "/v1/completions", &body);
        let text: String = pieces.iter().map(|piece| piece["choices"][0]["text"].as_str().unwrap()).collect();
        assert_eq!(text, before);
    }
}

#[test]
fn llm_log_probabilities_are_of_the_tokens_of_the_text() {
    let server = server(|_| {});
    let (prompt, text, _) = greedy(0);
    let body =
        json!({ "model": "llama", "prompt": prompt, "max_tokens": 24, "temperature": 0, "logprobs": 3 });
    let choice = &ask(server.addr(), "/v1/completions", &body)["choices"][0];
    let list = |key: &str| choice["logprobs"][key].as_array().unwrap().clone();
    let (tokens, logprobs, top) = (list("tokens"), list("token_logprobs"), list("top_logprobs"));
    assert_eq!((tokens.len(), logprobs.len(), top.len(), list("text_offset").len()), (24, 24, 24, 24));
    for ((token, logprob), top) in tokens.iter().zip(&logprobs).zip(&top) {
        // The likeliest was chosen.
        let most =
            top.as_object().unwrap().values().map(|one| one.as_f64().unwrap()).fold(f64::MIN, f64::max);
        assert_eq!(logprob.as_f64().unwrap(), most, "{token}");
        assert!(most <= 0.0);
    }
    // Greedy, against PyTorch's logits of the last token of the prompt.
    let logits = &expected("llama")["texts"][0]["logits"][2];
    let logits: Vec<f64> = logits.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let best = logits.iter().copied().fold(f64::MIN, f64::max);
    let logprob = best - logits.iter().map(|x| x.exp()).sum::<f64>().ln();
    assert!((logprobs[0].as_f64().unwrap() - logprob).abs() < 1e-4);
    let body = json!({
        "model": "llama", "messages": [{ "role": "user", "content": "Hi" }], "max_tokens": 10, "temperature": 0,
        "logprobs": true, "top_logprobs": 2, "stream": true,
    });
    let mut bytes = Vec::new();
    let mut said = String::new();
    for piece in events(server.addr(), "/v1/chat/completions", &body) {
        let choice = &piece["choices"][0];
        said += choice["delta"]["content"].as_str().unwrap_or_default();
        for token in choice["logprobs"]["content"].as_array().into_iter().flatten() {
            assert_eq!(token["top_logprobs"].as_array().unwrap().len(), 2);
            assert_eq!(token["top_logprobs"][0]["logprob"], token["logprob"]);
            bytes.extend(token["bytes"].as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8));
        }
    }
    assert_eq!(String::from_utf8_lossy(&bytes), said);
    assert!(!text.is_empty());
}

#[test]
fn llm_n_and_several_prompts_are_choices() {
    let server = server(|_| {});
    let body =
        json!({ "model": "llama", "prompt": ["Hello", "the dog"], "n": 2, "max_tokens": 12, "seed": 5 });
    let whole = ask(server.addr(), "/v1/completions", &body);
    let choices = whole["choices"].as_array().unwrap();
    let indices: Vec<_> = choices.iter().map(|choice| choice["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2, 3]);
    assert_ne!(choices[0]["text"], choices[1]["text"], "each has a seed of its own");
    let used = whole["usage"]["completion_tokens"].as_u64().unwrap();
    assert!((4..=48).contains(&used));
    assert_eq!(ask(server.addr(), "/v1/completions", &body)["choices"], whole["choices"]);
    let mut streaming = body.clone();
    streaming["stream"] = true.into();
    let mut texts = vec![String::new(); 4];
    for piece in events(server.addr(), "/v1/completions", &streaming) {
        let choice = &piece["choices"][0];
        texts[choice["index"].as_u64().unwrap() as usize] += choice["text"].as_str().unwrap();
    }
    let wanted: Vec<_> = choices.iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!(texts, wanted);
}

#[test]
fn llm_biases_and_penalties_reach_the_sampler() {
    let server = server(|_| {});
    let mut body = json!({
        "model": "llama", "prompt": [10, 11, 12], "max_tokens": 6, "logit_bias": { "50": 100 }, "logprobs": 1,
    });
    let tokens = |body: &Value| {
        let choice = ask(server.addr(), "/v1/completions", body)["choices"][0].clone();
        choice["logprobs"]["tokens"].as_array().unwrap().clone()
    };
    let same = tokens(&body);
    assert!(same.len() == 6 && same.iter().all(|token| *token == same[0]), "{same:?}");
    // What is taken away for each time that a token is there outweighs what is added in the end.
    body["logit_bias"] = json!({ "50": 90, "51": 88 });
    body["frequency_penalty"] = 2.0.into();
    body["temperature"] = 0.into();
    let mixed = tokens(&body);
    assert!(mixed.iter().any(|token| *token != mixed[0]), "{mixed:?}");
}

#[test]
fn llm_overload_is_told_at_once_and_a_cancelled_text_makes_room() {
    let server = server(|config| {
        config.max_batch_size = 1;
        config.max_queued_requests = 1;
    });
    let addr = server.addr();
    let body = |tokens: u32, stream: bool| {
        json!({ "model": "llama", "prompt": "x", "max_tokens": tokens, "stream": stream, "logit_bias": { "1": -100 } })
            .to_string()
    };
    // One runs, one waits: of eight at once the others are refused, unless these come so late that the first are done.
    let mut refused = None;
    until("one is refused", || {
        let together: Vec<_> = (0..8)
            .map(|_| {
                let body = body(200, false);
                std::thread::spawn(move || post(addr, "/v1/completions", &body))
            })
            .collect();
        for response in together.into_iter().map(|one| one.join().unwrap()) {
            assert!(matches!(response.status, 200 | 429), "{}", response.body);
            if response.status == 429 {
                refused = Some(response);
            }
        }
        refused.is_some()
    });
    let refused = refused.unwrap();
    let error: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(error["error"]["code"], "rate_limit_exceeded");
    assert!(refused.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    // A client that goes away in the middle of a text holds nobody up.
    let mut gone = connect(addr);
    write(&mut gone, "POST", "/v1/completions", "", body(250, true));
    let mut head = [0; 15];
    std::io::Read::read_exact(&mut gone, &mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    drop(gone);
    assert_eq!(post(addr, "/v1/completions", &body(1, false)).status, 200);
}
