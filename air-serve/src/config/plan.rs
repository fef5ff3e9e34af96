//! From a file to an [`App`]: every application is built, and its deployments get the settings of the file.

use std::fmt;

use super::registry::{ONNX, Registry, Servable, version};
use super::schema::{ApplicationConfig, DeploymentOverride, Encoding, MirrorConfig, ServeConfig};
use crate::app::App;
use crate::ensemble;
use crate::error::ServeError;
use crate::http::HttpConfig;

/// What a file asks for, read and built, but not running.
pub(crate) struct Plan {
    pub http: HttpConfig,
    pub encoding: Encoding,
    pub applications: Vec<Planned>,
    /// What the file says in vain.
    pub notes: Vec<String>,
}

/// Where an application is to be found.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub name: String,
    pub route: String,
    pub import_path: String,
    pub deployment: String,
}

/// An application that is built.
pub(crate) struct Planned {
    pub place: Place,
    deployment: Box<dyn Servable>,
    mirror: Option<MirrorConfig>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (deployment `{}` of {})", self.name, self.deployment, self.import_path)
    }
}

impl Plan {
    /// Builds everything that a configuration names.
    pub(crate) fn new(config: ServeConfig, registry: &Registry) -> Result<Self, ServeError> {
        let notes = config.notes();
        let mut http = config.http_options.http;
        if let Some(all) = config.logging_config.enable_access_log {
            http.access_log = if all { 1.0 } else { 0.0 };
        }
        http.validate()?;
        let build = |app: ApplicationConfig| {
            let timeout = config.http_options.request_timeout_s;
            plan(app, registry, timeout, http.thread_count())
        };
        let applications = config.applications.into_iter().map(build).collect::<Result<Vec<_>, _>>()?;
        for app in &applications {
            check_mirror(app, &applications)?;
        }
        Ok(Plan { applications, http, encoding: config.logging_config.encoding, notes })
    }

    pub(crate) fn places(&self) -> Vec<Place> {
        self.applications.iter().map(|app| app.place.clone()).collect()
    }

    /// What is to run.
    pub(crate) fn into_app(self) -> App {
        let serve = |app, planned: Planned| {
            let app = planned.deployment.serve(app, &planned.place.route);
            match planned.mirror {
                Some(MirrorConfig { to, share, .. }) => app.mirrored(&to, share),
                None => app,
            }
        };
        self.applications.into_iter().fold(App::new().http(self.http), serve)
    }
}

fn plan(
    app: ApplicationConfig,
    registry: &Registry,
    request_timeout_s: Option<f64>,
    threads: usize,
) -> Result<Planned, ServeError> {
    let wrong = |what: String| ServeError::config(format!("application `{}`: {what}", app.name));
    let mut deployment = match (app.ensemble, app.import_path.is_empty()) {
        (Some(graph), true) => {
            graph.validate().map_err(|error| wrong(format!("its ensemble: {error}")))?;
            let version = version(&[], &serde_json::to_string(&graph).unwrap_or_default());
            Box::new(ensemble::deployment(&app.name, &graph).version(version))
        }
        (None, false) => registry.build(&app.name, &app.import_path, app.args)?,
        (Some(_), false) => {
            return Err(wrong("it has an import_path and an ensemble: leave one of them out".into()));
        }
        (None, true) => return Err(wrong("it has neither an import_path nor an ensemble".into())),
    };
    if let Some(seconds) = request_timeout_s {
        deployment.config().request_timeout_s = seconds;
    }
    let sized = |over: &DeploymentOverride| over.gives("num_replicas") || over.gives("autoscaling_config");
    if app.import_path.starts_with(ONNX) && !app.deployments.iter().any(sized) {
        // Replicas of an ONNX model share its memory, so that each thread may as well have its own.
        deployment.config().num_replicas = threads;
    }
    for over in &app.deployments {
        if over.name != deployment.name() {
            return Err(ServeError::config(format!(
                "application `{}` has no deployment `{}`; it has `{}`",
                app.name,
                over.name,
                deployment.name()
            )));
        }
        let merged = over.over(deployment.config())?;
        *deployment.config() = merged;
    }
    deployment.config().validate()?;
    let place = Place {
        name: app.name,
        route: deployment.route().map_or(app.route_prefix, str::to_owned),
        import_path: if app.import_path.is_empty() { "ensemble".into() } else { app.import_path },
        deployment: deployment.name().to_owned(),
    };
    Ok(Planned { place, deployment, mirror: app.mirror })
}

/// Checks what can be seen of a mirror before anything runs.
fn check_mirror(app: &Planned, all: &[Planned]) -> Result<(), ServeError> {
    let Some(MirrorConfig { to, share, .. }) = &app.mirror else { return Ok(()) };
    let wrong = |what: String| {
        Err(ServeError::config(format!("application `{}`: its mirror: {what}", app.place.name)))
    };
    if !(*share > 0.0 && *share <= 1.0) {
        return wrong(format!("the share is {share}, it must be above 0 and at most 1"));
    }
    if *to == app.place.deployment {
        return wrong(format!("`{to}` is its own deployment, name another one"));
    }
    if let Some(path) = app.deployment.route() {
        return wrong(format!("requests under {path} cannot be mirrored, those of a route of its own can"));
    }
    if all.iter().any(|other| other.place.deployment == *to) {
        return Ok(());
    }
    let others =
        all.iter().map(|other| &other.place.deployment).filter(|name| **name != app.place.deployment);
    let others: Vec<_> = others.map(|name| format!("`{name}`")).collect();
    wrong(match others.as_slice() {
        [] => format!("there is no deployment `{to}` in the file, and no other one"),
        _ => format!("there is no deployment `{to}` in the file; there are {}", others.join(", ")),
    })
}
