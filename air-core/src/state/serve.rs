//! The thread that serves a runtime's state, and ends with it.

use std::convert::Infallible;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use futures::future::{Either, select};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, oneshot};

use super::answer::Front;
use crate::error::{CoreError, Result};
use crate::runtime::RuntimeHandle;

/// Connections served at once; others wait.
const MAX_CONNECTIONS: usize = 32;
/// The most bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// How long a client may take over its request's head.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// How long a connection may last, unless it follows the events.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);

/// How a runtime's state is served: to this machine only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StateConfig {
    /// The port on 127.0.0.1; 0 (the default) takes one that is free.
    pub port: u16,
    /// What a client must send as `Authorization: Bearer …` (default: every program of this machine may read).
    pub token: Option<String>,
}

impl StateConfig {
    /// Sets the port.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Requires a token of every client.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Checks the token: 1 to 1024 visible ASCII characters.
    pub fn validate(&self) -> Result<()> {
        match &self.token {
            Some(token)
                if !(1..=1024).contains(&token.len()) || !token.bytes().all(|b| b.is_ascii_graphic()) =>
            {
                let message = "the state endpoint's token must be 1 to 1024 visible ASCII characters".into();
                Err(CoreError::Config { message })
            }
            _ => Ok(()),
        }
    }
}

/// Tells whether there is a token, not what it is.
impl fmt::Debug for StateConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "…");
        f.debug_struct("StateConfig").field("port", &self.port).field("token", &token).finish()
    }
}

/// Where a runtime's state is served. Dropping it changes nothing: the server ends with the runtime.
#[derive(Clone, Debug)]
pub struct StateServer {
    address: SocketAddr,
}

impl StateServer {
    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to give to `air-core status`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// The servers of a runtime.
#[derive(Debug)]
pub(crate) struct Services {
    /// Nothing once the runtime has ended.
    running: Mutex<Option<Vec<Service>>>,
}

#[derive(Debug)]
struct Service {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Services {
    pub(crate) fn new() -> Self {
        Self { running: Mutex::new(Some(Vec::new())) }
    }

    pub(crate) fn serve_state(&self, runtime: RuntimeHandle, config: StateConfig) -> Result<StateServer> {
        config.validate()?;
        let mut running = self.running.lock();
        let running = running.as_mut().ok_or(CoreError::Stopped)?;
        let cannot = |source| CoreError::Listen { port: config.port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, config.port)).map_err(cannot)?;
        listener.set_nonblocking(true).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let reactor = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
        let front = Arc::new(Front::new(runtime, config.token));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("air-state".into());
        let thread = thread
            .spawn(move || {
                // Connections under way are dropped with the reactor.
                reactor.block_on(async move {
                    select(pin!(accept(listener, front)), stopped).await;
                });
            })
            .map_err(|source| CoreError::Thread { source })?;
        running.push(Service { stop, thread });
        Ok(StateServer { address })
    }

    /// Ends every server and joins its thread.
    pub(crate) fn close(&self) {
        for service in self.running.lock().take().into_iter().flatten() {
            // It may have ended by itself.
            let _ = service.stop.send(());
            if service.thread.join().is_err() {
                tracing::error!("the thread that served the state panicked");
            }
        }
    }
}

async fn accept(listener: TcpListener, front: Arc<Front>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot serve the state"),
    };
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // The semaphore is never closed.
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let front = Arc::clone(&front);
                tokio::spawn(async move {
                    connection(stream, front).await;
                    drop(permit);
                });
            }
            Err(error) => {
                // Usually too many open files: wait for some to close instead of spinning.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, front: Arc<Front>) {
    let follows = Arc::default();
    let service = service_fn(|request| {
        let response = front.answer(&request, &follows);
        async { Ok::<_, Infallible>(response) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false);
    let connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = match select(connection, pin!(tokio::time::sleep(CONNECTION_LIMIT))).await {
        Either::Left((ended, _)) => ended,
        Either::Right(((), connection)) if Arc::strong_count(&follows) > 1 => connection.await,
        Either::Right(_) => return,
    };
    if let Err(error) = ended {
        // Clients go away and send nonsense; that is their affair.
        tracing::debug!(%error, "a connection ended early");
    }
}
