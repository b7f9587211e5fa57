//! Where the servers around Kafka Connect are. Each may be left out: then nothing is seen of it.

use std::convert::Infallible;

use sqlx::PgConnection;

use crate::{
    database::{self, DatabaseError},
    kafka::Kafka,
    registry::{RegistryApi, RegistryError},
};

/// Addresses as they were given; they may hold credentials.
#[derive(Clone, Default)]
pub struct Servers {
    pub database_url: Option<String>,
    pub registry_url: Option<String>,
    pub kafka: Option<String>,
    /// Further properties of librdkafka, for TLS and SASL.
    pub kafka_properties: Vec<(String, String)>,
}

impl std::fmt::Debug for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Servers").finish_non_exhaustive()
    }
}

/// One of the servers.
#[derive(Debug)]
pub(crate) enum Part<T, E> {
    /// With the option that would name it.
    NotAsked(&'static str),
    Failed(E),
    Asked(T),
}

impl<T, E> Part<T, E> {
    fn of(result: Result<T, E>) -> Self {
        match result {
            Ok(asked) => Self::Asked(asked),
            Err(error) => Self::Failed(error),
        }
    }
}

impl Servers {
    pub(crate) async fn database(&self) -> Part<PgConnection, DatabaseError> {
        match &self.database_url {
            None => Part::NotAsked("not asked: give --database-url or TRADE_DATABASE_URL"),
            Some(url) => Part::of(database::connect(url).await),
        }
    }

    pub(crate) fn registry(&self) -> Part<RegistryApi, RegistryError> {
        match &self.registry_url {
            None => Part::NotAsked("not asked: give --registry-url or SCHEMA_REGISTRY_URL"),
            Some(url) => Part::of(RegistryApi::new(url)),
        }
    }

    pub(crate) fn kafka(&self) -> Part<Kafka, Infallible> {
        match &self.kafka {
            None => Part::NotAsked("not asked: give --kafka or KAFKA_BOOTSTRAP_SERVERS"),
            Some(bootstrap) => Part::Asked(Kafka::new(bootstrap, &self.kafka_properties)),
        }
    }
}
