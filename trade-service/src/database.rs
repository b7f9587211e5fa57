//! The way to PostgreSQL: connecting, waiting for it, migrating, and what its errors mean.
//!
//! Invariant: a failure that may pass by itself is [`DatabaseError::Unavailable`] and is waited for at
//! start; any other ends the start with a sentence that says what to do.

mod migrate;

use std::io;
use std::str::FromStr;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use secrecy::{ExposeSecret, SecretString};
use service_kit::health::Dependency;
use sqlx::Connection;
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::migrate::migrate;
use crate::config::DatabaseLimits;

const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How long a connection may take to show that it is good. One that does not may be gone without a word,
/// and would otherwise keep its place until the operating system gives it up, which takes a quarter of an hour.
const PING_BOUND: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error("DATABASE_URL is not a PostgreSQL URL; expected postgres://user:password@host:port/database")]
    Url(#[source] sqlx::Error),
    #[error("PostgreSQL does not answer")]
    Unavailable(#[source] sqlx::Error),
    #[error("PostgreSQL refuses the connection; check user, password and database name in DATABASE_URL")]
    Refused(#[source] sqlx::Error),
    #[error(
        "the database cannot be migrated; its user must own it, and migrations that it has had must not have changed \
         since"
    )]
    Migrate(#[source] MigrateError),
}

/// Connects and migrates, waiting with back-off for as long as PostgreSQL does not answer.
pub(crate) async fn open(
    url: &SecretString,
    limits: DatabaseLimits,
    postgresql: &Dependency,
) -> Result<PgPool, DatabaseError> {
    let options = connect_options(url.expose_secret()).map_err(DatabaseError::Url)?;
    // Otherwise every start logs the notice that the table of migrations exists already.
    let options = options
        .application_name("trade-service")
        .options([("client_min_messages", "warning")]);
    let mut delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_jitter()
        .without_max_times()
        .build();
    while let Err(error) = Box::pin(migrate(&options, sqlx::migrate!())).await {
        match (&error, delays.next()) {
            (DatabaseError::Unavailable(_), Some(delay)) => {
                postgresql.down(error.to_string());
                info!(error = %Chain(&error), "waiting for PostgreSQL, next attempt in {delay:.1?}");
                sleep(delay).await;
            }
            _ => return Err(error),
        }
    }
    postgresql.up();
    Ok(PgPoolOptions::new()
        .max_connections(limits.connections)
        .acquire_timeout(limits.acquire)
        .after_release(|connection, _| {
            Box::pin(async move {
                match timeout(PING_BOUND, connection.ping()).await {
                    Ok(pong) => pong.map(|()| true),
                    Err(_) => Err(sqlx::Error::Io(io::ErrorKind::TimedOut.into())),
                }
            })
        })
        .connect_lazy_with(options.options(session(limits))))
}

/// Settings of every connection that requests use.
fn session(limits: DatabaseLimits) -> [(&'static str, String); 5] {
    let milliseconds = |limit: Duration| limit.as_millis().to_string();
    [
        ("statement_timeout", milliseconds(limits.statement)),
        ("lock_timeout", milliseconds(limits.lock)),
        // Locks of a request that was given up, or of a process that stands still.
        (
            "idle_in_transaction_session_timeout",
            milliseconds(limits.request),
        ),
        // Statements name the index they mean by their form, see store/list; a table that is small or badly
        // estimated is no reason to read all of it. And none is long enough to be compiled.
        ("enable_seqscan", "off".to_owned()),
        ("jit", "off".to_owned()),
    ]
}

fn connect_options(url: &str) -> Result<PgConnectOptions, sqlx::Error> {
    // sqlx takes a URL of any scheme for one of PostgreSQL.
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(sqlx::Error::Configuration(
            "it does not begin with postgres://".into(),
        ));
    }
    PgConnectOptions::from_str(url)
}

fn connect_error(error: sqlx::Error) -> DatabaseError {
    // The server's own sentence for these says more than ours: it names user and database.
    if is_unavailable(&error) && !is_refusal(&error) {
        DatabaseError::Unavailable(error)
    } else {
        DatabaseError::Refused(error)
    }
}

fn migrate_error(error: MigrateError) -> DatabaseError {
    match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) if is_unavailable(&e) => {
            connect_error(e)
        }
        error => DatabaseError::Migrate(error),
    }
}

