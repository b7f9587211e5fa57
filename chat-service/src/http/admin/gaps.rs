//! Where changes may have been missed, and that somebody has seen to it.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use service_kit::{
    extract::{Json, Path, Query},
    number,
};
use tracing::info;

use super::super::{App, error::ApiError, page};
use crate::{
    store::{
        gaps::{Gap, GapKind, Offsets},
        now,
    },
    view::time,
};

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Filter {
    /// Only those that somebody has resolved, or that nobody has.
    #[param(nullable = false)]
    resolved: Option<bool>,
    #[serde(default, deserialize_with = "number::in_query::<_, 1, { page::MAX }>")]
    #[param(nullable = false, minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
}

/// For the document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the document alone")]
pub struct Id {
    id: String,
}

#[derive(Serialize, utoipa::ToSchema)]
pub struct Gaps {
    items: Vec<GapView>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Gap)]
pub struct GapView {
    #[schema(examples("expired@trade.public.trade_posts-0@1200"))]
    id: String,
    kind: GapKind,
    /// Of a connector that began anew: the place in the write-ahead log that it began at.
    #[schema(required)]
    lsn: Option<i64>,
    /// Of the others: where in the topic.
    #[schema(required)]
    offsets: Option<OffsetsView>,
    first_seen_at: DateTime<Utc>,
    last_seen_at: DateTime<Utc>,
    #[schema(required)]
    resolved_at: Option<DateTime<Utc>>,
    /// `operator`, or what repaired it.
    #[schema(required)]
    resolved_by: Option<String>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Offsets)]
struct OffsetsView {
    topic: String,
    partition: i32,
    /// Where the group went on.
    expected: i64,
    /// Where the next record was.
    found: i64,
}

/// List where changes may have been missed
#[utoipa::path(
    get,
    path = "/admin/v1/gaps",
    operation_id = "list_gaps",
    tag = "gaps",
    params(Filter),
    responses(
        (status = 200, description = "The newest of them.", body = Gaps),
    ),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    Query(Filter { resolved, limit }): Query<Filter>,
) -> Result<Json<Gaps>, ApiError> {
    let gaps = app.store.gaps(resolved, page::limit(limit)?).await?;
    Ok(Json(Gaps {
        items: gaps.into_iter().map(GapView::from).collect(),
    }))
}

/// Say that one was seen to
///
/// What was missed is not found by it.
#[utoipa::path(
    post,
    path = "/admin/v1/gaps/{id}/resolve",
    operation_id = "resolve_gap",
    tag = "gaps",
    params(Id),
    responses(
        (status = 200, description = "It is resolved, now or before.", body = GapView),
        (status = 404, description = "`not-found`: there is no such gap."),
    ),
)]
pub async fn resolve(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<GapView>, ApiError> {
    let gap = app.store.resolve_gap(&id, "operator", now()).await?;
    let gap = gap.ok_or(ApiError::NoGap)?;
    info!(gap.id = gap.id, "an operator has seen to a suspected gap");
    Ok(Json(gap.into()))
}

impl From<Gap> for GapView {
    fn from(gap: Gap) -> Self {
        Self {
            id: gap.id,
            kind: gap.kind,
            lsn: gap.lsn,
            offsets: gap.offsets.map(OffsetsView::from),
            first_seen_at: time(gap.first_seen_at),
            last_seen_at: time(gap.last_seen_at),
            resolved_at: gap.resolved_at.map(time),
            resolved_by: gap.resolved_by,
        }
    }
}

impl From<Offsets> for OffsetsView {
    fn from(offsets: Offsets) -> Self {
        let Offsets {
            topic,
            partition,
            expected,
            found,
        } = offsets;
        Self {
            topic,
            partition,
            expected,
            found,
        }
    }
}
