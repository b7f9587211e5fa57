//! What capture needs of PostgreSQL: settings, publication, replica identity, grants. Reads only.

use std::{str::FromStr, time::Duration};

use sqlx::{ConnectOptions, PgConnection, Row, postgres::PgConnectOptions};

use crate::shipped::CAPTURED;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why the database of the trade posts was not read. `Display` leaves the source to the error chain.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error(
        "--database-url (or TRADE_DATABASE_URL) is no address of PostgreSQL; give one like \
         postgres://user:password@127.0.0.1:5432/trade"
    )]
    InvalidUrl { source: sqlx::Error },
    #[error(
        "no connection to PostgreSQL; check that it runs and that --database-url (or TRADE_DATABASE_URL) names \
         its address, a user and the database of the trade posts"
    )]
    Unreachable { source: sqlx::Error },
    #[error("PostgreSQL gave no connection within {} s; check --database-url (or TRADE_DATABASE_URL)", CONNECT_TIMEOUT.as_secs())]
    NoAnswer,
    #[error("PostgreSQL refuses a query")]
    Refused(#[from] sqlx::Error),
}

/// What `--database-url` names.
pub fn options(url: &str) -> Result<PgConnectOptions, DatabaseError> {
    let options = PgConnectOptions::from_str(url).map_err(|source| DatabaseError::InvalidUrl { source })?;
    Ok(options.application_name("connectors").disable_statement_logging())
}

/// Opens a connection to the database of the trade posts.
pub async fn connect(url: &str) -> Result<PgConnection, DatabaseError> {
    open(&options(url)?).await
}

pub async fn open(options: &PgConnectOptions) -> Result<PgConnection, DatabaseError> {
    let connection = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
    let mut connection = connection
        .map_err(|_| DatabaseError::NoAnswer)?
        .map_err(|source| DatabaseError::Unreachable { source })?;
    // Nothing here takes long, unless something is very wrong.
    sqlx::query("SET statement_timeout = '20s'")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `logical` if changes can be captured.
    pub wal_level: String,
    /// Most bytes of log that are kept for a slot; `None` is without limit.
    pub max_slot_wal_keep: Option<u64>,
}

pub async fn settings(database: &mut PgConnection) -> sqlx::Result<Settings> {
    let row = sqlx::query(
        "SELECT current_setting('wal_level') AS wal_level,
                (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size') AS megabytes",
    )
    .fetch_one(database)
    .await?;
    let megabytes: Option<i64> = row.try_get("megabytes")?;
    Ok(Settings {
        wal_level: row.try_get("wal_level")?,
        max_slot_wal_keep: megabytes
            .and_then(|megabytes| u64::try_from(megabytes).ok())
            .map(|megabytes| megabytes << 20),
    })
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Operations that it leaves out, of INSERT, UPDATE, DELETE and TRUNCATE.
    pub left_out: Vec<String>,
    pub tables: Vec<PublishedTable>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedTable {
    /// `schema.table`.
    pub name: String,
    /// Whether every column is published, and not those of a list.
    pub whole: bool,
    /// The condition that rows have to meet to be published.
    pub row_filter: Option<String>,
}

/// The publication of that name, if there is one.
pub async fn publication(database: &mut PgConnection, name: &str) -> sqlx::Result<Option<Publication>> {
    let found = sqlx::query_scalar(
        "SELECT array_remove(ARRAY[CASE WHEN NOT pubinsert THEN 'INSERT' END, CASE WHEN NOT pubupdate THEN 'UPDATE' END,
                CASE WHEN NOT pubdelete THEN 'DELETE' END, CASE WHEN NOT pubtruncate THEN 'TRUNCATE' END], NULL)
         FROM pg_publication WHERE pubname = $1",
    )
    .bind(name)
    .fetch_optional(&mut *database)
    .await?;
    let Some(left_out) = found else { return Ok(None) };
    let rows = sqlx::query(
        "SELECT schemaname || '.' || tablename AS name, rowfilter,
                NOT EXISTS (SELECT FROM pg_publication_rel JOIN pg_publication ON pg_publication.oid = prpubid
                    WHERE pg_publication.pubname = $1 AND prattrs IS NOT NULL
                      AND prrelid = to_regclass(format('%I.%I', schemaname, tablename))) AS whole
         FROM pg_publication_tables WHERE pubname = $1 ORDER BY 1",
    )
    .bind(name)
    .fetch_all(database)
    .await?;
    let tables = rows.iter().map(|row| {
        Ok(PublishedTable {
            name: row.try_get("name")?,
            whole: row.try_get("whole")?,
            row_filter: row.try_get("rowfilter")?,
        })
    });
    let tables = tables.collect::<sqlx::Result<_>>()?;
    Ok(Some(Publication { left_out, tables }))
}

