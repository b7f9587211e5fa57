//! Erasing everything of one member.

use std::sync::Arc;

use axum::extract::State;
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Serialize;
use service_kit::extract::{Json, Path};

use super::super::{App, error::ApiError, page};
use crate::{
    store::{erasures::Erasure, now},
    view::time,
};

#[derive(Serialize)]
pub struct ErasureView {
    member_id: i64,
    state: &'static str,
    rooms: i64,
    messages: i64,
    notifications: i64,
    requested_at: DateTime<Utc>,
    begun_at: Option<DateTime<Utc>>,
    done_at: Option<DateTime<Utc>>,
}

pub async fn erase(
    State(app): State<Arc<App>>,
    Path(member_id): Path<i64>,
) -> Result<(StatusCode, Json<ErasureView>), ApiError> {
    let member = page::member_id(member_id)?;
    let erasure = app.store.request_erasure(member, now()).await?;
    Ok((StatusCode::ACCEPTED, Json(erasure.into())))
}

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
