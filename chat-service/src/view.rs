//! How rooms, messages and notifications look in JSON, in REST answers and in stream events alike.

use chrono::{DateTime, Utc};
use mongodb::bson;
use serde::Serialize;

use crate::{
    message::Message,
    notification::{CloseReason, Kind, Notification},
    room::{LastMessage, Room},
    store::posts::TradePost,
};

#[derive(Clone, Debug, Serialize)]
pub struct RoomView {
    pub id: String,
    pub trade_post: TradePostView,
    pub seller_id: i64,
    pub buyer_id: i64,
    pub last_message: Option<LastMessageView>,
    pub created_at: DateTime<Utc>,
    pub last_activity_at: DateTime<Utc>,
}

/// What a room shows of its post.
#[derive(Clone, Debug, Serialize)]
pub struct TradePostView {
    pub id: i64,
    pub title: Option<String>,
    pub status: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct LastMessageView {
    pub seq: i64,
    pub sender_id: i64,
    pub body: String,
    pub sent_at: DateTime<Utc>,
}

#[derive(Clone, Debug, Serialize)]
pub struct MessageView {
    pub room_id: String,
    pub seq: i64,
    pub sender_id: i64,
    pub client_message_id: String,
    pub body: String,
    pub sent_at: DateTime<Utc>,
}

#[derive(Clone, Debug, Serialize)]
pub struct NotificationView {
    pub seq: i64,
    pub kind: &'static str,
    pub room_id: String,
    pub trade_post_id: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<CloseReason>,
    /// Left out when the message was erased since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageView>,
    pub created_at: DateTime<Utc>,
}

impl RoomView {
    pub fn new(room: Room, post: Option<&TradePost>) -> Self {
        Self {
            id: room.id.to_hex(),
            trade_post: TradePostView {
                id: room.trade_post_id,
                title: post.and_then(|post| post.title.clone()),
                status: post.and_then(|post| post.status.clone()),
            },
            seller_id: room.seller_id,
            buyer_id: room.buyer_id,
            last_message: room.last_message.map(LastMessageView::from),
            created_at: time(room.created_at),
            last_activity_at: time(room.last_activity_at),
        }
    }
}

impl From<LastMessage> for LastMessageView {
    fn from(
        LastMessage {
            seq,
            sender_id,
            body,
            sent_at,
        }: LastMessage,
    ) -> Self {
        Self {
            seq,
            sender_id,
            body,
            sent_at: time(sent_at),
        }
    }
}

impl From<Message> for MessageView {
    fn from(message: Message) -> Self {
        let Message {
            room_id,
            seq,
            sender_id,
            client_message_id,
            body,
            sent_at,
        } = message;
        Self {
            room_id: room_id.to_hex(),
            seq,
            sender_id,
            client_message_id,
            body,
            sent_at: time(sent_at),
        }
    }
}

impl NotificationView {
    pub fn new(notification: &Notification, message: Option<&Message>) -> Self {
        Self {
            seq: notification.seq,
            kind: notification.kind.name(),
            room_id: notification.room_id.to_hex(),
            trade_post_id: notification.trade_post_id,
            reason: match notification.kind {
                Kind::RoomClosed { reason } => Some(reason),
                Kind::Message { .. } | Kind::RoomCreated => None,
            },
            message: message.cloned().map(MessageView::from),
            created_at: time(notification.created_at),
        }
    }
}

/// The API's form of a stored time.
pub fn time(stored: bson::DateTime) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(stored.timestamp_millis()).unwrap_or_default()
}
