//! A member's notifications: list, mark read, delete.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use service_kit::{
    auth::Member,
    extract::{Json, Path, Query},
    number,
};

use super::{
    App,
    error::ApiError,
    page::{self, ReadUpTo},
};
use crate::{store::now, view::NotificationView};

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// Only those that are not read.
    #[serde(default)]
    unread: bool,
    /// Only notifications with a smaller sequence.
    #[serde(default, deserialize_with = "number::in_query::<_, 0, { i64::MAX }>")]
    #[param(nullable = false, minimum = 0)]
    before: Option<i64>,
    /// Only notifications with a larger sequence; the oldest of them first.
    #[serde(default, deserialize_with = "number::in_query::<_, 0, { i64::MAX }>")]
    #[param(nullable = false, minimum = 0)]
    after: Option<i64>,
    #[serde(default, deserialize_with = "number::in_query::<_, 1, { page::MAX }>")]
    #[param(nullable = false, minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
}

/// For the document.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "for the document alone")]
pub struct Seq {
    seq: i64,
}

/// Newest first, or oldest first behind `after`.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Notifications {
    items: Vec<NotificationView>,
    /// Open the event stream with it, and nothing falls between this list and the stream.
    last_event_id: i64,
}

/// List notifications
#[utoipa::path(
    get,
    path = "/v1/notifications",
    operation_id = "list_notifications",
    tag = "notifications",
    params(Wanted),
    responses(
        (status = 200, description = "Notifications, newest first, or oldest first behind `after`.", body = Notifications),
    ),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Member,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Notifications>, ApiError> {
    let limit = page::limit(wanted.limit)?;
    let window = page::window(wanted.before, wanted.after)?;
    let last_event_id = app.store.last_seq(caller.id).await?;
    let notifications = app
        .store
        .notifications(caller.id, wanted.unread, window, limit)
        .await?;
    let texts = app.store.texts_of(&notifications).await?;
    let items = notifications
        .iter()
        .map(|notification| NotificationView::new(notification, &texts))
        .collect();
    Ok(Json(Notifications { items, last_event_id }))
}

/// Mark a notification as read
#[utoipa::path(
    put,
    path = "/v1/notifications/{seq}/read",
    operation_id = "read_notification",
    tag = "notifications",
    params(Seq),
    responses(
        (status = 204, description = "It is read."),
        (status = 404, description = "`not-found`: the caller has no such notification."),
    ),
)]
pub async fn read(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(seq): Path<i64>,
) -> Result<StatusCode, ApiError> {
    there(app.store.read_notification(caller.id, seq, now()).await?)
}

/// Mark all notifications up to a sequence as read
#[utoipa::path(
    put,
    path = "/v1/notifications/read",
    operation_id = "read_notifications",
    tag = "notifications",
    request_body = ReadUpTo,
    responses(
        (status = 204, description = "They are read."),
    ),
)]
pub async fn read_up_to(
    State(app): State<Arc<App>>,
    caller: Member,
    Json(up_to): Json<ReadUpTo>,
) -> Result<StatusCode, ApiError> {
    let seq = up_to.seq()?;
    let last = app.store.last_seq(caller.id).await?;
    if seq > last {
        return Err(up_to.beyond(last));
    }
    app.store.read_notifications(caller.id, seq, now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Delete a notification
///
/// It is taken out of the list; its number stays used.
#[utoipa::path(
    delete,
    path = "/v1/notifications/{seq}",
    operation_id = "delete_notification",
    tag = "notifications",
    params(Seq),
    responses(
        (status = 204, description = "It is deleted."),
        (status = 404, description = "`not-found`: the caller has no such notification."),
    ),
)]
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(seq): Path<i64>,
) -> Result<StatusCode, ApiError> {
    there(app.store.delete_notification(caller.id, seq, now()).await?)
}

fn there(found: bool) -> Result<StatusCode, ApiError> {
    if found {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NoNotification)
    }
}
