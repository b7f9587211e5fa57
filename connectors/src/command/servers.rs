//! Options that name the servers around Kafka Connect.

use clap::Args;
use connectors::servers::Servers;

#[derive(Debug, Args)]
#[command(next_help_heading = "Other servers")]
pub(crate) struct ServerOptions {
    /// PostgreSQL, the database of the trade posts, as a user who may read `pg_replication_slots` and
    /// `debezium_heartbeat`: `postgres://user:password@host:5432/trade`
    #[arg(long, env = "TRADE_DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) database_url: Option<String>,
    /// Confluent-compatible API of the schema registry, as chat-service has it
    #[arg(long, env = "SCHEMA_REGISTRY_URL", hide_env_values = true, value_name = "URL")]
    pub(crate) registry_url: Option<String>,
    /// Kafka's bootstrap servers
    #[arg(long, env = "KAFKA_BOOTSTRAP_SERVERS", value_name = "HOST:PORT,…")]
    pub(crate) kafka: Option<String>,
    /// Further librdkafka property, for TLS and SASL; may be repeated, or separated by commas in the
    /// environment
    #[arg(
        long,
        env = "KAFKA_PROPERTY",
        hide_env_values = true,
        value_name = "NAME=VALUE",
        value_delimiter = ',',
        value_parser = property
    )]
    pub(crate) kafka_property: Vec<(String, String)>,
}

impl ServerOptions {
    pub(crate) fn servers(self) -> Servers {
        Servers {
            database_url: self.database_url,
            registry_url: self.registry_url,
            kafka: self.kafka,
            kafka_properties: self.kafka_property,
        }
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not name=value"))?;
    Ok((name.trim().to_owned(), value.to_owned()))
}
