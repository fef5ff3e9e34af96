//! Texts of a request: called, gathered, or passed on as they come.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response};
use bytes::Bytes;
use futures::stream::{self, SelectAll, Stream, StreamExt};
use http_body_util::Either;
use serde_json::Value;

use super::ask::Ask;
use super::choices::{Head, Part};
use super::fault::Fault;
use super::models::Served;
use crate::error::CallError;
use crate::http::{AnyBody, Body};
use crate::llm::engine::{Answer, Asked, LlmEvent, LlmRequest};

type Event = (usize, Result<LlmEvent, CallError>);
/// What comes of all choices, in the order in which it comes.
type Events = SelectAll<std::pin::Pin<Box<dyn Stream<Item = Event> + Send>>>;

/// Asks the model for every choice; those that were let in are cancelled if one is not.
async fn call(model: &Served, ask: &mut Ask) -> Result<Events, Fault> {
    let requests = std::mem::take(&mut ask.requests).into_iter();
    // All are sent before the first is waited for, so that they start together.
    let calls: Vec<_> = requests.map(|request| model.handle.call(LlmRequest(Asked::Text(request)))).collect();
    let mut events = SelectAll::new();
    for (index, call) in calls.into_iter().enumerate() {
        let items = call.await.map_err(|error| Fault::from(&error))?;
        events.push(items.map(move |item| (index, item)).boxed());
    }
    Ok(events)
}

/// Answers with the texts as a whole, or with a stream of them.
pub(super) async fn answer(
    model: &Arc<Served>,
    head: Head,
    mut ask: Ask,
) -> Result<Response<AnyBody>, Fault> {
    let logprobs = ask.requests.first().is_some_and(|request| request.logprobs.is_some());
    let mut events = call(model, &mut ask).await?;
    if !ask.stream {
        return gathered(model, &head, ask, events, logprobs).await;
    }
    // A request that is refused when it is looked at has no text at all: its status can still be said.
    let first = match events.next().await {
        Some((_, Err(error))) => return Err(Fault::from(&error)),
        first => first,
    };
    let choices = ask.echo.len();
    let told = Told {
        model: Arc::clone(model),
        head,
        ask,
        logprobs,
        tokens: 0,
        begun: vec![false; choices],
        offsets: vec![0; choices],
        events,
        first: first.into_iter().collect(),
        over: false,
    };
    let body = stream::unfold(told, async |mut told| {
        told.next().await.map(|bytes| (Ok::<_, Infallible>(bytes), told))
    });
    let mut response = Response::new(Either::Right(axum::body::Body::from_stream(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(response)
}

async fn gathered(
    model: &Served,
    head: &Head,
    ask: Ask,
    mut events: Events,
    logprobs: bool,
) -> Result<Response<AnyBody>, Fault> {
    let mut parts: Vec<Part> = ask
        .echo
        .into_iter()
        .enumerate()
        .map(|(index, text)| Part { index, text, logprobs: logprobs.then(Vec::new), finish: None })
        .collect();
    let mut completion_tokens = 0;
    while let Some((index, event)) = events.next().await {
        let part = &mut parts[index];
        match event.map_err(|error| Fault::from(&error))?.0 {
            Answer::Piece(piece) => {
                part.text += &piece.text;
                part.logprobs.iter_mut().for_each(|list| list.extend_from_slice(&piece.tokens));
            }
            Answer::End { reason, tokens } => {
                part.finish = Some(reason);
                completion_tokens += tokens;
            }
            Answer::Embedding { .. } => {}
        }
    }
    let object = head.whole(parts, &model.inner.tokens, completion_tokens);
    Ok(json(&object).map(Either::Left))
}

pub(super) fn json(value: &Value) -> Response<Body> {
    crate::http::reply::json(value.to_string().into_bytes())
}

/// A stream of server-sent events, on its way.
struct Told {
    model: Arc<Served>,
    head: Head,
    ask: Ask,
    logprobs: bool,
    /// Tokens of the choices that have ended.
    tokens: usize,
    /// Which choices have been told of.
    begun: Vec<bool>,
    offsets: Vec<usize>,
    events: Events,
    first: VecDeque<Event>,
    over: bool,
}

impl Told {
    /// What can be told now, at once if there is anything.
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let mut text = String::new();
        loop {
            let event = match self.first.pop_front() {
                Some(event) => Some(event),
                // What has come together is sent together.
                None if text.is_empty() => self.events.next().await,
                None => match futures::poll!(self.events.next()) {
                    std::task::Poll::Ready(event) => event,
                    std::task::Poll::Pending => break,
                },
            };
            let Some((index, event)) = event else {
                if self.ask.include_usage {
                    write(&mut text, &self.head.usage_piece(self.tokens));
                }
                text += "data: [DONE]\n\n";
                self.over = true;
                break;
            };
            match event {
                Ok(event) => self.tell(index, event.0, &mut text),
                Err(error) => {
                    // The status has been sent: the error is the last event, and nothing says that it is done.
                    write(&mut text, &Fault::from(&error).object());
                    self.over = true;
                    break;
                }
            }
        }
        Some(text.into())
    }

    fn tell(&mut self, index: usize, answer: Answer, text: &mut String) {
        let mut part = Part { index, ..Part::default() };
        match answer {
            Answer::Piece(piece) => {
                part.text = piece.text;
                part.logprobs = self.logprobs.then_some(piece.tokens);
            }
            Answer::End { reason, tokens } => {
                self.tokens += tokens;
                part.finish = Some(reason);
            }
            Answer::Embedding { .. } => return,
        }
        let first = !std::mem::replace(&mut self.begun[index], true);
        if first {
            part.text.insert_str(0, &self.ask.echo[index]);
        }
        let mut object = self.head.piece(part, &self.model.inner.tokens, first, &mut self.offsets[index]);
        if self.ask.include_usage {
            object["usage"] = Value::Null;
        }
        write(text, &object);
    }
}

fn write(text: &mut String, object: &Value) {
    text.push_str("data: ");
    text.push_str(&object.to_string());
    text.push_str("\n\n");
}
