//! Where and within what limits the server listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::compress::CompressionConfig;
use super::cors::CorsConfig;
use super::traces::TracesConfig;
use crate::auth::AuthConfig;
use crate::error::ServeError;

/// What hyper allows without being told, and has room for without allocating.
const MAX_HEADERS: usize = 100;

/// Where and within what limits the server listens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HttpConfig {
    /// Address to listen on (default 127.0.0.1: this machine only).
    pub host: IpAddr,
    /// Port; 0 lets the operating system choose (default 8000).
    pub port: u16,
    /// Threads that handle connections, each with its own listener (default 0: one a core, at most 8).
    pub threads: usize,
    /// Largest request body, in bytes (default 16 MiB).
    pub max_body_bytes: usize,
    /// Largest head of a request: its line and all headers, in bytes (default 64 KiB).
    pub max_header_bytes: usize,
    /// Most headers of a request (default 100).
    pub max_headers: usize,
    /// Most open connections; more wait in the operating system's queue (default 10 000).
    pub max_connections: usize,
    /// How long a client may take to send a request's head, in seconds; also the longest idle time (default 30).
    pub header_timeout_s: f64,
    /// How long a client may take to send a request's body, in seconds (default 30).
    pub body_timeout_s: f64,
    /// How long a client may take to read any part of an answer, in seconds (default 30).
    pub write_timeout_s: f64,
    /// How often a comment is sent on a stream of events on which nothing else is, in seconds, for proxies that cut off what is idle (default 0:
    /// never).
    pub stream_keep_alive_s: f64,
    /// How long requests under way may take to finish when the server stops, in seconds (default 20).
    pub graceful_shutdown_timeout_s: f64,
    /// Certificates to serve TLS with, in PEM, the server's own first (default: no TLS).
    pub ssl_certfile: Option<PathBuf>,
    /// The private key of the first of them, in PEM, not encrypted.
    pub ssl_keyfile: Option<PathBuf>,
    /// Authorities, in PEM, one of which must have signed a client's certificate (default: clients need none).
    pub ssl_ca_certs: Option<PathBuf>,
    /// How often those files are looked at for a change, in seconds (default 10); SIGHUP makes it at once.
    pub ssl_reload_s: f64,
    /// Who may use the server (default: everyone who reaches it).
    pub auth: AuthConfig,
    /// Which pages in a browser may call the server (default: none).
    pub cors: CorsConfig,
    /// Compression of bodies (default: none).
    pub compression: CompressionConfig,
    /// Share of the requests that get a line in the log, 0 to 1 (default 0: none).
    pub access_log: f64,
    /// Where traces go (default: nowhere).
    pub traces: TracesConfig,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8000,
            threads: 0,
            max_body_bytes: 16 << 20,
            max_header_bytes: 64 << 10,
            max_headers: MAX_HEADERS,
            max_connections: 10_000,
            header_timeout_s: 30.0,
            body_timeout_s: 30.0,
            write_timeout_s: 30.0,
            stream_keep_alive_s: 0.0,
            graceful_shutdown_timeout_s: 20.0,
            ssl_certfile: None,
            ssl_keyfile: None,
            ssl_ca_certs: None,
            ssl_reload_s: 10.0,
            auth: AuthConfig::default(),
            cors: CorsConfig::default(),
            compression: CompressionConfig::default(),
            access_log: 0.0,
            traces: TracesConfig::default(),
        }
    }
}

impl HttpConfig {
    /// Checks every field.
    pub fn validate(&self) -> Result<(), ServeError> {
        for (name, seconds) in [
            ("header_timeout_s", self.header_timeout_s),
            ("body_timeout_s", self.body_timeout_s),
            ("write_timeout_s", self.write_timeout_s),
            ("ssl_reload_s", self.ssl_reload_s),
            ("graceful_shutdown_timeout_s", self.graceful_shutdown_timeout_s),
        ] {
            if !(seconds > 0.0 && seconds <= 86_400.0) {
                return Err(ServeError::config(format!(
                    "{name} is {seconds}, it must be above 0 and at most 86400"
                )));
            }
        }
        if !(0.0..=86_400.0).contains(&self.stream_keep_alive_s) {
            return Err(ServeError::config(format!(
                "stream_keep_alive_s is {}, it must be 0 to 86400",
                self.stream_keep_alive_s
            )));
        }
        if self.max_connections == 0 || self.max_body_bytes == 0 {
            return Err(ServeError::config("max_connections and max_body_bytes must be above 0"));
        }
        if self.threads > 1024 {
            return Err(ServeError::config(format!("threads is {}, it must be at most 1024", self.threads)));
        }
        if self.ssl_certfile.is_some() != self.ssl_keyfile.is_some() {
            return Err(ServeError::config("TLS needs both ssl_certfile and ssl_keyfile"));
        }
        if self.ssl_ca_certs.is_some() && self.ssl_certfile.is_none() {
            return Err(ServeError::config("ssl_ca_certs needs TLS: ssl_certfile and ssl_keyfile"));
        }
        if !(1 << 10..=256 << 10).contains(&self.max_header_bytes) {
            return Err(ServeError::config(format!(
                "max_header_bytes is {}, it must be 1024 to 262144",
                self.max_header_bytes
            )));
        }
        if !(1..=1000).contains(&self.max_headers) {
            return Err(ServeError::config(format!(
                "max_headers is {}, it must be 1 to 1000",
                self.max_headers
            )));
        }
        if !(0.0..=1.0).contains(&self.access_log) {
            return Err(ServeError::config(format!("access_log is {}, it must be 0 to 1", self.access_log)));
        }
        self.cors.validate()?;
        self.compression.validate()?;
        self.traces.validate()?;
        self.auth.validate()
    }

    pub(crate) fn scheme(&self) -> &'static str {
        if self.ssl_certfile.is_some() { "https" } else { "http" }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    pub(crate) fn thread_count(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from).min(8),
            threads => threads,
        }
    }

    /// How often something is sent on a stream of events, if it is.
    pub(crate) fn stream_keep_alive(&self) -> Option<Duration> {
        (self.stream_keep_alive_s > 0.0).then(|| Duration::from_secs_f64(self.stream_keep_alive_s))
    }

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.header_timeout_s)
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.write_timeout_s)
    }

    /// The most headers, if that is not what hyper allows anyway.
    pub(crate) fn other_max_headers(&self) -> Option<usize> {
        (self.max_headers != MAX_HEADERS).then_some(self.max_headers)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.body_timeout_s)
    }

    #[cfg(feature = "tls")]
    pub(crate) fn ssl_reload(&self) -> Duration {
        Duration::from_secs_f64(self.ssl_reload_s)
    }

    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs_f64(self.graceful_shutdown_timeout_s)
    }
}
