//! The schema registry's Confluent-compatible API, one method per request used. Nothing that it answers or
//! that is printed of it shows credentials.

use std::{fmt, time::Duration};

use reqwest::{Method, StatusCode, Url, redirect};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the registry did not do what it was asked. `Display` leaves the source to the error chain.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error(
        "{url:?} is no address of a schema registry: {reason}; give one like \
         http://127.0.0.1:8081/apis/ccompat/v7"
    )]
    InvalidUrl { url: String, reason: String },

    #[error(
        "the schema registry at {url} cannot be reached; check that it runs and that --registry-url (or \
         SCHEMA_REGISTRY_URL) is its address"
    )]
    Unreachable { url: String, source: reqwest::Error },

    #[error(
        "the schema registry at {url} refuses these credentials (HTTP {status}); give user and password in \
         SCHEMA_REGISTRY_URL, as in http://user:password@host:8081/apis/ccompat/v7"
    )]
    Unauthorized { url: String, status: u16 },

    #[error(
        "what answers at {url} is not the Confluent-compatible API of a schema registry ({found}); that of \
         Apicurio ends with /apis/ccompat/v7: check --registry-url (or SCHEMA_REGISTRY_URL)"
    )]
    NotRegistry { url: String, found: String },

    /// The registry's own words.
    #[error("the schema registry answered HTTP {status} to {request}: {message}")]
    Refused {
        request: String,
        status: u16,
        message: String,
    },
}

/// One version of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Version {
    pub version: u32,
    /// The id that stands in front of each record written with it.
    pub id: u32,
    pub schema: String,
}

#[derive(Clone)]
pub struct RegistryApi {
    http: reqwest::Client,
    /// May carry credentials, which reqwest turns into a header.
    base: Url,
    /// The same without credentials.
    shown: String,
}

impl RegistryApi {
    /// `base_url` is that of the Confluent-compatible API, with `user:password@` if it asks for HTTP basic
    /// authentication.
    pub fn new(base_url: &str) -> Result<Self, RegistryError> {
        let invalid = |url: &str, reason: String| RegistryError::InvalidUrl {
            url: url.to_owned(),
            reason,
        };
        // A text that is no address is not shown: nobody knows where in it a password stands.
        let base = Url::parse(base_url).map_err(|error| invalid("…", error.to_string()))?;
        let mut shown = base.clone();
        let _ = shown.set_username("");
        let _ = shown.set_password(None);
        if !matches!(base.scheme(), "http" | "https") {
            let reason = "it does not begin with http:// or https://".to_owned();
            return Err(invalid("…", reason));
        }
        let shown = String::from(shown);
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .redirect(redirect::Policy::none())
            .build()
            .map_err(|error| invalid(&shown, error.to_string()))?;
        Ok(Self { http, base, shown })
    }

    /// The address without credentials.
    pub fn url(&self) -> &str {
        &self.shown
    }

    /// Of all subjects, by name.
    pub async fn subjects(&self) -> Result<Vec<String>, RegistryError> {
        self.required(Method::GET, &["subjects"], None).await
    }

    /// The numbers of a subject's versions; none if there is no such subject.
    pub async fn versions(&self, subject: &str) -> Result<Vec<u32>, RegistryError> {
        let path = ["subjects", subject, "versions"];
        let versions: Option<_> = self.call(Method::GET, &path, None).await?;
        Ok(versions.unwrap_or_default())
    }

    /// The newest version of a subject, if there is such a subject.
    pub async fn latest(&self, subject: &str) -> Result<Option<Version>, RegistryError> {
        let path = ["subjects", subject, "versions", "latest"];
        self.call(Method::GET, &path, None).await
    }

    /// A version of a subject, if there is one.
    pub async fn version(&self, subject: &str, version: u32) -> Result<Option<Version>, RegistryError> {
        let path = ["subjects", subject, "versions", &version.to_string()];
        self.call(Method::GET, &path, None).await
    }

