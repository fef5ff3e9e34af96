//! A running server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use air_core::{Runtime, RuntimeConfig};
use serde_json::Value;
use tokio::sync::{Notify, watch};

use crate::admin::Admin;
use crate::app::{App, handle_of};
use crate::deploy::{Deployment, DeploymentHandle, Ground, ServeStatus};
use crate::deployments::Deployments;
use crate::error::ServeError;
use crate::http::{self, Front, HttpConfig, Phase, Threads, Tls};
use crate::metrics::Metrics;
use crate::model::Model;
use crate::v2::{Repository, V2};

/// Starts serving. Returns once every replica has its model and the port is open: from then on requests are answered.
pub fn run(app: App) -> Result<Server, ServeError> {
    run_with(app, RuntimeConfig::default())
}

/// [`run`], on a runtime of these settings: with a clock of its own, say.
pub fn run_with(app: App, runtime: RuntimeConfig) -> Result<Server, ServeError> {
    app.validate()?;
    let tls = Tls::load(&app.http)?;
    // First the port, which fails at once; models may take long to load.
    let listeners = http::bind(app.http.addr(), app.http.thread_count())?;
    let addr = listeners[0]
        .local_addr()
        .map_err(|source| ServeError::Io { what: "cannot read the address", source })?;
    let metrics = Metrics::new(air_core::metrics::Metrics::new())?;
    let runtime = Runtime::with(runtime)?;
    let ground = Ground {
        runtime: runtime.handle(),
        resources: runtime.resource_pool().clone(),
        metrics: metrics.clone(),
    };
    let deployments = Arc::new(Deployments::new(ground.clone()));
    let (phase, phase_seen) = watch::channel(Phase::Serving);
    let mut server = Server {
        addr,
        http: app.http.clone(),
        metrics,
        phase,
        threads: None,
        stop: Arc::default(),
        deployments: Arc::clone(&deployments),
        runtime: Some(runtime),
    };
    // On an error the server is dropped, which ends what has been started.
    deployments.deploy(app.parts)?;
    let (table, catalog) = (Arc::clone(&deployments.table), Arc::clone(&deployments.catalog));
    let unready = server.unready(&phase_seen);
    let open = |(directory, config)| Repository::open(directory, config, ground, Arc::clone(&catalog));
    let v2 = V2 {
        repository: app.repository.map(open).transpose()?,
        catalog,
        unready: Arc::clone(&unready),
        phase: phase_seen.clone(),
        rest: server.metrics.route("/v2")?,
        grpc: server.metrics.route("grpc")?,
    };
    let (described, has_repository) = (Arc::clone(&deployments), v2.repository.is_some());
    let llms = Arc::clone(&deployments.llms);
    let own = http::Own {
        table: Arc::clone(&table),
        metrics: server.metrics.clone(),
        unready,
        openapi: Arc::new(move || described.openapi(has_repository)),
        status: Arc::new(move || deployments.status()),
    };
    let other = server.metrics.route("other")?;
    let llm = Arc::new(server.metrics.route("/v1")?);
    let policy = http::Policy::new(&app.http)?;
    let mut own = http::router(own);
    if let Some(source) = app.source {
        let admin =
            Admin::new(server.deployments.clone(), app.http.clone(), source, Arc::clone(&server.stop));
        own = own.merge(admin.router());
    }
    let front = Arc::new(Front { config: app.http, policy, tls, table, v2, llms, llm, own, other });
    server.threads = Some(Threads::start(listeners, &front, &server.metrics, &phase_seen)?);
    Ok(server)
}

/// For what ends by itself, when the time for it is over.
const LAST: Duration = Duration::from_millis(500);

/// A running server. Dropping it, like [`Server::shutdown`], finishes what is under way and then ends.
pub struct Server {
    addr: SocketAddr,
    http: HttpConfig,
    metrics: Metrics,
    phase: watch::Sender<Phase>,
    threads: Option<Threads>,
    /// Told when somebody asks over HTTP that it ends.
    stop: Arc<Notify>,
    deployments: Arc<Deployments>,
    /// The control plane: supervises the replicas.
    runtime: Option<Runtime>,
}

impl Server {
    /// The address it listens on; with port 0 in the settings, the port it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A handle for calls within this process to the deployment of that name and those types. It stays good through updates.
    pub fn handle<I: Send + 'static, O: Send + 'static>(
        &self,
        name: &str,
    ) -> Result<DeploymentHandle<I, O>, ServeError> {
        let running = self.deployments.find(name).ok_or_else(|| ServeError::NoDeployment {
            name: name.to_owned(),
            input: std::any::type_name::<I>(),
            output: std::any::type_name::<O>(),
        })?;
        handle_of(&*running)
    }

