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

use super::{Store, Window, is_duplicate_key, transaction::Conflict};
use crate::{
    message::{Content, Message},
    notification::{CloseReason, Kind},
    room::{Closed, Refusal, Room, RoomKey},
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
    Refused(Refusal),
}

/// What a sender gives.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub room_id: ObjectId,
    pub sender_id: i64,
    pub client_message_id: String,
    pub body: String,
}

impl Outgoing {
    /// A message's identity for its sender.
    fn key(&self) -> (ObjectId, i64, &str) {
        (self.room_id, self.sender_id, &self.client_message_id)
    }
}

impl Message {
    /// Whether this is what became of `outgoing`.
    fn is(&self, outgoing: &Outgoing) -> bool {
        self.room_id == outgoing.room_id
            && self.sender() == Some(outgoing.sender_id)
            && self.client_message_id.as_ref() == Some(&outgoing.client_message_id)
    }
}

impl Room {
    /// What [`Room::take_in`] changed, to be set where `next_seq` is what it was before.
    pub fn taken_in(&self) -> Result<Document> {
        Ok(doc! {
            "next_seq": self.next_seq,
            "last_message": serialize_to_bson(&self.last_message).map_err(Error::custom)?,
            "last_activity_at": self.last_activity_at,
            "listed_for": &self.listed_for,
            "seller.sent": self.seller.sent,
            "buyer.sent": self.buyer.sent,
        })
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
                        let first = earlier.iter().find(|first| first.is(message));
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
        let _turn = self
            .turns
            .take(rooms.into_iter().flat_map(|room| room.members))
            .await;
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
                Some(room) => match room.refusal(message.sender_id) {
                    Some(refusal) => Sent::Refused(refusal),
                    None => Sent::New(room.take_in(
                        Content::Text {
                            sender_id: message.sender_id,
                            body: message.body.clone(),
                        },
                        Some(message.client_message_id.clone()),
                        now,
                    )),
                },
                None => Sent::NoRoom,
            })
            .collect();
        self.store_sent(&rooms, &before, &answers, session).await?;
        let drafts = new(&answers).filter_map(|message| {
            let room = rooms.get(&message.room_id)?;
            let kind = Kind::Message {
                message_seq: message.seq,
            };
            let other = room.other(message.sender()?);
            Some(Draft::in_room(other, kind, room.id, room.trade_post_id))
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
            let raised = UpdateOneModel::builder()
                .namespace(self.rooms.namespace())
                .filter(doc! { "_id": id, "state": "open", "next_seq": seen })
                .update(doc! { "$set": room.taken_in()? })
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

    /// A page of a room's messages.
    pub async fn messages(&self, room_id: ObjectId, window: Window, limit: i64) -> Result<Vec<Message>> {
        let (seq, order) = window.of_seq();
        self.messages
            .find(doc! { "room_id": room_id, "seq": seq })
            .sort(order)
            .limit(limit)
            .await?
            .try_collect()
            .await
    }
}

fn new(answers: &[Sent]) -> impl Iterator<Item = &Message> {
    answers.iter().filter_map(|answer| match answer {
        Sent::New(message) => Some(message),
        Sent::Repeated(_) | Sent::NoRoom | Sent::Closed(_) | Sent::Refused(_) => None,
    })
}
