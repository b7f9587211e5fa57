//! What a member is told, and how it looks in a stream.
//!
//! Invariant: a notification holds no message text. The text lives in `messages` alone, so erasing
//! a room leaves no copy behind; whoever shows a notification reads the text beside it.

use bytes::Bytes;
use mongodb::bson::{DateTime, oid::ObjectId};
use serde::{Deserialize, Serialize};

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
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// The other member of the room sent a message.
    Message { message_seq: i64 },
    /// A buyer opened a room about one of the member's posts.
    RoomCreated,
    /// The room was closed for good.
    RoomClosed { reason: CloseReason },
}

/// Why a room was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    TradePostDeleted,
}

impl Kind {
    /// The name of the server-sent event.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Message { .. } => "message",
            Self::RoomCreated => "room_created",
            Self::RoomClosed { .. } => "room_closed",
        }
    }
}

impl Notification {
    /// The server-sent event. `message` is the message a [`Kind::Message`] is about, or `None` when
    /// it was erased since.
    pub fn frame(&self, message: Option<&Message>) -> Frame {
        let data =
            serde_json::to_string(&NotificationView::new(self, message)).expect("plain fields make JSON");
        Frame {
            seq: self.seq,
            bytes: format!("id: {}\nevent: {}\ndata: {data}\n\n", self.seq, self.kind.name()).into(),
        }
    }
}

/// An encoded event. Cloning shares the bytes.
#[derive(Clone, Debug)]
pub struct Frame {
    pub seq: i64,
    pub bytes: Bytes,
}
