//! TLS: certificates from files, read again when they change, without a connection noticing.
//!
//! | file | idea |
//! |---|---|
//! | `files` | from files to what rustls serves with |
//! | `validity` | when a certificate is valid: pure |

mod files;
mod validity;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

use self::files::{Contents, Files};
use super::HttpConfig;
use super::version::Version;
use crate::error::ServeError;

/// What HTTP/2 is called in a handshake.
const HTTP2: &[u8] = b"h2";

/// A connection over TLS.
pub(crate) type Stream = tokio_rustls::server::TlsStream<TcpStream>;

/// What was in the files when they were last good, and what was made of it.
struct Current {
    contents: Contents,
    config: Arc<ServerConfig>,
}

/// The certificate that is served, and where it comes from.
pub(crate) struct Tls {
    files: Files,
    current: ArcSwap<Current>,
    every: Duration,
}

impl Current {
    fn of(files: &Files, contents: Contents) -> Result<Self, ServeError> {
        let config = Arc::new(files.build(&contents, SystemTime::now())?);
        Ok(Current { contents, config })
    }
}

impl Tls {
    /// Reads the files, if there are any.
    pub(crate) fn load(config: &HttpConfig) -> Result<Option<Arc<Self>>, ServeError> {
        let Some(files) = Files::of(config) else { return Ok(None) };
        let current = ArcSwap::from_pointee(Current::of(&files, files.read()?)?);
        Ok(Some(Arc::new(Tls { files, current, every: config.ssl_reload() })))
    }

    /// Shakes hands with a client that has just connected.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<(Version, Stream)> {
        let acceptor = TlsAcceptor::from(Arc::clone(&self.current.load().config));
        let stream = acceptor.accept(stream).await?;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
        Ok((if http2 { Version::Http2 } else { Version::Http1 }, stream))
    }

    /// Reads the files again. New connections get what is in them now; if that is no good, what was served before. Returns whether anything
    /// has changed.
    fn reload(&self) -> Result<bool, ServeError> {
        let contents = self.files.read()?;
        let changed = self.current.load().contents != contents;
        if changed {
            self.current.store(Arc::new(Current::of(&self.files, contents)?));
        }
        Ok(changed)
    }

    /// Reloads every so often, and at once on SIGHUP; never returns.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                tracing::warn!(%error, "cannot listen for SIGHUP");
                None
            }
        };
        let mut said = String::new();
        loop {
            let told = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Whoever sends it looks at the log.
                _ = told => said.clear(),
                () = tokio::time::sleep(self.every) => {}
            }
            let this = Arc::clone(&self);
            // Files may lie on a slow disk.
            let error = match tokio::task::spawn_blocking(move || this.reload()).await {
                Ok(Ok(changed)) => {
                    if changed {
                        tracing::info!(file = %self.files.certificates.display(), "serving a new certificate");
                        said.clear();
                    }
                    continue;
                }
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            // What is wrong stays wrong until somebody mends it; that is said once.
            if error != said {
                tracing::error!(%error, "the new certificate is no good; the one before is still served");
                said = error;
            }
        }
    }
}
