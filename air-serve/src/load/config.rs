//! What may be asked for.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Requests a second that one thread has a chance to send.
const MOST_RATE: f64 = 200_000.0;
const MOST_SECONDS: f64 = 3_600.0;
const MOST_REQUESTS: u64 = 100_000_000;
const MOST_CONNECTIONS: usize = 10_000;
const MOST_BODY: usize = 64 << 20;

/// What to send, where, how often and for how long.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoadConfig {
    /// Where to: `http://HOST[:PORT]/PATH`.
    pub url: String,
    /// Requests a second, evenly spaced (default 1000).
    pub rate: f64,
    /// For how long requests are due, in seconds (default 10).
    pub duration_s: f64,
    /// At most so many requests (default: as many as are due).
    pub count: Option<u64>,
    /// Connections; a request that is due when all are in use waits for one, and the wait counts (default 64).
    pub connections: usize,
    /// How long after it was due a request may be answered, in seconds (default 10).
    pub timeout_s: f64,
    /// The method (default: GET without a body, POST with one).
    pub method: Option<String>,
    /// The body of every request (default: none).
    pub body: Vec<u8>,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// What the body of every 2xx answer must be, to the byte.
    pub expect: Option<Vec<u8>>,
    /// Also hosts that are not this machine.
    pub allow_remote: bool,
}

impl LoadConfig {
    /// The defaults, for this URL.
    pub fn new(url: impl Into<String>) -> Self {
        LoadConfig {
            url: url.into(),
            rate: 1_000.0,
            duration_s: 10.0,
            count: None,
            connections: 64,
            timeout_s: 10.0,
            method: None,
            body: Vec::new(),
            headers: Vec::new(),
            expect: None,
            allow_remote: false,
        }
    }

    /// Checks every field; the URL is looked at when the load starts.
    pub fn validate(&self) -> Result<(), LoadError> {
        let bad = |text: String| Err(LoadError::Config(text));
        if !(self.rate > 0.0 && self.rate <= MOST_RATE) {
            return bad(format!(
                "the rate is {}, it must be above 0 and at most {MOST_RATE} requests a second",
                self.rate
            ));
        }
        if !(self.duration_s > 0.0 && self.duration_s <= MOST_SECONDS) {
            return bad(format!(
                "the duration is {} s, it must be above 0 and at most {MOST_SECONDS} s",
                self.duration_s
            ));
        }
        if !self.count.is_none_or(|count| (1..=MOST_REQUESTS).contains(&count)) {
            return bad(format!("the count must be 1 to {MOST_REQUESTS} requests"));
        }
        if !(1..=MOST_CONNECTIONS).contains(&self.connections) {
            return bad(format!("{} connections, it must be 1 to {MOST_CONNECTIONS}", self.connections));
        }
        if !(0.001..=600.0).contains(&self.timeout_s) {
            return bad(format!("the time limit is {} s, it must be 0.001 to 600 s", self.timeout_s));
        }
        if self.body.len() > MOST_BODY {
            return bad(format!("the body has {} bytes, at most {MOST_BODY} are sent", self.body.len()));
        }
        if let Some(method) = &self.method
            && (method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()))
        {
            return bad(format!("{method:?} is not a method: it is written in capital letters, as GET"));
        }
        for (name, value) in &self.headers {
            let name_fits = hyper::header::HeaderName::try_from(name.as_str()).is_ok();
            if !name_fits || hyper::header::HeaderValue::try_from(value.as_str()).is_err() {
                return bad(format!("\"{name}: {value}\" is not a header"));
            }
            if ["host", "content-length", "transfer-encoding", "connection"]
                .iter()
                .any(|ours| name.eq_ignore_ascii_case(ours))
            {
                return bad(format!("the header {name} is set by the load generator itself"));
            }
        }
        Ok(())
    }

    pub(super) fn method(&self) -> &str {
        match &self.method {
            Some(method) => method,
            None if self.body.is_empty() => "GET",
            None => "POST",
        }
    }

    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs_f64(self.timeout_s)
    }
}

/// Why no load was sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// A setting makes no sense.
    #[error("{0}")]
    Config(String),
    /// The server is not this machine.
    #[error("{host} is {addr}, which is not this machine; load it only if you may, with --allow-remote")]
    Remote {
        /// The host of the URL.
        host: String,
        /// Its address.
        addr: SocketAddr,
    },
    /// The host has no address.
    #[error("cannot find {host}")]
    Resolve {
        /// The host of the URL.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// Not one connection could be made, or not all of them.
    #[error("cannot open connection {number} to {addr}")]
    Connect {
        /// Which of the connections, from 1.
        number: usize,
        /// The server.
        addr: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// The operating system refused something.
    #[error("{what}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absurd_is_refused_by_name() {
        let base = LoadConfig::new("http://127.0.0.1/");
        assert!(base.validate().is_ok());
        type Change = fn(&mut LoadConfig);
        let cases: [(&str, Change); 12] = [
            ("the rate is 0", |config| config.rate = 0.0),
            ("the rate is NaN", |config| config.rate = f64::NAN),
            ("at most 200000 requests a second", |config| config.rate = 1e9),
            ("the duration is -1 s", |config| config.duration_s = -1.0),
            ("at most 3600 s", |config| config.duration_s = 1e6),
            ("the count must be 1 to", |config| config.count = Some(0)),
            ("0 connections", |config| config.connections = 0),
            ("the time limit is 0 s", |config| config.timeout_s = 0.0),
            ("the body has 67108865 bytes", |config| config.body = vec![0; MOST_BODY + 1]),
            ("\"get\" is not a method", |config| config.method = Some("get".into())),
            ("is not a header", |config| config.headers.push(("a b".into(), "c".into()))),
            ("set by the load generator", |config| config.headers.push(("Host".into(), "c".into()))),
        ];
        for (says, change) in cases {
            let mut config = base.clone();
            change(&mut config);
            let error = config.validate().expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
