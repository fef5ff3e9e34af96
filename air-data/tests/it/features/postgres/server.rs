//! A PostgreSQL of the tests' own, on loopback: started by the first test that needs it, stopped with the last. Unit tests include this file, too.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

/// With everything that has a meaning in a URL.
pub(crate) const PASSWORD: &str = "hush: 7?/@%#";
const PASSWORD_IN_URL: &str = "hush%3A%207%3F%2F%40%25%23";

pub(crate) struct Server {
    dir: tempfile::TempDir,
    bin: PathBuf,
    pub(crate) port: u16,
    /// Whom it runs as, where the tests run as root, which it refuses.
    user: Option<(u32, u32)>,
    databases: AtomicUsize,
}

/// Where PostgreSQL's programs are.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut places: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    places.sort();
    places.reverse();
    let mut all = std::env::var_os("AIR_POSTGRES_BIN").map(PathBuf::from).into_iter().collect::<Vec<_>>();
    all.extend(std::env::split_paths(&path));
    all.extend(places);
    let found = all.into_iter().find(|place| place.join("initdb").exists() && place.join("pg_ctl").exists());
    if found.is_none() {
        eprintln!(
            "nothing was checked: no PostgreSQL (Debian: apt-get install postgresql; or set AIR_POSTGRES_BIN to where initdb is)"
        );
    }
    found
}

/// Somebody who is not root, by number.
fn somebody() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let number = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    number("postgres").or_else(|| number("nobody")).unwrap()
}

impl Server {
    fn start(bin: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().metadata().unwrap().uid() == 0;
        let user = root.then(somebody);
        let own = |path: &Path| {
            if let Some((uid, gid)) = user {
                chown(path, Some(uid), Some(gid)).unwrap();
            }
        };
        own(dir.path());
        let (authority, certificate, key) = certificates();
        let put = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            own(&path);
        };
        put("password", PASSWORD);
        put("ca.pem", &authority);
        put("server.pem", &certificate);
        put("server.key", &key);
        let mut server = Self { dir, bin, port: 0, user, databases: AtomicUsize::new(0) };
        server.run("initdb", |command| {
            command.args([
                "-D",
                "data",
                "-U",
                "air",
                "-A",
                "scram-sha-256",
                "--pwfile=password",
                "-E",
                "UTF8",
            ]);
            command.args(["--no-locale", "--no-sync"]);
        });
        // A port that is free may be somebody's a moment later.
        let started = (0..5).any(|_| {
            server.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            server.up()
        });
        assert!(started, "{}", std::fs::read_to_string(server.dir.path().join("log")).unwrap_or_default());
        server
    }

    fn up(&self) -> bool {
        let settings = format!(
            "-p {} -k '{}' -c listen_addresses=127.0.0.1 -c fsync=off -c shared_buffers=16MB -c ssl=on \
             -c ssl_cert_file=../server.pem -c ssl_key_file=../server.key",
            self.port,
            self.dir.path().display()
        );
        self.ran("pg_ctl", |command| {
            command.args(["-D", "data", "-w", "-t", "120", "-l", "log", "-o", &settings, "start"]);
        })
    }

    fn run(&self, program: &str, with: impl FnOnce(&mut Command)) {
        assert!(self.ran(program, with), "{program} failed; {}", self.log());
    }

    fn ran(&self, program: &str, with: impl FnOnce(&mut Command)) -> bool {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(self.dir.path()).env_clear().env("TZ", "UTC").stdin(Stdio::null());
        // What goes on in the background would keep a pipe open.
        let said = || {
            Stdio::from(
                std::fs::OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(self.dir.path().join("said"))
                    .unwrap(),
            )
        };
        command.stdout(said()).stderr(said());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        with(&mut command);
        command.status().unwrap().success()
    }

    fn log(&self) -> String {
        ["said", "log"]
            .map(|name| std::fs::read_to_string(self.dir.path().join(name)).unwrap_or_default())
            .join("\n")
    }

    /// Where its socket is.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ran("pg_ctl", |command| {
            command.args(["-D", "data", "-m", "immediate", "-w", "stop"]);
        });
    }
}

/// An authority's certificate, one that it has given to localhost, and the key to that.
fn certificates() -> (String, String, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let localhost = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (authority, localhost.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
}

/// A database of a test's own.
pub(crate) struct Database {
    pub(crate) server: Arc<Server>,
    pub(crate) name: String,
}

/// A fresh database, or none where there is no PostgreSQL.
pub(crate) fn database() -> Option<Database> {
    static SERVER: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let bin = programs()?;
    let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let server = shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start(bin));
        *shared = Arc::downgrade(&server);
        server
    });
    drop(shared);
    let name = format!("test{}", server.databases.fetch_add(1, Ordering::Relaxed));
    let database = Database { server, name: "postgres".to_owned() };
    database.sql(&format!("CREATE DATABASE {name}"));
    Some(Database { name, ..database })
}

impl Database {
    /// Its URL; `settings` are what is behind `?`.
    pub(crate) fn url_with(&self, settings: &str) -> String {
        format!("postgres://air:{PASSWORD_IN_URL}@127.0.0.1:{}/{}?{settings}", self.server.port, self.name)
    }

    pub(crate) fn url(&self) -> String {
        self.url_with("sslmode=disable")
    }

    /// What it is called in errors.
    pub(crate) fn shown(&self) -> String {
        format!("postgres://air@127.0.0.1:{}/{}", self.server.port, self.name)
    }

    /// Runs statements; the first column of their rows, as text.
    pub(crate) fn sql(&self, statements: &str) -> Vec<Option<String>> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.server.port).user("air").password(PASSWORD).dbname(&self.name);
        let run = async {
            let (client, connection) = config.connect(NoTls).await.unwrap();
            let driving = tokio::spawn(connection);
            let messages = client
                .simple_query(statements)
                .await
                .unwrap_or_else(|error| panic!("{statements}: {error:?}"));
            drop(client);
            driving.await.unwrap().unwrap();
            messages
        };
        let messages =
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(run);
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row.get(0).map(str::to_owned)),
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    }
}
