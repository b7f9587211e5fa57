//! `messages`: sending and reading them.
//!
//! Invariant: sending writes the room in the same transaction as the message, so a message is
//! either committed before the room's close, and then erased with it, or not sent at all. A
//! repeated `client_message_id` answers the first message.

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, doc, oid::ObjectId},
    error::{Error, Result},
    options::ReturnDocument,
};

use super::{Store, is_duplicate_key, posts::PostState};
use crate::{
    message::Message,
    notification::{CloseReason, Kind},
    room::Closed,
    store::notifications::Draft,
};

/// What became of a message.
#[derive(Debug)]
pub enum Sent {
    New(Message),
    /// The id was used before: this is the message of then.
    Repeated(Message),
    /// The room is not there for the sender.
    NoRoom,
    Closed(Closed),
}

/// Which messages of a room are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    /// Only messages with a smaller sequence.
    pub before: Option<i64>,
    /// Only messages with a larger sequence; the oldest of them first.
    pub after: Option<i64>,
}

/// What a sender gives.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub room_id: ObjectId,
    pub sender_id: i64,
    pub client_message_id: String,
    pub body: String,
}

impl Store {
    /// Sends a message once.
    pub async fn send(&self, outgoing: &Outgoing, now: DateTime) -> Result<Sent> {
        let mut transaction = self.transaction().await?;
        let outcome = loop {
            transaction.begin().await?;
            let sent = self.send_in(&mut transaction.session, outgoing, now).await;
            if let Some(outcome) = transaction.end(sent).await.transpose() {
                break outcome;
            }
        };
        match outcome {
            Err(error) if is_duplicate_key(&error) => {
                let Outgoing {
                    room_id,
                    sender_id,
                    client_message_id,
                    ..
                } = outgoing;
                let first = doc! {
                    "room_id": room_id,
                    "sender_id": sender_id,
                    "client_message_id": client_message_id,
                };
                let first = self.messages.find_one(first).await?;
                // Erased in between: the room is gone.
                Ok(first.map_or(Sent::NoRoom, Sent::Repeated))
            }
            Err(error) => error
                .get_custom::<Closed>()
                .copied()
                .map(Sent::Closed)
                .ok_or(error),
            Ok(Sent::NoRoom) => {
                let closed = self.closed(outgoing.room_id, outgoing.sender_id).await?;
                Ok(closed.map_or(Sent::NoRoom, Sent::Closed))
            }
            sent => sent,
        }
    }

    async fn send_in(&self, session: &mut ClientSession, outgoing: &Outgoing, now: DateTime) -> Result<Sent> {
        let Outgoing {
            room_id,
            sender_id,
            client_message_id,
            body,
        } = outgoing.clone();
        let open = doc! { "_id": room_id, "members": sender_id, "state": "open" };
        // The sequence is the room's own, read and raised in one write.
        let raise = vec![doc! { "$set": {
            "last_message": {
                "seq": "$next_seq",
                "sender_id": sender_id,
                "body": { "$literal": &body },
                "sent_at": now,
            },
            "last_activity_at": now,
            "next_seq": { "$add": ["$next_seq", 1_i64] },
        } }];
        let room = self
            .rooms
            .find_one_and_update(open, raise)
            .return_document(ReturnDocument::Before)
            .session(&mut *session)
            .await?;
        let Some(room) = room else {
            return Ok(Sent::NoRoom);
        };
        // A post with very many rooms is fenced before the last of them is closed.
        let post = self
            .posts
            .find_one(doc! { "_id": room.trade_post_id })
            .session(&mut *session)
            .await?;
        if post.is_some_and(|post| post.state == PostState::Deleted) {
            // An error, so that the transaction is undone.
            return Err(Error::custom(Closed {
                trade_post_id: room.trade_post_id,
                reason: CloseReason::TradePostDeleted,
            }));
        }
        let recipient = room.other(sender_id);
        let message = Message {
            room_id,
            seq: room.next_seq,
            sender_id,
            client_message_id,
            body,
            sent_at: now,
        };
        self.messages.insert_one(&message).session(&mut *session).await?;
        let draft = Draft {
            member_id: recipient,
            kind: Kind::Message {
                message_seq: message.seq,
            },
            room_id,
            trade_post_id: room.trade_post_id,
        };
        self.notify(vec![draft], now, session).await?;
        Ok(Sent::New(message))
    }

    /// Messages of a room: the newest first, or the oldest first behind `after`.
    pub async fn messages(&self, room_id: ObjectId, window: Window, limit: i64) -> Result<Vec<Message>> {
        let mut seq = doc! { "$gt": window.after.unwrap_or(0) };
        if let Some(before) = window.before {
            seq.insert("$lt", before);
        }
        let order = if window.after.is_some() { 1 } else { -1 };
        self.messages
            .find(doc! { "room_id": room_id, "seq": seq })
            .sort(doc! { "seq": order })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }
}
