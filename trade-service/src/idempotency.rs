//! What makes two requests to create a post the same one: the member's key, and what it asks for.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::database::Chain;
use crate::metrics::TradeMetrics;
use crate::post::{NewPost, Violation, add};
use crate::store::{Store, StoreError};

/// The header, as it is written in messages.
pub(crate) const HEADER: &str = "Idempotency-Key";
const KEY_MAX: usize = 255;
/// How long a request is known.
const KEPT: Duration = Duration::from_hours(24);
const SWEEP_INTERVAL: Duration = Duration::from_mins(10);

/// Chosen by a client for one request and its repetitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key(String);

impl Key {
    /// `None` if the request has none.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Option<Self>, Violation> {
        let refused = |message: String| {
            let mut found = Vec::new();
            add(&mut found, HEADER, message);
            found.pop().map_or(Ok(None), Err)
        };
        let mut values = headers.get_all(HEADER).iter();
        let (Some(value), next) = (values.next(), values.next()) else {
            return Ok(None);
        };
        if next.is_some() {
            return refused(format!("must be sent once, got {}", 2 + values.count()));
        }
        let bytes = value.as_bytes();
        if let Some(other) = bytes.iter().find(|byte| !byte.is_ascii_graphic()) {
            return refused(format!(
                "must have visible ASCII characters only, got the byte 0x{other:02X}"
            ));
        }
        match value.to_str() {
            Ok(key) if (1..=KEY_MAX).contains(&key.len()) => Ok(Some(Self(key.to_owned()))),
            _ => refused(format!(
                "must have 1 to {KEY_MAX} characters, got {}",
                bytes.len()
            )),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl NewPost {
    /// The same for requests that ask for the same, however their JSON is written.
    pub(crate) fn hash(&self) -> [u8; 32] {
        let text = serde_json::to_vec(self).expect("a new post is JSON");
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &text).as_ref());
        hash
    }
}

/// Removes keys that have been kept long enough, until `shutdown`.
pub(crate) async fn sweep(
    store: Store,
    metrics: Arc<TradeMetrics>,
    shutdown: CancellationToken,
) -> Result<(), StoreError> {
    while !shutdown.is_cancelled() {
        let next = Instant::now() + SWEEP_INTERVAL;
        match shutdown.run_until_cancelled(store.remove_keys(KEPT)).await {
            Some(Ok(removed)) => {
                metrics.keys_removed.inc_by(removed);
                debug!(removed, "old idempotency keys are removed");
            }
            Some(Err(error)) => warn!(error = %Chain(&error), "old idempotency keys stay for now"),
            None => break,
        }
        shutdown.run_until_cancelled(sleep_until(next)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn key(values: &[&[u8]]) -> Result<Option<String>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
        }
        match Key::of(&headers) {
            Ok(key) => Ok(key.map(|key| key.as_str().to_owned())),
            Err(violation) => {
                assert_eq!(violation.field, HEADER);
                Err(violation.message)
            }
        }
    }

    #[test]
    fn a_key_is_some_visible_ascii_characters() {
        assert_eq!(key(&[]), Ok(None));
        for fine in [
            "x",
            "8e03978e-40d5-43e8-bc93-6894a57f9324",
            "\"a\"",
            "~!",
            &"k".repeat(255),
        ] {
            assert_eq!(key(&[fine.as_bytes()]), Ok(Some(fine.to_owned())));
        }
        for (values, message) in [
            (vec![&b""[..]], "must have 1 to 255 characters, got 0"),
            (vec![&[b'k'; 256][..]], "must have 1 to 255 characters, got 256"),
            (
                vec![&b"a b"[..]],
                "must have visible ASCII characters only, got the byte 0x20",
            ),
            (
                vec!["열쇠".as_bytes()],
                "must have visible ASCII characters only, got the byte 0xEC",
            ),
            (vec![&b"a"[..], &b"a"[..], &b"b"[..]], "must be sent once, got 3"),
        ] {
            assert_eq!(key(&values), Err(message.to_owned()));
        }
    }

    #[test]
    fn requests_are_the_same_if_they_ask_for_the_same() {
        let hash = |json: &str| serde_json::from_str::<NewPost>(json).unwrap().hash();
        let one = hash(r#"{"title": "a", "body": "b", "price": 1, "category": "c"}"#);
        assert_eq!(
            one,
            hash(r#"{"price":1,"category":"c","title":"\u0061","body":"b","image_urls":[]}"#)
        );
        let composed = hash(r#"{"title": "\u00e9", "body": "", "price": 1, "category": "c"}"#);
        assert_eq!(
            composed,
            hash(r#"{"title": "e\u0301", "body": "", "price": 1, "category": "c"}"#)
        );
        for other in [
            r#"{"title": "ab", "body": "", "price": 1, "category": "c"}"#,
            r#"{"title": "a", "body": "b", "price": 2, "category": "c"}"#,
            r#"{"title": "a", "body": "b", "price": 1, "category": "c", "image_urls": ["https://x.example"]}"#,
        ] {
            assert_ne!(one, hash(other), "{other}");
        }
    }
}
