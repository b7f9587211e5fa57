//! What a connector leaves in PostgreSQL when it goes, and taking that away: only if somebody says so, and
//! only what nobody else uses.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgConnection, Row};
use tokio::time::{Instant, sleep};

use crate::{
    placeholder::unknown,
    slot::{self, Reader, Slot},
    status::{Standing, State},
};

/// The task that reads the slot ends after Kafka Connect has said that the connector is stopped or deleted.
pub const RELEASE_PATIENCE: Duration = Duration::from_secs(30);

/// Why something is not dropped.
#[derive(Debug, thiserror::Error)]
pub enum Keep {
    #[error("it is no connector for PostgreSQL, so it has neither a slot nor a publication")]
    Nothing,
    #[error("which {what} it has is not known here: {why}")]
    Unknown { what: &'static str, why: String },
    #[error("the {what} {name} is in the configuration of {} too", others.join(", "))]
    Shared {
        /// `slot` or `publication`.
        what: &'static str,
        name: String,
        others: Vec<String>,
    },
    #[error(
        "there is no {what} {name} there; check that --database-url names the captured database. If it is gone \
         already, leave --drop-{what} out"
    )]
    Missing { what: &'static str, name: String },
    #[error("{role} may not drop slots; give --database-url a role with REPLICATION, or a superuser")]
    NoReplication { role: String },
    #[error(
        "{role} may not drop the publication {publication}, which is {owner}'s; give --database-url that role, or a \
         superuser"
    )]
    NotOwner {
        role: String,
        publication: String,
        owner: String,
    },
    #[error(
        "the slot {slot} is held by process {pid} of {user:?} (application {application:?}), which is not this connector's"
    )]
    HeldByAnother {
        slot: String,
        pid: i32,
        user: String,
        application: String,
    },
}

impl Keep {
    /// Somebody reads through the slot, and it is not the connector.
    pub fn held_by(slot: &str, reader: &Reader) -> Self {
        Self::HeldByAnother {
            slot: slot.to_owned(),
            pid: reader.pid,
            user: reader.user.clone(),
            application: reader.application.clone(),
        }
    }
}

/// Whether it is known what is to be dropped, and it is this connector's alone. `others` are connectors that name it, too.
///
/// # Errors
/// If it is not.
pub fn is_its_own(what: &'static str, name: &str, others: &[String]) -> Result<(), Keep> {
    if let Some(why) = unknown(name) {
        return Err(Keep::Unknown { what, why });
    }
    if others.is_empty() {
        return Ok(());
    }
    let (name, others) = (name.to_owned(), others.to_vec());
    Err(Keep::Shared { what, name, others })
}

/// Whether nobody but the connector, which still exists, can be who reads through the slot.
pub fn may_drop(slot: &Slot, standing: Option<&Standing>) -> Result<(), Keep> {
    let Some(reader) = &slot.reader else { return Ok(()) };
    let stopped = matches!(standing, Some(Standing::Halted(State::Stopped)) | None);
    if stopped || !reader.application.starts_with("Debezium") {
        return Err(Keep::held_by(&slot.name, reader));
    }
    Ok(())
}

/// The slot, if there is one and this role may drop it.
///
/// # Errors
/// If PostgreSQL does not answer.
pub async fn droppable_slot(database: &mut PgConnection, name: &str) -> sqlx::Result<Result<Slot, Keep>> {
    let Some(slot) = slot::read(database, name).await? else {
        let (what, name) = ("slot", name.to_owned());
        return Ok(Err(Keep::Missing { what, name }));
    };
    let role = sqlx::query(
        // Amazon RDS has a role for it in place of the attribute.
        "SELECT rolname::text AS role,
                rolsuper OR rolreplication OR EXISTS (
                    SELECT FROM pg_roles WHERE rolname = 'rds_replication' AND pg_has_role(oid, 'MEMBER')
                ) AS may
         FROM pg_roles WHERE rolname = current_user",
    )
    .fetch_one(database)
    .await?;
    if role.try_get("may")? {
        return Ok(Ok(slot));
    }
    let role = role.try_get("role")?;
    Ok(Err(Keep::NoReplication { role }))
}