/// What PostgreSQL logs of a row that is changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `d` the primary key, `f` all columns, `n` nothing, `i` those of an index.
    pub replica_identity: String,
    pub primary_key: Vec<String>,
}

/// Of a table, if there is one.
pub async fn identity(database: &mut PgConnection, table: &str) -> sqlx::Result<Option<Identity>> {
    let row = sqlx::query(
        "SELECT class.relreplident::text AS replica_identity,
                ARRAY(SELECT attname::text FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
                      WHERE indrelid = class.oid AND indisprimary ORDER BY attnum) AS primary_key
         FROM pg_class class WHERE class.oid = to_regclass($1)",
    )
    .bind(table)
    .fetch_optional(database)
    .await?;
    row.map(|row| {
        Ok(Identity {
            replica_identity: row.try_get("replica_identity")?,
            primary_key: row.try_get("primary_key")?,
        })
    })
    .transpose()
}

/// What the role that captures may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// What it needs and may not do.
    pub missing: Vec<String>,
    /// Columns of captured tables that it may read and need not, `body of public.trade_posts`.
    pub excess: Vec<String>,
}

/// The grants of that role, if there is one.
pub async fn grants(database: &mut PgConnection, role: &str) -> sqlx::Result<Option<Grants>> {
    let exists: Option<bool> = sqlx::query_scalar("SELECT rolsuper FROM pg_roles WHERE rolname = $1")
        .bind(role)
        .fetch_optional(&mut *database)
        .await?;
    if exists.is_none() {
        return Ok(None);
    }
    let captured = CAPTURED
        .iter()
        .flat_map(|(table, columns)| columns.iter().map(move |column| (*table, *column)));
    let (tables, columns): (Vec<&str>, Vec<&str>) = captured.unzip();
    let missing = sqlx::query_scalar(
        "SELECT what FROM (
             SELECT 1 AS place, 'attribute LOGIN' AS what, rolcanlogin AS allowed FROM pg_roles WHERE rolname = $1
             UNION ALL SELECT 2, 'attribute REPLICATION', rolreplication OR rolsuper FROM pg_roles WHERE rolname = $1
             UNION ALL SELECT 3, 'CONNECT on the database', has_database_privilege($1, current_database(), 'CONNECT')
             UNION ALL SELECT 4, 'USAGE on schema public', has_schema_privilege($1, 'public', 'USAGE')
             UNION ALL SELECT 5, 'SELECT (' || name || ') on ' || owner, coalesce(has_column_privilege($1, attrelid, attnum, 'SELECT'), false)
                 FROM unnest($2::text[], $3::text[]) AS columns (owner, name)
                 LEFT JOIN pg_attribute ON attrelid = to_regclass(owner) AND attname::text = name
             UNION ALL SELECT 6, privilege || ' on ' || name, coalesce(has_table_privilege($1, to_regclass(name), privilege), false)
                 FROM (VALUES ('public.debezium_signal'), ('public.debezium_heartbeat')) AS tables (name),
                      (VALUES ('SELECT'), ('INSERT'), ('UPDATE')) AS privileges (privilege)
             UNION ALL SELECT 7, 'DELETE on public.debezium_signal',
                 coalesce(has_table_privilege($1, to_regclass('public.debezium_signal'), 'DELETE'), false)
         ) AS needs WHERE NOT allowed ORDER BY place, what",
    )
    .bind(role)
    .bind(&tables)
    .bind(&columns)
    .fetch_all(&mut *database)
    .await?;
    let excess = sqlx::query_scalar(
        "WITH columns AS (SELECT owner, name FROM unnest($2::text[], $3::text[]) AS columns (owner, name))
         SELECT attname || ' of ' || owner FROM (SELECT DISTINCT owner FROM columns) AS owners
         JOIN pg_attribute ON attrelid = to_regclass(owner)
         WHERE attnum > 0 AND NOT attisdropped AND (owner, attname::text) NOT IN (SELECT owner, name FROM columns)
           AND has_column_privilege($1, attrelid, attnum, 'SELECT')
         ORDER BY owner DESC, attnum",
    )
    .bind(role)
    .bind(&tables)
    .bind(&columns)
    .fetch_all(database)
    .await?;
    Ok(Some(Grants { missing, excess }))
}
