//! What stands for TLS in a build without it: nothing, and an error for whoever asks for it.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::HttpConfig;
use super::version::Version;
use crate::error::ServeError;

pub(crate) type Stream = TcpStream;

/// There is no value of it.
pub(crate) enum Tls {}

impl Tls {
    pub(crate) fn load(config: &HttpConfig) -> Result<Option<Arc<Self>>, ServeError> {
        match &config.ssl_certfile {
            None => Ok(None),
            Some(_) => Err(ServeError::config("this program was built without TLS (the feature `tls`)")),
        }
    }

    pub(crate) async fn accept(&self, _: TcpStream) -> io::Result<(Version, Stream)> {
        match *self {}
    }

    pub(crate) async fn watch(self: Arc<Self>) {
        match *self {}
    }
}
