//! gzip, both ways, where it is configured: large answers for clients that take it, and bodies that come compressed.

use std::io::{self, Read as _, Write as _};

use axum::http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, VARY};
use axum::http::{HeaderMap, HeaderValue, Response};
use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Body as _;
use serde::{Deserialize, Serialize};

use super::front::AnyBody;
use crate::error::ServeError;

/// Bodies up to here are compressed on the HTTP thread; larger ones elsewhere, so that they hold up no other connection.
const SMALL: usize = 64 << 10;

/// Compression of bodies (default: none).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CompressionConfig {
    /// Whether answers are compressed for clients that accept it, and compressed bodies are taken (default no).
    pub gzip: bool,
    /// From 1, fast, to 9, small (default 1).
    pub level: u32,
    /// Smaller answers are sent as they are (default 1024).
    pub min_bytes: u64,
}

impl Default for CompressionConfig {
    fn default() -> Self {
        CompressionConfig { gzip: false, level: 1, min_bytes: 1024 }
    }
}

impl CompressionConfig {
    /// Checks every field.
    pub fn validate(&self) -> Result<(), ServeError> {
        if !(1..=9).contains(&self.level) {
            return Err(ServeError::config(format!(
                "compression.level is {}, it must be 1 to 9",
                self.level
            )));
        }
        Ok(())
    }

    /// Compresses a response whose body is there already, if that is worth it. A stream goes out as it comes.
    pub(crate) async fn compress(&self, accepted: bool, response: Response<AnyBody>) -> Response<AnyBody> {
        let text = response.headers().get(CONTENT_TYPE).is_some_and(|kind| {
            let kind = kind.as_bytes();
            kind.starts_with(b"text/") || kind.starts_with(b"application/json")
        });
        let large = response.body().size_hint().exact().is_some_and(|size| size >= self.min_bytes);
        if !text || !large || response.headers().contains_key(CONTENT_ENCODING) {
            return response;
        }
        let (mut head, body) = response.into_parts();
        head.headers.append(VARY, HeaderValue::from_static("accept-encoding"));
        if !accepted {
            return Response::from_parts(head, body);
        }
        let Ok(plain) = body.collect().await.map(http_body_util::Collected::to_bytes) else {
            // Only a stream can fail to be read, and a stream has no exact size.
            return Response::from_parts(head, Either::Left(Full::default()));
        };
        let level = Compression::new(self.level);
        let small = if plain.len() <= SMALL {
            gzip(&plain, level)
        } else {
            let plain = plain.clone();
            tokio::task::spawn_blocking(move || gzip(&plain, level))
                .await
                .unwrap_or_else(|error| Err(io::Error::other(error)))
        };
        let body = match small {
            Ok(small) if small.len() < plain.len() => {
                head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                head.headers.remove(CONTENT_LENGTH);
                small
            }
            _ => plain,
        };
        Response::from_parts(head, Either::Left(Full::new(body)))
    }
}

fn gzip(plain: &[u8], level: Compression) -> io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), level);
    encoder.write_all(plain)?;
    encoder.finish().map(Bytes::from)
}

/// Why a compressed body is not taken.
#[derive(Debug, PartialEq)]
pub(crate) enum Inflated {
    TooLarge,
    Broken(String),
}

/// The plain bytes of a compressed body, at most `limit` of them.
pub(crate) fn gunzip(body: &[u8], limit: usize) -> Result<Bytes, Inflated> {
    let mut plain = Vec::new();
    let mut limited = GzDecoder::new(body).take(limit as u64 + 1);
    limited.read_to_end(&mut plain).map_err(|error| Inflated::Broken(error.to_string()))?;
    if plain.len() > limit {
        return Err(Inflated::TooLarge);
    }
    Ok(plain.into())
}

/// Whether a client accepts gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let lists = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut named = None;
    let mut any = false;
    for item in lists.flat_map(|list| list.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let refused = parts
            .filter_map(|part| part.strip_prefix("q="))
            .any(|q| q.parse::<f32>().is_ok_and(|q| q <= 0.0));
        match name {
            "*" => any = !refused,
            _ if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => {
                named = Some(!refused);
            }
            _ => {}
        }
    }
    named.unwrap_or(any)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_accepts() {
        for (header, accepts) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5, br", true),
            ("*", true),
            ("x-gzip", true),
            ("gzip;q=0", false),
            ("gzip; q=0.000, *", false),
            ("identity", false),
            ("*;q=0", false),
            ("gzipped", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(header))]);
            assert_eq!(accepts_gzip(&headers), accepts, "{header}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[test]
    fn what_is_packed_unpacks_within_the_limit() {
        let plain = b"[1,2,3]".repeat(1000);
        let packed = gzip(&plain, Compression::new(1)).unwrap();
        assert!(packed.len() < plain.len() / 10);
        assert_eq!(gunzip(&packed, plain.len()).unwrap(), plain);
        assert_eq!(gunzip(&packed, plain.len() - 1), Err(Inflated::TooLarge));
        // A megabyte of zeros in a thousand bytes is read no further than the limit.
        assert_eq!(
            gunzip(&gzip(&vec![0; 1 << 20], Compression::new(9)).unwrap(), 1000),
            Err(Inflated::TooLarge)
        );
        for broken in [&packed[..packed.len() / 2], b"", b"[1]", &packed[1..]] {
            assert!(matches!(gunzip(broken, 1 << 20), Err(Inflated::Broken(_))));
        }
    }
}
