//! Kafka Connect's REST API, one method per request used. The only module that talks to a server; nothing
//! that it answers or that is printed of it shows credentials.

use std::{collections::BTreeMap, error::Error, fmt, iter::successors};

use reqwest::{
    Method, StatusCode,
    header::{CONTENT_TYPE, LOCATION},
};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    access::{Access, Way},
    answer::{Answer, Validation},
    error::{ConnectError, FieldError},
    lifecycle::Order,
    offsets::Offsets,
    status::Status,
};

/// A connector's settings. Connect knows strings only.
pub type Config = BTreeMap<String, String>;

/// Answer of `GET /`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Worker {
    /// Of Kafka Connect.
    pub version: String,
}

/// A connector that the worker can run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Plugin {
    pub class: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub version: Option<String>,
}

/// Settings as Connect keeps them: some may be null, which [`Config`] cannot hold and nothing here needs.
#[derive(Deserialize)]
struct Settings {
    config: BTreeMap<String, Option<String>>,
}

impl Settings {
    fn present(self) -> Config {
        let settings = self.config.into_iter();
        settings.filter_map(|(key, value)| Some((key, value?))).collect()
    }
}

/// A worker of Kafka Connect.
#[derive(Clone)]
pub struct ConnectApi(Way);

impl ConnectApi {
    /// `base_url` is the worker's REST address, with `user:password@` if it asks for HTTP basic
    /// authentication.
    pub fn new(base_url: &str) -> Result<Self, ConnectError> {
        Self::with(base_url, &Access::default())
    }

    pub fn with(base_url: &str, access: &Access) -> Result<Self, ConnectError> {
        Way::new(base_url, access).map(Self)
    }

    /// The address without credentials.
    pub fn url(&self) -> &str {
        &self.0.shown
    }

    /// The connector's configuration as it was put, placeholders of config providers unresolved; `None`
    /// if there is no such connector.
    pub async fn config(&self, name: &str) -> Result<Option<Config>, ConnectError> {
        self.call(Method::GET, &["connectors", name, "config"], &[], None)
            .await?
            .found()
    }

    /// What is wrong with a configuration, by field. Connect fills in the placeholders; Debezium also
    /// connects to the database.
    pub async fn validate(&self, class: &str, config: &Config) -> Result<Vec<FieldError>, ConnectError> {
        Ok(self.validation(class, config).await?.errors())
    }

    pub(crate) async fn validation(&self, class: &str, config: &Config) -> Result<Validation, ConnectError> {
        let path = ["connector-plugins", class, "config", "validate"];
        self.call(Method::PUT, &path, &[], Some(config)).await?.parsed()
    }

    pub async fn worker(&self) -> Result<Worker, ConnectError> {
        self.call(Method::GET, &[], &[], None).await?.parsed()
    }

    /// The connectors that the worker has installed.
    pub async fn plugins(&self) -> Result<Vec<Plugin>, ConnectError> {
        self.call(Method::GET, &["connector-plugins"], &[], None)
            .await?
            .parsed()
    }

    /// Creates or replaces.
    pub async fn put_config(&self, name: &str, config: &Config) -> Result<(), ConnectError> {
        self.call(Method::PUT, &["connectors", name, "config"], &[], Some(config))
            .await?
            .done()
    }

    /// `None` if there is no such connector, or not yet: the status follows the creation by a moment.
    pub async fn status(&self, name: &str) -> Result<Option<Status>, ConnectError> {
        self.call(Method::GET, &["connectors", name, "status"], &[], None)
            .await?
            .found()
    }

    /// Of all connectors, by name.
    pub async fn statuses(&self) -> Result<Vec<Status>, ConnectError> {
        #[derive(Deserialize)]
        struct Expanded {
            status: Status,
        }
        let expanded: BTreeMap<String, Expanded> = self.connectors(&[("expand", "status")]).await?;
        Ok(expanded.into_values().map(|connector| connector.status).collect())
    }

    /// The configurations of all connectors, by name.
    pub async fn configs(&self) -> Result<BTreeMap<String, Config>, ConnectError> {
        #[derive(Deserialize)]
        struct Expanded {
            /// None of one that is deleted just then.
            info: Option<Settings>,
        }
        let expanded: BTreeMap<String, Expanded> = self.connectors(&[("expand", "info")]).await?;
        let configs = expanded.into_iter();
        Ok(configs
            .filter_map(|(name, connector)| Some((name, connector.info?.present())))
            .collect())
    }

