//! Closes rooms: one transaction for the rooms, the deletions they belong to, and what members are told.
//!
//! Invariant: a room is closed by the transaction that writes its deletion and its members'
//! notifications. Whoever sees one of the three sees all of them.

use std::collections::{BTreeMap, HashMap};

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, Document, doc, oid::ObjectId},
    error::Result,
    options::{Hint, UpdateManyModel, UpdateOneModel, WriteModel},
};

use serde::Deserialize;

use super::{Store, indexes::rooms_by_post, notifications::Draft, now, whole};
use crate::{
    notification::{CloseReason, Kind},
    room::{DeletionId, RoomKey},
};

/// Most rooms that one transaction closes: those of a batch, unless its posts have many. More are closed by
/// several, one after the other.
const ROOMS_PER_TRANSACTION: usize = 1000;

/// A post whose rooms are to be closed.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    pub id: DeletionId,
    pub committed_at: Option<DateTime>,
    pub captured_at: Option<DateTime>,
    pub received_at: DateTime,
    pub erase_at: DateTime,
}

/// What closing needs to know of a room.
#[derive(Debug, Deserialize)]
struct OpenRoom {
    #[serde(rename = "_id")]
    id: ObjectId,
    trade_post_id: i64,
    members: Vec<i64>,
    next_seq: i64,
}

impl Store {
    /// Closes those of the open rooms that match `filter` for which `closing_of` answers a deletion,
    /// and tells each member once per room. Answers how many rooms that were. Repeating it closes
    /// and tells nothing more.
    pub async fn close(
        &self,
        filter: Document,
        closing_of: &(impl Fn(&RoomKey) -> Option<Closing> + Sync),
    ) -> Result<usize> {
        let mut filter = filter;
        filter.insert("state", "open");
        let mut open = self
            .rooms
            .clone_with_type::<RoomKey>()
            .find(filter)
            .hint(Hint::Keys(rooms_by_post()))
            .projection(RoomKey::fields())
            .batch_size(whole(ROOMS_PER_TRANSACTION))
            .await?;
        let mut closed = 0;
        let mut chunk = Vec::new();
        while let Some(room) = open.try_next().await? {
            if let Some(closing) = closing_of(&room) {
                chunk.push((room, closing));
            }
            if chunk.len() == ROOMS_PER_TRANSACTION {
                closed += self.close_chunk(&std::mem::take(&mut chunk)).await?;
            }
        }
        Ok(closed + self.close_chunk(&chunk).await?)
    }

    async fn close_chunk(&self, chunk: &[(RoomKey, Closing)]) -> Result<usize> {
        if chunk.is_empty() {
            return Ok(0);
        }
        let _turn = self
            .turns
            .take(chunk.iter().flat_map(|(room, _)| room.members.iter().copied()))
            .await;
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let rooms = self.close_in(&mut transaction.session, chunk, now()).await;
            if let Some(rooms) = transaction.end(rooms).await? {
                return Ok(rooms);
            }
        }
    }

    async fn close_in(
        &self,
        session: &mut ClientSession,
        chunk: &[(RoomKey, Closing)],
        now: DateTime,
    ) -> Result<usize> {
        let closings: HashMap<ObjectId, &Closing> =
            chunk.iter().map(|(room, closing)| (room.id, closing)).collect();
        let ids: Vec<ObjectId> = closings.keys().copied().collect();
        let mut open = self
            .rooms
            .clone_with_type::<OpenRoom>()
            .find(doc! { "_id": { "$in": ids }, "state": "open" })
            .projection(doc! { "trade_post_id": 1, "members": 1, "next_seq": 1 })
            .batch_size(whole(chunk.len()))
            .session(&mut *session)
            .await?;
        let mut rooms: BTreeMap<DeletionId, (&Closing, Vec<OpenRoom>)> = BTreeMap::new();
        let mut drafts = Vec::new();
        while let Some(room) = open.next(&mut *session).await.transpose()? {
            let Some(closing) = closings
                .get(&room.id)
                .filter(|closing| room.trade_post_id == closing.id.post)
            else {
                continue;
            };
            drafts.extend(room.members.iter().map(|member_id| {
                let kind = Kind::RoomClosed {
                    reason: CloseReason::TradePostDeleted,
                };
                Draft::in_room(*member_id, kind, room.id, room.trade_post_id)
            }));
            rooms
                .entry(closing.id)
                .or_insert((closing, Vec::new()))
                .1
                .push(room);
        }
        if rooms.is_empty() {
            return Ok(0);
        }
        let models = rooms
            .values()
            .flat_map(|(closing, rooms)| self.close_models(closing, rooms, now));
        self.client.bulk_write(models).session(&mut *session).await?;
        self.notify(drafts, now, session).await?;
        Ok(rooms.values().map(|(_, rooms)| rooms.len()).sum())
    }

    fn close_models(&self, closing: &Closing, rooms: &[OpenRoom], now: DateTime) -> [WriteModel; 2] {
        let ids: Vec<ObjectId> = rooms.iter().map(|room| room.id).collect();
        let close = UpdateManyModel::builder()
            .namespace(self.rooms.namespace())
            .filter(doc! { "_id": { "$in": ids } })
            .update(doc! { "$set": { "state": "closed", "closed_by": closing.id } })
            .build();
        // Back to pending also when an eraser already works on rooms closed before these.
        let count = i64::try_from(rooms.len()).unwrap_or(i64::MAX);
        let messages: i64 = rooms.iter().map(|room| room.next_seq - 1).sum();
        let record = UpdateOneModel::builder()
            .namespace(self.deletions.namespace())
            .filter(doc! { "_id": closing.id })
            .update(doc! {
                "$set": {
                    "state": "pending",
                    "erase_at": closing.erase_at,
                    "lease": { "owner": null, "until": closing.erase_at },
                    "done_at": null,
                },
                "$inc": { "rooms": count, "messages": messages },
                "$setOnInsert": {
                    "trade_post_id": closing.id.post,
                    "committed_at": closing.committed_at,
                    "captured_at": closing.captured_at,
                    "received_at": closing.received_at,
                    "closed_at": now,
                },
            })
            .upsert(true)
            .build();
        [close.into(), record.into()]
    }
}
