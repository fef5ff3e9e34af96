//! OpenAI's API: `/v1/models`, `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`.
//!
//! | file | idea |
//! |---|---|
//! | `models` | the models of a server, by name |
//! | `wire` | the bodies of requests |
//! | `ask` | every field checked against the limits |
//! | `texts`, `embed` | asking the model, and answering |
//! | `choices` | what answers look like |
//! | `fault` | errors |

mod ask;
mod choices;
mod embed;
mod fault;
mod models;
mod texts;
mod wire;

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{Method, Response};
use bytes::Bytes;
use http_body_util::Either;
use serde_json::{Value, json};

use self::ask::Ask;
use self::choices::{Head, Kind};
use self::fault::Fault;
pub(crate) use self::models::{Models, Served};
use crate::http::{AnyBody, Body, Refusal, foreign_type};

/// Prompts above this, in bytes, are taken apart on another thread: it takes longer than others should wait.
const LONG: usize = 16 << 10;

/// Whether a path is of this API.
pub(crate) fn owns(path: &str) -> bool {
    path.starts_with("/v1/")
}

/// A request that is refused before it is read: for want of a key, for its size.
pub(crate) fn refused(refusal: Refusal) -> Response<Body> {
    let fault = Fault::bad("", refusal.message).status(refusal.status.as_u16());
    match refusal.status.as_u16() {
        401 => fault.code("invalid_api_key"),
        408 => fault.code("timeout"),
        413 => fault.code("request_too_large"),
        429 => fault.code("rate_limit_exceeded"),
        _ => fault,
    }
    .response()
}

/// Answers a request.
pub(crate) async fn answer(models: &Models, head: Parts, body: Bytes) -> Response<AnyBody> {
    answered(models, head, body).await.unwrap_or_else(|fault| fault.response().map(Either::Left))
}

async fn answered(models: &Models, head: Parts, body: Bytes) -> Result<Response<AnyBody>, Fault> {
    let path = head.uri.path().strip_prefix("/v1/").unwrap_or_default();
    let (reads, known) = match path {
        "models" => (true, true),
        "chat/completions" | "completions" | "embeddings" => (false, true),
        _ => (true, path.starts_with("models/")),
    };
    if !known {
        let shown: String = path.chars().take(128).collect();
        return Err(Fault::bad("", format!("there is no /v1/{shown}")).status(404).code("unknown_url"));
    }
    let expected = if reads { Method::GET } else { Method::POST };
    if head.method != expected {
        // The parameter says which it is to the response.
        let fault = Fault::bad(if reads { "method" } else { "" }, format!("use {expected}"));
        return Err(fault.status(405));
    }
    if reads {
        let object = match path.strip_prefix("models/") {
            Some(name) => {
                let name = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
                models.find(&name)?.object()
            }
            None => json!({
                "object": "list", "data": models.all().iter().map(|model| model.object()).collect::<Vec<Value>>(),
            }),
        };
        return Ok(texts::json(&object).map(Either::Left));
    }
    if let Some(kind) = foreign_type(&head.headers) {
        return Err(
            Fault::bad("", format!("the content type is {kind}, expected application/json")).status(415)
        );
    }
    if path == "embeddings" {
        let request = wire::Embeddings::read(&body)?;
        let model = models.find(&request.model)?;
        let (tokens, base64) =
            elsewhere(&model, body.len(), move |model| ask::embeddings(&model.inner, request)).await?;
        let object = embed::answer(&model, tokens, base64).await?;
        return Ok(texts::json(&object).map(Either::Left));
    }
    let (model, kind, ask) = if path == "completions" {
        let request = wire::Completion::read(&body)?;
        let model = models.find(&request.common.model)?;
        let ask = elsewhere(&model, body.len(), move |model| ask::completion(&model.inner, request)).await?;
        (model, Kind::Completion, ask)
    } else {
        let request = wire::Chat::read(&body)?;
        let model = models.find(&request.common.model)?;
        let ask = elsewhere(&model, body.len(), move |model| ask::chat(&model.inner, request)).await?;
        (model, Kind::Chat, ask)
    };
    let head = head_of(&model, kind, &ask);
    texts::answer(&model, head, ask).await
}

fn head_of(model: &Served, kind: Kind, ask: &Ask) -> Head {
    let mut bytes = [0; 16];
    let _ = getrandom::fill(&mut bytes);
    let number = u128::from_le_bytes(bytes);
    let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
    Head {
        kind,
        id: format!("{prefix}-{number:032x}"),
        created: models::now(),
        model: model.name.to_string(),
        prompt_tokens: ask.prompt_tokens,
    }
}

/// Does what takes long for long bodies on a thread that may take long.
async fn elsewhere<T: Send + 'static>(
    model: &Arc<Served>,
    size: usize,
    work: impl FnOnce(&Served) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    if size <= LONG {
        return work(model);
    }
    let model = Arc::clone(model);
    let done = tokio::task::spawn_blocking(move || work(&model)).await;
    done.unwrap_or_else(|error| Err(Fault::bad("", error.to_string()).status(500)))
}
