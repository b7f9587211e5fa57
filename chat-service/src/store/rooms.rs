//! `rooms`: opening, reading and closing them.
//!
//! Invariant: opening a room writes the post's projection in the same transaction, so a room is
//! either committed before the post's fence, and then found by the close, or not opened at all. It writes
//! the inboxes of both members too, with the same consequence for blocks and erasures of members.

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, Document, doc, oid::ObjectId, serialize_to_document},
    error::{Error, Result},
    options::InsertOneModel,
};
use serde::Deserialize;

use super::{
    Edge, Store, is_duplicate_key,
    posts::{PostState, TradePost},
};
use crate::{
    notification::{CloseReason, Kind},
    room::{Closed, Refusal, Room, RoomState},
    store::notifications::Draft,
};

/// What became of the wish to open a room.
#[derive(Debug)]
pub enum Opened {
    New(Room),
    Existing(Room),
    /// The post is not known here (yet).
    UnknownPost,
    PostDeleted,
    /// The caller is the post's seller.
    OwnPost,
    Refused(Refusal),
}

/// A room's place in lists: last activity, then id.
pub type Place = (i64, ObjectId);

/// A room as lists show it.
#[derive(Clone, Debug, Deserialize)]
pub struct Listed {
    pub room: Room,
    /// The room's post, or nothing while it is not known here.
    pub post: Vec<TradePost>,
}

impl Store {
    /// Opens the buyer's room about the post, or answers the one that is open.
    pub async fn open_room(&self, trade_post_id: i64, buyer_id: i64, now: DateTime) -> Result<Opened> {
        // What the transaction finds counts; this only tells whose turn to wait for.
        let seller_id = self.post(trade_post_id).await?.and_then(|post| post.seller_id);
        let _turn = self.turns.take(seller_id.into_iter().chain([buyer_id])).await;
        let mut transaction = self.transaction().await?;
        let outcome = loop {
            transaction.begin().await?;
            let opened = self
                .open_in(&mut transaction.session, trade_post_id, buyer_id, now)
                .await;
            if let Some(outcome) = transaction.end(opened).await.transpose() {
                break outcome;
            }
        };
        match outcome {
            // Lost the race against the same buyer's other request.
            Err(error) if is_duplicate_key(&error) => {
                let generation = self.post(trade_post_id).await?.map_or(0, |post| post.generation);
                let room = self
                    .rooms
                    .find_one(open_room(trade_post_id, buyer_id, generation));
                room.await?.map(Opened::Existing).ok_or(error)
            }
            outcome => outcome,
        }
    }

    async fn open_in(
        &self,
        session: &mut ClientSession,
        trade_post_id: i64,
        buyer_id: i64,
        now: DateTime,
    ) -> Result<Opened> {
        let Some(post) = self.hold_post(trade_post_id, session).await? else {
            return Ok(Opened::UnknownPost);
        };
        let (seller_id, look) = match (post.state, post.seller_id.zip(post.look())) {
            (PostState::Live, Some(known)) => known,
            (PostState::Live, None) => return Ok(Opened::UnknownPost),
            (PostState::Deleted, _) => return Ok(Opened::PostDeleted),
        };
        if seller_id == buyer_id {
            return Ok(Opened::OwnPost);
        }
        if let Some(refusal) = self.refusal_between(buyer_id, seller_id, session).await? {
            return Ok(Opened::Refused(refusal));
        }
        let open = open_room(trade_post_id, buyer_id, post.generation);
        if let Some(mut room) = self.rooms.find_one(open).session(&mut *session).await? {
            if !room.listed_for.contains(&buyer_id) {
                room.listed_for.push(buyer_id);
                let listed = doc! { "$addToSet": { "listed_for": buyer_id } };
                let this = doc! { "_id": room.id };
                self.rooms.update_one(this, listed).session(session).await?;
            }
            return Ok(Opened::Existing(room));
        }
        let row = (trade_post_id, post.generation);
        let room = Room::new(row, [seller_id, buyer_id], look, now);
        let insert = InsertOneModel::builder()
            .namespace(self.rooms.namespace())
            .document(serialize_to_document(&room).map_err(Error::custom)?)
            .build();
        // The seller's is written by the notification.
        let models = [insert.into(), self.touch_inbox(buyer_id)];
        self.client.bulk_write(models).session(&mut *session).await?;
        let draft = Draft::in_room(seller_id, Kind::RoomCreated, room.id, trade_post_id);
        self.notify(vec![draft], now, session).await?;
        Ok(Opened::New(room))
    }

