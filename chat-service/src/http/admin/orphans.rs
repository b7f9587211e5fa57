//! Rooms and messages without what they belong to: what was found, and looking for them at once.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use service_kit::{
    extract::{Json, Query},
    number,
};

use super::super::{App, error::ApiError, page};
use crate::{
    orphan::OrphanKind,
    store::{now, orphans::Orphan, sweeps::Sweep},
    view::time,
};

#[derive(Serialize, utoipa::ToSchema)]
pub struct Orphans {
    /// The first of those that the last sweep found and nobody has set right.
    items: Vec<OrphanView>,
    /// How many there are in all.
    total: u64,
    sweep: SweepView,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Orphan)]
struct OrphanView {
    /// Of the room; of `messages`, of the room that is not there.
    room_id: String,
    kind: OrphanKind,
    #[schema(required)]
    trade_post_id: Option<i64>,
    found_at: DateTime<Utc>,
}

/// The sweep under way, or the last one.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Sweep)]
pub struct SweepView {
    /// `never`, `running` or `ended`.
    #[schema(examples("ended"))]
    state: &'static str,
    #[schema(required)]
    begun_at: Option<DateTime<Utc>>,
    /// When the last one ended.
    #[schema(required)]
    ended_at: Option<DateTime<Utc>>,
    /// When the next one begins; none if none is planned.
    #[schema(required)]
    next_at: Option<DateTime<Utc>>,
    rooms_seen: i64,
    found: i64,
    repaired: i64,
    /// Whether it looked everywhere: not if there was too much to report.
    is_complete: bool,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Limit {
    #[serde(default, deserialize_with = "number::in_query::<_, 1, { page::MAX }>")]
    #[param(nullable = false, minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wish {
    /// Whether what it finds is to be set right.
    #[param(nullable = false, default = false)]
    repair: Option<bool>,
}

/// List rooms and messages without what they belong to
///
/// There should be none.
#[utoipa::path(
    get,
    path = "/admin/v1/orphans",
    operation_id = "list_orphans",
    tag = "orphans",
    params(Limit),
    responses(
        (status = 200, description = "They, and the sweep that looked for them.", body = Orphans),
    ),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Query(Limit { limit }): Query<Limit>,
) -> Result<Json<Orphans>, ApiError> {
    let items = app.store.orphans(page::limit(limit)?).await?;
    let counts = app.store.count_orphans().await?;
    Ok(Json(Orphans {
        items: items.into_iter().map(OrphanView::from).collect(),
        total: counts.into_iter().map(|(_, count)| count).sum(),
        sweep: app.store.sweep().await?.unwrap_or_default().into(),
    }))
}

/// Look for orphans at once
///
/// Any instance does it. With `repair` rooms are closed and erased, and messages erased, as they should have
/// been.
#[utoipa::path(
    post,
    path = "/admin/v1/orphans/sweep",
    operation_id = "sweep_orphans",
    tag = "orphans",
    params(Wish),
    responses(
        (status = 202, description = "It begins at once, or behind the one that is under way.", body = SweepView),
    ),
)]
pub async fn sweep(
    State(app): State<Arc<App>>,
    Query(Wish { repair }): Query<Wish>,
) -> Result<(StatusCode, Json<SweepView>), ApiError> {
    let sweep = app.store.request_sweep(repair.unwrap_or(false), now()).await?;
    Ok((StatusCode::ACCEPTED, Json(sweep.into())))
}

impl From<Orphan> for OrphanView {
    fn from(orphan: Orphan) -> Self {
        Self {
            room_id: orphan.room_id.to_hex(),
            kind: orphan.kind,
            trade_post_id: orphan.trade_post_id,
            found_at: time(orphan.found_at),
        }
    }
}

impl From<Sweep> for SweepView {
    fn from(sweep: Sweep) -> Self {
        let running = sweep.owner.is_some();
        Self {
            state: match (running, sweep.ended_at) {
                (true, _) => "running",
                (false, Some(_)) => "ended",
                (false, None) => "never",
            },
            begun_at: sweep.begun_at.map(time),
            ended_at: sweep.ended_at.map(time),
            next_at: sweep.due_at.filter(|_| !running).map(time),
            rooms_seen: sweep.seen.rooms,
            found: sweep.seen.found,
            repaired: sweep.seen.repaired,
            is_complete: sweep.seen.is_complete,
        }
    }
}
