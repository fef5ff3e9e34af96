//! Where to: the server's address, and the bytes of the one request that is sent over and over.

use std::net::{SocketAddr, ToSocketAddrs};

use hyper::Uri;

use super::config::{LoadConfig, LoadError};

pub(super) struct Target {
    pub addr: SocketAddr,
    /// Head and body.
    pub request: Vec<u8>,
    /// Whether answers have no body, whatever their head says.
    pub head_only: bool,
}

impl Target {
    pub fn find(config: &LoadConfig) -> Result<Self, LoadError> {
        let bad = |why: &str| LoadError::Config(format!("{} is not a URL to load: {why}", config.url));
        let uri: Uri =
            config.url.parse().map_err(|error: hyper::http::uri::InvalidUri| bad(&error.to_string()))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(bad("https is not supported, load the server's plain port")),
            _ => return Err(bad("it must start with http://")),
        }
        let authority = uri.authority().ok_or_else(|| bad("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("give credentials with --header"));
        }
        let host = authority.host();
        // An IPv6 address stands in brackets in a URL, and without them everywhere else.
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let resolve = |source| LoadError::Resolve { host: host.to_owned(), source };
        let addrs: Vec<_> =
            (name, authority.port_u16().unwrap_or(80)).to_socket_addrs().map_err(resolve)?.collect();
        // `localhost` may be ::1 as well as 127.0.0.1, and servers tend to listen on the latter.
        let addr = addrs.iter().find(|addr| addr.is_ipv4()).or(addrs.first()).copied();
        let addr = addr.ok_or_else(|| bad("its host has no address"))?;
        if !addr.ip().is_loopback() && !config.allow_remote {
            return Err(LoadError::Remote { host: host.to_owned(), addr });
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let method = config.method();
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
        let mut header = |name: &str, value: &str| {
            request.extend([name.as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        };
        for (name, value) in &config.headers {
            header(name, value);
        }
        if !config.body.is_empty() || ["POST", "PUT", "PATCH"].contains(&method) {
            if !config.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                header("Content-Type", "application/json");
            }
            header("Content-Length", &config.body.len().to_string());
        }
        request.extend(b"\r\n");
        request.extend(&config.body);
        Ok(Target { addr, request, head_only: method == "HEAD" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(url: &str) -> Result<Target, LoadError> {
        Target::find(&LoadConfig::new(url))
    }

    #[test]
    fn the_request_is_made_once() {
        let mut config = LoadConfig::new("http://127.0.0.1:8000/iris?a=b");
        config.body = b"{}".to_vec();
        config.headers.push(("X-Key".into(), "k".into()));
        let target = Target::find(&config).map(|target| (target.addr, target.request));
        let want = "POST /iris?a=b HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nX-Key: k\r\nContent-Type: application/json\r\n\
                    Content-Length: 2\r\n\r\n{}";
        assert_eq!(target.ok(), Some((([127, 0, 0, 1], 8000).into(), want.as_bytes().to_vec())));
        let target = find("http://[::1]").map(|target| (target.addr, target.request));
        let want = b"GET / HTTP/1.1\r\nHost: [::1]\r\n\r\n".to_vec();
        assert_eq!(target.ok(), Some(((std::net::Ipv6Addr::LOCALHOST, 80).into(), want)));
    }

    #[test]
    fn only_this_machine_is_loaded_unless_told_otherwise() {
        // 192.0.2.0/24 is for documentation: nothing is there, and nothing is sent.
        assert!(matches!(find("http://192.0.2.1:80/"), Err(LoadError::Remote { .. })));
        let mut config = LoadConfig::new("http://192.0.2.1:80/");
        config.allow_remote = true;
        assert!(Target::find(&config).is_ok());
    }

    #[test]
    fn what_is_no_url_is_said() {
        for (url, says) in [
            ("127.0.0.1:80/iris", "is not a URL"),
            ("https://127.0.0.1/", "https is not supported"),
            ("ftp://127.0.0.1/", "must start with http://"),
            ("/iris", "must start with http://"),
            ("http://user:pass@127.0.0.1/", "give credentials with --header"),
            ("", "is not a URL"),
        ] {
            let error = find(url).map(|target| target.addr).expect_err(url).to_string();
            assert!(error.contains(says), "{url}: {error}");
        }
    }
}
