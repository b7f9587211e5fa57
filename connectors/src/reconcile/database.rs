//! PostgreSQL, as a reconciliation needs it: positions in its log, the signal, and the second look.

use std::{fmt, time::Duration};

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep};

use super::{ReconcileError, Settings};
use crate::{database, lsn::Lsn, schemas::Table, slot};

const PAUSE: Duration = Duration::from_millis(100);

/// Connects for each question: between two of them lies as much time as a snapshot takes.
#[derive(Clone)]
pub struct Database {
    options: PgConnectOptions,
}

impl Database {
    /// # Errors
    /// If `url` is none of PostgreSQL's.
    pub fn new(url: &str) -> Result<Self, ReconcileError> {
        let options = database::options(url)?;
        Ok(Self {
            options: options.application_name("connectors reconcile"),
        })
    }

    /// Whether the connector, which runs, can see a signal that is written here.
    pub(super) async fn check(&self, connector: &str, settings: &Settings) -> Result<(), ReconcileError> {
        let mut connection = self.connect().await?;
        let (schema, table) = &settings.signal_table;
        let published: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_publication_tables
             WHERE pubname = $1 AND schemaname = $2 AND tablename = $3)",
        )
        .bind(&settings.publication)
        .bind(schema)
        .bind(table)
        .fetch_one(&mut connection)
        .await?;
        if !published {
            return Err(ReconcileError::NotPublished {
                table: format!("{schema}.{table}"),
                publication: settings.publication.clone(),
            });
        }
        let slot = slot::read_settled(&mut connection, &settings.slot).await?;
        if slot.is_none_or(|slot| slot.reader.is_none()) {
            return Err(ReconcileError::SlotUnread {
                connector: connector.to_owned(),
                slot: settings.slot.clone(),
            });
        }
        Ok(connection.close().await?)
    }

    /// A position in the log before which nothing is uncommitted: taken first, and then every transaction waited for
    /// that may have written before it. No change has it: records begin at multiples of eight, and this is one less
    /// than the next of them. So a fence at this position is a reconciliation's, and what comes is newer.
    pub(super) async fn quiet_position(&self, deadline: Instant) -> Result<Lsn, ReconcileError> {
        let mut connection = self.connect().await?;
        let Lsn(next) = position(&mut connection).await?;
        let position = Lsn(next - 1);
        let begun: String = sqlx::query_scalar("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
            .fetch_one(&mut connection)
            .await?;
        loop {
            let quiet: bool =
                sqlx::query_scalar("SELECT pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8")
                    .bind(&begun)
                    .fetch_one(&mut connection)
                    .await?;
            if quiet {
                connection.close().await?;
                return Ok(position);
            }
            if Instant::now() > deadline {
                return Err(ReconcileError::OpenTransactions {
                    who: writers(&mut connection).await?,
                });
            }
            sleep(PAUSE).await;
        }
    }

    /// The position that the log has now.
    pub(super) async fn position(&self) -> Result<Lsn, ReconcileError> {
        let mut connection = self.connect().await?;
        let position = position(&mut connection).await?;
        connection.close().await?;
        Ok(position)
    }

    /// Asks Debezium for an incremental snapshot of the table, by a signal with that id.
    pub(super) async fn ask_for_snapshot(
        &self,
        settings: &Settings,
        table: Table,
        id: &str,
    ) -> Result<(), ReconcileError> {
        let mut connection = self.connect().await?;
        let (schema, signals) = &settings.signal_table;
        let data = serde_json::json!({ "data-collections": [table.name()], "type": "incremental" });
        // Both names were checked to be names.
        let insert = format!(
            r#"INSERT INTO "{schema}"."{signals}" (id, type, data) VALUES ($1, 'execute-snapshot', $2)"#
        );
        sqlx::query(AssertSqlSafe(insert))
            .bind(id)
            .bind(data.to_string())
            .execute(&mut connection)
            .await?;
        Ok(connection.close().await?)
    }

    /// Those of the rows that are in the table.
    pub(super) async fn existing(&self, table: Table, ids: &[i64]) -> Result<Vec<i64>, ReconcileError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut connection = self.connect().await?;
        let existing = format!("SELECT id FROM {} WHERE id = ANY($1) ORDER BY id", table.name());
        let existing = sqlx::query_scalar(AssertSqlSafe(existing))
            .bind(ids)
            .fetch_all(&mut connection)
            .await?;
        connection.close().await?;
        Ok(existing)
    }

    async fn connect(&self) -> Result<PgConnection, ReconcileError> {
        Ok(database::open(&self.options).await?)
    }
}

async fn position(connection: &mut PgConnection) -> Result<Lsn, sqlx::Error> {
    let text: String = sqlx::query_scalar("SELECT pg_current_wal_insert_lsn()::text")
        .fetch_one(connection)
        .await?;
    text.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// Who has been writing for longest.
async fn writers(connection: &mut PgConnection) -> Result<String, sqlx::Error> {
    let writers = sqlx::query(
        "SELECT pid, coalesce(usename, '') AS role, coalesce(application_name, '') AS application,
                coalesce(extract(epoch FROM now() - xact_start), 0)::bigint AS seconds
         FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start LIMIT 3",
    )
    .fetch_all(&mut *connection)
    .await?;
    let mut who: Vec<String> = Vec::new();
    for writer in writers {
        let (pid, role): (i32, String) = (writer.try_get("pid")?, writer.try_get("role")?);
        let (application, seconds): (String, i64) =
            (writer.try_get("application")?, writer.try_get("seconds")?);
        who.push(format!(
            "process {pid} of {role} ({application}), for {seconds} s"
        ));
    }
    let prepared: i64 = sqlx::query_scalar("SELECT count(*) FROM pg_prepared_xacts")
        .fetch_one(connection)
        .await?;
    if prepared > 0 {
        who.push(format!("{prepared} prepared transactions (pg_prepared_xacts)"));
    }
    Ok(who.join(", "))
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("host", &self.options.get_host())
            .finish_non_exhaustive()
    }
}
