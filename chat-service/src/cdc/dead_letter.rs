//! Makes a dead letter of a record, whole, and the record of a dead letter.

use mongodb::bson::{Binary, DateTime, oid::ObjectId};
use rdkafka::{
    Message, Timestamp,
    message::{Header as KafkaHeader, Headers, OwnedHeaders, OwnedMessage},
};

use super::{chain, error::Failure};
use crate::store::dead_letters::{DeadLetter, Header, binary};

/// Most characters of a reason; the record itself is beside it.
const MAX_REASON: usize = 1000;

/// `message` as it came, with why it was not understood.
pub fn of(message: &OwnedMessage, failure: &Failure, now: DateTime) -> DeadLetter {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    DeadLetter {
        id: ObjectId::new(),
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
        reason: reason(failure),
        created_at: now,
    }
}

/// Why a record was not understood, in one line of bounded length.
pub fn reason(failure: &Failure) -> String {
    let mut reason = chain(failure);
    if let Some((end, _)) = reason.char_indices().nth(MAX_REASON) {
        reason.truncate(end);
        reason.push('…');
    }
    reason
}

/// The record that `letter` was made of.
pub fn message(letter: DeadLetter) -> OwnedMessage {
    let bytes = |binary: Binary| binary.bytes;
    let headers = letter
        .headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, header| {
            headers.insert(KafkaHeader {
                key: &header.name,
                value: header.value.as_ref().map(|value| &value.bytes),
            })
        });
    OwnedMessage::new(
        letter.value.map(bytes),
        letter.key.map(bytes),
        letter.topic,
        letter.timestamp.map_or(Timestamp::NotAvailable, |time| {
            Timestamp::CreateTime(time.timestamp_millis())
        }),
        letter.partition,
        letter.offset,
        Some(headers),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdc::{change_event::MalformedRecord, headers};

    #[test]
    fn a_record_comes_back_as_it_was() {
        let headers = OwnedHeaders::new().insert(KafkaHeader {
            key: "__debezium.newkey",
            value: Some(b"{\"id\":8}"),
        });
        let original = OwnedMessage::new(
            Some(vec![0, 1, 2]),
            None,
            "topic".into(),
            Timestamp::CreateTime(17),
            2,
            40,
            Some(headers),
        );
        let failure = Failure::from(MalformedRecord::MissingKey);
        let again = message(of(&original, &failure, DateTime::from_millis(1)));
        assert_eq!(
            (again.key(), again.payload()),
            (original.key(), original.payload())
        );
        assert_eq!(
            (
                again.topic(),
                again.partition(),
                again.offset(),
                again.timestamp()
            ),
            ("topic", 2, 40, Timestamp::CreateTime(17))
        );
        assert_eq!(
            headers::value(&again, "__debezium.newkey"),
            Some(b"{\"id\":8}".as_slice())
        );
    }

    #[test]
    fn a_reason_is_bounded() {
        let failure = Failure::from(MalformedRecord::UnknownOperation("가".repeat(100_000)));
        assert_eq!(reason(&failure).chars().count(), MAX_REASON + 1);
    }
}
