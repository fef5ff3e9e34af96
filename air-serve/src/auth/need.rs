//! What a path needs. Pure.

use super::Scope;

/// The scope that a request to this path needs, if any. Health is open, for load balancers and orchestrators have no
/// keys, and so is the status page, which has nothing in it but asks for a key.
pub(crate) fn need(path: &str) -> Option<Scope> {
    let admin = ["/api/serve/", "/v2/repository/", "/inference.GRPCInferenceService/Repository"];
    match path {
        path if OPEN.contains(&path) => None,
        "/metrics" | "/-/status" => Some(Scope::Metrics),
        path if admin.iter().any(|prefix| path.starts_with(prefix)) => Some(Scope::Admin),
        _ => Some(Scope::Predict),
    }
}

const OPEN: &[&str] = &[
    "/-/",
    "/-/healthz",
    "/health/live",
    "/health/ready",
    "/v2/health/live",
    "/v2/health/ready",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/inference.GRPCInferenceService/ServerLive",
    "/inference.GRPCInferenceService/ServerReady",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_open_and_what_changes_the_server_is_not() {
        for open in ["/-/healthz", "/health/live", "/health/ready", "/v2/health/ready"] {
            assert_eq!(need(open), None, "{open}");
        }
        for path in [
            "/api/serve/applications/",
            "/v2/repository/models/iris/load",
            "/inference.GRPCInferenceService/RepositoryIndex",
        ] {
            assert_eq!(need(path), Some(Scope::Admin), "{path}");
        }
        assert_eq!(need("/metrics"), Some(Scope::Metrics));
        for path in [
            "/iris",
            "/api/mine",
            "/-/routes",
            "/v2/models/iris/infer",
            "/health/live/",
            "/-/healthz2",
            "",
            "//-/healthz",
        ] {
            assert_eq!(need(path), Some(Scope::Predict), "{path}");
        }
    }
}
