//! What a server is to serve: deployments, and the routes that lead to them.

use std::any::Any;
use std::sync::Arc;

use air_core::RuntimeHandle;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::deploy::{Core, Deployment, DeploymentHandle, Replicas};
use crate::error::ServeError;
use crate::http::{HttpConfig, Json, Route, valid_path};
use crate::metrics::Metrics;
use crate::model::Model;

/// Deployments and their routes; run it with [`run`](crate::run).
#[derive(Default)]
pub struct App {
    pub(crate) http: HttpConfig,
    pub(crate) parts: Vec<Part>,
}

/// A deployment that is not started yet, without the type of its model.
pub(crate) struct Part {
    pub name: Arc<str>,
    pub path: Option<String>,
    pub start: Start,
}

type Start = Box<dyn FnOnce(&Metrics, &RuntimeHandle) -> Result<Started, ServeError> + Send>;

/// A deployment that runs.
pub(crate) struct Started {
    pub running: Arc<dyn Running>,
    pub replicas: Replicas,
    pub route: Option<(String, Route)>,
}

/// A running deployment without the type of its model.
pub(crate) trait Running: Send + Sync {
    fn name(&self) -> &Arc<str>;
    /// Lets no request in any more.
    fn close(&self);
    /// Whether some replica can answer.
    fn is_up(&self) -> bool;
    /// Its `DeploymentHandle<In, Out>`.
    fn handle(&self) -> Box<dyn Any>;
}

struct Of<I, O>(Arc<Core<I, O>>);

impl<I: Send + 'static, O: Send + 'static> Running for Of<I, O> {
    fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    fn close(&self) {
        self.0.close();
    }

    fn is_up(&self) -> bool {
        self.0.is_up()
    }

    fn handle(&self) -> Box<dyn Any> {
        Box::new(DeploymentHandle::new(Arc::clone(&self.0)))
    }
}

impl App {
    /// Nothing yet.
    pub fn new() -> Self {
        App::default()
    }

    /// Sets where and within what limits the server listens.
    pub fn http(mut self, config: HttpConfig) -> Self {
        self.http = config;
        self
    }

    /// Changes how the server listens: `.with_http(|http| http.port = 0)`.
    pub fn with_http(mut self, change: impl FnOnce(&mut HttpConfig)) -> Self {
        change(&mut self.http);
        self
    }

    /// Serves a deployment at a path, with JSON in both directions.
    pub fn route<M>(mut self, path: impl Into<String>, deployment: Deployment<M>) -> Self
    where
        M: Model,
        M::In: DeserializeOwned,
        M::Out: Serialize,
    {
        let path = path.into();
        let at = path.clone();
        let name = Arc::clone(&deployment.name);
        let start = move |metrics: &Metrics, runtime: &RuntimeHandle| {
            let core = Core::new(deployment.erase(), metrics)?;
            let replicas = Replicas::start(&core, runtime)?;
            let route = Route {
                deployment: core.name.to_string(),
                endpoint: Box::new(Json(DeploymentHandle::new(Arc::clone(&core)))),
                metrics: metrics.route(&at)?,
            };
            Ok(Started { running: Arc::new(Of(core)), replicas, route: Some((at, route)) })
        };
        self.parts.push(Part { name, path: Some(path), start: Box::new(start) });
        self
    }

    /// Runs a deployment that only handles of this process reach.
    pub fn deploy<M: Model>(mut self, deployment: Deployment<M>) -> Self {
        let name = Arc::clone(&deployment.name);
        let start = move |metrics: &Metrics, runtime: &RuntimeHandle| {
            let core = Core::new(deployment.erase(), metrics)?;
            let replicas = Replicas::start(&core, runtime)?;
            Ok(Started { running: Arc::new(Of(core)), replicas, route: None })
        };
        self.parts.push(Part { name, path: None, start: Box::new(start) });
        self
    }

    /// Checks what can be checked before anything is started; deployments check their own settings when they start.
    pub(crate) fn validate(&self) -> Result<(), ServeError> {
        self.http.validate()?;
        if self.parts.is_empty() {
            return Err(ServeError::config("there is nothing to serve: add a deployment"));
        }
        for (index, part) in self.parts.iter().enumerate() {
            let before = &self.parts[..index];
            if part.name.is_empty() || before.iter().any(|other| other.name == part.name) {
                return Err(ServeError::config(format!(
                    "the deployment name `{}` is empty or taken",
                    part.name
                )));
            }
            if let Some(path) = &part.path {
                valid_path(path).map_err(ServeError::config)?;
                if before.iter().any(|other| other.path.as_ref() == Some(path)) {
                    return Err(ServeError::config(format!("the route {path} is taken")));
                }
            }
        }
        Ok(())
    }
}
