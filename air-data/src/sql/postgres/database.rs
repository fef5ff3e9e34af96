//! [`Database`]: where a database is and how it is reached, and [`Connection`]s to it.

use std::fmt;
use std::time::Duration;

use air_core::BoxError;
use percent_encoding::percent_decode_str;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config};

use super::tls::{Tls, Trust};
use super::told::{Within, told};
use crate::error::{DataError, Result};
use crate::session::AbortOnDrop;

/// How long one address is waited for, unless the URL says `connect_timeout`.
const CONNECT: Duration = Duration::from_secs(15);

/// A server that has gone is noticed after about two minutes, also where nothing is written to it.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_RETRIES: u32 = 3;

/// And where something is: a server may take nothing for a while.
const UNACKNOWLEDGED: Duration = Duration::from_mins(10);

/// Where a database is, and who asks. What is shown of it, its name, has no password.
#[derive(Clone)]
pub(super) struct Database {
    config: Config,
    tls: Tls,
    name: String,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Database").field(&self.name).finish()
    }
}

impl Database {
    /// Of a URL, `postgres://user:password@host:port/database?sslmode=..`.
    ///
    /// # Errors
    /// [`DataError::Config`] says what is wrong with it; it does not quote what may be a password.
    pub(super) fn parse(url: &str) -> Result<Self> {
        Self::read(url).map_err(|reason| DataError::Config { field: "url", reason })
    }

    fn read(url: &str) -> std::result::Result<Self, String> {
        let form = "expected postgres://user:password@host:5432/database";
        let (scheme, rest) = url.split_once("://").ok_or(form)?;
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(format!("{form}, and the scheme is '{scheme}'"));
        }
        if rest.matches('@').count() > 1 {
            return Err("there is more than one @: in a user, a password and behind ? it is written as %40"
                .to_owned());
        }
        let (mut before, mut settings) = (url, "");
        let host = url.len() - rest.len() + rest.find('@').map_or(0, |place| place + 1);
        if let Some(place) = url[host..].find('?') {
            (before, settings) = (&url[..host + place], &url[host + place + 1..]);
        }
        // Settings of TLS are ours: the client knows fewer.
        let (mut mode, mut roots, mut others) = (None, None, Vec::new());
        for setting in settings.split('&').filter(|setting| !setting.is_empty()) {
            let (key, value) = setting.split_once('=').ok_or("a setting behind ? has no =")?;
            let value = percent_decode_str(value).decode_utf8().map_err(|_| "a setting is not UTF-8")?;
            match key {
                "sslmode" => mode = Some(value.into_owned()),
                "sslrootcert" => roots = Some(value.into_owned()),
                _ => others.push(setting),
            }
        }
        let mut config: Config = format!("{before}?{}", others.join("&"))
            .parse()
            .map_err(|error| told(&error, Within::default()))?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(format!("it names no host; {form}"));
        }
        let (ssl, trust) = Trust::read(mode.as_deref(), roots)?;
        let sockets = config.get_hosts().iter().all(|host| !matches!(host, Host::Tcp(_)));
        // The server does not encrypt what goes over a socket of the same machine.
        config.ssl_mode(if sockets && ssl == SslMode::Prefer { SslMode::Disable } else { ssl });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if !others.iter().any(|setting| setting.starts_with("keepalives")) {
            config.keepalives_idle(KEEPALIVE_IDLE).keepalives_interval(KEEPALIVE_INTERVAL);
            config.keepalives_retries(KEEPALIVE_RETRIES);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(UNACKNOWLEDGED);
        }
        if config.get_application_name().is_none() {
            config.application_name("air-data");
        }
        let name = name(&config);
        Ok(Self { tls: Tls::new(&trust)?, config, name })
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A connection of its own. It has to be called on a thread of the session.
    ///
    /// # Errors
    /// Why there is none, within a time.
    pub(super) async fn connect(&self) -> std::result::Result<Connection, BoxError> {
        let each = self.config.get_connect_timeout().copied().unwrap_or(CONNECT);
        // The time is each address's; the server's greeting takes some as well, and a name may have two addresses.
        let hosts = self.config.get_hosts().len().max(self.config.get_hostaddrs().len()).max(1);
        let all = each.saturating_mul(2 * u32::try_from(hosts)?);
        let connected = tokio::time::timeout(all, self.config.connect(self.tls.clone())).await;
        let connected = connected.map_err(|_| {
            format!("cannot connect: no answer within {} s (connect_timeout in the URL)", all.as_secs())
        })?;
        let (client, connection) = connected.map_err(|error| cannot_connect(&error))?;
        let driving = tokio::spawn(async move {
            // What goes wrong with it the client is told, too.
            let _ = connection.await;
        });
        Ok(Connection { client, driving: AbortOnDrop(driving) })
    }
}