    /// The text of the schema of that id, if the registry knows it.
    pub async fn schema(&self, id: u32) -> Result<Option<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Schema {
            schema: String,
        }
        let id = id.to_string();
        let found: Option<Schema> = self.call(Method::GET, &["schemas", "ids", &id], None).await?;
        Ok(found.map(|found| found.schema))
    }

    /// Adds a version, or answers the id of the one that has this text already.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        #[derive(Deserialize)]
        struct Registered {
            id: u32,
        }
        let body = json!({ "schema": schema, "schemaType": "AVRO" });
        let path = ["subjects", subject, "versions"];
        let registered: Registered = self.required(Method::POST, &path, Some(&body)).await?;
        Ok(registered.id)
    }

    /// The compatibility level of this subject. Where none was set, some registries answer `NONE` and
    /// others nothing.
    pub async fn compatibility(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        #[derive(Deserialize)]
        struct Level {
            #[serde(rename = "compatibilityLevel")]
            level: String,
        }
        let level: Option<Level> = self.call(Method::GET, &["config", subject], None).await?;
        Ok(level.map(|level| level.level))
    }

    pub async fn set_compatibility(&self, subject: &str, level: &str) -> Result<(), RegistryError> {
        let body = json!({ "compatibility": level });
        let _: Value = self
            .required(Method::PUT, &["config", subject], Some(&body))
            .await?;
        Ok(())
    }

    async fn required<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<T, RegistryError> {
        let shown = format!("{method} /{}", path.join("/"));
        self.call(method, path, body)
            .await?
            .ok_or_else(|| RegistryError::Refused {
                request: shown,
                status: 404,
                message: "there is no such subject".to_owned(),
            })
    }

    /// `None` for what the registry says that it does not have.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: Option<&Value>,
    ) -> Result<Option<T>, RegistryError> {
        #[derive(Deserialize)]
        struct ErrorMessage {
            error_code: u32,
            message: Option<String>,
        }
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let request = format!("{method} {}", url.path());
        let mut sent = self.http.request(method, url);
        if let Some(body) = body {
            sent = sent.json(body);
        }
        let unreachable = |error: reqwest::Error| RegistryError::Unreachable {
            url: self.shown.clone(),
            source: error.without_url(),
        };
        let response = sent.send().await.map_err(unreachable)?;
        let status = response.status();
        let answer = response.bytes().await.map_err(unreachable)?;
        let strange = |found: String| RegistryError::NotRegistry {
            url: self.shown.clone(),
            found,
        };
        if status.is_success() {
            let parsed = serde_json::from_slice(&answer);
            return parsed
                .map(Some)
                .map_err(|error| strange(format!("its answer to {request} is unknown: {error}")));
        }
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(RegistryError::Unauthorized {
                url: self.shown.clone(),
                status: status.as_u16(),
            });
        }
        let Ok(error) = serde_json::from_slice::<ErrorMessage>(&answer) else {
            return Err(strange(format!("HTTP {status} to {request}")));
        };
        // 404xx: no such subject, version, schema or level. A plain 404 is an unknown route.
        if status == StatusCode::NOT_FOUND {
            return if error.error_code > 40_000 {
                Ok(None)
            } else {
                Err(strange(format!("HTTP {status} to {request}")))
            };
        }
        Err(RegistryError::Refused {
            request,
            status: status.as_u16(),
            message: error.message.unwrap_or_default(),
        })
    }
}

impl fmt::Debug for RegistryApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegistryApi").field(&self.shown).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_shown() {
        let api = RegistryApi::new("http://reader:s3cret@registry:8081/apis/ccompat/v7").unwrap();
        assert_eq!(api.url(), "http://registry:8081/apis/ccompat/v7");
        assert!(!format!("{api:?}").contains("s3cret"));
        for wrong in [
            "ftp://reader:s3cret@registry",
            "http://reader:s3cret@",
            "reader:s3cret@registry",
        ] {
            let error = RegistryApi::new(wrong).unwrap_err().to_string();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
