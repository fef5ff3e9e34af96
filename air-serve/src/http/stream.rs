//! Routes whose answers are streams: each piece of a body is whatever is there when the connection has room for it, so that the first item goes
//! out at once and a slow client gets many at a time.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, Response, StatusCode};
use bytes::Bytes;
use futures::FutureExt as _;
use http_body_util::Either;
use hyper::body::{Body, Frame};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, Sleep};

use super::format::{self, Format};
use super::front::{AnyBody, Refusal};
use super::reply;
use super::route::{Answered, Asked, Endpoint, Opening, Texts, read};
use super::terms::terms;
use crate::deploy::DeploymentHandle;
use crate::error::CallError;
use crate::stream::{Chunk, Items, Raw};

/// How an item is written.
type Write<T> = fn(Format, &T, &mut Vec<u8>) -> Result<(), serde_json::Error>;

/// JSON in, a stream out.
pub(crate) struct Streamed<I, T> {
    handle: DeploymentHandle<I, Items<T>>,
    write: Write<T>,
    raw: bool,
}

impl<I, T: Serialize> Streamed<I, T> {
    pub(crate) fn json(handle: DeploymentHandle<I, Items<T>>) -> Self {
        Streamed { handle, write: format::json, raw: false }
    }
}

impl<I> Streamed<I, Raw> {
    pub(crate) fn raw(handle: DeploymentHandle<I, Items<Raw>>) -> Self {
        Streamed { handle, write: format::raw, raw: true }
    }
}

impl<I, T> Endpoint for Streamed<I, T>
where
    I: DeserializeOwned + Send + 'static,
    T: Send + 'static,
{
    fn answer(&self, asked: &Asked<'_>, body: &Bytes) -> Answered {
        let input: I = match read(body) {
            Ok(input) => input,
            Err(refusal) => return Answered::Now(refusal.into_response()),
        };
        let call = match terms(asked.headers) {
            Ok(None) => self.handle.call(input),
            Ok(Some(terms)) => self.handle.call_on(input, &terms),
            Err(refusal) => return Answered::Now(refusal.into_response()),
        };
        let writer = Writer { format: Format::of(asked.headers, self.raw), write: self.write };
        let keep_alive = asked.keep_alive.filter(|_| writer.format == Format::Events);
        Answered::Stream(Box::pin(async move {
            let mut items = match call.await {
                Ok(items) => items,
                Err(error) => return reply::call_error(&error).map(Either::Left),
            };
            let first = std::future::poll_fn(|cx| items.poll_chunk(cx)).await;
            match first {
                // Nothing has been sent, so that this can still be said by a status.
                Chunk { items, end: Some(Err(error)) } if items.is_empty() => {
                    reply::call_error(&error).map(Either::Left)
                }
                first => begin(Outgoing {
                    items: Some(items),
                    first: Some(first),
                    writer,
                    failed: None,
                    has_waited: false,
                    keep_alive: keep_alive.map(KeepAlive::new),
                }),
            }
        }))
    }

    fn ask(&self, message: &[u8]) -> Result<Opening, Refusal> {
        let call = self.handle.call(read(message)?);
        let write = self.write;
        Ok(async move {
            let items = call.await?;
            Ok(Box::new(Spoken { items, write }) as Box<dyn Texts>)
        }
        .boxed())
    }

    fn content_types(&self) -> &'static [&'static str] {
        if self.raw {
            &["application/octet-stream", "text/plain"]
        } else {
            &["application/x-ndjson", "text/event-stream", "text/plain"]
        }
    }

    fn converses(&self) -> bool {
        !self.raw
    }
}

fn begin<T: Send + 'static>(body: Outgoing<T>) -> Response<AnyBody> {
    let format = body.writer.format;
    let mut response = Response::new(Either::Right(axum::body::Body::new(body)));
    *response.status_mut() = StatusCode::OK;
    response.headers_mut().insert(CONTENT_TYPE, format.content_type());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

struct Writer<T> {
    format: Format,
    write: Write<T>,
}

