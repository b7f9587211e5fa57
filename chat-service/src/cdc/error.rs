//! What goes wrong on the way from record to effect, and what is done about it.
//!
//! Invariant: only a record that can never be understood becomes a dead letter. A server that is
//! down is waited for, without a limit.

use std::time::Duration;

use mongodb::error::ErrorKind;
use rdkafka::{error::KafkaError, types::RDKafkaErrorCode as Code};

use super::{breaker::Flood, change_event::MalformedRecord, registry::SchemaError};

/// How long a schema id may be unknown to the registry before its records are dead letters.
pub const UNKNOWN_SCHEMA_GRACE: Duration = Duration::from_mins(1);

/// Whatever can go wrong with a batch.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Malformed(#[from] MalformedRecord),
    #[error(transparent)]
    Schema(#[from] SchemaError),
    #[error("MongoDB did not take the batch")]
    Store(#[from] mongodb::error::Error),
    #[error(
        "{flood}, the last one: {last}. The consumer stands still; mend the registry or the schema and it goes \
         on, or let records pass as dead letters with POST /admin/v1/consumer/resume"
    )]
    Flood { flood: Flood, last: String },
    #[error(
        "the group's offset is not in the topic any more: records were removed before they were read, and \
         deletes may be among them; start once with KAFKA_OFFSET_RESET=earliest to go on with what is left"
    )]
    OffsetLost(#[source] KafkaError),
    #[error("Kafka refused the consumer")]
    Kafka(#[source] KafkaError),
}

/// What is done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Wait and do it again, without a limit; nothing is lost and nothing is skipped.
    Retry,
    /// Keep the record whole in `dead_letters` and go on.
    DeadLetter,
    /// Exit with one clear line: only an operator can help.
    Exit,
}

impl Failure {
    /// The failure policy. `unknown_for`: how long an unknown schema id has been unknown.
    pub fn decide(&self, unknown_for: Duration) -> Decision {
        match self {
            Self::Malformed(_) | Self::Schema(SchemaError::Invalid { .. }) => Decision::DeadLetter,
            Self::Schema(SchemaError::Unknown { .. }) if unknown_for >= UNKNOWN_SCHEMA_GRACE => {
                Decision::DeadLetter
            }
            Self::Schema(SchemaError::Unreachable { .. } | SchemaError::Unknown { .. })
            | Self::Flood { .. } => Decision::Retry,
            Self::Schema(SchemaError::Changed { .. } | SchemaError::Denied { .. }) | Self::OffsetLost(_) => {
                Decision::Exit
            }
            Self::Store(error) | Self::Schema(SchemaError::Store { source: error, .. }) => {
                match *error.kind {
                    ErrorKind::Authentication { .. }
                    | ErrorKind::InvalidArgument { .. }
                    | ErrorKind::InvalidTlsConfig { .. } => Decision::Exit,
                    _ => Decision::Retry,
                }
            }
            Self::Kafka(error) => match error.rdkafka_error_code() {
                Some(
                    Code::Authentication
                    | Code::SaslAuthenticationFailed
                    | Code::TopicAuthorizationFailed
                    | Code::GroupAuthorizationFailed
                    | Code::ClusterAuthorizationFailed
                    | Code::FencedInstanceId
                    | Code::Fatal,
                ) => Decision::Exit,
                _ => Decision::Retry,
            },
        }
    }
}

impl Failure {
    /// Whether Kafka says that a topic is not there. That of keywords comes with the first one.
    pub fn is_missing_topic(&self) -> bool {
        matches!(self, Self::Kafka(error)
            if error.rdkafka_error_code() == Some(Code::UnknownTopicOrPartition))
    }

    /// What is waited for, as metrics and operators are told.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed_record",
            Self::Schema(SchemaError::Store { .. }) | Self::Store(_) => "mongodb",
            Self::Schema(SchemaError::Unknown { .. }) => "unknown_schema",
            Self::Schema(_) => "schema_registry",
            Self::Flood { .. } => "flood",
            Self::OffsetLost(_) | Self::Kafka(_) => "kafka",
        }
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset) => Self::OffsetLost(error),
            _ => Self::Kafka(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_schema_is_waited_for_and_then_given_up() {
        let unknown = Failure::from(SchemaError::Unknown { id: 7 });
        assert_eq!(unknown.decide(Duration::ZERO), Decision::Retry);
        assert_eq!(unknown.decide(UNKNOWN_SCHEMA_GRACE), Decision::DeadLetter);
    }

    #[test]
    fn servers_that_are_down_are_waited_for() {
        let down = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(Failure::Store(down.into()).decide(Duration::MAX), Decision::Retry);
        let broker = KafkaError::MessageConsumption(Code::BrokerTransportFailure);
        assert_eq!(Failure::Kafka(broker).decide(Duration::MAX), Decision::Retry);
    }

    #[test]
    fn a_flood_stops_the_consumer_and_drops_nothing() {
        let flood = Failure::Flood {
            flood: Flood::Run(51),
            last: "unknown operation".into(),
        };
        assert_eq!(flood.decide(Duration::MAX), Decision::Retry);
        assert_eq!(flood.cause(), "flood");
    }

    #[test]
    fn what_only_an_operator_can_mend_ends_the_process() {
        let refused = KafkaError::MessageConsumption(Code::SaslAuthenticationFailed);
        assert_eq!(Failure::Kafka(refused).decide(Duration::ZERO), Decision::Exit);
        let lost = Failure::from(KafkaError::MessageConsumption(Code::AutoOffsetReset));
        assert!(matches!(lost, Failure::OffsetLost(_)));
        assert_eq!(lost.decide(Duration::ZERO), Decision::Exit);
        assert_eq!(
            Failure::Schema(SchemaError::Changed { id: 7 }).decide(Duration::ZERO),
            Decision::Exit
        );
    }

    #[test]
    fn a_malformed_record_is_kept_and_passed() {
        assert_eq!(
            Failure::from(MalformedRecord::MissingKey).decide(Duration::ZERO),
            Decision::DeadLetter
        );
    }
}
