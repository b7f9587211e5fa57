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
    page::{self, Asked, Wanted},
};
use crate::{
    store::{blocks::Block, now},
    view::time,
};

/// Newest first.
#[derive(Serialize)]
pub struct Blocks {
    items: Vec<BlockView>,
    next_cursor: Option<String>,
    previous_cursor: Option<String>,
}

#[derive(Serialize)]
pub struct BlockView {
    member_id: i64,
    blocked_at: DateTime<Utc>,
}

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

pub async fn unblock(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(member_id): Path<i64>,
) -> Result<StatusCode, ApiError> {
    app.store.unblock(caller.id, page::member_id(member_id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

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
