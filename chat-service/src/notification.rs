//! What a member is told, and how it looks in a stream.
//!
//! Invariant: a notification holds no message text and no title of a post that was found. They live in
//! `messages` and `trade_posts` alone, so erasing leaves no copy behind; whoever shows a notification reads
//! the text beside it.

use std::collections::HashMap;

use bytes::Bytes;
use mongodb::bson::{DateTime, oid::ObjectId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{message::Message, view::NotificationView};

/// A notification as it is stored in `notifications`; unique by member and sequence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    pub member_id: i64,
    /// The member's own sequence: from 1, without gaps.
    pub seq: i64,
    #[serde(flatten)]
    pub kind: Kind,
    /// None where it is about no room.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_id: Option<ObjectId>,
    pub trade_post_id: i64,
    /// Unique among all notifications, of what comes to be known again and again and is told once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<String>,
    pub created_at: DateTime,
    /// When the member read it. A [`Kind::Read`] is not for reading, and has it from the beginning.
    pub read_at: Option<DateTime>,
    /// When the member deleted it. It stays as a marker, so that its number is not taken for lost.
    pub deleted_at: Option<DateTime>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[schema(as = NotificationKind)]
pub enum Kind {
    /// The other member of the room sent a message.
    Message { message_seq: i64 },
    /// A buyer opened a room about one of the member's posts.
    RoomCreated,
    /// The room was closed for good.
    RoomClosed { reason: CloseReason },
    /// The post of an open room has another title or status.
    TradePostChanged { title: String, status: String },
    /// A new post of somebody else has one of the member's keywords in its title.
    TradePostMatched { keyword: String },
    /// A member of the room, perhaps this one elsewhere, has read it up to this message. For streams
    /// only; lists do not show it.
    Read { reader_id: i64, up_to: i64 },
}

/// Why a room was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    TradePostDeleted,
    /// A member was erased, and the other one had left or was erased too.
    MemberErased,
}

impl Kind {
    /// The name of the server-sent event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Message { .. } => "message",
            Self::RoomCreated => "room_created",
            Self::RoomClosed { .. } => "room_closed",
            Self::TradePostChanged { .. } => "trade_post_changed",
            Self::TradePostMatched { .. } => "trade_post_matched",
            Self::Read { .. } => "read",
        }
    }
}

impl Notification {
    /// The server-sent event; without bytes if the member deleted it.
    pub fn frame(&self, texts: &Texts) -> Frame {
        if self.deleted_at.is_some() {
            return Frame {
                seq: self.seq,
                bytes: Bytes::new(),
            };
        }
        let data =
            serde_json::to_string(&NotificationView::new(self, texts)).expect("plain fields make JSON");
        Frame {
            seq: self.seq,
            bytes: format!("id: {}\nevent: {}\ndata: {data}\n\n", self.seq, self.kind.name()).into(),
        }
    }
}

/// What is shown beside notifications and not kept in them.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    /// By room and sequence: those that are not erased.
    pub messages: HashMap<(ObjectId, i64), Message>,
    /// Titles by post: of those that are there.
    pub titles: HashMap<i64, String>,
}

impl Texts {
    /// The message that `notification` is about, unless it was erased since.
    pub fn message(&self, notification: &Notification) -> Option<&Message> {
        match notification.kind {
            Kind::Message { message_seq } => self.messages.get(&(notification.room_id?, message_seq)),
            _ => None,
        }
    }

    /// The title of the post that `notification` is about, unless the post has gone since.
    pub fn title(&self, notification: &Notification) -> Option<&str> {
        match notification.kind {
            Kind::TradePostMatched { .. } => self.titles.get(&notification.trade_post_id).map(String::as_str),
            _ => None,
        }
    }
}

/// An encoded event, or nothing to send. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Frame {
    pub seq: i64,
    pub bytes: Bytes,
}
