//! The headers of a record, made fit to be read.
//!
//! Invariant: behind this module nothing panics at a header. Kafka keeps a header's name as it was
//! sent; rdkafka panics at one that is not text, and would do so again after every restart.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rdkafka::{
    Message,
    message::{Header, Headers, OwnedHeaders, OwnedMessage},
};

/// In place of a header that cannot be read.
const UNREADABLE: Header<'_, &[u8]> = Header {
    key: "(a header whose name is not UTF-8)",
    value: None,
};

/// `message`, with other headers if some of its own cannot be read.
pub fn readable(message: OwnedMessage) -> OwnedMessage {
    let Some(headers) = message.headers() else {
        return message;
    };
    let get = |index| catch_unwind(AssertUnwindSafe(|| headers.get(index)));
    if (0..headers.count()).all(|index| get(index).is_ok()) {
        return message;
    }
    let read = (0..headers.count()).fold(OwnedHeaders::new(), |read, index| {
        read.insert(get(index).unwrap_or(UNREADABLE))
    });
    message.replace_headers(Some(read))
}

/// The value of the record's header of this name.
pub fn value<'a>(message: &'a OwnedMessage, name: &str) -> Option<&'a [u8]> {
    message
        .headers()?
        .iter()
        .find(|header| header.key == name)
        .and_then(|header| header.value)
}

/// Bytes of names and values.
pub fn size(message: &OwnedMessage) -> usize {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    headers
        .map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len))
        .sum()
}
