//! `rooms`: opening, reading and closing them.
//!
//! Invariant: opening a room writes the post's projection in the same transaction, so a room is
//! either committed before the post's fence, and then found by the close, or not opened at all.

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, Document, doc, oid::ObjectId},
    error::Result,
};

use super::{Store, is_duplicate_key, posts::PostState};
use crate::{
    notification::{CloseReason, Kind},
    room::{Closed, Room, RoomState},
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
}

/// Where a member's list of rooms goes on.
#[derive(Clone, Copy, Debug)]
pub struct RoomsAfter {
    pub last_activity_at: DateTime,
    pub id: ObjectId,
}

impl Store {
    /// Opens the buyer's room about the post, or answers the one that is open.
    pub async fn open_room(&self, trade_post_id: i64, buyer_id: i64, now: DateTime) -> Result<Opened> {
        // What the transaction finds counts; this only tells whose turn to wait for.
        let seller_id = self.post(trade_post_id).await?.and_then(|post| post.seller_id);
        let _turn = self.turns.take(seller_id).await;
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
        let seller_id = match (post.state, post.seller_id) {
            (PostState::Live, Some(seller_id)) => seller_id,
            (PostState::Live, None) => return Ok(Opened::UnknownPost),
            (PostState::Deleted, _) => return Ok(Opened::PostDeleted),
        };
        if seller_id == buyer_id {
            return Ok(Opened::OwnPost);
        }
        let open = open_room(trade_post_id, buyer_id, post.generation);
        if let Some(room) = self.rooms.find_one(open).session(&mut *session).await? {
            return Ok(Opened::Existing(room));
        }
        let room = Room {
            id: ObjectId::new(),
            trade_post_id,
            generation: post.generation,
            seller_id,
            buyer_id,
            members: [seller_id, buyer_id],
            state: RoomState::Open,
            closed_by: None,
            next_seq: 1,
            last_message: None,
            created_at: now,
            last_activity_at: now,
        };
        self.rooms.insert_one(&room).session(&mut *session).await?;
        let draft = Draft {
            member_id: seller_id,
            kind: Kind::RoomCreated,
            room_id: room.id,
            trade_post_id,
        };
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
        Ok(self
            .notifications
            .find_one(told)
            .await?
            .and_then(|told| match told.kind {
                Kind::RoomClosed { reason } => Some(Closed {
                    trade_post_id: told.trade_post_id,
                    reason,
                }),
                Kind::Message { .. } | Kind::RoomCreated => None,
            }))
    }

    /// The member's open rooms, last activity first.
    pub async fn rooms_of(&self, member: i64, after: Option<RoomsAfter>, limit: i64) -> Result<Vec<Room>> {
        let mut filter = doc! { "members": member, "state": "open" };
        if let Some(RoomsAfter { last_activity_at, id }) = after {
            filter.insert(
                "$or",
                vec![
                    doc! { "last_activity_at": { "$lt": last_activity_at } },
                    doc! { "last_activity_at": last_activity_at, "_id": { "$lt": id } },
                ],
            );
        }
        let newest_first = doc! { "last_activity_at": -1, "_id": -1 };
        self.rooms
            .find(filter)
            .sort(newest_first)
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// The seller's open rooms of one post, last activity first.
    pub async fn rooms_of_post(
        &self,
        trade_post_id: i64,
        seller_id: i64,
        after: Option<ObjectId>,
        limit: i64,
    ) -> Result<Vec<Room>> {
        let mut filter = doc! { "trade_post_id": trade_post_id, "state": "open", "seller_id": seller_id };
        if let Some(id) = after {
            filter.insert("_id", doc! { "$lt": id });
        }
        self.rooms
            .find(filter)
            .sort(doc! { "_id": -1 })
            .limit(limit)
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
            reason: CloseReason::TradePostDeleted,
        })
    }
}
