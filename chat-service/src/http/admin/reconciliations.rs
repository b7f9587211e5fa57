//! Repairs of deletes that were missed: begun, followed, confirmed or cancelled. `connectors reconcile` is who asks.
//!
//! Invariant: nothing is closed unless it is confirmed here, and that can only be when what was missed is known.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use mongodb::bson;
use serde::{Deserialize, Serialize};
use service_kit::extract::{Json, Path, Query};
use tracing::info;

use super::super::{
    App,
    error::ApiError,
    page::{Asked, Wanted},
};
use crate::{
    reconciliation::{self, Ended},
    store::{
        missed::Missed,
        now,
        reconciliations::{Begun, Moved, Reconciliation},
    },
    view::time,
};

/// As long as the column of a signal's id.
const MAX_ID: usize = 64;

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReconciliation {
    /// Also the id of the signal that asks Debezium for the snapshot: 1 to 64 of a-z, A-Z, 0-9, `-`, `_`.
    #[schema(pattern = "^[0-9a-zA-Z_-]{1,64}$")]
    id: String,
    #[serde(default)]
    table: reconciliation::Table,
    /// A position in the log before which nothing is uncommitted, and behind which the signal is written.
    #[schema(minimum = 1)]
    start_lsn: i64,
}

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// A position in the log behind everything that the snapshot has read.
    #[schema(minimum = 1)]
    end_lsn: i64,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Reconciliation)]
