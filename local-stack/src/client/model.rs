//! The answers of the services' APIs, as far as a client reads them.

use chrono::{DateTime, Utc};
use serde::Deserialize;

/// A page of a list.
#[derive(Clone, Debug, Deserialize)]
pub struct Page<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
    /// Open the event stream with it to miss nothing after this page. Lists of chat-service have it.
    pub last_event_id: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct TradePost {
    pub id: i64,
    pub seller_id: i64,
    pub title: String,
    pub body: String,
    /// In won.
    pub price: i64,
    pub category: String,
    pub status: String,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Room {
    pub id: String,
    pub trade_post: RoomPost,
    pub seller_id: i64,
    pub buyer_id: i64,
    /// Texts of the other member that the caller has not read.
    pub unread: i64,
    pub read_up_to: i64,
    pub other_read_up_to: i64,
    pub created_at: DateTime<Utc>,
    pub last_activity_at: DateTime<Utc>,
}

/// What a room shows of its post.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct RoomPost {
    pub id: i64,
    pub title: Option<String>,
    pub status: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
pub struct Message {
    pub room_id: String,
    /// The room's own sequence, from 1.
    pub seq: i64,
    /// `text`, `system` or `erased`.
    pub kind: String,
    /// Not of system messages.
    pub sender_id: Option<i64>,
    pub client_message_id: Option<String>,
    /// Of texts.
    pub body: Option<String>,
    /// Of system messages: what happened to the post.
    pub event: Option<String>,
    pub sent_at: DateTime<Utc>,
}

/// Also the data of a stream's event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Notification {
    /// The member's own sequence, from 1.
    pub seq: i64,
    pub kind: String,
    /// Empty where it is about no room.
    #[serde(default)]
    pub room_id: String,
    pub trade_post_id: i64,
    pub reason: Option<String>,
    /// Of `trade_post_matched`.
    pub keyword: Option<String>,
    /// Of `trade_post_changed`, and of `trade_post_matched` while the post is there.
    pub title: Option<String>,
    pub status: Option<String>,
    pub message: Option<Message>,
    pub created_at: DateTime<Utc>,
    pub read_at: Option<DateTime<Utc>>,
}

/// What chat-service did about one deleted post that had chats.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Deletion {
    pub trade_post_id: i64,
    pub lsn: i64,
    /// `pending`, `erasing` or `done`.
    pub state: String,
    pub rooms: i64,
    pub messages: i64,
    pub rooms_erased: i64,
    pub messages_erased: i64,
    pub committed_at: Option<DateTime<Utc>>,
    pub captured_at: Option<DateTime<Utc>>,
    pub received_at: DateTime<Utc>,
    pub closed_at: DateTime<Utc>,
    pub begun_at: Option<DateTime<Utc>>,
    pub done_at: Option<DateTime<Utc>>,
}
