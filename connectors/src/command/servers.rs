//! Options that name the servers around Kafka Connect.

use std::{ffi::OsStr, fmt, iter};

use clap::{Arg, Args, Command, builder::TypedValueParser, error::ErrorKind, parser::ValueSource};
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
    /// Further librdkafka property, for TLS and SASL; may be repeated. In the environment several are separated by
    /// commas
    #[arg(
        long,
        env = "KAFKA_PROPERTY",
        hide_env_values = true,
        value_name = "NAME=VALUE",
        value_parser = PropertiesParser
    )]
    pub(crate) kafka_property: Vec<Properties>,
}

/// What stands in one option, or in all of the variable.
#[derive(Clone)]
pub(crate) struct Properties(Vec<(String, String)>);

/// Without values, which can be secrets.
impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

impl Properties {
    /// `None` if one has no name.
    fn of<'a>(texts: impl Iterator<Item = &'a str>) -> Option<Self> {
        let property = |text: &str| {
            let (name, value) = text.split_once('=')?;
            Some((name.trim().to_owned(), value.to_owned()))
        };
        texts.map(property).collect::<Option<_>>().map(Self)
    }
}

/// clap's own error would show the text, which can be a password.
#[derive(Clone)]
struct PropertiesParser;

impl TypedValueParser for PropertiesParser {
    type Value = Properties;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Properties, clap::Error> {
        self.parse_ref_(command, arg, value, ValueSource::CommandLine)
    }

    /// A value may hold commas, such as a password; only in the environment they separate.
    fn parse_ref_(
        &self,
        command: &Command,
        _: Option<&Arg>,
        value: &OsStr,
        source: ValueSource,
    ) -> Result<Properties, clap::Error> {
        let properties = value.to_str().and_then(|text| match source {
            ValueSource::EnvVariable => Properties::of(text.split(',')),
            _ => Properties::of(iter::once(text)),
        });
        properties.ok_or_else(|| {
            let said = "--kafka-property (or KAFKA_PROPERTY) is not NAME=VALUE\n";
            clap::Error::raw(ErrorKind::ValueValidation, said).with_cmd(command)
        })
    }
}

impl ServerOptions {
    pub(crate) fn servers(self) -> Servers {
        Servers {
            database_url: self.database_url,
            registry_url: self.registry_url,
            kafka: self.kafka,
            kafka_properties: self.kafka_property.into_iter().flat_map(|all| all.0).collect(),
        }
    }
}