    /// The room, if `member` is in it.
    pub async fn room(&self, id: ObjectId, member: i64) -> Result<Option<Room>> {
        self.rooms.find_one(doc! { "_id": id, "members": member }).await
    }

    /// Why a room that is not there for `member` any more was closed; `None` if it never was there.
    /// The member's own notification is the witness: the room itself may be erased.
    pub async fn closed(&self, id: ObjectId, member: i64) -> Result<Option<Closed>> {
        let told = doc! { "member_id": member, "room_id": id, "kind": "room_closed" };
        Ok(self.notifications.find_one(told).await?.and_then(|told| {
            let Kind::RoomClosed { reason } = told.kind else {
                return None;
            };
            Some(Closed {
                trade_post_id: told.trade_post_id,
                reason,
            })
        }))
    }

    /// The open rooms in the member's list, last activity first.
    pub async fn rooms_of(&self, member: i64, edge: Option<Edge<Place>>, limit: i64) -> Result<Vec<Listed>> {
        self.list_rooms(doc! { "listed_for": member, "state": "open" }, edge, limit)
            .await
    }

    /// Those of one post, if the member is its seller.
    pub async fn rooms_of_post(
        &self,
        trade_post_id: i64,
        member: i64,
        edge: Option<Edge<Place>>,
        limit: i64,
    ) -> Result<Vec<Listed>> {
        let filter = doc! {
            "trade_post_id": trade_post_id,
            "state": "open",
            "seller_id": member,
            "listed_for": member,
        };
        self.list_rooms(filter, edge, limit).await
    }

    /// One query for rooms and their posts.
    async fn list_rooms(
        &self,
        mut filter: Document,
        edge: Option<Edge<Place>>,
        limit: i64,
    ) -> Result<Vec<Listed>> {
        let (order, beyond, edge) = match edge {
            None => (-1, "$lt", None),
            Some(Edge::After(edge)) => (-1, "$lt", Some(edge)),
            Some(Edge::Before(edge)) => (1, "$gt", Some(edge)),
        };
        if let Some((at, id)) = edge {
            let at = DateTime::from_millis(at);
            // The first condition says to the index where to begin.
            filter.insert("last_activity_at", doc! { (format!("{beyond}e")): at });
            filter.insert(
                "$or",
                vec![
                    doc! { "last_activity_at": { beyond: at } },
                    doc! { "_id": { beyond: id } },
                ],
            );
        }
        let pipeline = [
            doc! { "$match": filter },
            doc! { "$sort": { "last_activity_at": order, "_id": order } },
            doc! { "$limit": limit },
            doc! { "$replaceWith": { "room": "$$ROOT" } },
            doc! { "$lookup": {
                "from": self.posts.name(),
                "localField": "room.trade_post_id",
                "foreignField": "_id",
                "as": "post",
            } },
        ];
        self.rooms
            .aggregate(pipeline)
            .with_type::<Listed>()
            .await?
            .try_collect()
            .await
    }
}

/// The buyer's open room about the row that lives now. One of an earlier row may still be open, and is about
/// to be closed or to go where that row went.
fn open_room(trade_post_id: i64, buyer_id: i64, generation: i64) -> Document {
    doc! {
        "trade_post_id": trade_post_id,
        "buyer_id": buyer_id,
        "state": "open",
        "generation": { "$gte": generation },
    }
}

impl Room {
    /// Why the room takes no messages, if it is closed.
    pub fn closed(&self) -> Option<Closed> {
        (self.state == RoomState::Closed).then_some(Closed {
            trade_post_id: self.trade_post_id,
            reason: match self.closed_by {
                Some(_) => CloseReason::TradePostDeleted,
                None => CloseReason::MemberErased,
            },
        })
    }
}