fn cannot_connect(error: &tokio_postgres::Error) -> String {
    let text = told(error, Within::default());
    if error.as_db_error().is_some() {
        return format!("cannot connect: {text}");
    }
    if text.contains("password missing") {
        return "cannot connect: the server wants a password, and the URL has none; write postgres://user:password@host/database".to_owned();
    }
    format!("cannot connect: {text}; check the host, the port, sslmode and that the server runs")
}

/// The URL without its password and settings.
fn name(config: &Config) -> String {
    let host = |host: &Host| match host {
        Host::Tcp(host) if host.contains(':') => format!("[{host}]"),
        Host::Tcp(host) => host.clone(),
        #[cfg(unix)]
        Host::Unix(path) => path.display().to_string(),
    };
    let mut hosts: Vec<String> = config.get_hosts().iter().map(host).collect();
    if hosts.is_empty() {
        hosts = config.get_hostaddrs().iter().map(ToString::to_string).collect();
    }
    for (index, host) in hosts.iter_mut().enumerate() {
        if let Some(port) = config.get_ports().get(index).or(config.get_ports().first()) {
            *host = format!("{host}:{port}");
        }
    }
    let user = config.get_user().map_or_else(String::new, |user| format!("{user}@"));
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgres://{user}{}/{database}", hosts.join(","))
}

/// A connection. One that is dropped is cut off, and the server takes back what was not committed.
pub(super) struct Connection {
    pub(super) client: Client,
    driving: AbortOnDrop<()>,
}

impl Connection {
    /// Runs statements that give no rows.
    pub(super) async fn run(&self, statements: &str) -> std::result::Result<(), BoxError> {
        self.client.batch_execute(statements).await.map_err(|error| told(&error, Within::default()).into())
    }

    /// Ends it in order: the server is told.
    pub(super) async fn close(self) {
        drop(self.client);
        let mut driving = self.driving;
        let _ = tokio::time::timeout(CONNECT, &mut driving.0).await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_name_has_no_password() {
        for (url, name) in [
            ("postgres://me:hush@db.example:6000/sales", "postgres://me@db.example:6000/sales"),
            (
                "postgresql://me:hu%40sh@db.example/sales?sslmode=disable",
                "postgres://me@db.example:5432/sales",
            ),
            ("postgres://me:hu?s/h@[::1]:6000/sales", "postgres://me@[::1]:6000/sales"),
            ("postgres://db.example?user=me&password=hush", "postgres://me@db.example:5432/me"),
            ("postgres:///sales?host=/run/pg&user=me&password=hush", "postgres://me@/run/pg/sales"),
            ("postgres://me:hush@a:1,b:2/sales", "postgres://me@a:1,b:2/sales"),
        ] {
            let database = Database::parse(url).unwrap();
            assert_eq!(database.name(), name);
            let debug = format!("{database:?}");
            assert!(debug.contains(name) && !debug.contains("hu"), "{debug}");
        }
    }

    #[test]
    fn a_url_that_is_wrong_is_told_without_its_password() {
        for (url, what) in [
            ("hush", "expected postgres://user:password@host"),
            ("mysql://me:hush@host/db", "the scheme is 'mysql'"),
            ("postgres://me:hu@sh@host/db", "is written as %40"),
            ("postgres://me:hush@host:many/db", "invalid value for option `port`"),
            ("postgres://me:hush@host/db?tls=yes", "unknown option `tls`"),
            ("postgres://me:hush@host/db?sslmode", "has no ="),
            ("postgres://me:hush@host/db?sslmode=allow", "sslmode"),
            ("postgres:///db?user=me&password=hush", "names no host"),
        ] {
            let error = air_core::cli::Chain(&Database::parse(url).unwrap_err()).to_string();
            assert!(error.contains(what) && !error.contains("hush"), "{url}: {error}");
        }
    }
}
