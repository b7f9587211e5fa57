//! `messages`: sending and reading them.
//!
//! Invariant: sending writes the room in the same transaction as the message, so a message is
//! either committed before the room's close, and then erased with it, or not sent at all. A
//! repeated `client_message_id` answers the first message.

use std::collections::{HashMap, HashSet};

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, Document, doc, oid::ObjectId, serialize_to_bson, serialize_to_document},
    error::{Error, Result},
    options::{InsertOneModel, UpdateOneModel, WriteModel},
};

use super::{Store, is_duplicate_key, transaction::Conflict};
use crate::{
    message::Message,
    notification::{CloseReason, Kind},
    room::{Closed, LastMessage, Room, RoomKey},
    store::{notifications::Draft, posts::TradePost},
};

/// What became of a message.
#[derive(Clone, Debug)]
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

/// A message's identity for its sender.
type Key<'a> = (ObjectId, i64, &'a str);

impl Outgoing {
    fn key(&self) -> Key<'_> {
        (self.room_id, self.sender_id, &self.client_message_id)
    }
}

impl Store {
    /// Sends messages in their order, each once, and answers what became of each. The cost is that of
    /// one transaction, unless some are repeated.
    pub async fn send(&self, outgoing: &[Outgoing], now: DateTime) -> Result<Vec<Sent>> {
        let mut answers: Vec<Option<Sent>> = vec![None; outgoing.len()];
        loop {
            let mut keys = HashSet::new();
            let (places, batch): (Vec<usize>, Vec<&Outgoing>) = outgoing
                .iter()
                .enumerate()
                .filter(|(place, message)| answers[*place].is_none() && keys.insert(message.key()))
                .unzip();
            if batch.is_empty() {
                return Ok(answers.into_iter().flatten().collect());
            }
            match self.send_together(&batch, now).await {
                Ok(sent) => {
                    for (place, sent) in places.into_iter().zip(sent) {
                        answers[place] = Some(sent);
                    }
                }
                Err(error) if is_duplicate_key(&error) => {
                    let earlier = self.sent_before(&batch).await?;
                    for (place, message) in places.into_iter().zip(batch) {
                        let first = earlier.iter().find(|first| {
                            message.key() == (first.room_id, first.sender_id, &first.client_message_id)
                        });
                        answers[place] = first.cloned().map(Sent::Repeated);
                    }
                    if earlier.is_empty() {
                        return Err(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn send_together(&self, outgoing: &[&Outgoing], now: DateTime) -> Result<Vec<Sent>> {
        let ids: Vec<ObjectId> = outgoing.iter().map(|message| message.room_id).collect();
        let rooms = self.rooms.clone_with_type::<RoomKey>();
        let rooms = rooms
            .find(doc! { "_id": { "$in": ids } })
            .projection(RoomKey::fields());
        let rooms: Vec<RoomKey> = rooms.await?.try_collect().await?;
        let _turn = self.turns.take(rooms.iter().flat_map(|room| room.members)).await;
        let mut transaction = self.transaction().await?;
        let mut answers = loop {
            transaction.begin().await?;
            let sent = self.send_in(&mut transaction.session, outgoing, now).await;
            if let Some(sent) = transaction.end(sent).await? {
                break sent;
            }
        };
        for (answer, message) in answers.iter_mut().zip(outgoing) {
            if matches!(answer, Sent::NoRoom)
                && let Some(closed) = self.closed(message.room_id, message.sender_id).await?
            {
                *answer = Sent::Closed(closed);
            }
        }
        Ok(answers)
    }

    async fn send_in(
        &self,
        session: &mut ClientSession,
        outgoing: &[&Outgoing],
        now: DateTime,
    ) -> Result<Vec<Sent>> {
        let room_ids: Vec<ObjectId> = outgoing.iter().map(|message| message.room_id).collect();
        let mut rooms: HashMap<ObjectId, Room> = self
            .rooms
            .find(doc! { "_id": { "$in": room_ids }, "state": "open" })
            .session(&mut *session)
            .await?
            .stream(&mut *session)
            .map_ok(|room| (room.id, room))
            .try_collect()
            .await?;
        // A post with very many rooms is fenced before the last of them is closed.
        let post_ids: Vec<i64> = rooms.values().map(|room| room.trade_post_id).collect();
        let posts: HashMap<i64, TradePost> = self
            .posts
            .find(doc! { "_id": { "$in": post_ids } })
            .session(&mut *session)
            .await?
            .stream(&mut *session)
            .map_ok(|post| (post.id, post))
            .try_collect()
            .await?;
        let is_fenced = |room: &Room| {
            let post = posts.get(&room.trade_post_id);
            let end = post.and_then(|post| post.end_of(room.generation));
            end.is_some_and(|end| end.to.is_none())
        };
        let before: HashMap<ObjectId, i64> = rooms.iter().map(|(id, room)| (*id, room.next_seq)).collect();
        let answers: Vec<Sent> = outgoing
            .iter()
            .map(|message| match rooms.get_mut(&message.room_id) {
                Some(room) if !room.members.contains(&message.sender_id) => Sent::NoRoom,
                Some(room) if is_fenced(room) => Sent::Closed(Closed {
                    trade_post_id: room.trade_post_id,
                    reason: CloseReason::TradePostDeleted,
                }),
                Some(room) => Sent::New(take_in(room, message, now)),
                None => Sent::NoRoom,
            })
            .collect();
        self.store_sent(&rooms, &before, &answers, session).await?;
        let drafts = new(&answers).filter_map(|message| {
            let room = rooms.get(&message.room_id)?;
            Some(Draft {
                member_id: room.other(message.sender_id),
                kind: Kind::Message {
                    message_seq: message.seq,
                },
                room_id: room.id,
                trade_post_id: room.trade_post_id,
            })
        });
        self.notify(drafts.collect(), now, session).await?;
        Ok(answers)
    }

    /// Writes the new messages, and the rooms that took them in.
    async fn store_sent(
        &self,
        rooms: &HashMap<ObjectId, Room>,
        before: &HashMap<ObjectId, i64>,
        answers: &[Sent],
        session: &mut ClientSession,
    ) -> Result<()> {
        let mut models: Vec<WriteModel> = Vec::new();
        for (id, room) in rooms {
            let seen = before.get(id).copied().unwrap_or_default();
            if room.next_seq == seen {
                continue;
            }
            let last_message = serialize_to_bson(&room.last_message).map_err(Error::custom)?;
            let raised = UpdateOneModel::builder()
                .namespace(self.rooms.namespace())
                .filter(doc! { "_id": id, "state": "open", "next_seq": seen })
                .update(doc! { "$set": {
                    "next_seq": room.next_seq,
                    "last_message": last_message,
                    "last_activity_at": room.last_activity_at,
                } })
                .build();
            models.push(raised.into());
        }
        let raised = models.len();
        if raised == 0 {
            return Ok(());
        }
        for message in new(answers) {
            let insert = InsertOneModel::builder()
                .namespace(self.messages.namespace())
                .document(serialize_to_document(message).map_err(Error::custom)?)
                .build();
            models.push(insert.into());
        }
        let written = self.client.bulk_write(models).session(session).await?;
        if usize::try_from(written.matched_count) == Ok(raised) {
            Ok(())
        } else {
            Err(Error::custom(Conflict))
        }
    }

    /// Those of `outgoing` that were sent already.
    async fn sent_before(&self, outgoing: &[&Outgoing]) -> Result<Vec<Message>> {
        let keys = outgoing.iter().map(|message| {
            doc! {
                "sender_id": message.sender_id,
                "room_id": message.room_id,
                "client_message_id": &message.client_message_id,
            }
        });
        self.messages
            .find(doc! { "$or": keys.collect::<Vec<Document>>() })
            .await?
            .try_collect()
            .await
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

/// Gives the message the room's next sequence.
fn take_in(room: &mut Room, outgoing: &Outgoing, now: DateTime) -> Message {
    let message = Message {
        room_id: room.id,
        seq: room.next_seq,
        sender_id: outgoing.sender_id,
        client_message_id: outgoing.client_message_id.clone(),
        body: outgoing.body.clone(),
        sent_at: now,
    };
    room.next_seq += 1;
    room.last_activity_at = now;
    room.last_message = Some(LastMessage {
        seq: message.seq,
        sender_id: message.sender_id,
        body: message.body.clone(),
        sent_at: now,
    });
    message
}

fn new(answers: &[Sent]) -> impl Iterator<Item = &Message> {
    answers.iter().filter_map(|answer| match answer {
        Sent::New(message) => Some(message),
        Sent::Repeated(_) | Sent::NoRoom | Sent::Closed(_) => None,
    })
}
