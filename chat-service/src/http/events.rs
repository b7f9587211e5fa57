//! The event stream.

use std::sync::Arc;

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use serde::Deserialize;
use service_kit::extract::Query;

use super::{App, error::ApiError, rate::Action, session::Reader};
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    last_event_id: Option<String>,
}

pub async fn stream(
    State(app): State<Arc<App>>,
    method: Method,
    Reader(caller): Reader,
    headers: HeaderMap,
    Query(Resume { last_event_id }): Query<Resume>,
) -> Result<Response, ApiError> {
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

/// The last event that the reader has seen. The header wins: a browser sets it on coming back,
/// while the address stays as it was.
fn last_seen(header: Option<&HeaderValue>, query: Option<&str>) -> Result<Option<i64>, ApiError> {
    let text = match header {
        Some(header) => Some(header.to_str().unwrap_or("?")),
        None => query,
    };
    let Some(text) = text.filter(|text| !text.is_empty()) else {
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
