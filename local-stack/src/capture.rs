//! The capture of one database: Debezium's role in it, and a connector like the shipped one. Tests
//! capture databases of their own, each with its own topics and replication slot.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use connectors::{Config, ConnectApi, Outcome};
use sqlx::Connection;

use crate::{DATABASE, Stack, postgres::Postgres};

const ROLE: &str = include_str!("../../connectors/postgres.sql");
const CONNECTOR: &str = include_str!("../../connectors/trade-posts.json");
const APPLY_BOUND: Duration = Duration::from_secs(90);
const SLOT_BOUND: Duration = Duration::from_secs(20);

/// How a connector differs from the shipped one.
#[derive(Clone, Debug)]
pub struct Capture {
    /// Name of the connector.
    pub connector: String,
    pub database: String,
    /// Its topics begin with this and a dot.
    pub topic_prefix: String,
    pub slot: String,
    /// Other settings to add or replace.
    pub settings: BTreeMap<String, String>,
}

impl Capture {
    /// The shipped connector as it is.
    pub fn shipped() -> Self {
        Self {
            connector: "trade-posts".to_owned(),
            database: DATABASE.to_owned(),
            topic_prefix: "trade".to_owned(),
            slot: "trade_cdc".to_owned(),
            settings: BTreeMap::new(),
        }
    }

    /// Connector, topics and slot all named after the database.
    pub fn of_database(database: &str) -> Self {
        Self {
            connector: database.to_owned(),
            database: database.to_owned(),
            topic_prefix: database.to_owned(),
            slot: database.to_owned(),
            settings: BTreeMap::new(),
        }
    }

    /// The configuration for Kafka Connect.
    pub fn config(&self) -> Result<Config> {
        let mut config: Config =
            serde_json::from_str(CONNECTOR).context("connectors/trade-posts.json is not a map of texts")?;
        // The shipped database is the one that the worker's environment names.
        if self.database != DATABASE {
            config.insert("database.dbname".to_owned(), self.database.clone());
        }
        config.insert("topic.prefix".to_owned(), self.topic_prefix.clone());
        let notifications = format!("__debezium-notification.{}", self.topic_prefix);
        config.insert("notification.sink.topic.name".to_owned(), notifications);
        config.insert("slot.name".to_owned(), self.slot.clone());
        config.extend(self.settings.clone());
        Ok(config)
    }
}

/// Makes Debezium's role and lets it into the database, once trade-service has made its tables there.
pub async fn prepare_role(postgres: &Postgres, database: &str) -> Result<()> {
    let mut connection = postgres.superuser(database).await?;
    sqlx::raw_sql(ROLE)
        .execute(&mut connection)
        .await
        .with_context(|| format!("connectors/postgres.sql failed in the database {database}"))?;
    Ok(connection.close().await?)
}

/// Applies the connector and waits until it is RUNNING.
pub async fn apply_connector(stack: &Stack, capture: &Capture) -> Result<Outcome> {
    let api = ConnectApi::new(stack.connect.url())?;
    connectors::apply(&api, &capture.connector, &capture.config()?, APPLY_BOUND)
        .await
        .with_context(|| format!("the connector {} does not run", capture.connector))
}

/// Deletes the connector and its replication slot.
pub async fn remove(stack: &Stack, capture: &Capture) -> Result<()> {
    ConnectApi::new(stack.connect.url())?
        .delete(&capture.connector)
        .await?;
    let mut connection = stack.postgres.superuser(&capture.database).await?;
    let deadline = tokio::time::Instant::now() + SLOT_BOUND;
    loop {
        let dropped = sqlx::query(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1",
        )
        .bind(&capture.slot)
        .execute(&mut connection)
        .await;
        match dropped {
            Ok(_) => break,
            // The task that reads the slot ends after the answer to the deletion.
            Err(_) if tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => {
                return Err(error).context(format!(
                    "the replication slot {} could not be dropped",
                    capture.slot
                ));
            }
        }
    }
    Ok(connection.close().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_connector_is_applied_as_it_is() {
        let shipped: Config = serde_json::from_str(CONNECTOR).unwrap();
        assert_eq!(Capture::shipped().config().unwrap(), shipped);
    }

    #[test]
    fn another_database_has_names_of_its_own() {
        let mut capture = Capture::of_database("deletes");
        capture
            .settings
            .insert("poll.interval.ms".to_owned(), "500".to_owned());
        let config = capture.config().unwrap();
        for (setting, value) in [
            ("database.dbname", "deletes"),
            ("topic.prefix", "deletes"),
            ("notification.sink.topic.name", "__debezium-notification.deletes"),
            ("slot.name", "deletes"),
            ("poll.interval.ms", "500"),
        ] {
            assert_eq!(config[setting], value);
        }
    }
}
