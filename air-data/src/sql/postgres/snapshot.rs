//! [`Snapshot`]: one state of a database, which all parts of a run see.

use std::fmt;

use air_core::BoxError;
use tokio::sync::OnceCell;

use super::database::{Connection, Database};
use super::told::{Within, told};

/// One state, or one transaction's: nothing of others comes between. Tables are read from their beginning, not from where another reader is.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const ORDER: &str = "SET LOCAL synchronize_seqscans TO off";

/// A transaction that waits for something else than the server.
pub(super) const PATIENCE: &str = "SET LOCAL idle_in_transaction_session_timeout TO 0";

/// Whoever waits for a table that another transaction has locked gives up, unless the database says when.
pub(super) const GIVE_UP: &str =
    "SELECT set_config('lock_timeout', '60s', true) WHERE current_setting('lock_timeout') = '0'";

/// A state of a database, once somebody has asked for it. It lasts as long as this does.
#[derive(Default)]
pub(super) struct Snapshot(OnceCell<Held>);

/// The transaction that keeps it, and what others know it by.
struct Held {
    _connection: Connection,
    name: String,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snapshot").field(&self.0.get().map(|held| &held.name)).finish()
    }
}

impl Snapshot {
    async fn name(&self, database: &Database) -> Result<&str, BoxError> {
        let held = self.0.get_or_try_init(|| async {
            let connection = database.connect().await?;
            // It does nothing more for as long as the others read.
            connection.run(&format!("{BEGIN}; {PATIENCE}")).await?;
            let row = connection.client.query_one("SELECT pg_export_snapshot()", &[]).await;
            let name: String = row.map_err(|error| told(&error, Within::default()))?.try_get(0)?;
            Ok::<_, BoxError>(Held { _connection: connection, name })
        });
        Ok(&held.await?.name)
    }
}

/// A connection with a transaction that only reads, in a state that others see, too, where one is given.
pub(super) async fn begin(database: &Database, snapshot: Option<&Snapshot>) -> Result<Connection, BoxError> {
    let of = match snapshot {
        Some(snapshot) => format!("; SET TRANSACTION SNAPSHOT '{}'", snapshot.name(database).await?),
        None => String::new(),
    };
    let connection = database.connect().await?;
    connection.run(&format!("{BEGIN}{of}; {ORDER}; {GIVE_UP}")).await?;
    Ok(connection)
}