pub struct ReconciliationView {
    id: String,
    table: reconciliation::Table,
    state: reconciliation::State,
    /// Why it failed.
    #[schema(required)]
    reason: Option<String>,
    start_lsn: i64,
    #[schema(required)]
    end_lsn: Option<i64>,
    /// How far the snapshot is in the table, and to where it goes.
    #[schema(required)]
    last_key: Option<String>,
    #[schema(required)]
    maximum_key: Option<String>,
    /// Rows that the table had, once all of them were read.
    #[schema(required)]
    rows: Option<i64>,
    /// Posts or keywords that are live here and were not shown.
    #[schema(required)]
    candidates: Option<i64>,
    posts_closed: i64,
    rooms_closed: i64,
    keywords_ended: i64,
    requested_at: DateTime<Utc>,
    /// When its state became what it is.
    changed_at: DateTime<Utc>,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct Reconciliations {
    items: Vec<ReconciliationView>,
    #[schema(required)]
    next_cursor: Option<String>,
    #[schema(required)]
    previous_cursor: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct Candidates {
    items: Vec<CandidateView>,
    #[schema(required)]
    next_cursor: Option<String>,
    #[schema(required)]
    previous_cursor: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Candidate)]
struct CandidateView {
    trade_post_id: i64,
    /// Of the post's newest change that is known here.
    lsn: i64,
    #[schema(required)]
    seller_id: Option<i64>,
    #[schema(required)]
    title: Option<String>,
    #[schema(required)]
    status: Option<String>,
    open_rooms: i64,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct KeywordCandidates {
    items: Vec<KeywordCandidate>,
    #[schema(required)]
    next_cursor: Option<String>,
    #[schema(required)]
    previous_cursor: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct KeywordCandidate {
    keyword_id: i64,
    /// Of the keyword's newest change that is known here.
    lsn: i64,
    #[schema(required)]
    member_id: Option<i64>,
}

/// For the document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the document alone")]
pub struct Id {
    id: String,
}

/// Begin a reconciliation
///
/// It waits for the snapshot that a signal of the same id asks Debezium for. At most one has not ended.
#[utoipa::path(
    post,
    path = "/admin/v1/reconciliations",
    operation_id = "begin_reconciliation",
    tag = "reconciliations",
    request_body = NewReconciliation,
    responses(
        (status = 201, description = "It waits for its snapshot.", body = ReconciliationView),
        (status = 409, description = "`reconciliation-unfinished`: another one has not ended; `id-used`: there was one of that id."),
    ),
)]
pub async fn begin(
    State(app): State<Arc<App>>,
    Json(NewReconciliation { id, table, start_lsn }): Json<NewReconciliation>,
) -> Result<(StatusCode, Json<ReconciliationView>), ApiError> {
    let fitting = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(fitting) {
        return Err(ApiError::Field {
            field: "id",
            problem: format!("must be 1 to {MAX_ID} of a-z, A-Z, 0-9, - and _"),
        });
    }
    let start_lsn = position("start_lsn", start_lsn)?;
    match app
        .store
        .begin_reconciliation(&id, table, start_lsn, now())
        .await?
    {
        Begun::New(begun) => Ok((StatusCode::CREATED, Json(begun.into()))),
        Begun::Unfinished(other) => Err(ApiError::Reconciling(other.id)),
        Begun::Used => Err(ApiError::ReconciliationIdUsed),
    }
}

/// List reconciliations
#[utoipa::path(
    get,
    path = "/admin/v1/reconciliations",
    operation_id = "list_reconciliations",
    tag = "reconciliations",
    params(Wanted),
    responses(
        (status = 200, description = "A page of them, the newest first.", body = Reconciliations),
    ),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Reconciliations>, ApiError> {
    let asked: Asked<(i64, String)> = Asked::new("reconciliations", &wanted)?;
    let edge = asked
        .edge
        .clone()
        .map(|edge| edge.map(|(at, id)| (bson::DateTime::from_millis(at), id)));
    let found = app.store.reconciliations(edge, asked.rows()).await?;
    let page = asked.page(found, |run| (run.requested_at.timestamp_millis(), run.id.clone()));
    Ok(Json(Reconciliations {
        items: page.items.into_iter().map(ReconciliationView::from).collect(),
        next_cursor: page.next_cursor,
        previous_cursor: page.previous_cursor,
    }))
}

/// Show one
#[utoipa::path(
    get,
    path = "/admin/v1/reconciliations/{id}",
    operation_id = "show_reconciliation",
    tag = "reconciliations",
    params(Id),
    responses(
        (status = 200, description = "How it stands.", body = ReconciliationView),
        (status = 404, description = "`not-found`: there is no such reconciliation."),
    ),
)]
pub async fn show(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<ReconciliationView>, ApiError> {
    Ok(Json(found(&app, &id).await?.into()))
}

/// List the posts that its snapshot did not show
///
/// Before it is `ready` these are all that it has not shown yet. One of keywords has none.
#[utoipa::path(
    get,
    path = "/admin/v1/reconciliations/{id}/candidates",
    operation_id = "list_reconciliation_candidates",
    tag = "reconciliations",
    params(Id, Wanted),
    responses(
        (status = 200, description = "A page of posts that are live here and were not shown, by id.", body = Candidates),
        (status = 404, description = "`not-found`: there is no such reconciliation."),
    ),
)]
pub async fn candidates(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Candidates>, ApiError> {
    let asked = Asked::new(format!("candidates-{id}"), &wanted)?;
    let run = found(&app, &id).await?;
    let missed = match run.table {
        reconciliation::Table::TradePosts => {
            let start = run.span.start_lsn;
            app.store.missed(start, asked.edge, asked.rows()).await?
        }
        reconciliation::Table::Keywords => Vec::new(),
    };
    let page = asked.page(missed, |missed| missed.post.id);
    Ok(Json(Candidates {
        items: page.items.into_iter().map(CandidateView::from).collect(),
        next_cursor: page.next_cursor,
        previous_cursor: page.previous_cursor,
    }))
}

/// List the keywords that its snapshot did not show
///
/// As with posts; one of posts has none.
#[utoipa::path(
    get,
    path = "/admin/v1/reconciliations/{id}/keyword-candidates",
    operation_id = "list_reconciliation_keyword_candidates",
    tag = "reconciliations",
    params(Id, Wanted),
    responses(
        (status = 200, description = "A page of keywords that are live here and were not shown, by id.", body = KeywordCandidates),
        (status = 404, description = "`not-found`: there is no such reconciliation."),
    ),
)]
pub async fn keyword_candidates(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<KeywordCandidates>, ApiError> {
    let asked = Asked::new(format!("keyword-candidates-{id}"), &wanted)?;
    let run = found(&app, &id).await?;
    let missed = match run.table {
        reconciliation::Table::TradePosts => Vec::new(),
        reconciliation::Table::Keywords => {
            let start = run.span.start_lsn;
            app.store.missed_keywords(start, asked.edge, asked.rows()).await?
        }
    };
    let page = asked.page(missed, |keyword| keyword.id);
    let items = page.items.into_iter().map(|keyword| KeywordCandidate {
        keyword_id: keyword.id,
        lsn: keyword.lsn,
        member_id: keyword.live.map(|live| live.member_id),
    });
    Ok(Json(KeywordCandidates {
        items: items.collect(),
        next_cursor: page.next_cursor,
        previous_cursor: page.previous_cursor,
    }))
}

/// Say that Kafka has everything that the snapshot read
///
/// From then on the group's offsets tell when it has taken effect.
#[utoipa::path(
    post,
    path = "/admin/v1/reconciliations/{id}/drain",
    operation_id = "drain_reconciliation",
    tag = "reconciliations",
    params(Id),
    request_body = Drain,
    responses(
        (status = 200, description = "It waits until the group has read it.", body = ReconciliationView),
        (status = 404, description = "`not-found`: there is no such reconciliation."),
        (status = 409, description = "`wrong-state`: it is not `scanned`."),
    ),
)]
pub async fn drain(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Json(Drain { end_lsn }): Json<Drain>,
) -> Result<Json<ReconciliationView>, ApiError> {
    let end_lsn = position("end_lsn", end_lsn)?;
    answer(app.store.drain_reconciliation(&id, end_lsn, now()).await?)
}

