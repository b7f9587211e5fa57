//! Erasing everything of one member.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Serialize;
use service_kit::extract::{Json, Path};

use super::super::{
    App,
    error::ApiError,
    page::{self, MemberId},
};
use crate::{
    store::{erasures::Erasure, now},
    view::time,
};

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Erasure)]
pub struct ErasureView {
    member_id: i64,
    /// `pending`, `erasing` or `done`.
    #[schema(examples("pending"))]
    state: &'static str,
    rooms: i64,
    messages: i64,
    notifications: i64,
    requested_at: DateTime<Utc>,
    #[schema(required)]
    begun_at: Option<DateTime<Utc>>,
    #[schema(required)]
    done_at: Option<DateTime<Utc>>,
}

/// Erase everything of a member
///
/// For good. Asked again, it answers how that stands.
#[utoipa::path(
    delete,
    path = "/admin/v1/members/{member_id}",
    operation_id = "erase_member",
    tag = "members",
    params(MemberId),
    responses(
        (status = 202, description = "It is being done.", body = ErasureView),
    ),
)]
pub async fn erase(
    State(app): State<Arc<App>>,
    Path(member_id): Path<i64>,
) -> Result<(StatusCode, Json<ErasureView>), ApiError> {
    let member = page::member_id(member_id)?;
    let erasure = app.store.request_erasure(member, now()).await?;
    Ok((StatusCode::ACCEPTED, Json(erasure.into())))
}

/// Show how the erasure of a member stands
#[utoipa::path(
    get,
    path = "/admin/v1/members/{member_id}/erasure",
    operation_id = "show_erasure",
    tag = "members",
    params(MemberId),
    responses(
        (status = 200, description = "How it stands.", body = ErasureView),
        (status = 404, description = "`not-found`: nobody asked to erase that member."),
    ),
)]
pub async fn erasure(
    State(app): State<Arc<App>>,
    Path(member_id): Path<i64>,
) -> Result<Json<ErasureView>, ApiError> {
    let member = page::member_id(member_id)?;
    let erasure = app.store.erasure(member).await?;
    erasure
        .map(|erasure| Json(erasure.into()))
        .ok_or(ApiError::NoErasure)
}

impl From<Erasure> for ErasureView {
    fn from(erasure: Erasure) -> Self {
        Self {
            member_id: erasure.member_id,
            state: match (erasure.begun_at, erasure.done_at) {
                (_, Some(_)) => "done",
                (Some(_), None) => "erasing",
                (None, None) => "pending",
            },
            rooms: erasure.rooms,
            messages: erasure.messages,
            notifications: erasure.notifications,
            requested_at: time(erasure.requested_at),
            begun_at: erasure.begun_at.map(time),
            done_at: erasure.done_at.map(time),
        }
    }
}
