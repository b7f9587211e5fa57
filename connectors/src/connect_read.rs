//! What else `status` and `doctor` ask Kafka Connect.

use std::collections::BTreeMap;

use reqwest::Method;
use serde::Deserialize;

use crate::{Config, ConnectApi, ConnectError, offset::Offsets};

/// Answer of `GET /`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Worker {
    /// Of Kafka Connect.
    pub version: String,
}

/// One of `GET /connector-plugins`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Plugin {
    pub class: String,
    pub version: Option<String>,
}

impl ConnectApi {
    pub async fn worker(&self) -> Result<Worker, ConnectError> {
        self.call(Method::GET, &[], &[], None).await?.parsed()
    }

    /// Connector classes that the worker can load.
    pub async fn connector_plugins(&self) -> Result<Vec<Plugin>, ConnectError> {
        let answer = self.call(Method::GET, &["connector-plugins"], &[], None).await?;
        answer.parsed()
    }

    /// Of all connectors, by name.
    pub async fn all_configs(&self) -> Result<BTreeMap<String, Config>, ConnectError> {
        #[derive(Deserialize)]
        struct Expanded {
            info: Info,
        }
        #[derive(Deserialize)]
        struct Info {
            config: Config,
        }
        let query = [("expand", "info")];
        let answer = self.call(Method::GET, &["connectors"], &query, None).await?;
        let expanded: BTreeMap<String, Expanded> = answer.parsed()?;
        let configs = expanded.into_iter().map(|(name, one)| (name, one.info.config));
        Ok(configs.collect())
    }

    /// How far the connector has come; `None` if there is no such connector.
    pub async fn committed_offsets(&self, name: &str) -> Result<Option<Offsets>, ConnectError> {
        let path = ["connectors", name, "offsets"];
        self.call(Method::GET, &path, &[], None).await?.found()
    }
}
