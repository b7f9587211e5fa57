//! Records that could not be understood: look at them, replay them, discard them.
//!
//! Invariant: a dead letter goes away only when its record took effect, or when somebody discards it.

use std::sync::Arc;

use axum::extract::State;
use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use http::StatusCode;
use mongodb::bson::{Binary, oid::ObjectId};
use serde::Serialize;
use service_kit::extract::{Json, Path, Query};
use tracing::{info, warn};

use super::super::{
    App,
    error::ApiError,
    page::{Asked, Page, Wanted},
};
use crate::{
    cdc::{dead_letter, error::Decision},
    store::dead_letters::{DeadLetter, Header, Summary},
    view::time,
};

#[derive(Serialize)]
pub struct DeadLetters {
    items: Vec<SummaryView>,
    next_cursor: Option<String>,
    previous_cursor: Option<String>,
}

#[derive(Serialize)]
struct SummaryView {
    id: String,
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: Option<DateTime<Utc>>,
    reason: String,
    created_at: DateTime<Utc>,
}

#[derive(Serialize)]
pub struct DeadLetterView {
    #[serde(flatten)]
    summary: SummaryView,
    /// Base64, as the value and the headers' values are.
    key: Option<String>,
    value: Option<String>,
    headers: Vec<HeaderView>,
}

#[derive(Serialize)]
struct HeaderView {
    name: String,
    value: Option<String>,
}

/// What became of a replayed record.
#[derive(Serialize)]
pub struct Replayed {
    rooms_closed: usize,
}

#[derive(Serialize)]
pub struct ReplayedPage {
    replayed: usize,
    /// They are kept.
    failed: Vec<FailedView>,
    next_cursor: Option<String>,
}

#[derive(Serialize)]
struct FailedView {
    id: String,
    reason: String,
}

pub async fn list(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<DeadLetters>, ApiError> {
    let page = find(&app, &wanted).await?;
    Ok(Json(DeadLetters {
        items: page.items.into_iter().map(SummaryView::from).collect(),
        next_cursor: page.next_cursor,
        previous_cursor: page.previous_cursor,
    }))
}

pub async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<DeadLetterView>, ApiError> {
    let letter = letter(&app, &id).await?;
    Ok(Json(letter.into()))
}

/// Sends the record through the pipeline again, and removes the dead letter if it took effect.
pub async fn replay(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Replayed>, ApiError> {
    let rooms_closed = replay_one(&app, letter(&app, &id).await?).await?;
    Ok(Json(Replayed { rooms_closed }))
}

/// Replays a page of dead letters, the oldest first. Those that fail are passed over and kept.
pub async fn replay_page(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<ReplayedPage>, ApiError> {
    let page = find(&app, &wanted).await?;
    let mut replayed = 0;
    let mut failed = Vec::new();
    for summary in page.items {
        let Some(letter) = app.store.dead_letter(summary.id).await? else {
            continue;
        };
        match replay_one(&app, letter).await {
            Ok(_) => replayed += 1,
            Err(ApiError::NotUnderstood(reason)) => failed.push(FailedView {
                id: summary.id.to_hex(),
                reason,
            }),
            Err(error) => return Err(error),
        }
    }
    Ok(Json(ReplayedPage {
        replayed,
        failed,
        next_cursor: page.next_cursor,
    }))
}

pub async fn discard(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<StatusCode, ApiError> {
    let letter = letter(&app, &id).await?;
    if !app.store.remove_dead_letter(letter.id).await? {
        return Err(ApiError::NoDeadLetter);
    }
    // The last trace of the record.
    warn!(
        kafka.topic = letter.topic,
        kafka.partition = letter.partition,
        kafka.offset = letter.offset,
        "an operator discarded a dead letter: {}",
        letter.reason
    );
    Ok(StatusCode::NO_CONTENT)
}

async fn find(app: &App, wanted: &Wanted) -> Result<Page<Summary>, ApiError> {
    let asked = Asked::new("dead-letters", wanted)?;
    let found = app.store.dead_letters(asked.edge, asked.rows()).await?;
    Ok(asked.page(found, |letter| letter.id))
}

async fn letter(app: &App, id: &str) -> Result<DeadLetter, ApiError> {
    let letter = app.store.dead_letter(dead_letter_id(id)?).await?;
    letter.ok_or(ApiError::NoDeadLetter)
}

async fn replay_one(app: &App, letter: DeadLetter) -> Result<usize, ApiError> {
    let id = letter.id;
    let (topic, partition, offset) = (letter.topic.clone(), letter.partition, letter.offset);
    let rooms = app
        .pipeline
        .replay(letter)
        .await
        .map_err(|failure| match app.pipeline.decide(&failure) {
            Decision::DeadLetter => ApiError::NotUnderstood(dead_letter::reason(&failure)),
            Decision::Retry | Decision::Exit => ApiError::Pipeline(failure),
        })?;
    app.store.remove_dead_letter(id).await?;
    info!(
        kafka.topic = topic,
        kafka.partition = partition,
        kafka.offset = offset,
        "a dead letter was replayed and took effect"
    );
    Ok(rooms)
}

fn dead_letter_id(text: &str) -> Result<ObjectId, ApiError> {
    ObjectId::parse_str(text).map_err(|_| ApiError::NoDeadLetter)
}

impl From<Summary> for SummaryView {
    fn from(letter: Summary) -> Self {
        Self {
            id: letter.id.to_hex(),
            topic: letter.topic,
            partition: letter.partition,
            offset: letter.offset,
            timestamp: letter.timestamp.map(time),
            reason: letter.reason,
            created_at: time(letter.created_at),
        }
    }
}

impl From<DeadLetter> for DeadLetterView {
    fn from(letter: DeadLetter) -> Self {
        Self {
            key: letter.key.map(base64),
            value: letter.value.map(base64),
            headers: letter.headers.into_iter().map(HeaderView::from).collect(),
            summary: SummaryView {
                id: letter.id.to_hex(),
                topic: letter.topic,
                partition: letter.partition,
                offset: letter.offset,
                timestamp: letter.timestamp.map(time),
                reason: letter.reason,
                created_at: time(letter.created_at),
            },
        }
    }
}

impl From<Header> for HeaderView {
    fn from(header: Header) -> Self {
        Self {
            name: header.name,
            value: header.value.map(base64),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "a closure for Option::map")]
fn base64(binary: Binary) -> String {
    BASE64_STANDARD.encode(&binary.bytes)
}
