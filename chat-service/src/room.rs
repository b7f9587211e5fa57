//! Rooms: one buyer and the seller of one trade post.
//!
//! Invariant: a room knows the generation of the post it was opened for (`generation`), so that a
//! delete closes the rooms of its own generation and never those of a post created again.

use mongodb::bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use serde::{Deserialize, Serialize};

use crate::notification::CloseReason;

/// A room as it is stored in `rooms`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Room {
    #[serde(rename = "_id")]
    pub id: ObjectId,
    pub trade_post_id: i64,
    /// The post's generation when the room was opened.
    pub generation: i64,
    pub seller_id: i64,
    pub buyer_id: i64,
    /// Seller and buyer, for the index by member.
    pub members: [i64; 2],
    pub state: RoomState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<DeletionId>,
    /// Sequence of the next message.
    pub next_seq: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<LastMessage>,
    pub created_at: DateTime,
    pub last_activity_at: DateTime,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomState {
    Open,
    Closed,
}

/// Identity of a deletion: the post, and the LSN up to which its rooms go. Stored as `post@lsn`, which any
/// server finds by its index; a document would depend on the order of its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeletionId {
    pub post: i64,
    pub lsn: i64,
}

impl From<DeletionId> for String {
    fn from(DeletionId { post, lsn }: DeletionId) -> Self {
        format!("{post}@{lsn}")
    }
}

impl From<DeletionId> for Bson {
    fn from(id: DeletionId) -> Self {
        Self::String(id.into())
    }
}

impl TryFrom<String> for DeletionId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parts = text.split_once('@');
        let numbers = parts.and_then(|(post, lsn)| Some((post.parse().ok()?, lsn.parse().ok()?)));
        let (post, lsn) = numbers.ok_or_else(|| format!("{text:?} is not post@lsn"))?;
        Ok(Self { post, lsn })
    }
}

/// The newest message, kept on the room for lists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastMessage {
    pub seq: i64,
    pub sender_id: i64,
    pub body: String,
    pub sent_at: DateTime,
}

/// What tells whose a room is and whether it is closed.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct RoomKey {
    #[serde(rename = "_id")]
    pub id: ObjectId,
    pub trade_post_id: i64,
    pub generation: i64,
    pub members: [i64; 2],
}

impl RoomKey {
    /// The fields to ask for.
    pub fn fields() -> Document {
        doc! { "trade_post_id": 1, "generation": 1, "members": 1 }
    }
}

impl Room {
    /// The member's counterpart.
    pub fn other(&self, member: i64) -> i64 {
        if member == self.seller_id {
            self.buyer_id
        } else {
            self.seller_id
        }
    }
}

/// Why a room is not there for a member who was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    pub trade_post_id: i64,
    pub reason: CloseReason,
}

#[cfg(test)]
mod tests {
    use super::DeletionId;

    #[test]
    fn a_deletion_is_read_as_it_was_written() {
        let id = DeletionId {
            post: 42,
            lsn: i64::MAX,
        };
        let text = String::from(id);
        assert_eq!(text, "42@9223372036854775807");
        assert_eq!(DeletionId::try_from(text), Ok(id));
        for wrong in ["", "42", "42@", "@1", "42@x", "42@1@2"] {
            DeletionId::try_from(wrong.to_owned()).unwrap_err();
        }
    }
}
