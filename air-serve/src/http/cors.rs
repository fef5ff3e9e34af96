//! Cross-origin requests: which pages in a browser may call this server. Pure.

use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::reply::{self, Body};
use crate::error::ServeError;

/// Which pages in a browser may call this server (default: none).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CorsConfig {
    /// Origins, as in `https://example.org`; `*` for all.
    pub allow_origins: Vec<String>,
    /// Methods they may use (default GET, POST).
    pub allow_methods: Vec<String>,
    /// Headers they may send (default content-type, authorization, x-api-key, x-request-id).
    pub allow_headers: Vec<String>,
    /// Headers they may read (default x-request-id, retry-after).
    pub expose_headers: Vec<String>,
    /// Whether browsers may send cookies and the like along; not with `*`.
    pub allow_credentials: bool,
    /// How long browsers may remember the answer, in seconds (default 600).
    pub max_age_s: u32,
}

impl Default for CorsConfig {
    fn default() -> Self {
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        CorsConfig {
            allow_origins: Vec::new(),
            allow_methods: list(&["GET", "POST"]),
            allow_headers: list(&["content-type", "authorization", "x-api-key", "x-request-id"]),
            expose_headers: list(&["x-request-id", "retry-after"]),
            allow_credentials: false,
            max_age_s: 600,
        }
    }
}

impl CorsConfig {
    /// Checks every field.
    pub fn validate(&self) -> Result<(), ServeError> {
        for origin in self.allow_origins.iter().filter(|origin| *origin != "*") {
            let host = origin.split_once("://").map(|(_, host)| host);
            let sane = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '*', '@']));
            if !sane || !origin.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(ServeError::config(format!(
                    "cors.allow_origins: {origin:?} is not an origin: a scheme and a host, as in https://example.org, or *"
                )));
            }
        }
        if self.allow_credentials && self.allow_origins.iter().any(|origin| origin == "*") {
            return Err(ServeError::config(
                "cors.allow_credentials does not go with the origin *: name the origins",
            ));
        }
        for method in &self.allow_methods {
            Method::from_bytes(method.as_bytes())
                .map_err(|_| ServeError::config(format!("cors.allow_methods: {method:?} is not a method")))?;
        }
        for header in self.allow_headers.iter().chain(&self.expose_headers) {
            HeaderName::try_from(header)
                .map_err(|_| ServeError::config(format!("cors: {header:?} is not a name of a header")))?;
        }
        Ok(())
    }
}

/// The rules, as headers.
pub(crate) struct Cors {
    any: bool,
    origins: Vec<HeaderValue>,
    methods: HeaderValue,
    headers: HeaderValue,
    expose: HeaderValue,
    credentials: bool,
    max_age: HeaderValue,
}

impl Cors {
    /// `None` where no origin may call. The configuration has been validated.
    pub(crate) fn new(config: &CorsConfig) -> Option<Self> {
        let list = |items: &[String]| HeaderValue::try_from(items.join(", ")).ok();
        (!config.allow_origins.is_empty()).then_some(())?;
        Some(Cors {
            any: config.allow_origins.iter().any(|origin| origin == "*"),
            origins: config
                .allow_origins
                .iter()
                .filter_map(|origin| HeaderValue::try_from(origin).ok())
                .collect(),
            methods: list(&config.allow_methods)?,
            headers: list(&config.allow_headers)?,
            expose: list(&config.expose_headers)?,
            credentials: config.allow_credentials,
            max_age: HeaderValue::from(config.max_age_s),
        })
    }

