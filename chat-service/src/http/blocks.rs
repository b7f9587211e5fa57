//! Blocks: whom the caller wants to hear nothing more from.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Serialize;
use service_kit::{
    auth::Member,
    extract::{Json, Path, Query},
};

use super::{
    App,
    error::ApiError,
    page::{self, Asked, MemberId, Wanted},
};
use crate::{
    store::{blocks::Block, now},
    view::time,
};

/// Newest first.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Blocks {
    items: Vec<BlockView>,
    #[schema(required)]
    next_cursor: Option<String>,
    #[schema(required)]
    previous_cursor: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Block)]
pub struct BlockView {
    #[schema(examples(101))]
    member_id: i64,
    blocked_at: DateTime<Utc>,
}

/// Block a member
///
/// From here neither of the two can open a room with the other, or send to them. Twice is once.
#[utoipa::path(
    put,
    path = "/v1/blocks/{member_id}",
    operation_id = "block_member",
    tag = "blocks",
    params(MemberId),
    responses(
        (status = 204, description = "The member is blocked."),
        (status = 403, description = "`member-erased`: everything of the caller or of the other was erased."),
    ),
)]
pub async fn block(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(member_id): Path<i64>,
) -> Result<StatusCode, ApiError> {
    let member = page::member_id(member_id)?;
    if member == caller.id {
        return Err(ApiError::Field {
            field: "member_id",
            problem: "must be another member's, is your own".into(),
        });
    }
    match app.store.block(caller.id, member, now()).await? {
        None => Ok(StatusCode::NO_CONTENT),
        Some(refusal) => Err(ApiError::Refused(refusal)),
    }
}

/// Take a block back
#[utoipa::path(
    delete,
    path = "/v1/blocks/{member_id}",
    operation_id = "unblock_member",
    tag = "blocks",
    params(MemberId),
    responses(
        (status = 204, description = "The member is not blocked, and perhaps was not before."),
    ),
)]
pub async fn unblock(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(member_id): Path<i64>,
) -> Result<StatusCode, ApiError> {
    app.store.unblock(caller.id, page::member_id(member_id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// List whom the caller blocks
#[utoipa::path(
    get,
    path = "/v1/blocks",
    operation_id = "list_blocks",
    tag = "blocks",
    params(Wanted),
    responses(
        (status = 200, description = "A page of blocks, newest first.", body = Blocks),
    ),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Member,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Blocks>, ApiError> {
    let asked = Asked::new("blocks", &wanted)?;
    let blocks = app.store.blocks_of(caller.id, asked.edge, asked.rows()).await?;
    let page = asked.page(blocks, |block| block.id);
    Ok(Json(Blocks {
        items: page.items.into_iter().map(BlockView::from).collect(),
        next_cursor: page.next_cursor,
        previous_cursor: page.previous_cursor,
    }))
}

impl From<Block> for BlockView {
    fn from(block: Block) -> Self {
        Self {
            member_id: block.member_id,
            blocked_at: time(block.blocked_at),
        }
    }
}
