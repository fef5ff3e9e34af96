//! [`Target`]: a table that is filled in one transaction.

use std::pin::Pin;

use air_core::BoxError;
use bytes::Bytes;
use futures::SinkExt;
use tokio_postgres::CopyInSink;

use super::super::quoted;
use super::database::{Connection, Database};
use super::snapshot::{GIVE_UP, PATIENCE};
use super::told::{Within, told};
use super::{encode, table};
use crate::sink::WriteMode;

/// A `COPY` is ended after so many bytes, and another begun: the server says only then what it does not like.
const COPY_BYTES: usize = 64 << 20;

/// A table in a transaction of a connection, which has to be [committed](Self::commit).
pub(super) struct Target {
    connection: Connection,
    copy: String,
    copying: Option<Pin<Box<CopyInSink<Bytes>>>>,
    /// Bytes of the `COPY` under way.
    sent: usize,
    /// What makes the table the one that was asked for.
    finally: String,
}

impl Target {
    /// Begins a transaction and makes the table.
    pub(super) async fn begin(
        database: &Database,
        name: &str,
        columns: &str,
        mode: WriteMode,
    ) -> Result<Self, BoxError> {
        let name = table::Name::parse(name)?;
        let (table, mut making, mut finally) = (name.in_sql()?, name.in_sql()?, String::new());
        let connection = database.connect().await?;
        connection.run(&format!("BEGIN; {PATIENCE}; {GIVE_UP}")).await?;
        if mode == WriteMode::Overwrite {
            // Under another name until it is complete: until then others read the old one.
            making = name.beside(rand::random())?;
            finally = format!(
                "DROP TABLE IF EXISTS {table}; ALTER TABLE {making} RENAME TO {}",
                quoted(name.own())?
            );
        }
        connection.run(&format!("CREATE TABLE {making} ({columns})")).await?;
        let copy = format!("COPY {making} FROM STDIN (FORMAT binary)");
        Ok(Self { connection, copy, copying: None, sent: 0, finally })
    }

    /// Puts rows into the table.
    pub(super) async fn put(&mut self, rows: Bytes) -> Result<(), BoxError> {
        if rows.is_empty() {
            return Ok(());
        }
        let said = |error| told(&error, Within::default());
        let copying = match &mut self.copying {
            Some(copying) => copying,
            none => {
                let copying = self.connection.client.copy_in(&self.copy).await.map_err(said)?;
                let copying = none.insert(Box::pin(copying));
                copying.feed(encode::header().into()).await.map_err(said)?;
                copying
            }
        };
        self.sent += rows.len();
        copying.send(rows).await.map_err(said)?;
        Ok(())
    }

    /// Rows are complete up to here: a `COPY` may end.
    pub(super) async fn pause(&mut self) -> Result<(), BoxError> {
        if self.sent >= COPY_BYTES { self.end_copy().await } else { Ok(()) }
    }

    async fn end_copy(&mut self) -> Result<(), BoxError> {
        let said = |error| told(&error, Within::default());
        self.sent = 0;
        let Some(mut copying) = self.copying.take() else { return Ok(()) };
        copying.feed(encode::trailer().into()).await.map_err(said)?;
        copying.as_mut().finish().await.map_err(said)?;
        Ok(())
    }

    /// Makes the table visible.
    pub(super) async fn commit(mut self) -> Result<(), BoxError> {
        self.end_copy().await?;
        if !self.finally.is_empty() {
            self.connection.run(&self.finally).await?;
        }
        self.connection.run("COMMIT").await?;
        self.connection.close().await;
        Ok(())
    }

    /// Takes the table back.
    pub(super) async fn abort(mut self) {
        // A COPY that is dropped is called off.
        self.copying = None;
        // Where the connection is lost the server does so by itself.
        let _ = self.connection.run("ROLLBACK").await;
        self.connection.close().await;
    }
}
