//! The event stream: what a reader may ask, before it begins.
//!
//! Invariant: whatever is refused is refused here, as a problem with a status. Once a stream has begun it
//! is a 200 and can only end, and its reader comes back.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE},
};
use serde::Deserialize;
use service_kit::extract::Query;

use super::{
    App,
    error::ApiError,
    rate::Action,
    session::{self, Reader},
};
use crate::live::stream::open;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
    (CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform")),
    (
        HeaderName::from_static("x-accel-buffering"),
        HeaderValue::from_static("no"),
    ),
];

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Resume {
    /// `last_event_id` of a list, to begin where it ended. The header goes before it.
    #[param(value_type = Option<i64>, nullable = false, minimum = 0)]
    last_event_id: Option<String>,
}

/// A server-sent event. One without data only says where the reader is.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "for the document alone")]
pub struct StreamEvent {
    /// The member's sequence, which has no gaps.
    #[schema(nullable = false, examples("7"), pattern = "^[0-9]+$")]
    id: Option<String>,
    #[schema(nullable = false)]
    event: Option<Name>,
    /// A JSON object: of `reset` `{"sequence": 7}`, of all others a `Notification` of the kind that `event` names.
    #[schema(nullable = false, content_media_type = "application/json")]
    data: Option<String>,
    /// Milliseconds to wait before coming back.
    #[schema(nullable = false, minimum = 1000, maximum = 1999)]
    retry: Option<i64>,
}

#[derive(utoipa::ToSchema)]
#[schema(as = StreamEventName, rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document alone")]
enum Name {
    Message,
    RoomCreated,
    RoomClosed,
    TradePostChanged,
    TradePostMatched,
    Read,
    /// Events were missed and are not kept any more: load the lists anew.
    Reset,
}

/// For the document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "for the document alone")]
pub struct Seen {
    /// The `id` of the last event that the reader has seen; browsers send it by themselves.
    #[param(rename = "Last-Event-ID", nullable = false, minimum = 0)]
    last_event_id: Option<i64>,
}

/// Follow what happens to the caller
///
/// Server-sent events without an end. Comments keep the stream alive. It ends when the token expires, and from time to
/// time: open it again with the last `id`. `HEAD` answers as `GET` would, and opens no stream.
#[utoipa::path(
    get,
    path = session::EVENTS,
    operation_id = "stream_events",
    tag = "events",
    params(Seen, Resume),
    security(("token" = []), ("session" = [])),
    responses(
        (status = 200, description = "Events; the schema is that of each.", content_type = "text/event-stream", body = StreamEvent),
        (status = 403, description = "`origin-not-allowed`: the page may not use the session's cookie."),
        (status = 406, description = "`not-acceptable`: the caller takes no event stream."),
        (status = 429, description = "`rate-limited`, `too-many-streams`, `instance-full`."),
    ),
)]
pub async fn stream(
    State(app): State<Arc<App>>,
    method: Method,
    Reader(caller): Reader,
    headers: HeaderMap,
    Query(Resume { last_event_id }): Query<Resume>,
) -> Result<Response, ApiError> {
    if !accepts_stream(&headers) {
        return Err(ApiError::NotAcceptable);
    }
    let seen = last_seen(headers.get(LAST_EVENT_ID), last_event_id.as_deref())?;
    if method == Method::HEAD {
        return Ok(HEADERS.into_response());
    }
    app.permit(Action::OpenStream, caller.id)?;
    // A place in the hub first: what comes while MongoDB is read waits in its buffer.
    let subscription = app.hub.subscribe(caller.id).map_err(ApiError::Streams)?;
    let body = open(app, caller, subscription, seen).await?;
    Ok((HEADERS, body).into_response())
}

/// Whether the reader takes an event stream. Of several ranges that match, the most specific decides.
fn accepts_stream(headers: &HeaderMap) -> bool {
    let ranges = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let mut ranges = ranges.flat_map(|value| value.split(',')).peekable();
    if ranges.peek().is_none() {
        return true;
    }
    let matching = ranges.filter_map(|range| {
        let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
        let specificity = match parts.next()?.as_str() {
            "text/event-stream" => 2,
            "text/*" => 1,
            "*/*" => 0,
            _ => return None,
        };
        let quality = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        Some((specificity, quality.is_none_or(|quality| quality > 0.0)))
    });
    matching.max().is_some_and(|(_, wanted)| wanted)
}

/// The last event that the reader has seen. The header wins: a browser sets it on coming back,
/// while the address stays as it was.
fn last_seen(header: Option<&HeaderValue>, query: Option<&str>) -> Result<Option<i64>, ApiError> {
    let header = header.map(|header| header.to_str().unwrap_or("?"));
    let Some(text) = [header, query]
        .into_iter()
        .flatten()
        .find(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    text.parse()
        .ok()
        .filter(|seq| *seq >= 0)
        .map(Some)
        .ok_or_else(|| ApiError::Field {
            field: "last_event_id",
            problem: "must be the id of an event: a whole number from 0".into(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_stream_is_given_to_who_takes_one() {
        let accepts = |values: &[&'static str]| {
            let header = |value: &&'static str| (ACCEPT, HeaderValue::from_static(value));
            accepts_stream(&values.iter().map(header).collect())
        };
        for values in [
            &[] as &[_],
            &["text/event-stream"],
            &["*/*"],
            &["text/*;q=0.5"],
            &["application/json, Text/Event-Stream"],
            &["application/json", "*/*; q=0.1"],
            &["*/*;q=0, text/event-stream"],
        ] {
            assert!(accepts(values), "{values:?}");
        }
        for values in [
            &["application/json"] as &[_],
            &[""],
            &["text/html, application/xml;q=0.9"],
            &["text/event-stream;q=0"],
            &["text/event-stream; q=0.0, */*"],
        ] {
            assert!(!accepts(values), "{values:?}");
        }
    }

    #[test]
    fn the_header_says_what_was_seen_and_else_the_address() {
        let of = |header: Option<&'static str>, query| {
            last_seen(header.map(HeaderValue::from_static).as_ref(), query).ok()
        };
        assert_eq!(of(None, None), Some(None));
        assert_eq!(of(None, Some("")), Some(None));
        assert_eq!(of(Some(""), Some("7")), Some(Some(7)));
        assert_eq!(of(None, Some("7")), Some(Some(7)));
        assert_eq!(of(Some("9"), Some("7")), Some(Some(9)));
        for wrong in ["-1", "abc", "1.5", "99999999999999999999", " 1", "1e3", "0x1"] {
            assert_eq!(of(None, Some(wrong)), None, "{wrong}");
            assert_eq!(of(Some(wrong), None), None, "{wrong}");
        }
    }
}
