//! What a look at the API gives: as much of Ray's answer as there is here.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::Source;
use crate::deploy::{ApplicationStatus, ServeStatus};
use crate::http::HttpConfig;

#[derive(Serialize)]
pub(super) struct Details {
    deploy_mode: &'static str,
    http_options: Value,
    /// The configuration as it was given last.
    config: Value,
    applications: BTreeMap<String, Application>,
}

#[derive(Serialize)]
struct Application {
    name: String,
    route_prefix: String,
    import_path: String,
    #[serde(flatten)]
    status: ApplicationStatus,
}

pub(super) fn details(source: &Source, status: &ServeStatus, http: &HttpConfig) -> Details {
    let all = status.applications.get("default");
    let application = |place: &crate::config::Place| {
        let all = all?;
        let own = all.deployments.get(&place.deployment).map(|it| (place.deployment.clone(), it.clone()));
        // What failed was one deploy of everything.
        let status = ApplicationStatus { deployments: own.into_iter().collect(), ..all.clone() };
        let (route_prefix, import_path) = (place.route.clone(), place.import_path.clone());
        Some((
            place.name.clone(),
            Application { name: place.name.clone(), route_prefix, import_path, status },
        ))
    };
    Details {
        deploy_mode: "MULTI_APP",
        http_options: json!({ "host": http.host, "port": http.port }),
        config: source.config.clone(),
        applications: source.places.iter().filter_map(application).collect(),
    }
}
