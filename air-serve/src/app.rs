//! What a server is to serve: deployments, and the routes that lead to them.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::admin::Source;
use crate::deploy::{
    Controller, Deployment, DeploymentConfig, DeploymentHandle, Erased, Ground, Line, MirrorTo, Outcome,
    Running,
};
use crate::ensemble::{CallJson, JsonLine};
use crate::error::ServeError;
use crate::http::{Answer as _, HttpConfig, Mirrored, Respond, Route, valid_path};
use crate::llm::Llm;
use crate::model::Model;
use crate::v2::Served;

/// Deployments and their routes; run it with [`run`](crate::run), and give it to a server that runs with
/// [`Server::deploy`](crate::Server::deploy).
#[derive(Default)]
pub struct App {
    pub(crate) http: HttpConfig,
    pub(crate) parts: Vec<Part>,
    pub(crate) repository: Option<(PathBuf, DeploymentConfig)>,
    /// What it was made from, if it can be changed over HTTP.
    pub(crate) source: Option<Source>,
}

/// A deployment that is not started yet, without the type of its model.
pub(crate) struct Part {
    pub name: Arc<str>,
    pub path: Option<String>,
    pub planned: Box<dyn Planned>,
    /// Makes the route to it.
    pub route: Option<MakeRoute>,
    /// Makes what protocol V2 reaches of it.
    pub served: Option<MakeServed>,
    /// The language model it has, which OpenAI's API reaches.
    pub llm: Option<Llm>,
    /// Calls it with JSON, given its handle.
    pub json: Option<MakeJson>,
    /// The deployments it calls.
    pub uses: Vec<Arc<dyn Line>>,
}

/// From the handle of a deployment to calls of it by JSON.
pub(crate) type MakeJson = fn(&dyn Any) -> Option<Arc<dyn CallJson>>;

pub(crate) type MakeRoute = Box<dyn Fn(&dyn Running, &Ground) -> Result<Route, ServeError> + Send>;

pub(crate) type MakeServed = Box<dyn Fn(&Arc<dyn Running>) -> Result<Served, ServeError> + Send>;

/// A deployment that is not started yet, without the types of its requests.
pub(crate) trait Planned: Send {
    /// Begins to run it.
    fn start(self: Box<Self>, ground: &Ground) -> Result<(Arc<dyn Running>, Outcome), ServeError>;
    /// Its `DeploymentHandle<In, Out>`.
    fn handle(&self) -> Box<dyn Any>;
    /// Its `Erased<In, Out>`, for an update.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<I: Send + 'static, O: Send + 'static> Planned for Erased<I, O> {
    fn start(self: Box<Self>, ground: &Ground) -> Result<(Arc<dyn Running>, Outcome), ServeError> {
        let (controller, outcome) = Controller::start(*self, ground)?;
        Ok((controller, outcome))
    }

    fn handle(&self) -> Box<dyn Any> {
        Box::new(DeploymentHandle::new(Arc::clone(&self.switch)))
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl Part {
    pub(crate) fn new<M: Model>(mut deployment: Deployment<M>) -> Self {
        let uses = std::mem::take(&mut deployment.uses);
        let served = deployment.reach.clone().map(|reach| -> MakeServed {
            Box::new(move |running| {
                let handle = handle_of::<M::In, M::Out>(&**running)?;
                Ok(Served::new(Arc::clone(running), handle, reach.clone()))
            })
        });
        let (name, llm) = (Arc::clone(&deployment.name), deployment.llm.clone());
        Part {
            name,
            path: None,
            planned: Box::new(deployment.erase()),
            route: None,
            served,
            json: None,
            llm,
            uses,
        }
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

    /// Lets what is served be looked at and changed over HTTP.
    pub(crate) fn source(mut self, source: Source) -> Self {
        self.source = Some(source);
        self
    }

    /// Serves a deployment at a path, with JSON in both directions, or with a [stream](Deployment::generate) of it as answer.
    pub fn route<M>(mut self, path: impl Into<String>, deployment: Deployment<M>) -> Self
    where
        M: Model,
        M::In: DeserializeOwned,
        M::Out: Respond,
    {
        let path = path.into();
        let at = path.clone();
        let route: MakeRoute = Box::new(move |running, ground| {
            let handle = handle_of::<M::In, M::Out>(running)?;
            let deployment = running.name().to_string();
            Ok(Route {
                deployment,
                endpoint: M::Out::endpoint(handle).0,
                metrics: ground.metrics.route(&at)?,
            })
        });
        let json = Some(json_of::<M::In, M::Out> as _);
        self.parts.push(Part { path: Some(path), route: Some(route), json, ..Part::new(deployment) });
        self
    }

    /// Copies a share of the JSON requests of the route that was added last for another deployment.
    pub(crate) fn mirrored(mut self, to: &str, share: f64) -> Self {
        if let Some(part) = self.parts.last_mut() {
            let line = JsonLine::new(to);
            part.uses.push(Arc::clone(&line) as _);
            part.route = part.route.take().map(|make| -> MakeRoute {
                Box::new(move |running, ground| {
                    let route = make(running, ground)?;
                    let mirror = MirrorTo::by_json(&line, share);
                    let mirror = mirror.start(running.name(), &ground.runtime, &ground.metrics)?;
                    Ok(Route { endpoint: Box::new(Mirrored { inner: route.endpoint, mirror }), ..route })
                })
            });
        }
        self
    }

    /// Runs a deployment without a route: handles of this process reach it, and protocol V2 if it takes
    /// [tensors](Deployment::tensors).
    pub fn deploy<M: Model>(mut self, deployment: Deployment<M>) -> Self {
        self.parts.push(Part::new(deployment));
        self
    }

    /// Serves the ONNX models of a directory by protocol V2, which can also load and unload them.
    ///
    /// A model is `NAME.onnx`, `NAME/model.onnx`, or `NAME/VERSION/model.onnx`, of which the highest version counts. All are loaded at the start;
    /// one that cannot be is in the index with the reason.
    pub fn repository(mut self, directory: impl Into<PathBuf>, config: DeploymentConfig) -> Self {
        self.repository = Some((directory.into(), config));
        self
    }

    /// Checks what can be checked before anything is started; deployments check their own settings when they start.
    pub(crate) fn validate(&self) -> Result<(), ServeError> {
        self.http.validate()?;
        if self.parts.is_empty() && self.repository.is_none() {
            return Err(ServeError::config(
                "there is nothing to serve: add a deployment or a model repository",
            ));
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

/// A deployment of these types by JSON, if its answers can be had so.
fn json_of<I: DeserializeOwned + Send + 'static, O: Respond>(handle: &dyn Any) -> Option<Arc<dyn CallJson>> {
    O::json(handle.downcast_ref::<DeploymentHandle<I, O>>()?)
}

/// The handle of a deployment, if these are its types.
pub(crate) fn handle_of<I: Send + 'static, O: Send + 'static>(
    running: &dyn Running,
) -> Result<DeploymentHandle<I, O>, ServeError> {
    let handle = running.handle().downcast::<DeploymentHandle<I, O>>();
    handle.map(|handle| *handle).map_err(|_| ServeError::NoDeployment {
        name: running.name().to_string(),
        input: std::any::type_name::<I>(),
        output: std::any::type_name::<O>(),
    })
}
