//! A running server.

use std::any::type_name;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use air_core::Runtime;
use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::app::{App, Running};
use crate::deploy::{DeploymentHandle, Replicas};
use crate::error::ServeError;
use crate::http::{self, Front, Phase, RouteTable, Threads};
use crate::metrics::Metrics;

/// Starts serving. Returns once every replica has its model and the port is open: from then on requests are answered.
pub fn run(app: App) -> Result<Server, ServeError> {
    app.validate()?;
    // First the port, which fails at once; models may take long to load.
    let listeners = http::bind(app.http.addr(), app.http.thread_count())?;
    let addr = listeners[0]
        .local_addr()
        .map_err(|source| ServeError::Io { what: "cannot read the address", source })?;
    let metrics = Metrics::new(air_core::metrics::Metrics::new())?;
    let runtime = Runtime::start()?;
    let control = runtime.handle();
    let table = Arc::new(ArcSwap::from_pointee(RouteTable::default()));
    let (phase, phase_seen) = watch::channel(Phase::Serving);
    let mut server = Server {
        addr,
        metrics,
        phase,
        threads: None,
        running: Vec::new(),
        replicas: Vec::new(),
        runtime: Some(runtime),
    };
    let mut routes = HashMap::new();
    for part in app.parts {
        // On an error the server is dropped, which ends what has been started.
        let started = (part.start)(&server.metrics, &control)?;
        server.running.push(started.running);
        server.replicas.push(started.replicas);
        routes.extend(started.route.map(|(path, route)| (path, Arc::new(route))));
    }
    table.store(Arc::new(RouteTable { routes }));
    let own = http::Own {
        table: Arc::clone(&table),
        metrics: server.metrics.clone(),
        unready: server.unready(&phase_seen),
    };
    let other = server.metrics.route("other")?;
    let front = Arc::new(Front { config: app.http, table, own: http::router(own), other });
    server.threads = Some(Threads::start(listeners, &front, &server.metrics, &phase_seen)?);
    Ok(server)
}

/// A running server. Dropping it, like [`Server::shutdown`], finishes what is under way and then ends.
pub struct Server {
    addr: SocketAddr,
    metrics: Metrics,
    phase: watch::Sender<Phase>,
    threads: Option<Threads>,
    running: Vec<Arc<dyn Running>>,
    replicas: Vec<Replicas>,
    /// The control plane: supervises the replicas.
    runtime: Option<Runtime>,
}

impl Server {
    /// The address it listens on; with port 0 in the settings, the port it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A handle for calls within this process to the deployment of that name and those types.
    pub fn handle<I: Send + 'static, O: Send + 'static>(
        &self,
        name: &str,
    ) -> Result<DeploymentHandle<I, O>, ServeError> {
        let found = self.running.iter().find(|running| &**running.name() == name);
        let handle = found.and_then(|running| running.handle().downcast::<DeploymentHandle<I, O>>().ok());
        handle.map(|handle| *handle).ok_or_else(|| ServeError::NoDeployment {
            name: name.to_owned(),
            input: type_name::<I>(),
            output: type_name::<O>(),
        })
    }

    /// The metrics as Prometheus text, as `GET /metrics` gives them.
    pub fn metrics(&self) -> String {
        self.metrics.render()
    }

    /// Blocks until the process is told to end (SIGTERM, or SIGINT as by Ctrl-C), then shuts down.
    pub fn wait(self) -> Result<(), ServeError> {
        let io = |what| move |source| ServeError::Io { what, source };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(io("cannot start an I/O runtime"))?;
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate()).map_err(io("cannot listen for SIGTERM"))?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(io("cannot listen for SIGINT"))?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            Ok::<(), ServeError>(())
        })?;
        tracing::info!("told to end: finishing what is under way");
        self.shutdown();
        Ok(())
    }

    /// Takes no new connection, finishes the requests under way, ends the replicas and joins every thread.
    pub fn shutdown(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        self.phase.send_replace(Phase::Draining);
        if let Some(mut threads) = self.threads.take() {
            threads.join();
        }
        for running in &self.running {
            running.close();
        }
        self.replicas.clear();
        // Ends when the replicas have answered what was queued.
        self.runtime = None;
    }

    /// Why the server should get no traffic, for the readiness page.
    fn unready(&self, phase: &watch::Receiver<Phase>) -> Arc<dyn Fn() -> Option<String> + Send + Sync> {
        let (running, phase) = (self.running.clone(), phase.clone());
        Arc::new(move || {
            if *phase.borrow() != Phase::Serving {
                return Some("the server is shutting down".to_owned());
            }
            let down = running.iter().find(|running| !running.is_up())?;
            Some(format!("deployment `{}` has no replica that is up", down.name()))
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.running.iter().map(|running| running.name()).collect();
        f.debug_struct("Server")
            .field("addr", &self.addr)
            .field("deployments", &names)
            .finish_non_exhaustive()
    }
}
