//! Where and within what limits the server listens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::ServeError;

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
    /// Most open connections; more wait in the operating system's queue (default 10 000).
    pub max_connections: usize,
    /// How long a client may take to send a request's head, in seconds; also the longest idle time (default 30).
    pub header_timeout_s: f64,
    /// How long a client may take to send a request's body, in seconds (default 30).
    pub body_timeout_s: f64,
    /// How long requests under way may take to finish when the server stops, in seconds (default 20).
    pub graceful_shutdown_timeout_s: f64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8000,
            threads: 0,
            max_body_bytes: 16 << 20,
            max_connections: 10_000,
            header_timeout_s: 30.0,
            body_timeout_s: 30.0,
            graceful_shutdown_timeout_s: 20.0,
        }
    }
}

impl HttpConfig {
    /// Checks every field.
    pub fn validate(&self) -> Result<(), ServeError> {
        for (name, seconds) in [
            ("header_timeout_s", self.header_timeout_s),
            ("body_timeout_s", self.body_timeout_s),
            ("graceful_shutdown_timeout_s", self.graceful_shutdown_timeout_s),
        ] {
            if !(seconds > 0.0 && seconds <= 86_400.0) {
                return Err(ServeError::config(format!(
                    "{name} is {seconds}, it must be above 0 and at most 86400"
                )));
            }
        }
        if self.max_connections == 0 || self.max_body_bytes == 0 {
            return Err(ServeError::config("max_connections and max_body_bytes must be above 0"));
        }
        if self.threads > 1024 {
            return Err(ServeError::config(format!("threads is {}, it must be at most 1024", self.threads)));
        }
        Ok(())
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

    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.header_timeout_s)
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        Duration::from_secs_f64(self.body_timeout_s)
    }

    pub(crate) fn grace(&self) -> Duration {
        Duration::from_secs_f64(self.graceful_shutdown_timeout_s)
    }
}
