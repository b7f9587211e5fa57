//! A member's notifications: list, mark read, delete.

use std::sync::Arc;

use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use service_kit::{
    auth::Member,
    extract::{Json, Path, Query},
};

use super::{
    App,
    error::ApiError,
    page::{self, ReadUpTo},
};
use crate::{store::now, view::NotificationView};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Only those that are not read.
    #[serde(default)]
    unread: bool,
    /// Only notifications with a smaller sequence.
    before: Option<i64>,
    /// Only notifications with a larger sequence; the oldest of them first.
    after: Option<i64>,
    limit: Option<i64>,
}

/// Newest first, or oldest first behind `after`.
#[derive(Serialize)]
pub struct Notifications {
    items: Vec<NotificationView>,
    /// Open the event stream with it, and nothing falls between this list and the stream.
    last_event_id: i64,
}

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
    let messages = app.store.messages_of(&notifications).await?;
    let items = notifications
        .iter()
        .map(|notification| NotificationView::new(notification, notification.message_in(&messages)))
        .collect();
    Ok(Json(Notifications { items, last_event_id }))
}

pub async fn read(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(seq): Path<i64>,
) -> Result<StatusCode, ApiError> {
    there(app.store.read_notification(caller.id, seq, now()).await?)
}

/// Marks all up to a sequence as read.
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

/// Takes the notification out of the list; its number stays used.
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
