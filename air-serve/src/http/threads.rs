//! HTTP threads: each has its own listener and its own single-threaded runtime, and a connection stays on the thread that accepted it.

use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures::FutureExt;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Builder;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::front::Front;
use super::patience::Patience;
use super::version::{Version, version};
use super::waits::Waits;
use crate::deploy::deliver;
use crate::error::ServeError;
use crate::metrics::Metrics;

/// Requests under way on one HTTP/2 connection; a client waits with more.
const STREAMS: u32 = 256;
/// Largest head of an HTTP/2 request.
const HEADERS_BYTES: u32 = 64 << 10;
/// What an HTTP/2 client may send ahead: on a stream, and on all of its connection.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// Where the server is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Serving,
    /// No new connections; requests under way are finished.
    Draining,
}

/// The running HTTP threads.
pub(crate) struct Threads {
    threads: Vec<JoinHandle<()>>,
    /// Each thread holds a sender, so that the last one's end is heard.
    ended: Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Threads {
    pub(crate) fn start(
        listeners: Vec<TcpListener>,
        front: &Arc<Front>,
        metrics: &Metrics,
        phase: &watch::Receiver<Phase>,
    ) -> Result<Self, ServeError> {
        let permits = Arc::new(Semaphore::new(front.config.max_connections.min(Semaphore::MAX_PERMITS)));
        let io = |what| move |source| ServeError::Io { what, source };
        let mut threads = Vec::with_capacity(listeners.len());
        let (running, ended) = std::sync::mpsc::channel();
        for (index, listener) in listeners.into_iter().enumerate() {
            let runtime = Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(io("cannot start an I/O runtime"))?;
            let acceptor = Acceptor {
                front: Arc::clone(front),
                metrics: metrics.clone(),
                phase: phase.clone(),
                permits: Arc::clone(&permits),
                first: index == 0,
            };
            let thread = thread::Builder::new().name(format!("air-http-{index}"));
            let running = running.clone();
            let thread = thread.spawn(move || {
                runtime.block_on(acceptor.run(listener));
                drop((runtime, running));
            });
            threads.push(thread.map_err(io("cannot start a thread"))?);
        }
        Ok(Threads { threads, ended: Mutex::new(ended) })
    }

    /// Waits for the threads to end, which they do by themselves when the time for it is over; but not for one whose model, called in place, does not
    /// return.
    pub(crate) fn join(self, until: Instant) {
        let ended = self.ended.into_inner();
        let _ = ended.recv_timeout(until.saturating_duration_since(Instant::now()));
        for thread in self.threads {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            // Its sender goes a moment before it does.
            if ended.try_recv() == Err(TryRecvError::Empty) && !thread.is_finished() {
                tracing::error!(
                    thread = name,
                    "left behind: a model that is called in place on it does not return"
                );
            } else if thread.join().is_err() {
                tracing::error!(thread = name, "an HTTP thread panicked");
            }
        }
    }
}

struct Acceptor {
    front: Arc<Front>,
    metrics: Metrics,
    phase: watch::Receiver<Phase>,
    permits: Arc<Semaphore>,
    /// Whether this is the first, which does what one of them must.
    first: bool,
}

impl Acceptor {
    async fn run(mut self, listener: TcpListener) {
        if self.first
            && let Some(tls) = &self.front.tls
        {
            tokio::spawn(Arc::clone(tls).watch());
        }
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "cannot listen"),
        };
        // Ends with this thread's runtime.
        tokio::spawn(deliver());
        // Every connection holds a sender; when the last is gone, so are they.
        let (open, mut all_closed) = mpsc::channel::<()>(1);
        loop {
            let next = async {
                let permit = Arc::clone(&self.permits).acquire_owned().await;
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                biased;
                () = draining(&mut self.phase) => break,
                next = next => next,
            };
            match (permit, accepted) {
                (Ok(permit), Ok((stream, _))) => {
                    let held = Held {
                        front: Arc::clone(&self.front),
                        phase: self.phase.clone(),
                        _counted: Counted::new(self.metrics.clone()),
                        _permit: permit,
                        _open: open.clone(),
                    };
                    let connection = Connection {
                        front: Arc::clone(&self.front),
                        phase: self.phase.clone(),
                        held: Arc::new(held),
                    };
                    tokio::spawn(connection.run(stream));
                }
                (_, Err(error)) => {
                    // Usually too many open files: wait for some to close instead of spinning.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                (Err(_), _) => break,
            }
        }
        drop(listener);
        drop(open);
        if tokio::time::timeout(self.front.config.grace(), all_closed.recv()).await.is_err() {
            tracing::warn!("some requests were still under way after the time for a graceful shutdown");
        }
    }
}

