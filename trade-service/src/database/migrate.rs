//! Migrating: one instance at a time, beside others that serve.
//!
//! Invariant: whoever waits for the turn holds no snapshot meanwhile. An index that is built `CONCURRENTLY`
//! waits for every snapshot there is, and whoever waited for its builder in a statement would wait in a circle.

use std::io;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::{DatabaseError, connect_error, migrate_error};

/// Of the advisory lock; any number that nothing else in the database takes.
const LOCK: i64 = 0x7472_6164_652d_6d69;
/// How long PostgreSQL may take to let the service in, and to answer what costs it nothing. A server, or a network in
/// between, that stands still would otherwise be waited for without end.
const ANSWER_BOUND: Duration = Duration::from_secs(10);
/// Between two looks at the lock.
const PAUSE: Duration = Duration::from_millis(100);

/// On a connection of its own, because building an index may take longer than a request may.
pub(super) async fn migrate(
    options: &PgConnectOptions,
    mut migrations: Migrator,
) -> Result<(), DatabaseError> {
    // Those of a later release, beside which this one may start again or come back.
    migrations.set_ignore_missing(true);
    // sqlx would wait for its lock in a statement.
    migrations.set_locking(false);
    let mut connection = bounded(options.connect()).await?;
    lock(&mut connection).await?;
    let migrated = async {
        drop_broken(&mut connection, &migrations).await?;
        // `run` does the same, but with a connection its future is not `Send`, as rustc sees it.
        migrations.run_direct(None, &mut connection, false).await
    };
    migrated.await.map_err(migrate_error)?;
    bounded(check_search(&mut connection)).await?;
    // Which ends the lock, as any end of the session does.
    bounded(connection.close()).await
}

