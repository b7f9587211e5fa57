//! Rooms: one buyer and the seller of one trade post.
//!
//! Invariant: a room knows the generation of the post it was opened for (`generation`), so that a
//! delete closes the rooms of its own generation and never those of a post created again. What its
//! members have read or hidden has no part in that.

use mongodb::bson::{Bson, DateTime, Document, doc, oid::ObjectId};
use serde::{Deserialize, Serialize};

use crate::{
    message::{Content, Message, SentCounts},
    notification::CloseReason,
    trade_post::Look,
};

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
    /// Seller and buyer; whoever was erased is taken out for good.
    pub members: Vec<i64>,
    /// The members of whom something is left to erase here, though they are taken out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub erasing: Vec<i64>,
    /// The members who block the other one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked_by: Vec<i64>,
    pub state: RoomState,
    /// The deletion that closed it; none if it was closed because its members have gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<DeletionId>,
    /// The members whose list of rooms shows this one. Who leaves is taken out, until the next text.
    pub listed_for: Vec<i64>,
    pub seller: MemberState,
    pub buyer: MemberState,
    /// The post as the members were told of it last.
    pub told: Look,
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

/// How far one of the two has come in the room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// Sequence of the last message that the member has read; 0 before the first. It only grows.
    pub read_up_to: i64,
    /// Texts of the other member up to there.
    pub seen: i64,
    /// Texts that the member has sent.
    pub sent: i64,
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
    #[serde(flatten)]
    pub content: Content,
    pub sent_at: DateTime,
}

/// What tells whose a room is and whether it is closed.
#[derive(Clone, Debug, Deserialize)]
pub struct RoomKey {
    #[serde(rename = "_id")]
    pub id: ObjectId,
    pub trade_post_id: i64,
    pub generation: i64,
    pub members: Vec<i64>,
}

impl RoomKey {
    /// The fields to ask for.
    pub fn fields() -> Document {
        doc! { "trade_post_id": 1, "generation": 1, "members": 1 }
    }
}

impl Room {
    /// A room in which nothing was said yet, about the row that the post has been since `generation`.
    pub fn new(
        (trade_post_id, generation): (i64, i64),
        [seller_id, buyer_id]: [i64; 2],
        told: Look,
        now: DateTime,
    ) -> Self {
        Self {
            id: ObjectId::new(),
            trade_post_id,
            generation,
            seller_id,
            buyer_id,
            members: vec![seller_id, buyer_id],
            erasing: Vec::new(),
            blocked_by: Vec::new(),
            state: RoomState::Open,
            closed_by: None,
            listed_for: vec![seller_id, buyer_id],
            seller: MemberState::default(),
            buyer: MemberState::default(),
            told,
            next_seq: 1,
            last_message: None,
            created_at: now,
            last_activity_at: now,
        }
    }

    /// The member's counterpart.
    pub fn other(&self, member: i64) -> i64 {
        if member == self.seller_id {
            self.buyer_id
        } else {
            self.seller_id
        }
    }

    /// The member's own state, and that of the other one.
    pub fn states(&self, member: i64) -> (MemberState, MemberState) {
        if member == self.seller_id {
            (self.seller, self.buyer)
        } else {
            (self.buyer, self.seller)
        }
    }

    /// Texts of the other member that `member` has not read.
    pub fn unread(&self, member: i64) -> i64 {
        let (own, other) = self.states(member);
        other.sent - own.seen
    }

    /// Why `sender`, who is a member, may send nothing, if that is so.
    pub fn refusal(&self, sender: i64) -> Option<Refusal> {
        if !self.members.contains(&self.other(sender)) {
            return Some(Refusal::OtherErased);
        }
        // Where each blocks the other, it is for the sender to begin.
        self.blocked_by
            .iter()
            .max_by_key(|blocker| **blocker == sender)
            .map(|blocker| Refusal::blocked(*blocker == sender))
    }

    /// Moves the member's marker to `last`. Answers the field of that member's state.
    pub fn mark_read(&mut self, member: i64, last: &Message) -> &'static str {
        let (field, own, seen) = if member == self.seller_id {
            ("seller", &mut self.seller, last.counts.buyer)
        } else {
            ("buyer", &mut self.buyer, last.counts.seller)
        };
        own.read_up_to = last.seq;
        own.seen = seen;
        field
    }

    /// Gives a message the room's next sequence. A text counts as sent, and shows the room again to
    /// whoever had left it.
    pub fn take_in(&mut self, content: Content, client_message_id: Option<String>, now: DateTime) -> Message {
        if let Content::Text { sender_id, .. } = content {
            let sender = if sender_id == self.seller_id {
                &mut self.seller
            } else {
                &mut self.buyer
            };
            sender.sent += 1;
            self.listed_for.clone_from(&self.members);
        }
        let message = Message {
            room_id: self.id,
            seq: self.next_seq,
            content,
            client_message_id,
            counts: SentCounts {
                seller: self.seller.sent,
                buyer: self.buyer.sent,
            },
            sent_at: now,
        };
        self.next_seq += 1;
        self.last_activity_at = now;
        self.last_message = Some(LastMessage {
            seq: message.seq,
            content: message.content.clone(),
            sent_at: now,
        });
        message
    }
}

/// Why a room is not there for a member who was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    pub trade_post_id: i64,
    pub reason: CloseReason,
}

/// Why a member may not open a room with the other one, or send anything there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    BlockedByCaller,
    BlockedByOther,
    CallerErased,
    OtherErased,
}

impl Refusal {
    pub fn blocked(by_caller: bool) -> Self {
        if by_caller {
            Self::BlockedByCaller
        } else {
            Self::BlockedByOther
        }
    }
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