/// Waits until the server is to end.
pub(super) async fn draining(phase: &mut watch::Receiver<Phase>) {
    // A sender that is gone means the same.
    let _ = phase.wait_for(|phase| *phase != Phase::Serving).await;
}

struct Connection {
    front: Arc<Front>,
    phase: watch::Receiver<Phase>,
    held: Arc<Held>,
}

/// What there is of a connection for as long as it is open, whatever it is used for.
pub(crate) struct Held {
    pub front: Arc<Front>,
    pub phase: watch::Receiver<Phase>,
    _counted: Counted,
    _permit: OwnedSemaphorePermit,
    _open: mpsc::Sender<()>,
}

impl Connection {
    async fn run(mut self, stream: tokio::net::TcpStream) {
        let _ = stream.set_nodelay(true);
        if self.front.tls.is_some() {
            // In a box, so that connections without TLS do not hold room for it.
            return Box::pin(self.over_tls(stream)).await;
        }
        let version = tokio::time::timeout(self.front.config.header_timeout(), version(&stream));
        let version = tokio::select! {
            biased;
            version = version => version,
            () = draining(&mut self.phase) => return,
        };
        match version {
            Ok(Ok(version)) => self.serve(version, stream).await,
            // Nothing came, or too little to tell. What came is taken: a client is told of the end, where unread bytes would reset its connection.
            _ => drop(stream.try_read(&mut [0; 16])),
        }
    }

    async fn over_tls(mut self, stream: tokio::net::TcpStream) {
        let Some(tls) = self.front.tls.clone() else { return };
        let shaken = tokio::time::timeout(self.front.config.header_timeout(), tls.accept(stream));
        let shaken = tokio::select! {
            biased;
            shaken = shaken => shaken,
            () = draining(&mut self.phase) => return,
        };
        match shaken {
            Ok(Ok((version, stream))) => self.serve(version, stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "a client does not speak TLS, or not as it should"),
            Err(_) => tracing::debug!("a client took too long to begin with TLS"),
        }
    }

    async fn serve(self, version: Version, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let stream = Patience::new(stream, self.front.config.write_timeout());
        match version {
            Version::Http1 => self.http1(stream).await,
            Version::Http2 => self.http2(stream).await,
        }
    }

    async fn http1(mut self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
        let (front, held): (&Front, _) = (&self.front, &self.held);
        let service = service_fn(move |request| front.serve(request, Some(held)));
        let mut http = http1::Builder::new();
        http.timer(Waits::default())
            .header_read_timeout(self.front.config.header_timeout())
            .max_header_size(self.front.config.max_header_bytes);
        // Not `pipeline_flush`: with it the answer to a head that is no good (400, 431) is never sent.
        if let Some(most) = self.front.config.other_max_headers() {
            http.max_headers(most);
        }
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = draining(&mut self.phase) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            // Clients go away and send nonsense; that is their affair.
            tracing::debug!(%error, "a connection ended early");
        }
    }

    async fn http2(mut self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let front = &self.front;
        let service = service_fn(|request| {
            let front = Arc::clone(front);
            async move { front.serve(request, None).await }.boxed()
        });
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADERS_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(self.front.config.header_timeout())
            .keep_alive_timeout(self.front.config.header_timeout());
        let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = draining(&mut self.phase) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// Counts a connection for as long as it lives, however it ends.
struct Counted(Metrics);

impl Counted {
    fn new(metrics: Metrics) -> Self {
        metrics.connected(1.0);
        Counted(metrics)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connected(-1.0);
    }
}
