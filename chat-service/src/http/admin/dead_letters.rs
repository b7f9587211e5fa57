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

#[derive(Serialize, utoipa::ToSchema)]
pub struct DeadLetters {
    items: Vec<SummaryView>,
    #[schema(required)]
    next_cursor: Option<String>,
    #[schema(required)]
    previous_cursor: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = DeadLetterSummary)]
struct SummaryView {
    id: String,
    topic: String,
    partition: i32,
    offset: i64,
    #[schema(required)]
    timestamp: Option<DateTime<Utc>>,
    reason: String,
    created_at: DateTime<Utc>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = DeadLetter)]
pub struct DeadLetterView {
    #[serde(flatten)]
    summary: SummaryView,
    /// Base64, as the value and the headers' values are.
    #[schema(required)]
    key: Option<String>,
    #[schema(required)]
    value: Option<String>,
    headers: Vec<HeaderView>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Header)]
struct HeaderView {
    name: String,
    #[schema(required)]
    value: Option<String>,
}

/// What became of a replayed record.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Replayed {
    rooms_closed: usize,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct ReplayedPage {
    replayed: usize,
    /// They are kept.
    failed: Vec<FailedView>,
    #[schema(required)]
    next_cursor: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Failed)]
struct FailedView {
    id: String,
    reason: String,
}

/// For the document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the document alone")]
pub struct Id {
    #[param(pattern = "^[0-9a-fA-F]{24}$")]
    id: String,
}

/// List records that were not understood
#[utoipa::path(
    get,
    path = "/admin/v1/dead-letters",
    operation_id = "list_dead_letters",
    tag = "dead letters",
    params(Wanted),
    responses(
        (status = 200, description = "A page of them, the oldest first.", body = DeadLetters),
    ),
)]
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

/// Show one whole
#[utoipa::path(
    get,
    path = "/admin/v1/dead-letters/{id}",
    operation_id = "show_dead_letter",
    tag = "dead letters",
    params(Id),
    responses(
        (status = 200, description = "The record; bytes are in Base64.", body = DeadLetterView),
        (status = 404, description = "`not-found`: there is no such dead letter."),
    ),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<DeadLetterView>, ApiError> {
    let letter = letter(&app, &id).await?;
    Ok(Json(letter.into()))
}

/// Send the record through the pipeline again
///
/// The dead letter is removed if the record took effect.
#[utoipa::path(
    post,
    path = "/admin/v1/dead-letters/{id}/replay",
    operation_id = "replay_dead_letter",
    tag = "dead letters",
    params(Id),
    responses(
        (status = 200, description = "It took effect.", body = Replayed),
        (status = 404, description = "`not-found`: there is no such dead letter."),
        (status = 422, description = "`not-understood`: it is still not understood, and is kept; `invalid-input`: the id is no text."),
    ),
)]
pub async fn replay(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Replayed>, ApiError> {
    let rooms_closed = replay_one(&app, letter(&app, &id).await?).await?;
    Ok(Json(Replayed { rooms_closed }))
}

/// Replay a page of dead letters
///
/// The oldest first. Those that fail are passed over and kept.
#[utoipa::path(
    post,
    path = "/admin/v1/dead-letters/replay",
    operation_id = "replay_dead_letters",
    tag = "dead letters",
    params(Wanted),
    responses(
        (status = 200, description = "What became of them.", body = ReplayedPage),
    ),
)]
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

/// Discard a dead letter
#[utoipa::path(
    delete,
    path = "/admin/v1/dead-letters/{id}",
    operation_id = "discard_dead_letter",
    tag = "dead letters",
    params(Id),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, description = "`not-found`: there is no such dead letter."),
    ),
)]
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