    /// The answer to a browser that asks whether it may; `None` for other requests.
    pub(crate) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<Body>> {
        let origin = headers.get(ORIGIN)?;
        if method != Method::OPTIONS || !headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
            return None;
        }
        if !self.allows(origin) {
            return Some(reply::problem(StatusCode::FORBIDDEN, "this origin may not call this server"));
        }
        let mut response = Response::new(Body::default());
        *response.status_mut() = StatusCode::NO_CONTENT;
        self.grant(origin, response.headers_mut());
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, self.headers.clone());
        headers.insert(ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        headers.remove(ACCESS_CONTROL_EXPOSE_HEADERS);
        Some(response)
    }

    /// Whether pages of this origin may call.
    pub(crate) fn allows(&self, origin: &HeaderValue) -> bool {
        self.any || self.origins.contains(origin)
    }

    /// Lets pages of this origin read a response.
    pub(crate) fn grant(&self, origin: &HeaderValue, response: &mut HeaderMap) {
        if !self.any {
            response.append(VARY, HeaderValue::from_static("origin"));
        }
        if !self.allows(origin) {
            return;
        }
        let granted = if self.any { HeaderValue::from_static("*") } else { origin.clone() };
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, granted);
        if self.credentials {
            response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if !self.expose.is_empty() {
            response.insert(ACCESS_CONTROL_EXPOSE_HEADERS, self.expose.clone());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn config(origins: &[&str]) -> CorsConfig {
        let allow_origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        CorsConfig { allow_origins, ..CorsConfig::default() }
    }

    #[test]
    fn a_browser_that_asks_is_told_what_it_may() {
        let cors = Cors::new(&config(&["https://a.example", "http://localhost:3000"])).unwrap();
        let asks = |origin: &'static str| {
            HeaderMap::from_iter([
                (ORIGIN, HeaderValue::from_static(origin)),
                (ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST")),
            ])
        };
        let yes = cors.preflight(&Method::OPTIONS, &asks("http://localhost:3000")).unwrap();
        assert_eq!(yes.status(), StatusCode::NO_CONTENT);
        assert_eq!(yes.headers()[ACCESS_CONTROL_ALLOW_ORIGIN], "http://localhost:3000");
        assert_eq!(yes.headers()[ACCESS_CONTROL_ALLOW_METHODS], "GET, POST");
        assert_eq!(yes.headers()[ACCESS_CONTROL_MAX_AGE], "600");
        assert_eq!(yes.headers()[VARY], "origin");
        for stranger in ["https://b.example", "https://a.example.evil", "http://a.example", "null"] {
            let no = cors.preflight(&Method::OPTIONS, &asks(stranger)).unwrap();
            assert_eq!(no.status(), StatusCode::FORBIDDEN, "{stranger}");
            assert!(!no.headers().contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        }
        assert!(cors.preflight(&Method::POST, &asks("https://a.example")).is_none());
        assert!(cors.preflight(&Method::OPTIONS, &HeaderMap::new()).is_none());
    }

    #[test]
    fn a_star_is_for_all_and_nothing_is_for_none() {
        let cors = Cors::new(&config(&["*"])).unwrap();
        let mut headers = HeaderMap::new();
        cors.grant(&HeaderValue::from_static("https://x.example"), &mut headers);
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!headers.contains_key(VARY));
        assert!(Cors::new(&config(&[])).is_none());
    }

    #[test]
    fn what_is_not_an_origin_is_said() {
        for bad in ["example.org", "https://example.org/", "https://*.example.org", "https://", "https://a b"]
        {
            let error = config(&[bad]).validate().unwrap_err().to_string();
            assert!(error.contains("is not an origin"), "{bad}: {error}");
        }
        config(&["https://example.org:8443", "*"]).validate().unwrap();
        let open = CorsConfig { allow_credentials: true, ..config(&["*"]) };
        assert!(open.validate().unwrap_err().to_string().contains("name the origins"));
        let verb = CorsConfig { allow_methods: vec!["G T".into()], ..config(&["*"]) };
        assert!(verb.validate().unwrap_err().to_string().contains("not a method"));
        let name = CorsConfig { allow_headers: vec!["x y".into()], ..config(&["*"]) };
        assert!(name.validate().unwrap_err().to_string().contains("not a name of a header"));
    }
}
