//! Makes a dead letter of a record, whole.

use mongodb::bson::DateTime;
use rdkafka::{
    Message,
    message::{Headers, OwnedMessage},
};

use super::{chain, error::Failure};
use crate::store::dead_letters::{DeadLetter, Header, binary};

/// `message` as it came, with why it was not understood.
pub fn of(message: &OwnedMessage, failure: &Failure, now: DateTime) -> DeadLetter {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    DeadLetter {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().map(DateTime::from_millis),
        key: message.key().map(binary),
        value: message.payload().map(binary),
        headers: headers
            .map(|header| Header {
                name: header.key.to_owned(),
                value: header.value.map(binary),
            })
            .collect(),
        reason: chain(failure),
        created_at: now,
    }
}
