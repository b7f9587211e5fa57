//! The replication slot that a connector reads through, and the database's log around it. [`read`] is the
//! only query; what it means is decided by pure functions.

use std::time::Duration;

use serde::Serialize;
use sqlx::{PgConnection, Row, postgres::PgRow};
use tokio::time::{Instant, sleep};

use crate::lsn::Lsn;

/// A slot as `pg_replication_slots` shows it, and what it is measured against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Slot {
    pub name: String,
    /// The process that reads through it now.
    pub reader: Option<Reader>,
    /// `reserved`, `extended`, `unreserved` or `lost`.
    pub wal_status: String,
    /// Why PostgreSQL does not let it be read any more.
    pub invalidation_reason: Option<String>,
    /// From where it keeps the log; nothing any more once it is lost.
    pub restart_lsn: Option<Lsn>,
    /// Up to where its reader has confirmed to have everything.
    pub confirmed_lsn: Option<Lsn>,
    /// Bytes that may be written before the slot can be lost; `None` if it never will be.
    pub safe_bytes: Option<u64>,
    /// The end of the log when this was read.
    pub current_lsn: Lsn,
}

/// Who reads through a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reader {
    pub pid: i32,
    pub user: String,
    pub application: String,
    pub address: Option<String>,
}

impl Slot {
    /// Bytes of the log that PostgreSQL keeps for it.
    pub fn retained_bytes(&self) -> u64 {
        self.restart_lsn
            .map_or(0, |restart| self.current_lsn.since(restart))
    }

    /// Bytes of the log that its reader has not confirmed.
    pub fn lag_bytes(&self) -> u64 {
        self.confirmed_lsn
            .map_or(0, |confirmed| self.current_lsn.since(confirmed))
    }

    /// Bytes of the log between where the connector stopped and where the slot begins: what was changed
    /// there will never be captured. `offset` has to be read after the slot, because it only goes forward
    /// and is kept before the slot is confirmed.
    ///
    /// While a connector reads, a few bytes are nothing: Debezium confirms what Kafka has acknowledged in
    /// the meantime, too, and Kafka Connect keeps that with the next flush of offsets.
    pub fn gap_bytes(&self, offset: Lsn) -> u64 {
        self.confirmed_lsn.map_or(0, |confirmed| confirmed.since(offset))
    }

    /// For a gauge: 0 `reserved`, 1 `extended`, 2 `unreserved`, 3 `lost`.
    pub fn wal_status_code(&self) -> u8 {
        match self.wal_status.as_str() {
            "reserved" => 0,
            "extended" => 1,
            "unreserved" => 2,
            _ => 3,
        }
    }
}

/// The slot of that name, if there is one.
///
/// # Errors
/// If PostgreSQL does not answer.
pub async fn read(database: &mut PgConnection, name: &str) -> sqlx::Result<Option<Slot>> {
    let row = sqlx::query(
        "SELECT slot.slot_name::text AS name, slot.active_pid, activity.usename::text AS reader_user,
                activity.application_name, activity.client_addr::text AS reader_address,
                coalesce(slot.wal_status, 'lost') AS wal_status,
                to_jsonb(slot) ->> 'invalidation_reason' AS invalidation_reason,
                slot.restart_lsn::text, slot.confirmed_flush_lsn::text, slot.safe_wal_size,
                pg_current_wal_lsn()::text AS current_lsn
         FROM pg_replication_slots slot LEFT JOIN pg_stat_activity activity ON activity.pid = slot.active_pid
         WHERE slot.slot_name = $1",
    )
    .bind(name)
    .fetch_optional(database)
    .await?;
    row.map(|row| from_row(&row)).transpose()
}

/// How long a connector that runs may leave its slot alone: it finds its place in the log with one connection and
/// reads on with another.
const SETTLES: Duration = Duration::from_secs(5);

/// The slot of a connector that runs: looked at again for a moment while nobody reads through it.
///
/// # Errors
/// If PostgreSQL does not answer.
pub async fn read_settled(database: &mut PgConnection, name: &str) -> sqlx::Result<Option<Slot>> {
    let begun = Instant::now();
    loop {
        let slot = read(database, name).await?;
        if slot.as_ref().is_some_and(|slot| slot.reader.is_some()) || begun.elapsed() > SETTLES {
            return Ok(slot);
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn from_row(row: &PgRow) -> sqlx::Result<Slot> {
    let reader = match row.try_get::<Option<i32>, _>("active_pid")? {
        None => None,
        Some(pid) => Some(Reader {
            pid,
            user: row.try_get::<Option<_>, _>("reader_user")?.unwrap_or_default(),
            application: row
                .try_get::<Option<_>, _>("application_name")?
                .unwrap_or_default(),
            address: row.try_get("reader_address")?,
        }),
    };
    Ok(Slot {
        name: row.try_get("name")?,
        reader,
        wal_status: row.try_get("wal_status")?,
        invalidation_reason: row.try_get("invalidation_reason")?,
        restart_lsn: lsn(row, "restart_lsn")?,
        confirmed_lsn: lsn(row, "confirmed_flush_lsn")?,
        safe_bytes: row
            .try_get::<Option<i64>, _>("safe_wal_size")?
            .map(|bytes| u64::try_from(bytes).unwrap_or_default()),
        current_lsn: lsn(row, "current_lsn")?.unwrap_or(Lsn(0)),
    })
}

fn lsn(row: &PgRow, column: &str) -> sqlx::Result<Option<Lsn>> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse())
        .transpose()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// How long ago the connector wrote its heartbeat into the database, by the database's clock; `None` if it
/// never did.
///
/// # Errors
/// If PostgreSQL does not answer, or has no such table.
pub async fn heartbeat_age(database: &mut PgConnection) -> sqlx::Result<Option<Duration>> {
    let seconds: Option<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM now() - max(beat_at))::double precision FROM public.debezium_heartbeat",
    )
    .fetch_one(database)
    .await?;
    Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn healthy() -> Slot {
        Slot {
            name: "trade_cdc".to_owned(),
            reader: Some(Reader {
                pid: 17,
                user: "debezium".to_owned(),
                application: "Debezium Streaming".to_owned(),
                address: Some("10.0.0.7/32".to_owned()),
            }),
            wal_status: "reserved".to_owned(),
            invalidation_reason: None,
            restart_lsn: Some(Lsn(1_000)),
            confirmed_lsn: Some(Lsn(1_500)),
            safe_bytes: Some(1 << 31),
            current_lsn: Lsn(2_000),
        }
    }

    #[test]
    fn a_slot_ahead_of_the_connector_has_a_gap() {
        let slot = healthy();
        assert_eq!(slot.gap_bytes(Lsn(1_500)), 0);
        assert_eq!(slot.gap_bytes(Lsn(1_900)), 0);
        assert_eq!(slot.gap_bytes(Lsn(1_200)), 300);
        assert_eq!((slot.retained_bytes(), slot.lag_bytes()), (1_000, 500));
    }

    #[test]
    fn a_lost_slot_keeps_nothing() {
        let lost = Slot {
            restart_lsn: None,
            wal_status: "lost".to_owned(),
            ..healthy()
        };
        assert_eq!((lost.retained_bytes(), lost.wal_status_code()), (0, 3));
    }
}
