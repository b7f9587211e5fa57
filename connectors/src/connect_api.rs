//! Kafka Connect's REST API, one method per request used. The only module that talks to a server; nothing
//! that it answers or that is printed of it shows credentials.

use std::{collections::BTreeMap, fmt, time::Duration};

use reqwest::{
    Method, StatusCode, Url,
    header::{CONTENT_TYPE, LOCATION},
    redirect,
};
use serde::Deserialize;

use crate::{
    answer::{Answer, Validation},
    error::{ConnectError, FieldError},
    status::Status,
};

/// A connector's settings. Connect knows strings only.
pub type Config = BTreeMap<String, String>;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connect gives up on a request itself after 90 s and says why.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(100);

#[derive(Clone)]
pub struct ConnectApi {
    http: reqwest::Client,
    /// May carry credentials, which reqwest turns into a header.
    base: Url,
    /// The same without credentials.
    shown: String,
}

impl ConnectApi {
    /// `base_url` is the worker's REST address, with `user:password@` if it asks for HTTP basic
    /// authentication.
    pub fn new(base_url: &str) -> Result<Self, ConnectError> {
        let invalid = |reason: String| ConnectError::InvalidUrl {
            url: without_credentials(base_url),
            reason,
        };
        let base = Url::parse(base_url).map_err(|error| invalid(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(invalid("it does not begin with http:// or https://".to_owned()));
        }
        let mut shown = base.clone();
        // Both fail only for a URL without a host, and http has one.
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            // Connect never redirects; whoever does is somebody else.
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self {
            http,
            base,
            shown: shown.into(),
        })
    }

    /// The address without credentials.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// The connector's configuration as it was put, placeholders of config providers unresolved; `None`
    /// if there is no such connector.
    pub async fn config(&self, name: &str) -> Result<Option<Config>, ConnectError> {
        self.call(Method::GET, &["connectors", name, "config"], &[], None)
            .await?
            .found()
    }

    /// What is wrong with a configuration, by field. Connect resolves the placeholders; Debezium also
    /// connects to the database.
    pub async fn validate(&self, class: &str, config: &Config) -> Result<Vec<FieldError>, ConnectError> {
        let path = ["connector-plugins", class, "config", "validate"];
        let validation: Validation = self.call(Method::PUT, &path, &[], Some(config)).await?.parsed()?;
        Ok(validation.errors())
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
        let answer = self
            .call(Method::GET, &["connectors"], &[("expand", "status")], None)
            .await?;
        let expanded: BTreeMap<String, Expanded> = answer.parsed()?;
        Ok(expanded.into_values().map(|connector| connector.status).collect())
    }

    /// What the connector has given each of its tasks.
    pub async fn task_configs(&self, name: &str) -> Result<Vec<Config>, ConnectError> {
        #[derive(Deserialize)]
        struct TaskConfig {
            // A task's settings may be null, which Config cannot hold and a comparison does not need.
            config: BTreeMap<String, Option<String>>,
        }
        let answer = self
            .call(Method::GET, &["connectors", name, "tasks"], &[], None)
            .await?;
        let tasks: Option<Vec<TaskConfig>> = answer.found()?;
        let present = |task: TaskConfig| {
            let settings = task.config.into_iter();
            settings.filter_map(|(key, value)| Some((key, value?))).collect()
        };
        Ok(tasks.unwrap_or_default().into_iter().map(present).collect())
    }

    /// Restarts the connector and those of its tasks that have failed.
    pub async fn restart_failed(&self, name: &str) -> Result<(), ConnectError> {
        let query = [("includeTasks", "true"), ("onlyFailed", "true")];
        self.call(Method::POST, &["connectors", name, "restart"], &query, None)
            .await?
            .done()
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

    pub(crate) async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Config>,
    ) -> Result<Answer, ConnectError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let shown = format!("{method} {}", url.path());
        let mut request = self.http.request(method, url).query(query);
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
                url: self.shown.clone(),
                status: status.as_u16(),
            });
        }
        let answer = Answer {
            request: shown,
            url: self.shown.clone(),
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
        let url = self.shown.clone();
        if source.is_timeout() && !source.is_connect() {
            let waited = ANSWER_TIMEOUT;
            return ConnectError::NoAnswer { url, waited };
        }
        ConnectError::Unreachable { url, source }
    }
}

impl fmt::Debug for ConnectApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectApi").field(&self.shown).finish()
    }
}

fn without_credentials(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => format!("{}{}", &url[..scheme + 3], &url[at + 1..]),
        (None, Some(at)) => url[at + 1..].to_owned(),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_shown() {
        let api = ConnectApi::new("http://operator:s3cret@connect:8083/").unwrap();
        assert_eq!(api.url(), "http://connect:8083/");
        assert!(!format!("{api:?}").contains("s3cret"));
        for wrong in [
            "ftp://operator:s3cret@connect",
            "http://operator:s3cret@",
            "operator:s3cret@connect:8083",
        ] {
            let error = ConnectApi::new(wrong).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
            assert!(error.contains("http://127.0.0.1:8083"), "{error}");
        }
    }
}
