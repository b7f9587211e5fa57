//! What a member is told, and how it looks in a stream.
//!
//! Invariant: a notification holds no message text. The text lives in `messages` alone, so erasing
//! a room leaves no copy behind; whoever shows a notification reads the text beside it.

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
    pub room_id: ObjectId,
    pub trade_post_id: i64,
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
            Self::Read { .. } => "read",
        }
    }
}

impl Notification {
    /// The server-sent event; without bytes if the member deleted it. `message` is the message a
    /// [`Kind::Message`] is about, or `None` when it was erased since.
    pub fn frame(&self, message: Option<&Message>) -> Frame {
        if self.deleted_at.is_some() {
            return Frame {
                seq: self.seq,
                bytes: Bytes::new(),
            };
        }
        let data =
            serde_json::to_string(&NotificationView::new(self, message)).expect("plain fields make JSON");
        Frame {
            seq: self.seq,
            bytes: format!("id: {}\nevent: {}\ndata: {data}\n\n", self.seq, self.kind.name()).into(),
        }
    }
}

/// An encoded event, or nothing to send. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Frame {
    pub seq: i64,
    pub bytes: Bytes,
}
