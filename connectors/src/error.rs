//! What can go wrong between this program and Kafka Connect: one sentence each, and what to do next.

use std::{fmt, time::Duration};

use crate::status::Failure;

/// Why a connector could not be managed. `Display` leaves the source to the error chain.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{url:?} is no address of Kafka Connect: {reason}; give one like http://127.0.0.1:8083")]
    InvalidUrl { url: String, reason: String },

    #[error(
        "Kafka Connect at {url} cannot be reached; check that the worker runs and that --connect-url (or \
         CONNECT_URL) is the address of its REST API"
    )]
    Unreachable { url: String, source: reqwest::Error },

    #[error(
        "the TLS connection to Kafka Connect at {url} failed; check --ca-file and --client-cert, and that the \
         worker's certificate is for this host"
    )]
    Distrusted { url: String, source: reqwest::Error },

    #[error(
        "{option} holds no certificate in PEM that can be used; a client certificate needs its private key too"
    )]
    UnfitPem {
        option: &'static str,
        source: reqwest::Error,
    },

    #[error("{option} holds no certificate in PEM")]
    EmptyPem { option: &'static str },

    #[error(
        "Kafka Connect at {url} gave no answer within {} s; look at the worker's log, or give it more time \
         with --timeout or --request-timeout",
        waited.as_secs()
    )]
    NoAnswer { url: String, waited: Duration },

    #[error(
        "Kafka Connect at {url} refuses these credentials (HTTP {status}); give user and password with \
         CONNECT_USER and CONNECT_PASSWORD, or in CONNECT_URL, as in http://user:password@host:8083"
    )]
    Unauthorized { url: String, status: u16 },

    #[error(
        "what answers at {url} is not Kafka Connect ({found}); check --connect-url (or CONNECT_URL): it is \
         the worker's REST address, by default on port 8083"
    )]
    NotConnect { url: String, found: String },

    /// Connect's own words, which name what is wrong.
    #[error("Kafka Connect answered HTTP {status} to {request}: {message}")]
    Refused {
        request: String,
        status: u16,
        message: String,
    },

    #[error(
        "the configuration of {connector} is refused, nothing was changed; correct these fields:{}",
        Lines(fields)
    )]
    InvalidConfig {
        connector: String,
        fields: Vec<FieldError>,
    },

    #[error(
        "{connector} does not run:{}\nCorrect the cause and apply again: that restarts what has failed",
        Lines(failures)
    )]
    Failed {
        connector: String,
        failures: Vec<Failure>,
    },

    #[error(
        "{connector} is {state} because somebody asked for that; if it should run: connectors \
         resume {connector}"
    )]
    Halted { connector: String, state: String },

    #[error(
        "{connector} was not {wanted} after {} s, its last state was: {state}; look at the worker's log, or \
         wait longer with --timeout",
        waited.as_secs()
    )]
    NotReached {
        connector: String,
        wanted: &'static str,
        state: String,
        waited: Duration,
    },

    #[error(
        "{connector} was changed by somebody else since it was looked at; nothing was changed here: apply again"
    )]
    ChangedMeanwhile { connector: String },

    #[error(
        "{connector} is {state}, which it could not be given back afterwards; nothing was done: wait until it is \
         RUNNING, PAUSED, STOPPED or FAILED"
    )]
    Unsettled { connector: String, state: String },

    /// `done` is what has come of stopping it.
    #[error(
        "{done}\n{connector} is left STOPPED: it could not be given the state back that it had; do that as soon as \
         Kafka Connect answers: connectors {order} {connector}"
    )]
    LeftStopped {
        connector: String,
        order: &'static str,
        done: String,
        source: Box<ConnectError>,
    },

    #[error("there is no connector {connector}; `connectors status` lists those that exist")]
    NotFound { connector: String },
}

impl ConnectError {
    /// Whether the workers are only agreeing on who runs what, so that the same request will be answered
    /// soon. Connect mostly says so with 409, but reading a connector's tasks answers 500.
    pub fn is_rebalance(&self) -> bool {
        match self {
            Self::Refused { status: 409, .. } => true,
            Self::Refused {
                status: 500, message, ..
            } => message.contains("rebalance"),
            _ => false,
        }
    }

    /// Whether the same request can be answered later, without anybody changing how it is made.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::NoAnswer { .. }) || self.is_rebalance()
    }
}

/// One reason why Connect's validation refuses a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// Each item on an indented line of its own, also if its text has several.
struct Lines<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for Lines<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in self.0 {
            for line in item.to_string().lines() {
                write!(f, "\n  {line}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_listed() {
        let field = |field: &str, message: &str| FieldError {
            field: field.to_owned(),
            message: message.to_owned(),
        };
        let error = ConnectError::InvalidConfig {
            connector: "trade-posts".to_owned(),
            fields: vec![field("slot.name", "too long"), field("topic.prefix", "required")],
        };
        let text = error.to_string();
        assert!(
            text.ends_with("\n  slot.name: too long\n  topic.prefix: required"),
            "{text}"
        );
    }
}
