//! From certificate files to what rustls serves with; whatever is wrong with them is found here, not by the first client.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};

use super::validity::validity;
use crate::error::ServeError;
use crate::http::HttpConfig;

/// No chain of certificates is larger.
const MAX_BYTES: u64 = 1 << 20;

/// What the files hold, byte for byte: a change of it is worth reading them again.
#[derive(Clone, PartialEq)]
pub(super) struct Contents {
    certificates: Vec<u8>,
    key: Vec<u8>,
    client_authorities: Option<Vec<u8>>,
}

/// Where the files are.
pub(super) struct Files {
    pub certificates: std::path::PathBuf,
    pub key: std::path::PathBuf,
    pub client_authorities: Option<std::path::PathBuf>,
}

impl Files {
    /// `None` where no TLS is asked for. The configuration has been validated.
    pub(super) fn of(config: &HttpConfig) -> Option<Self> {
        Some(Files {
            certificates: config.ssl_certfile.clone()?,
            key: config.ssl_keyfile.clone()?,
            client_authorities: config.ssl_ca_certs.clone(),
        })
    }

    pub(super) fn read(&self) -> Result<Contents, ServeError> {
        Ok(Contents {
            certificates: read(&self.certificates)?,
            key: read(&self.key)?,
            client_authorities: self.client_authorities.as_deref().map(read).transpose()?,
        })
    }

    /// Checks everything there is to check at `now`.
    pub(super) fn build(&self, contents: &Contents, now: SystemTime) -> Result<ServerConfig, ServeError> {
        let chain = certificates(&self.certificates, &contents.certificates)?;
        in_time(&self.certificates, &chain[0], now)?;
        let key = private_key(&self.key, &contents.key)?;
        let provider = Arc::new(ring::default_provider());
        let failed = |path: &Path, error: &dyn std::fmt::Display| bad(path, error.to_string());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&self.certificates, &error))?;
        let builder = match (&self.client_authorities, &contents.client_authorities) {
            (Some(path), Some(bytes)) => {
                let mut roots = RootCertStore::empty();
                for authority in certificates(path, bytes)? {
                    roots.add(authority).map_err(|error| failed(path, &error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| failed(path, &error))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => bad(
                &self.key,
                format!("this is not the key of the certificate in `{}`", self.certificates.display()),
            ),
            error => failed(&self.certificates, &error),
        })?;
        config.alpn_protocols = vec![super::HTTP2.to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn bad(path: &Path, reason: impl Into<String>) -> ServeError {
    ServeError::Tls { path: path.into(), reason: reason.into() }
}

fn read(path: &Path) -> Result<Vec<u8>, ServeError> {
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path);
    opened
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| bad(path, format!("cannot read it: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(bad(path, format!("it is larger than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, ServeError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let chain = chain.map_err(|error| bad(path, format!("it is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(bad(path, "there is no certificate in it (PEM, `-----BEGIN CERTIFICATE-----`)"));
    }
    Ok(chain)
}

fn private_key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, ServeError> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
        let encrypted = bytes.windows(9).any(|window| window == b"ENCRYPTED");
        match error {
            PemError::NoItemsFound if encrypted => {
                bad(path, "the key is encrypted; decrypt it with `openssl pkey -in FILE -out FILE.plain`")
            }
            PemError::NoItemsFound => {
                bad(path, "there is no private key in it (PEM, `-----BEGIN PRIVATE KEY-----`)")
            }
            error => bad(path, format!("it is not PEM: {error}")),
        }
    })
}

fn in_time(path: &Path, certificate: &CertificateDer<'_>, now: SystemTime) -> Result<(), ServeError> {
    let Some(valid) = validity(certificate) else {
        return Err(bad(path, "the certificate in it cannot be read"));
    };
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    let days = |seconds: i64| seconds.abs() / 86_400;
    if now > valid.until {
        return Err(bad(path, format!("the certificate expired {} days ago", days(now - valid.until))));
    }
    if now < valid.from {
        return Err(bad(
            path,
            format!("the certificate is not valid before {} days from now", days(valid.from - now)),
        ));
    }
    Ok(())
}
