//! How rooms, messages and notifications look in JSON, in REST answers and in stream events alike.

use chrono::{DateTime, Utc};
use mongodb::bson::{self, oid::ObjectId};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    message::{Content, Message},
    notification::{Kind, Notification, Texts},
    room::{LastMessage, Room},
    store::posts::TradePost,
};

/// A room as one of its members sees it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Room)]
pub struct RoomView {
    #[schema(examples("65f1c0ffee65f1c0ffee0001"))]
    pub id: String,
    pub trade_post: TradePostView,
    #[schema(examples(101))]
    pub seller_id: i64,
    #[schema(examples(202))]
    pub buyer_id: i64,
    #[schema(required)]
    pub last_message: Option<LastMessageView>,
    /// Texts of the other member behind `read_up_to`.
    #[schema(examples(1))]
    pub unread: i64,
    #[schema(examples(3))]
    pub read_up_to: i64,
    /// How far the other member has read.
    #[schema(examples(4))]
    pub other_read_up_to: i64,
    pub created_at: DateTime<Utc>,
    pub last_activity_at: DateTime<Utc>,
}

/// What a room shows of its post.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = RoomTradePost)]
pub struct TradePostView {
    #[schema(examples(42))]
    pub id: i64,
    #[schema(required, examples("자전거 팔아요"))]
    pub title: Option<String>,
    #[schema(required, examples("on_sale"))]
    pub status: Option<String>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = LastMessage)]
pub struct LastMessageView {
    #[schema(examples(4))]
    pub seq: i64,
    #[serde(flatten)]
    pub content: Content,
    pub sent_at: DateTime<Utc>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub struct MessageView {
    #[schema(examples("65f1c0ffee65f1c0ffee0001"))]
    pub room_id: String,
    #[schema(examples(4))]
    pub seq: i64,
    #[serde(flatten)]
    pub content: Content,
    /// Of texts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("0190f3c6-7b1e-7c3a-9f55-3f1f0a2f6d11"))]
    pub client_message_id: Option<String>,
    pub sent_at: DateTime<Utc>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Notification)]
pub struct NotificationView {
    #[schema(examples(4))]
    pub seq: i64,
    #[serde(flatten)]
    pub kind: Kind,
    /// Left out of `trade_post_matched`, which is about no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, examples("65f1c0ffee65f1c0ffee0001"))]
    pub room_id: Option<String>,
    #[schema(examples(42))]
    pub trade_post_id: i64,
    /// Of `trade_post_matched` the post's title now. Left out when the post has gone since.
    #[serde(skip_serializing_if = "Option::is_none", rename = "title")]
    #[schema(nullable = false, examples("자전거 팔아요"))]
    pub matched_title: Option<String>,
    /// Left out when the message was erased since.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub message: Option<MessageView>,
    pub created_at: DateTime<Utc>,
    #[schema(required)]
    pub read_at: Option<DateTime<Utc>>,
}

impl RoomView {
    pub fn new(room: Room, member: i64, post: Option<&TradePost>) -> Self {
        let (own, other) = room.states(member);
        // Not how the row looks that came after the room's own.
        let post = post.filter(|post| post.next_arrival(room.generation).is_none());
        Self {
            unread: room.unread(member),
            read_up_to: own.read_up_to,
            other_read_up_to: other.read_up_to,
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
            content,
            sent_at,
        }: LastMessage,
    ) -> Self {
        Self {
            seq,
            content,
            sent_at: time(sent_at),
        }
    }
}

impl From<Message> for MessageView {
    fn from(message: Message) -> Self {
        let Message {
            room_id,
            seq,
            content,
            client_message_id,
            counts: _,
            sent_at,
        } = message;
        Self {
            room_id: room_id.to_hex(),
            seq,
            // It is the sender's, as the body was.
            client_message_id: client_message_id.filter(|_| matches!(content, Content::Text { .. })),
            content,
            sent_at: time(sent_at),
        }
    }
}

impl NotificationView {
    pub fn new(notification: &Notification, texts: &Texts) -> Self {
        Self {
            seq: notification.seq,
            kind: notification.kind.clone(),
            room_id: notification.room_id.map(ObjectId::to_hex),
            trade_post_id: notification.trade_post_id,
            matched_title: texts.title(notification).map(ToOwned::to_owned),
            message: texts.message(notification).cloned().map(MessageView::from),
            created_at: time(notification.created_at),
            read_at: notification.read_at.map(time),
        }
    }
}

/// The API's form of a stored time.
pub fn time(stored: bson::DateTime) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(stored.timestamp_millis()).unwrap_or_default()
}
