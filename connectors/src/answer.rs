//! What Kafka Connect answers, told from what anything else would: Connect's errors are JSON with a code
//! and a message.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde::{Deserialize, de::DeserializeOwned};

use crate::error::{ConnectError, FieldError};

/// An answer in JSON, or an empty one: a success or 404.
pub(crate) struct Answer {
    pub(crate) request: String,
    pub(crate) url: String,
    pub(crate) status: StatusCode,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Turns an error status other than 404 into an error with Connect's words.
    pub(crate) fn accepted(self) -> Result<Self, ConnectError> {
        if self.status.is_success() {
            return Ok(self);
        }
        let refusal = self.refusal()?;
        if self.status == StatusCode::NOT_FOUND {
            return Ok(self);
        }
        Err(refusal)
    }

    fn refusal(&self) -> Result<ConnectError, ConnectError> {
        #[derive(Deserialize)]
        struct ErrorMessage {
            #[serde(rename = "error_code")]
            _error_code: u16,
            message: String,
        }
        let Ok(error) = serde_json::from_slice::<ErrorMessage>(&self.body) else {
            return Err(self.not_connect(format!("HTTP {}", self.status)));
        };
        Ok(ConnectError::Refused {
            request: self.request.clone(),
            status: self.status.as_u16(),
            message: error.message,
        })
    }

    pub(crate) fn found<T: DeserializeOwned>(self) -> Result<Option<T>, ConnectError> {
        if self.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.parsed().map(Some)
    }

    pub(crate) fn parsed<T: DeserializeOwned>(self) -> Result<T, ConnectError> {
        if self.status == StatusCode::NOT_FOUND {
            return Err(self.refusal()?);
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| self.not_connect(format!("its answer to {} is unknown: {error}", self.request)))
    }

    /// For what a connector is told to do.
    pub(crate) fn done_by(self, connector: &str) -> Result<(), ConnectError> {
        if self.status == StatusCode::NOT_FOUND {
            return Err(ConnectError::NotFound {
                connector: connector.to_owned(),
            });
        }
        Ok(())
    }

    pub(crate) fn done(self) -> Result<(), ConnectError> {
        if self.status == StatusCode::NOT_FOUND {
            return Err(self.refusal()?);
        }
        Ok(())
    }

    pub(crate) fn not_connect(&self, found: String) -> ConnectError {
        ConnectError::NotConnect {
            url: self.url.clone(),
            found,
        }
    }
}

/// Answer of `PUT /connector-plugins/{class}/config/validate`.
#[derive(Deserialize)]
pub(crate) struct Validation {
    configs: Vec<ValidatedField>,
}

#[derive(Deserialize)]
struct ValidatedField {
    definition: Option<Definition>,
    value: FieldValue,
}

#[derive(Deserialize)]
struct Definition {
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct FieldValue {
    name: String,
    value: Option<String>,
    #[serde(default)]
    errors: Vec<String>,
}

impl Validation {
    /// In the order of the fields' names. Debezium reports some errors twice, and `error_count` with them.
    pub(crate) fn errors(&self) -> Vec<FieldError> {
        let fields = self.configs.iter().map(|config| &config.value);
        let mut errors: Vec<FieldError> = fields
            .flat_map(|FieldValue { name, errors, .. }| {
                errors.iter().map(move |message| FieldError {
                    field: name.clone(),
                    message: message.clone(),
                })
            })
            .collect();
        errors.sort_by(|a, b| (&a.field, &a.message).cmp(&(&b.field, &b.message)));
        errors.dedup();
        errors
    }

    /// The fields that the connector declares as passwords.
    pub(crate) fn passwords(&self) -> BTreeSet<String> {
        let password = |field: &&ValidatedField| {
            let kind = field.definition.as_ref().and_then(|d| d.kind.as_deref());
            kind == Some("PASSWORD")
        };
        let fields = self.configs.iter().filter(password);
        fields.map(|field| field.value.name.clone()).collect()
    }

    /// What Connect read for a field, placeholders filled in. Connectors do not report it for their own.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let field = self.configs.iter().find(|config| config.value.name == name)?;
        field.value.value.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_lists_each_error_once_by_field_and_the_passwords() {
        let validation: Validation = serde_json::from_value(serde_json::json!({
            "name": "io.example.Connector",
            "error_count": 3,
            "configs": [
                {"definition": {}, "value": {"name": "slot.name", "value": "X", "errors": ["bad slot"]}},
                {"definition": {"type": "INT"}, "value": {"name": "a.port", "value": "x", "errors": ["no integer", "no integer"]}},
                {"definition": {"type": "PASSWORD"}, "value": {"name": "phrase", "value": null, "errors": []}},
                {"definition": null, "value": {"name": "fine", "value": "x", "errors": []}},
            ],
        }))
        .unwrap();
        let shown: Vec<String> = validation.errors().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a.port: no integer", "slot.name: bad slot"]);
        assert_eq!(validation.passwords(), BTreeSet::from(["phrase".to_owned()]));
        assert_eq!(validation.value("fine"), Some("x"));
        assert_eq!(validation.value("phrase"), None);
    }
}
