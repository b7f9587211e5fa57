//! Opaque cursors of keyset pagination: base64url of the JSON of the last row's sort key.
//!
//! A cursor is not a secret and not signed: it can only say where to go on reading, and every query
//! carries the caller's own filters, so a forged one reads nothing that a list would not show.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// The text is not a cursor that the same list gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of this list")]
pub struct InvalidCursor;

impl From<InvalidCursor> for Problem {
    fn from(_: InvalidCursor) -> Self {
        Problem::invalid_input().field(
            "cursor",
            "is not a cursor of this list; pass `next_cursor` of the previous page with the same sort, or nothing",
        )
    }
}

/// `key` must serialize to JSON, which any struct of numbers, strings and times does.
///
/// # Panics
/// If it does not: a map with keys that are no strings, for example.
pub fn encode<T: Serialize>(key: &T) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(key).expect("a cursor's key serializes to JSON"))
}

pub fn decode<T: DeserializeOwned>(cursor: &str) -> Result<T, InvalidCursor> {
    let json = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| InvalidCursor)?;
    serde_json::from_slice(&json).map_err(|_| InvalidCursor)
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Key {
        at: DateTime<Utc>,
        price: i64,
        id: i64,
        text: String,
    }

    proptest! {
        #[test]
        fn decode_reverses_encode(
            micros in 0..4_000_000_000_000_000_i64, price: i64, id: i64, text: String,
        ) {
            let key = Key { at: DateTime::from_timestamp_micros(micros).unwrap(), price, id, text };
            let cursor = encode(&key);
            prop_assert!(cursor.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
            prop_assert_eq!(decode::<Key>(&cursor), Ok(key));
        }

        #[test]
        fn any_text_is_decoded_or_refused(text: String) {
            prop_assert_eq!(decode::<Key>(&text), Err(InvalidCursor));
        }
    }

    #[test]
    fn a_cursor_of_another_list_is_refused() {
        assert_eq!(decode::<Key>(&encode(&(1, 2))), Err(InvalidCursor));
    }
}
