//! Answers that are counted when they have ended, with all the time that they took.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::metrics::RouteMetrics;

/// What is counted of an answer whose client went before its end.
const GONE: u16 = 499;

/// A body whose end, or its client's going, is counted for a route.
pub(super) fn counted(
    body: axum::body::Body,
    metrics: &Arc<RouteMetrics>,
    status: u16,
    start: Instant,
) -> axum::body::Body {
    let end = Some(End { metrics: Arc::clone(metrics), status, start });
    axum::body::Body::new(Counted { body, end })
}

struct Counted {
    body: axum::body::Body,
    /// Until it is counted.
    end: Option<End>,
}

struct End {
    metrics: Arc<RouteMetrics>,
    status: u16,
    start: Instant,
}

impl Counted {
    fn count(&mut self, status: Option<u16>) {
        if let Some(End { metrics, status: of_head, start }) = self.end.take() {
            metrics.answered(status.unwrap_or(of_head), start.elapsed());
        }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Err(_)) => self.count(Some(500)),
            // After a last frame nobody need ask again.
            Some(Ok(_)) if !self.body.is_end_stream() => {}
            _ => self.count(None),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.count(Some(GONE));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use futures::channel::mpsc;
    use futures::{FutureExt as _, SinkExt as _};
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::metrics::Metrics;

    /// A body whose pieces the test gives, and how often its route has counted each status.
    struct Stream {
        pieces: mpsc::Sender<Result<Bytes, std::io::Error>>,
        body: axum::body::Body,
        metrics: Metrics,
    }

    fn stream() -> Stream {
        let metrics = Metrics::new(air_core::metrics::Metrics::new()).unwrap();
        let route = Arc::new(metrics.route("/v1").unwrap());
        let (pieces, body) = mpsc::channel(4);
        let body = counted(axum::body::Body::from_stream(body), &route, 200, Instant::now());
        Stream { pieces, body, metrics }
    }

    impl Stream {
        fn give(&mut self, piece: Result<&'static str, std::io::Error>) {
            self.pieces.send(piece.map(Bytes::from)).now_or_never().unwrap().unwrap();
        }

        fn frame(&mut self) -> Option<Result<Bytes, axum::Error>> {
            let frame = self.body.frame().now_or_never().unwrap()?;
            Some(frame.map(|frame| frame.into_data().unwrap()))
        }

        /// The statuses that were counted.
        fn counts(metrics: &Metrics) -> Vec<u16> {
            let text = metrics.render();
            let lines = text.lines().filter(|line| line.starts_with("air_serve_requests_total{"));
            let counted = lines.filter(|line| !line.ends_with(" 0"));
            counted.map(|line| line.split("code=\"").nth(1).unwrap()[..3].parse().unwrap()).collect()
        }
    }

    #[test]
    fn a_stream_is_counted_when_it_has_ended() {
        let mut stream = stream();
        stream.give(Ok("a"));
        assert_eq!(stream.frame().unwrap().unwrap(), "a");
        assert_eq!(Stream::counts(&stream.metrics), [] as [u16; 0], "it goes on");
        stream.pieces.disconnect();
        assert!(stream.frame().is_none());
        assert_eq!(Stream::counts(&stream.metrics), [200]);
        drop(stream.body);
        assert_eq!(Stream::counts(&stream.metrics), [200], "once");
    }

    #[test]
    fn one_that_fails_or_is_left_is_counted_as_that() {
        let mut failing = stream();
        failing.give(Err(std::io::Error::other("broken")));
        assert!(failing.frame().unwrap().is_err());
        assert_eq!(Stream::counts(&failing.metrics), [500]);
        let mut left = stream();
        left.give(Ok("a"));
        assert!(left.frame().unwrap().is_ok());
        drop(left.body);
        assert_eq!(Stream::counts(&left.metrics), [499]);
    }
}