    async fn connectors<T: DeserializeOwned>(&self, query: &[(&str, &str)]) -> Result<T, ConnectError> {
        self.call(Method::GET, &["connectors"], query, None)
            .await?
            .parsed()
    }

    /// What the connector has given each of its tasks.
    pub async fn task_configs(&self, name: &str) -> Result<Vec<Config>, ConnectError> {
        let answer = self
            .call(Method::GET, &["connectors", name, "tasks"], &[], None)
            .await?;
        let tasks: Option<Vec<Settings>> = answer.found()?;
        let tasks = tasks.unwrap_or_default().into_iter();
        Ok(tasks.map(Settings::present).collect())
    }

    /// Restarts the connector and those of its tasks that have failed.
    pub async fn restart_failed(&self, name: &str) -> Result<(), ConnectError> {
        self.restart(name, true).await
    }

    /// Restarts the connector and its tasks, or those of them that have failed.
    pub async fn restart(&self, name: &str, only_failed: bool) -> Result<(), ConnectError> {
        let only_failed = if only_failed { "true" } else { "false" };
        let query = [("includeTasks", "true"), ("onlyFailed", only_failed)];
        self.call(Method::POST, &["connectors", name, "restart"], &query, None)
            .await?
            .done_by(name)
    }

    /// Asks for `pause`, `stop` or `resume`; Connect answers before it is so.
    pub async fn order(&self, name: &str, order: Order) -> Result<(), ConnectError> {
        self.call(Method::PUT, &["connectors", name, order.path()], &[], None)
            .await?
            .done_by(name)
    }

    /// How far the connector has got; `None` if there is no such connector.
    pub async fn offsets(&self, name: &str) -> Result<Option<Offsets>, ConnectError> {
        self.call(Method::GET, &["connectors", name, "offsets"], &[], None)
            .await?
            .found()
    }

    /// Forgets the offsets. Connect refuses it while the connector is not stopped.
    pub async fn reset_offsets(&self, name: &str) -> Result<(), ConnectError> {
        self.call(Method::DELETE, &["connectors", name, "offsets"], &[], None)
            .await?
            .done_by(name)
    }

    /// False if there was no such connector.
    pub async fn delete(&self, name: &str) -> Result<bool, ConnectError> {
        let answer = self
            .call(Method::DELETE, &["connectors", name], &[], None)
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        answer.done().map(|()| true)
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Config>,
    ) -> Result<Answer, ConnectError> {
        let mut url = self.0.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let shown = format!("{method} {}", url.path());
        let mut request = self.0.http.request(method, url).query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        let failed = |error: reqwest::Error| self.no_answer(error);
        let response = request.send().await.map_err(failed)?;
        let status = response.status();
        let header = |name| Some(response.headers().get(name)?.to_str().ok()?.to_owned());
        let (content_type, location) = (header(CONTENT_TYPE), header(LOCATION));
        let body = response.bytes().await.map_err(failed)?;

        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(ConnectError::Unauthorized {
                url: self.0.shown.clone(),
                status: status.as_u16(),
            });
        }
        let answer = Answer {
            request: shown,
            url: self.0.shown.clone(),
            status,
            body: body.into(),
        };
        if let Some(location) = location.filter(|_| status.is_redirection()) {
            return Err(answer.not_connect(format!("it redirects to {location}")));
        }
        match content_type {
            Some(found) if !found.starts_with("application/json") => {
                Err(answer.not_connect(format!("HTTP {status} with {found}")))
            }
            _ => answer.accepted(),
        }
    }

    fn no_answer(&self, error: reqwest::Error) -> ConnectError {
        // The sentence names the address already.
        let source = error.without_url();
        let url = self.0.shown.clone();
        if source.is_timeout() && !source.is_connect() {
            let waited = self.0.request_timeout;
            return ConnectError::NoAnswer { url, waited };
        }
        if is_about_certificates(&source) {
            return ConnectError::Distrusted { url, source };
        }
        ConnectError::Unreachable { url, source }
    }
}

/// TLS libraries say it only in words.
fn is_about_certificates(error: &dyn Error) -> bool {
    let causes = successors(Some(error), |&cause| cause.source());
    causes.into_iter().any(|cause| {
        let text = cause.to_string().to_lowercase();
        ["certificate", "handshake", "tls"]
            .iter()
            .any(|word| text.contains(word))
    })
}

impl fmt::Debug for ConnectApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectApi").field(&self.0.shown).finish()
    }
}