/// Whether the same statement may succeed later without anybody changing it.
pub(crate) fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(e) => e.code().is_some_and(|code| is_unavailable_state(&code)),
        _ => false,
    }
}

/// Whether PostgreSQL has ended the statement, because it took too long or somebody asked for that.
pub(crate) fn is_cancelled(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(e) if e.code().as_deref() == Some("57014"))
}

/// By SQLSTATE, see appendix A of PostgreSQL's manual.
fn is_unavailable_state(code: &str) -> bool {
    let class = code.get(..2).unwrap_or_default();
    // Connection lost; refused; out of resources; stopped by an operator or a timeout.
    matches!(class, "08" | "28" | "53" | "57")
        // Idle in a transaction for too long.
        || code == "25P03"
        // No such database, serialization failure, deadlock, lock not available, read-only: a failover.
        || matches!(code, "3D000" | "40001" | "40P01" | "55P03" | "25006")
}

/// The server answered, and would answer the same until someone changes its or our configuration.
fn is_refusal(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Tls(_) => true,
        sqlx::Error::Database(e) => e
            .code()
            .is_some_and(|code| code.starts_with("28") || code == "3D000"),
        _ => false,
    }
}

/// Feeds readiness until `shutdown`.
pub(crate) async fn watch(
    pool: PgPool,
    postgresql: Dependency,
    shutdown: CancellationToken,
) -> Result<(), sqlx::Error> {
    while !shutdown.is_cancelled() {
        let next = Instant::now() + PING_INTERVAL;
        let ping = sqlx::query("SELECT 1").execute(&pool);
        // Waiting for a connection takes part of the time.
        let bound = pool.options().get_acquire_timeout() + PING_BOUND;
        match shutdown.run_until_cancelled(timeout(bound, ping)).await {
            Some(Ok(Ok(_))) => postgresql.up(),
            Some(Ok(Err(sqlx::Error::PoolTimedOut))) if is_busy(&pool) => {
                postgresql.down(format!("all {} connections are busy", pool.size()));
            }
            Some(Ok(Err(e))) => postgresql.down(Chain(&e).to_string()),
            Some(Err(_)) => postgresql.down("PostgreSQL does not answer"),
            None => break,
        }
        shutdown.run_until_cancelled(sleep_until(next)).await;
    }
    Ok(())
}

/// Whether requests hold all connections there may be, so that PostgreSQL was not even asked.
fn is_busy(pool: &PgPool) -> bool {
    pool.size() == pool.options().get_max_connections() && pool.num_idle() == 0
}

/// An error with its sources on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a (dyn std::error::Error + 'static));

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut next = Some(self.0);
        let mut shown = String::new();
        while let Some(error) = next {
            let text = error.to_string();
            // sqlx repeats its source in its own text.
            if !shown.contains(&text) {
                let separator = if shown.is_empty() { "" } else { ": " };
                shown = format!("{shown}{separator}{text}");
            }
            next = error.source();
        }
        f.write_str(&shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_limit_or_an_outage_ends_may_be_tried_again_and_what_is_wrong_may_not() {
        // Statement timeout, lock timeout, idle in transaction, too many connections, shutdown, deadlock.
        for code in ["57014", "55P03", "25P03", "53300", "57P01", "40P01", "08006"] {
            assert!(is_unavailable_state(code), "{code}");
        }
        // Unique violation, check violation, syntax error, undefined table.
        for code in ["23505", "23514", "42601", "42P01", ""] {
            assert!(!is_unavailable_state(code), "{code}");
        }
    }

    #[test]
    fn limits_are_told_to_postgresql_in_milliseconds() {
        let limits = DatabaseLimits {
            connections: 1,
            waiting: 0,
            acquire: Duration::from_secs(9),
            statement: Duration::from_secs(2),
            lock: Duration::from_millis(250),
            request: Duration::from_secs(4),
        };
        let told = session(limits);
        let of = |name: &str| &told.iter().find(|(setting, _)| *setting == name).unwrap().1;
        assert_eq!(of("statement_timeout"), "2000");
        assert_eq!(of("lock_timeout"), "250");
        assert_eq!(of("idle_in_transaction_session_timeout"), "4000");
    }
}