    /// Makes what is served what `app` says, without failing a request; returns when that is so.
    ///
    /// Deployments it has and the server does not are started; those both have are updated as by [`update`](Self::update); when all are
    /// ready the routes change, at once; then those that only the server has finish what they have and end. Nothing about listening can change.
    ///
    /// # Errors
    /// If a new deployment cannot start, nothing has changed. If an update fails it is rolled back, the routes stay as they were, and so does
    /// every other deployment, but for updates that have succeeded. [`status`](Self::status) keeps the reason until the next deploy.
    pub fn deploy(&self, app: App) -> Result<(), ServeError> {
        app.validate()?;
        if app.repository.is_some() {
            return Err(ServeError::config("a model repository cannot change while the server runs"));
        }
        if app.http != self.http && app.http != HttpConfig::default() {
            return Err(ServeError::config(
                "how a server listens cannot change while it runs: start another one",
            ));
        }
        self.deployments.deploy(app.parts)
    }

    /// Gives the deployment of the same name another version, without failing a request; returns when it serves alone.
    ///
    /// Fresh replicas are started before old ones end; each must have built its model, taken its `user_config` and passed its
    /// [warm-up](Deployment::warm_up) before it gets requests, and then gets its share of them. The old version finishes what it is at, and hands over what waits. Of
    /// the version that runs (see [`Deployment::version`]) only what can change in place does.
    ///
    /// It may take other [tensors](Deployment::tensors) by protocol V2: a request is checked against the version that answers it. One that does not say
    /// what it takes takes what the version before does.
    ///
    /// # Errors
    /// [`ServeError::RolledBack`] if replicas of the new version failed more than `max_constructor_retry_count` times: then the old version
    /// serves as before.
    pub fn update<M: Model>(&self, deployment: Deployment<M>) -> Result<(), ServeError> {
        let running = self.deployments.get(&deployment.name)?;
        self.deployments.connect(&deployment.name, &deployment.uses)?;
        running.update(Box::new(deployment.erase()), None)?.wait()
    }

    /// Like [`update`](Self::update), but stops at a share of the requests, above 0 and below 1; returns when the new version gets it. Then
    /// [`promote`](Self::promote) it or [roll it back](Self::roll_back). It is rolled back by itself if its replicas fail.
    pub fn canary<M: Model>(&self, deployment: Deployment<M>, share: f64) -> Result<(), ServeError> {
        let running = self.deployments.get(&deployment.name)?;
        self.deployments.connect(&deployment.name, &deployment.uses)?;
        running.update(Box::new(deployment.erase()), Some(share))?.wait()
    }

    /// Changes the share of a canary; returns when it gets it.
    pub fn set_canary(&self, name: &str, share: f64) -> Result<(), ServeError> {
        self.deployments.get(name)?.promote(Some(share))?.wait()
    }

    /// Makes a canary the only version; returns when it is.
    pub fn promote(&self, name: &str) -> Result<(), ServeError> {
        self.deployments.get(name)?.promote(None)?.wait()
    }

    /// Ends an update, a canary too, in favour of the version before.
    pub fn roll_back(&self, name: &str, reason: &str) -> Result<(), ServeError> {
        self.deployments.get(name)?.roll_back(reason)?.wait()
    }

    /// Gives a deployment's models other settings, in place, through [`Model::reconfigure`]; returns when every replica has them.
    ///
    /// # Errors
    /// [`ServeError::RolledBack`] if a model refused them: then all have those from before, and that replica a fresh model.
    pub fn reconfigure(&self, name: &str, user_config: Value) -> Result<(), ServeError> {
        self.deployments.get(name)?.reconfigure(user_config)?.wait()
    }

    /// What runs and how it is, as `GET /-/status` gives it.
    pub fn status(&self) -> ServeStatus {
        self.deployments.status()
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
                () = self.stop.notified() => {}
            }
            Ok::<(), ServeError>(())
        })?;
        tracing::info!("told to end: finishing what is under way");
        self.shutdown();
        Ok(())
    }

    /// Takes no new connection, finishes the requests under way, ends the replicas and joins every thread. What has not ended within
    /// `http.graceful_shutdown_timeout_s` is given up and logged; a replica that is known to hang is not waited for at all.
    pub fn shutdown(mut self) {
        self.stop();
    }

    /// All that takes time has until then, and together: requests under way, replicas, threads.
    fn stop(&mut self) {
        let end = Instant::now() + self.http.grace();
        self.phase.send_replace(Phase::Draining);
        if let Some(threads) = self.threads.take() {
            threads.join(end + LAST);
        }
        self.deployments.close(end.max(Instant::now() + LAST));
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_within(end.saturating_duration_since(Instant::now()).max(LAST));
        }
    }

    /// Why the server should get no traffic, for the readiness page.
    fn unready(&self, phase: &watch::Receiver<Phase>) -> Arc<dyn Fn() -> Option<String> + Send + Sync> {
        let (deployments, phase) = (Arc::clone(&self.deployments), phase.clone());
        Arc::new(move || {
            if *phase.borrow() != Phase::Serving {
                return Some("the server is shutting down".to_owned());
            }
            deployments.down()
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
        let names = self.deployments.names();
        f.debug_struct("Server")
            .field("addr", &self.addr)
            .field("deployments", &names)
            .finish_non_exhaustive()
    }
}