/// Whether there is the publication, and this role may drop it.
///
/// # Errors
/// If PostgreSQL does not answer.
pub async fn droppable_publication(
    database: &mut PgConnection,
    name: &str,
) -> sqlx::Result<Result<(), Keep>> {
    let found = sqlx::query(
        "SELECT current_user::text AS role, pg_get_userbyid(pubowner)::text AS owner,
                pg_has_role(pubowner, 'USAGE') AS may
         FROM pg_publication WHERE pubname = $1",
    )
    .bind(name)
    .fetch_optional(database)
    .await?;
    let Some(found) = found else {
        let (what, name) = ("publication", name.to_owned());
        return Ok(Err(Keep::Missing { what, name }));
    };
    if found.try_get("may")? {
        return Ok(Ok(()));
    }
    Ok(Err(Keep::NotOwner {
        role: found.try_get("role")?,
        publication: name.to_owned(),
        owner: found.try_get("owner")?,
    }))
}

/// Waits until nobody reads through the slot. Answers who still does when the time is over.
///
/// # Errors
/// If PostgreSQL does not answer.
pub async fn still_read(
    database: &mut PgConnection,
    name: &str,
    wait: Duration,
) -> sqlx::Result<Option<Reader>> {
    let begun = Instant::now();
    loop {
        let reader = slot::read(database, name).await?.and_then(|slot| slot.reader);
        if reader.is_none() || begun.elapsed() > wait {
            return Ok(reader);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Drops the slot once nobody reads through it. False if there is none.
///
/// # Errors
/// If PostgreSQL refuses, or somebody goes on reading.
pub async fn drop_slot(database: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let begun = Instant::now();
    loop {
        if slot::read(database, name).await?.is_none() {
            return Ok(false);
        }
        let dropped = sqlx::query("SELECT pg_drop_replication_slot($1)").bind(name);
        match dropped.execute(&mut *database).await {
            Ok(_) => return Ok(true),
            // 55006: somebody reads through it.
            Err(sqlx::Error::Database(error))
                if error.code().as_deref() == Some("55006") && begun.elapsed() < RELEASE_PATIENCE =>
            {
                sleep(Duration::from_millis(100)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Drops the publication. False if there is none.
///
/// # Errors
/// If PostgreSQL refuses: only its owner may.
pub async fn drop_publication(database: &mut PgConnection, name: &str) -> sqlx::Result<bool> {
    let statement: Option<String> = sqlx::query_scalar(
        "SELECT format('DROP PUBLICATION %I', pubname) FROM pg_publication WHERE pubname = $1",
    )
    .bind(name)
    .fetch_optional(&mut *database)
    .await?;
    let Some(statement) = statement else {
        return Ok(false);
    };
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(database).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::tests::healthy;

    #[test]
    fn a_slot_that_others_use_stays() {
        let idle = Slot {
            reader: None,
            ..healthy()
        };
        let mut foreign = healthy();
        foreign.reader.as_mut().unwrap().application = "pg_recvlogical".to_owned();
        let running = Some(&Standing::Running);
        let stopped = Standing::Halted(State::Stopped);
        assert!(may_drop(&healthy(), running).is_ok());
        assert!(may_drop(&idle, running).is_ok());
        assert!(may_drop(&idle, Some(&stopped)).is_ok());
        assert!(
            may_drop(&healthy(), Some(&stopped)).is_err(),
            "who reads it then?"
        );
        assert!(may_drop(&foreign, running).is_err());
        let shared = is_its_own("publication", "p", &["other".to_owned()]);
        assert_eq!(
            shared.unwrap_err().to_string(),
            "the publication p is in the configuration of other too"
        );
        assert!(is_its_own("slot", "s", &[]).is_ok());
    }
}