impl<T> Writer<T> {
    /// Writes items one after the other; an error ends the answer.
    fn write(&self, chunk: &Chunk<T>) -> (Vec<u8>, Option<Result<(), CallError>>) {
        let mut bytes = Vec::with_capacity(64 * chunk.items.len());
        for item in &chunk.items {
            let whole = bytes.len();
            if let Err(error) = (self.write)(self.format, item, &mut bytes) {
                bytes.truncate(whole);
                return (bytes, Some(Err(unwritable(&error))));
            }
        }
        (bytes, chunk.end.clone())
    }
}

fn unwritable(error: &serde_json::Error) -> CallError {
    let reason = format!("its item cannot be written as JSON: {error}").into();
    CallError::Failed { replica: "of the stream".into(), reason }
}

/// The body of an answer.
struct Outgoing<T: Send + 'static> {
    /// `None` when it has ended.
    items: Option<Items<T>>,
    first: Option<Chunk<T>>,
    writer: Writer<T>,
    /// What it ended with, where that can only be said by breaking it off, once what is before it has had a chance to go out.
    failed: Option<CallError>,
    has_waited: bool,
    keep_alive: Option<KeepAlive>,
}

impl<T: Send + 'static> Unpin for Outgoing<T> {}

impl<T: Send + 'static> Outgoing<T> {
    /// Ends the body with its error: not at once, since a connection that is broken off sends nothing more, of what it has been given neither.
    fn break_off(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        if !std::mem::replace(&mut self.has_waited, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.failed.take().map(Err))
    }
}

impl<T: Send + 'static> Body for Outgoing<T> {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        let this = &mut *self;
        if this.failed.is_some() {
            return this.break_off(cx);
        }
        let Some(items) = &mut this.items else { return Poll::Ready(None) };
        let chunk = match this.first.take() {
            Some(chunk) => chunk,
            None => match items.poll_chunk(cx) {
                Poll::Ready(chunk) => chunk,
                Poll::Pending => {
                    let due = this.keep_alive.as_mut().is_some_and(|alive| alive.poll(cx).is_ready());
                    let comment = Frame::data(Bytes::from_static(b": still at it\n\n"));
                    return if due { Poll::Ready(Some(Ok(comment))) } else { Poll::Pending };
                }
            },
        };
        let (mut bytes, end) = this.writer.write(&chunk);
        if let Some(alive) = &mut this.keep_alive {
            alive.sent();
        }
        if let Some(end) = end {
            this.items = None;
            if let Err(error) = end
                && !this.writer.format.write_error(&error.to_string(), &mut bytes)
            {
                this.failed = Some(error);
            }
        }
        if bytes.is_empty() {
            return if this.failed.is_some() { this.break_off(cx) } else { Poll::Ready(None) };
        }
        Poll::Ready(Some(Ok(Frame::data(bytes.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.items.is_none() && self.failed.is_none()
    }
}

/// Sends something when nothing else was sent for a while: for one period at least, and two at most, so that what is sent need not look at a clock.
struct KeepAlive {
    period: Duration,
    timer: Pin<Box<Sleep>>,
    sent: bool,
}

impl KeepAlive {
    fn new(period: Duration) -> Self {
        KeepAlive { period, timer: Box::pin(tokio::time::sleep(period)), sent: false }
    }

    fn sent(&mut self) {
        self.sent = true;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            self.timer.as_mut().reset(Instant::now() + self.period);
            if !std::mem::take(&mut self.sent) {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

/// An answer over a WebSocket.
struct Spoken<T> {
    items: Items<T>,
    write: Write<T>,
}

impl<T: Send + 'static> Texts for Spoken<T> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        texts: &mut Vec<Vec<u8>>,
    ) -> Poll<Option<Result<(), CallError>>> {
        self.items.poll_chunk(cx).map(|chunk| {
            for item in &chunk.items {
                let mut text = b"{\"item\":".to_vec();
                if let Err(error) = (self.write)(Format::Lines, item, &mut text) {
                    return Some(Err(unwritable(&error)));
                }
                // Without the end of the line.
                text.pop();
                text.push(b'}');
                texts.push(text);
            }
            chunk.end
        })
    }
}
