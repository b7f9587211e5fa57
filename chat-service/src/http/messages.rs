//! Messages of a room: send, read.

use std::sync::Arc;

use axum::{extract::State, response::IntoResponse};
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
    page::{self, RoomId},
    rate::Action,
    rooms,
};
use crate::{
    message::{check_body, check_client_message_id},
    store::messages::{Outgoing, Sent},
    view::MessageView,
};

#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    /// Of the client's choice. Who does not know whether a message arrived sends it again with the same id.
    /// No control characters.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$",
        examples("0190f3c6-7b1e-7c3a-9f55-3f1f0a2f6d11")
    )]
    client_message_id: String,
    /// Kept exactly as it is sent: also at most 6,000 bytes of UTF-8, not only white space, and no control
    /// characters but line breaks and tabs.
    #[schema(
        min_length = 1,
        max_length = 2_000,
        pattern = "^[^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f]*[^\\s\\u0000-\\u001f\\u007f-\\u009f][^\\u0000-\\u0008\\u000b\\u000c\\u000e-\\u001f\\u007f-\\u009f]*$",
        examples("아직 팔렸나요?")
    )]
    body: String,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Page {
    /// Only messages with a smaller `seq`.
    #[serde(default, deserialize_with = "number::in_query::<_, 0, { i64::MAX }>")]
    #[param(nullable = false, minimum = 0)]
    before: Option<i64>,
    /// Only messages with a larger `seq`; the oldest of them first.
    #[serde(default, deserialize_with = "number::in_query::<_, 0, { i64::MAX }>")]
    #[param(nullable = false, minimum = 0)]
    after: Option<i64>,
    #[serde(default, deserialize_with = "number::in_query::<_, 1, { page::MAX }>")]
    #[param(nullable = false, minimum = 1, maximum = 100, default = 20)]
    limit: Option<i64>,
}

/// Newest first, or oldest first behind `after`.
#[derive(Serialize, utoipa::ToSchema)]
pub struct Messages {
    items: Vec<MessageView>,
    /// Open the event stream with it, and nothing falls between this list and the stream.
    last_event_id: i64,
}

/// Send a message
#[utoipa::path(
    post,
    path = "/v1/rooms/{room_id}/messages",
    operation_id = "send_message",
    tag = "messages",
    params(RoomId),
    request_body = NewMessage,
    responses(
        (status = 200, description = "A message that was sent before with this `client_message_id`.", body = MessageView),
        (status = 201, description = "The new message.", body = MessageView),
        (status = 403, description = "`blocked`, `member-erased`: the two cannot send to each other; `reason` says why."),
        (status = 404, description = "`not-found`: there is no such room, or it is others'."),
        (status = 410, description = "`room-closed`: with its post, or its members; `reason` says which."),
        (status = 429, description = "`rate-limited`: too many messages of the caller."),
    ),
)]
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

/// List a room's messages
#[utoipa::path(
    get,
    path = "/v1/rooms/{room_id}/messages",
    operation_id = "list_messages",
    tag = "messages",
    params(RoomId, Page),
    responses(
        (status = 200, description = "Messages, newest first, or oldest first behind `after`.", body = Messages),
        (status = 404, description = "`not-found`: there is no such room, or it is others'."),
        (status = 410, description = "`room-closed`: with its post, or its members; `reason` says which."),
    ),
)]
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

#[cfg(test)]
mod tests {
    use utoipa::PartialSchema;

    use super::*;
    use crate::message::{BODY, CLIENT_MESSAGE_ID};

    #[test]
    fn the_document_has_the_limits() {
        let schema = serde_json::to_value(NewMessage::schema()).unwrap();
        for (field, limit) in [("body", BODY), ("client_message_id", CLIENT_MESSAGE_ID)] {
            assert_eq!(schema["properties"][field]["maxLength"], limit.chars, "{field}");
        }
    }
}
