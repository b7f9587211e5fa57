//! A member's notifications.

use std::sync::Arc;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use service_kit::{
    auth::Member,
    extract::{Json, Query},
};

use super::{App, error::ApiError, page};
use crate::view::NotificationView;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Only notifications with a smaller sequence.
    before: Option<i64>,
    limit: Option<i64>,
}

/// Newest first.
#[derive(Serialize)]
pub struct Notifications {
    items: Vec<NotificationView>,
    last_event_id: i64,
}

pub async fn list(
    State(app): State<Arc<App>>,
    caller: Member,
    Query(Page { before, limit }): Query<Page>,
) -> Result<Json<Notifications>, ApiError> {
    let limit = page::limit(limit)?;
    let last_event_id = app.store.last_seq(caller.id).await?;
    let notifications = app.store.notifications_before(caller.id, before, limit).await?;
    let messages = app.store.messages_of(&notifications).await?;
    let items = notifications
        .iter()
        .map(|notification| NotificationView::new(notification, notification.message_in(&messages)))
        .collect();
    Ok(Json(Notifications { items, last_event_id }))
}