/// Close what it found
///
/// The posts that are live here and were not shown are closed as if their deletes had come, or the keywords ended.
#[utoipa::path(
    post,
    path = "/admin/v1/reconciliations/{id}/confirm",
    operation_id = "confirm_reconciliation",
    tag = "reconciliations",
    params(Id),
    responses(
        (status = 200, description = "They are being closed, by any instance.", body = ReconciliationView),
        (status = 404, description = "`not-found`: there is no such reconciliation."),
        (status = 409, description = "`wrong-state`: it is not `ready`."),
    ),
)]
pub async fn confirm(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<ReconciliationView>, ApiError> {
    let confirmed = answer(app.store.confirm_reconciliation(&id, now()).await?)?;
    info!(
        reconciliation.id = id,
        "an operator has confirmed the reconciliation"
    );
    Ok(confirmed)
}

/// End it with nothing closed
#[utoipa::path(
    post,
    path = "/admin/v1/reconciliations/{id}/cancel",
    operation_id = "cancel_reconciliation",
    tag = "reconciliations",
    params(Id),
    responses(
        (status = 200, description = "It is cancelled.", body = ReconciliationView),
        (status = 404, description = "`not-found`: there is no such reconciliation."),
        (status = 409, description = "`wrong-state`: it is `closing`, or has ended."),
    ),
)]
pub async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
) -> Result<Json<ReconciliationView>, ApiError> {
    let cancelled = answer(app.store.cancel_reconciliation(&id, now()).await?)?;
    app.metrics.reconciliation_ended(Ended::Cancelled);
    info!(
        reconciliation.id = id,
        "the reconciliation was cancelled, nothing is closed"
    );
    Ok(cancelled)
}

async fn found(app: &App, id: &str) -> Result<Reconciliation, ApiError> {
    let found = app.store.reconciliation(id).await?;
    found.ok_or(ApiError::NoReconciliation)
}

fn answer(moved: Moved) -> Result<Json<ReconciliationView>, ApiError> {
    match moved {
        Moved::Done(run) => Ok(Json(run.into())),
        Moved::Elsewhere(run) => Err(ApiError::ReconciliationState(run.state)),
        Moved::Unknown => Err(ApiError::NoReconciliation),
    }
}

fn position(field: &'static str, lsn: i64) -> Result<i64, ApiError> {
    if lsn > 0 {
        return Ok(lsn);
    }
    Err(ApiError::Field {
        field,
        problem: format!("must be positive, is {lsn}"),
    })
}

impl From<Reconciliation> for ReconciliationView {
    fn from(run: Reconciliation) -> Self {
        Self {
            id: run.id,
            table: run.table,
            state: run.state,
            reason: run.reason,
            start_lsn: run.span.start_lsn,
            end_lsn: run.span.end_lsn,
            last_key: run.last_key,
            maximum_key: run.maximum_key,
            rows: run.rows,
            candidates: run.candidates,
            posts_closed: run.closed.posts,
            rooms_closed: run.closed.rooms,
            keywords_ended: run.closed.keywords,
            requested_at: time(run.requested_at),
            changed_at: time(run.changed_at),
        }
    }
}

impl From<Missed> for CandidateView {
    fn from(Missed { post, rooms }: Missed) -> Self {
        Self {
            trade_post_id: post.id,
            lsn: post.lsn,
            seller_id: post.seller_id,
            title: post.title,
            status: post.status,
            open_rooms: rooms,
        }
    }
}
