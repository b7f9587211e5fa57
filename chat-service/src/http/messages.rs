//! Messages of a room: send, read.

use std::sync::Arc;

use axum::{extract::State, response::IntoResponse};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use service_kit::{
    auth::Member,
    extract::{Json, Path, Query},
};

use super::{App, error::ApiError, page, rate::Action, rooms};
use crate::{
    message::{check_body, check_client_message_id},
    store::messages::{Outgoing, Sent},
    view::MessageView,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    client_message_id: String,
    body: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    before: Option<i64>,
    after: Option<i64>,
    limit: Option<i64>,
}

/// Newest first, or oldest first behind `after`.
#[derive(Serialize)]
pub struct Messages {
    items: Vec<MessageView>,
    /// Open the event stream with it, and nothing falls between this list and the stream.
    last_event_id: i64,
}

pub async fn send(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(room_id): Path<String>,
    Json(NewMessage {
        client_message_id,
        body,
    }): Json<NewMessage>,
) -> Result<impl IntoResponse, ApiError> {
    app.permit(Action::SendMessage, caller.id)?;
    let room_id = page::room_id(&room_id)?;
    check_client_message_id(&client_message_id).map_err(|problem| ApiError::Text {
        field: "client_message_id",
        problem,
    })?;
    check_body(&body).map_err(|problem| ApiError::Text {
        field: "body",
        problem,
    })?;
    let outgoing = Outgoing {
        room_id,
        sender_id: caller.id,
        client_message_id,
        body,
    };
    match app.outbox.send(outgoing).await? {
        Sent::New(message) => Ok((StatusCode::CREATED, Json(MessageView::from(message)))),
        Sent::Repeated(message) => Ok((StatusCode::OK, Json(MessageView::from(message)))),
        Sent::NoRoom => Err(ApiError::NoRoom),
        Sent::Closed(closed) => {
            app.metrics.fence_hit("send_message");
            Err(ApiError::RoomClosed(closed))
        }
        Sent::Refused(refusal) => Err(ApiError::Refused(refusal)),
    }
}

pub async fn page(
    State(app): State<Arc<App>>,
    caller: Member,
    Path(room_id): Path<String>,
    Query(Page { before, after, limit }): Query<Page>,
) -> Result<Json<Messages>, ApiError> {
    let limit = page::limit(limit)?;
    let window = page::window(before, after)?;
    let last_event_id = app.store.last_seq(caller.id).await?;
    let room = rooms::readable(&app, page::room_id(&room_id)?, caller.id).await?;
    let messages = app.store.messages(room.id, window, limit).await?;
    Ok(Json(Messages {
        items: messages.into_iter().map(MessageView::from).collect(),
        last_event_id,
    }))
}
