//! TLS: over loopback, with certificates made for the test.
#![cfg(feature = "tls")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use air_serve::{App, Deployment, HttpConfig, ServeError, Server, each, run};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::client::{connect, post, read, write};
use crate::{examples, lines};

/// An authority that signs certificates.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for localhost, valid in these years, and its key.
    fn sign_for(&self, from: i32, until: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn sign(&self) -> (String, String) {
        self.sign_for(2000, 4000)
    }
}

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        Dir(tempfile::tempdir().unwrap())
    }

    /// Writes a file as whole as a rename makes it.
    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        let fresh = self.0.path().join(format!("{name}.new"));
        std::fs::write(&fresh, text).unwrap();
        std::fs::rename(fresh, &path).unwrap();
        path
    }

    fn put_both(&self, (certificate, key): &(String, String)) -> (PathBuf, PathBuf) {
        (self.put("server.pem", certificate), self.put("server.key", key))
    }
}

fn serve(change: impl FnOnce(&mut HttpConfig)) -> Result<Server, ServeError> {
    let app = App::new().with_http(|http| http.port = 0).with_http(change);
    run(app.route("/double", Deployment::new("double", || Ok(each(|x: i64| Ok(2 * x))))))
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

/// A connection of a client that trusts one authority, with the client's own certificate if it has one.
fn secure(addr: SocketAddr, trusted: &str, own: Option<&(String, String)>) -> Tls {
    speaking(&[], addr, trusted, own)
}

/// The same of a client that speaks these protocols.
fn speaking(protocols: &[&str], addr: SocketAddr, trusted: &str, own: Option<&(String, String)>) -> Tls {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap();
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let client = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    StreamOwned::new(client, connect(addr))
}

fn double(stream: &mut Tls, x: i64) -> String {
    write(stream, "POST", "/double", "", x.to_string());
    read(stream).body
}

/// Whether a request gets an answer; a handshake that fails is no.
fn is_answered(mut stream: Tls) -> bool {
    let sent = stream
        .write_all(b"POST /double HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 1\r\n\r\n4");
    let mut answer = Vec::new();
    sent.is_ok() && stream.read_to_end(&mut answer).is_ok() && answer.starts_with(b"HTTP/1.1 200")
}

/// Waits until a fresh connection that trusts this authority is answered.
fn wait_until_served(addr: SocketAddr, trusted: &str) {
    let until = Instant::now() + Duration::from_mins(1);
    while !is_answered(secure(addr, trusted, None)) {
        assert!(Instant::now() < until, "the new certificate is never served");
        std::thread::yield_now();
    }
}

#[test]
fn requests_are_answered_over_tls_and_only_over_tls() {
    let (dir, authority) = (Dir::new(), Authority::new());
    let (certificate, key) = dir.put_both(&authority.sign());
    let server = serve(|http| {
        http.ssl_certfile = Some(certificate);
        http.ssl_keyfile = Some(key);
    })
    .unwrap();
    let mut stream = secure(server.addr(), &authority.pem, None);
    assert_eq!(double(&mut stream, 21), "42");
    assert_eq!(double(&mut stream, 4), "8");
    assert_eq!(stream.conn.alpn_protocol(), None);
    assert!(!is_answered(secure(server.addr(), &Authority::new().pem, None)));
    // Nonsense, plain HTTP and a client that says nothing cost it nothing.
    let _silent = connect(server.addr());
    for bytes in [&b"GET /double HTTP/1.1\r\nHost: t\r\n\r\n"[..], &[0x16, 3, 1, 0xff, 0xff], b"\r\n\r\n"] {
        let mut plain = connect(server.addr());
        plain.write_all(bytes).unwrap();
        plain.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    assert_eq!(double(&mut secure(server.addr(), &authority.pem, None), 1), "2");
    let start = Instant::now();
    server.shutdown();
    assert!(start.elapsed() < Duration::from_secs(15), "a silent client holds up the end");
}

#[test]
fn the_handshake_chooses_between_http_2_and_1() {
    let (dir, authority) = (Dir::new(), Authority::new());
    let (certificate, key) = dir.put_both(&authority.sign());
    let server = serve(|http| {
        http.ssl_certfile = Some(certificate);
        http.ssl_keyfile = Some(key);
    })
    .unwrap();
    let mut second = speaking(&["h2", "http/1.1"], server.addr(), &authority.pem, None);
    // The preface with empty settings is answered by settings, which are frames of type 4.
    second.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let mut frame = [0; 9];
    second.read_exact(&mut frame).unwrap();
    assert_eq!((second.conn.alpn_protocol(), frame[3]), (Some(&b"h2"[..]), 4));
    let mut first = speaking(&["http/1.1"], server.addr(), &authority.pem, None);
    assert_eq!(double(&mut first, 3), "6");
    assert_eq!(first.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    let none = speaking(&["spdy/3"], server.addr(), &authority.pem, None);
    assert!(!is_answered(none));
}

#[test]
fn a_client_that_never_shakes_hands_is_cut_off() {
    let (dir, authority) = (Dir::new(), Authority::new());
    let (certificate, key) = dir.put_both(&authority.sign());
    let server = serve(|http| {
        http.ssl_certfile = Some(certificate);
        http.ssl_keyfile = Some(key);
        http.header_timeout_s = 0.2;
    })
    .unwrap();
    let mut silent = connect(server.addr());
    assert_eq!(silent.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(double(&mut secure(server.addr(), &authority.pem, None), 1), "2");
}

#[test]
fn clients_need_a_certificate_of_the_right_authority_where_one_is_asked_for() {
    let (dir, authority, clients) = (Dir::new(), Authority::new(), Authority::new());
    let (certificate, key) = dir.put_both(&authority.sign());
    let server = serve(|http| {
        http.ssl_certfile = Some(certificate);
        http.ssl_keyfile = Some(key);
        http.ssl_ca_certs = Some(dir.put("clients.pem", &clients.pem));
    })
    .unwrap();
    let ask = |own: Option<&(String, String)>| is_answered(secure(server.addr(), &authority.pem, own));
    assert!(ask(Some(&clients.sign())));
    assert!(!ask(None));
    assert!(!ask(Some(&Authority::new().sign())));
    assert!(!ask(Some(&clients.sign_for(2000, 2001))));
    assert!(ask(Some(&clients.sign())));
}

#[test]
fn a_new_certificate_is_served_and_connections_do_not_notice() {
    let (dir, old, new) = (Dir::new(), Authority::new(), Authority::new());
    let (certificate, key) = dir.put_both(&old.sign());
    let server = serve(|http| {
        http.ssl_certfile = Some(certificate);
        http.ssl_keyfile = Some(key);
        http.ssl_reload_s = 0.01;
    })
    .unwrap();
    let mut before = secure(server.addr(), &old.pem, None);
    assert_eq!(double(&mut before, 1), "2");
    // First what is no good: half of a change, then nonsense. The old one is served on.
    let (certificate, key) = new.sign();
    dir.put("server.pem", &certificate);
    assert!(is_answered(secure(server.addr(), &old.pem, None)));
    dir.put("server.key", "nonsense");
    assert!(is_answered(secure(server.addr(), &old.pem, None)));
    dir.put("server.key", &key);
    wait_until_served(server.addr(), &new.pem);
    assert!(!is_answered(secure(server.addr(), &old.pem, None)));
    assert_eq!(double(&mut before, 5), "10");
}

#[test]
fn sighup_makes_the_program_read_its_certificate_again() {
    let (dir, old, new) = (Dir::new(), Authority::new(), Authority::new());
    let (certificate, key) = dir.put_both(&old.sign());
    let mut command = Command::new(env!("CARGO_BIN_EXE_air-serve"));
    command.arg("run").arg(examples("iris_gbc.onnx")).args([
        "--route",
        "/double",
        "--port",
        "0",
        "--threads",
        "1",
    ]);
    command.args(["--set", &format!("http.ssl_certfile={}", certificate.display())]);
    command.args([
        "--set",
        &format!("http.ssl_keyfile={}", key.display()),
        "--set",
        "http.ssl_reload_s=3600",
    ]);
    let mut server = lines::Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let addr = server.addr();
    let iris = |trusted: &str| {
        let mut stream = secure(addr, trusted, None);
        let sent = stream.write_all(
            b"POST /double HTTP/1.1\r\nHost: t\r\nContent-Length: 21\r\n\r\n{\"vector\": [1,2,3,4]}",
        );
        sent.is_ok() && read(&mut stream).status == 200
    };
    assert!(iris(&old.pem));
    dir.put_both(&new.sign());
    assert!(iris(&old.pem));
    server.signal("-HUP");
    let until = Instant::now() + Duration::from_mins(1);
    while !iris(&new.pem) {
        assert!(Instant::now() < until, "the new certificate is never served");
        std::thread::yield_now();
    }
    server.signal("-TERM");
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

#[test]
fn certificates_that_are_no_good_are_refused_at_the_start() {
    let (dir, authority) = (Dir::new(), Authority::new());
    let good = authority.sign();
    let empty = dir.put("empty", "");
    let text = dir.put("text", "this is not PEM\n");
    let broken = dir.put("broken", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    let cut = dir.put("cut", &good.0[..good.0.len() / 2]);
    let junk = dir.put("junk", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n");
    let encrypted = dir.put(
        "encrypted",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let expired = dir.put("expired", &authority.sign_for(2000, 2001).0);
    let early = dir.put("early", &authority.sign_for(3000, 4000).0);
    let certificate = dir.put("certificate", &good.0);
    let key = dir.put("key", &good.1);
    let other = dir.put("other", &authority.sign().1);
    let missing = dir.0.path().join("missing");
    let cases: [(&Path, &Path, Option<&Path>, &str); 14] = [
        (&missing, &key, None, "missing`: cannot read it: No such file"),
        (dir.0.path(), &key, None, "cannot read it"),
        (&empty, &key, None, "empty`: there is no certificate in it"),
        (&text, &key, None, "text`: there is no certificate in it"),
        (&broken, &key, None, "broken`: it is not PEM"),
        (&cut, &key, None, "cut`: it is not PEM"),
        (&junk, &key, None, "junk`: the certificate in it cannot be read"),
        (&expired, &key, None, "expired`: the certificate expired "),
        (&early, &key, None, "early`: the certificate is not valid before "),
        (&certificate, &missing, None, "missing`: cannot read it"),
        (&certificate, &certificate, None, "certificate`: there is no private key in it"),
        (&certificate, &encrypted, None, "encrypted`: the key is encrypted; decrypt it with `openssl pkey"),
        (&certificate, &other, None, "other`: this is not the key of the certificate in `"),
        (&certificate, &key, Some(&text), "text`: there is no certificate in it"),
    ];
    for (certificate, key, clients, says) in cases {
        let error = serve(|http| {
            http.ssl_certfile = Some(certificate.into());
            http.ssl_keyfile = Some(key.into());
            http.ssl_ca_certs = clients.map(Into::into);
        });
        let error = error.unwrap_err().to_string();
        assert!(error.contains(says), "expected {says:?}: {error}");
    }
    let half = serve(|http| http.ssl_certfile = Some(certificate)).unwrap_err().to_string();
    assert!(half.contains("both ssl_certfile and ssl_keyfile"), "{half}");
    assert_eq!(post(serve(|_| {}).unwrap().addr(), "/double", "1").body, "2");
}