async fn bounded<T>(answer: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, DatabaseError> {
    match timeout(ANSWER_BOUND, answer).await {
        Ok(answer) => answer.map_err(connect_error),
        Err(_) => Err(connect_error(sqlx::Error::Io(io::ErrorKind::TimedOut.into()))),
    }
}

async fn lock(connection: &mut PgConnection) -> Result<(), DatabaseError> {
    let mut waits = false;
    loop {
        let take = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(LOCK);
        let locked: bool = bounded(take.fetch_one(&mut *connection)).await?;
        if locked {
            return Ok(());
        }
        if !waits {
            info!("another instance migrates the database, waiting for it");
            waits = true;
        }
        sleep(PAUSE).await;
    }
}

/// A build of an index that breaks leaves an invalid one, whose name would be taken when it is built anew.
async fn drop_broken(connection: &mut PgConnection, migrations: &Migrator) -> Result<(), MigrateError> {
    if !migrations.iter().any(|migration| migration.no_tx) {
        return Ok(());
    }
    let table = &migrations.table_name;
    connection.ensure_migrations_table(table).await?;
    let applied = connection.list_applied_migrations(table).await?;
    let is_due = |version| !applied.iter().any(|migration| migration.version == version);
    for migration in migrations
        .iter()
        .filter(|migration| migration.no_tx && is_due(migration.version))
    {
        let broken: Vec<String> = sqlx::query_scalar(
            r"SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
              WHERE NOT indisvalid AND $1 ~* ('\m' || relname || '\M')",
        )
        .bind(migration.sql.as_str())
        .fetch_all(&mut *connection)
        .await?;
        for index in broken {
            warn!("the index {index} was not built to its end; it is dropped, and built anew");
            connection
                .execute(AssertSqlSafe(format!("DROP INDEX CONCURRENTLY {index}")))
                .await?;
        }
    }
    Ok(())
}

/// `pg_trgm` sees letters through the database's `LC_CTYPE`. Under `C` only ASCII letters are letters: a
/// search for Korean text still finds everything, but reads the whole table.
async fn check_search(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let indexed: bool = sqlx::query_scalar("SELECT show_trgm('가나다') <> '{}'")
        .fetch_one(connection)
        .await?;
    if !indexed {
        warn!(
            "the search index ignores Korean letters, so searches are slow: the database has LC_CTYPE C; \
             create it with LC_CTYPE 'C.UTF-8' or another UTF-8 locale"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use sqlx::SqlSafeStr;
    use sqlx::migrate::{Migration, MigrationType};

    use super::*;

    const BOUND: Duration = Duration::from_secs(30);

    async fn database(name: &str) -> PgConnectOptions {
        let url = local_stack::testing::postgres().await.create_database(name).await;
        PgConnectOptions::from_str(&url.unwrap()).unwrap()
    }

    const TABLE: &str =
        "CREATE EXTENSION pg_trgm; CREATE TABLE places (id int); INSERT INTO places VALUES (1)";
    /// As migrations/README.md wants it.
    const INDEX: &str = "CREATE INDEX CONCURRENTLY IF NOT EXISTS places_id ON places (id)";
    const IS_VALID: &str = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'places_id'::regclass";

    fn migrations() -> Migrator {
        let migration = |version, sql: &'static str, no_tx| {
            let kind = MigrationType::Simple;
            Migration::new(version, "test".into(), kind, sql.into_sql_str(), no_tx)
        };
        Migrator::with_migrations(vec![migration(1, TABLE, false), migration(2, INDEX, true)])
    }

    async fn one<T>(connection: &mut PgConnection, sql: &'static str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        sqlx::query_scalar(sql).fetch_one(connection).await.unwrap()
    }

    async fn until(connection: &mut PgConnection, sql: &'static str) {
        let waited = timeout(BOUND, async {
            while !one::<bool>(connection, sql).await {
                sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("not in time: {sql}"));
    }

    #[tokio::test]
    async fn two_that_start_at_once_build_an_index_beside_writers() {
        let options = database("migrate_concurrently").await;
        let mut other = options.connect().await.unwrap();
        migrate(&options, migrations()).await.unwrap();
        let not_yet = "DROP INDEX places_id; DELETE FROM _sqlx_migrations WHERE version = 2";
        sqlx::raw_sql(not_yet).execute(&mut other).await.unwrap();
        // A writer for whose end the build has to wait.
        let mut writer = options.connect().await.unwrap();
        let write = "BEGIN; INSERT INTO places VALUES (2)";
        sqlx::raw_sql(write).execute(&mut writer).await.unwrap();

        let open = || {
            let options = options.clone();
            tokio::spawn(async move { migrate(&options, migrations()).await })
        };
        let first = open();
        until(
            &mut other,
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
             AND pid <> pg_backend_pid() AND query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock')",
        )
        .await;
        let second = open();
        until(
            &mut other,
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
             AND pid <> pg_backend_pid() AND query LIKE '%advisory_lock%')",
        )
        .await;
        sqlx::raw_sql("COMMIT").execute(&mut writer).await.unwrap();
        for opened in [first, second] {
            timeout(BOUND, opened).await.expect("it ends").unwrap().unwrap();
        }
        assert!(one::<bool>(&mut other, IS_VALID).await);
        // The lock has ended with its session.
        until(
            &mut other,
            "SELECT NOT EXISTS (SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = database
             WHERE datname = current_database() AND locktype = 'advisory')",
        )
        .await;
    }

    #[tokio::test]
    async fn an_index_whose_build_broke_is_built_anew_at_the_next_start() {
        let options = database("migrate_broken").await;
        let mut connection = options.connect().await.unwrap();
        migrate(&options, migrations()).await.unwrap();
        // As it is left by a build that was cancelled: `IF NOT EXISTS` would take it for the index.
        let broken = "DROP INDEX places_id; INSERT INTO places VALUES (1);
                      DELETE FROM _sqlx_migrations WHERE version = 2";
        sqlx::raw_sql(broken).execute(&mut connection).await.unwrap();
        let unique = "CREATE UNIQUE INDEX CONCURRENTLY places_id ON places (id)";
        sqlx::raw_sql(unique).execute(&mut connection).await.unwrap_err();
        assert!(!one::<bool>(&mut connection, IS_VALID).await);

        migrate(&options, migrations()).await.unwrap();
        assert!(one::<bool>(&mut connection, IS_VALID).await);
    }
}
