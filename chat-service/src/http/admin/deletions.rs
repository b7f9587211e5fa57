//! What became of deleted posts.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use service_kit::{
    extract::{Json, Path, Query},
    number,
};

use super::super::{
    App,
    error::ApiError,
    page::{self, TradePostId},
};
use crate::{
    store::deletions::{Deletion, DeletionState},
    view::time,
};

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    #[param(nullable = false, inline)]
    state: Option<DeletionState>,
    #[serde(default, deserialize_with = "number::in_query::<_, 1, { page::MAX }>")]
    #[param(nullable = false, minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct Deletions {
    items: Vec<DeletionView>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Deletion)]
pub struct DeletionView {
    trade_post_id: i64,
    lsn: i64,
    state: DeletionState,
    rooms: i64,
    messages: i64,
    rooms_erased: i64,
    messages_erased: i64,
    #[schema(required)]
    committed_at: Option<DateTime<Utc>>,
    #[schema(required)]
    captured_at: Option<DateTime<Utc>>,
    received_at: DateTime<Utc>,
    closed_at: DateTime<Utc>,
    erase_at: DateTime<Utc>,
    #[schema(required)]
    begun_at: Option<DateTime<Utc>>,
    #[schema(required)]
    done_at: Option<DateTime<Utc>>,
}

/// List deletions of posts that had rooms
#[utoipa::path(
    get,
    path = "/admin/v1/deletions",
    operation_id = "list_deletions",
    tag = "deletions",
    params(Filter),
    responses(
        (status = 200, description = "The newest of them.", body = Deletions),
    ),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Query(Filter { state, limit }): Query<Filter>,
) -> Result<Json<Deletions>, ApiError> {
    find(&app, None, state, page::limit(limit)?).await
}

/// List the deletions of one post
///
/// A post that never had a room has none.
#[utoipa::path(
    get,
    path = "/admin/v1/deletions/{trade_post_id}",
    operation_id = "list_deletions_of_trade_post",
    tag = "deletions",
    params(TradePostId),
    responses(
        (status = 200, description = "They, or none.", body = Deletions),
    ),
)]
pub async fn of_post(
    State(app): State<Arc<App>>,
    Path(trade_post_id): Path<i64>,
) -> Result<Json<Deletions>, ApiError> {
    find(&app, Some(trade_post_id), None, page::limit(None)?).await
}

async fn find(
    app: &App,
    post: Option<i64>,
    state: Option<DeletionState>,
    limit: i64,
) -> Result<Json<Deletions>, ApiError> {
    let found = app.store.deletions(post, state, limit).await?;
    Ok(Json(Deletions {
        items: found.into_iter().map(DeletionView::from).collect(),
    }))
}

impl From<Deletion> for DeletionView {
    fn from(deletion: Deletion) -> Self {
        Self {
            trade_post_id: deletion.id.post,
            lsn: deletion.id.lsn,
            state: deletion.state,
            rooms: deletion.rooms,
            messages: deletion.messages,
            rooms_erased: deletion.erased.rooms,
            messages_erased: deletion.messages_erased(),
            committed_at: deletion.committed_at.map(time),
            captured_at: deletion.captured_at.map(time),
            received_at: time(deletion.received_at),
            closed_at: time(deletion.closed_at),
            erase_at: time(deletion.erase_at),
            begun_at: deletion.begun_at.map(time),
            done_at: deletion.done_at.map(time),
        }
    }
}
