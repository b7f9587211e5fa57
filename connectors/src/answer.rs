//! What Kafka Connect answers, told from what anything else would: Connect's errors are JSON with a code
//! and a message.

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
    value: FieldValue,
}

#[derive(Deserialize)]
struct FieldValue {
    name: String,
    #[serde(default)]
    errors: Vec<String>,
}

impl Validation {
    /// In the order of the fields' names. Debezium reports some errors twice, and `error_count` with them.
    pub(crate) fn errors(self) -> Vec<FieldError> {
        let fields = self.configs.into_iter().map(|config| config.value);
        let mut errors: Vec<FieldError> = fields
            .flat_map(|FieldValue { name, errors }| {
                errors.into_iter().map(move |message| FieldError {
                    field: name.clone(),
                    message,
                })
            })
            .collect();
        errors.sort_by(|a, b| (&a.field, &a.message).cmp(&(&b.field, &b.message)));
        errors.dedup();
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_lists_each_error_once_by_field() {
        let validation: Validation = serde_json::from_value(serde_json::json!({
            "name": "io.example.Connector",
            "error_count": 3,
            "configs": [
                {"definition": {}, "value": {"name": "slot.name", "value": "X", "errors": ["bad slot"]}},
                {"definition": {}, "value": {"name": "a.port", "value": "x", "errors": ["no integer", "no integer"]}},
                {"definition": {}, "value": {"name": "fine", "value": "x", "errors": []}},
            ],
        }))
        .unwrap();
        let shown: Vec<String> = validation.errors().iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["a.port: no integer", "slot.name: bad slot"]);
    }
}
