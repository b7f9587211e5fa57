//! `deletions`: one document per deleted post that had rooms, from closed to erased.
//!
//! Invariant: a deletion is written in the transaction that closes its rooms and tells their
//! members, and becomes `done` only when no room closed by it and no message of such a room is left.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, Document, doc, oid::ObjectId, serialize_to_bson},
    error::{Error, Result},
    options::{Hint, UpdateManyModel, UpdateOneModel, WriteModel},
};
use serde::{Deserialize, Serialize};

use super::{Store, indexes::rooms_by_post, now};
use crate::{
    notification::{CloseReason, Kind},
    room::{DeletionId, Room, RoomKey},
    store::notifications::Draft,
};

/// Most rooms that one transaction closes. A post with more is closed by several.
const ROOMS_PER_TRANSACTION: usize = 500;

/// A deletion as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deletion {
    #[serde(rename = "_id")]
    pub id: DeletionId,
    pub state: DeletionState,
    /// Rooms closed, and messages in them: what there is to erase.
    pub rooms: i64,
    pub messages: i64,
    /// When PostgreSQL committed the delete, and when Debezium read it; unknown for a tombstone.
    pub committed_at: Option<DateTime>,
    pub captured_at: Option<DateTime>,
    pub received_at: DateTime,
    pub closed_at: DateTime,
    /// Not before this time may the eraser begin.
    pub erase_at: DateTime,
    #[serde(default)]
    pub done_at: Option<DateTime>,
    #[serde(default)]
    pub lease: Option<Lease>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeletionState {
    Pending,
    Erasing,
    Done,
}

/// Who may erase, and until when nobody else may.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    pub owner: ObjectId,
    pub until: DateTime,
}

/// A post whose rooms are to be closed.
#[derive(Clone, Copy, Debug)]
pub struct Closing {
    pub id: DeletionId,
    pub committed_at: Option<DateTime>,
    pub captured_at: Option<DateTime>,
    pub received_at: DateTime,
    pub erase_at: DateTime,
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
        let filter = doc! { "_id": { "$in": ids }, "state": "open" };
        let mut open = self.rooms.find(filter).session(&mut *session).await?;
        let mut rooms: BTreeMap<DeletionId, (&Closing, Vec<Room>)> = BTreeMap::new();
        let mut drafts = Vec::new();
        while let Some(room) = open.next(&mut *session).await.transpose()? {
            let Some(closing) = closings
                .get(&room.id)
                .filter(|closing| room.trade_post_id == closing.id.post)
            else {
                continue;
            };
            drafts.extend(room.members.iter().map(|member_id| Draft {
                member_id: *member_id,
                kind: Kind::RoomClosed {
                    reason: CloseReason::TradePostDeleted,
                },
                room_id: room.id,
                trade_post_id: room.trade_post_id,
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
        let mut models = Vec::with_capacity(2 * rooms.len());
        for (closing, rooms) in rooms.values() {
            models.extend(self.close_models(closing, rooms, now)?);
        }
        self.client.bulk_write(models).session(&mut *session).await?;
        self.notify(drafts, now, session).await?;
        Ok(rooms.values().map(|(_, rooms)| rooms.len()).sum())
    }

    fn close_models(&self, closing: &Closing, rooms: &[Room], now: DateTime) -> Result<[WriteModel; 2]> {
        let ids: Vec<ObjectId> = rooms.iter().map(|room| room.id).collect();
        let id = serialize_to_bson(&closing.id).map_err(Error::custom)?;
        let close = UpdateManyModel::builder()
            .namespace(self.rooms.namespace())
            .filter(doc! { "_id": { "$in": ids } })
            .update(doc! { "$set": { "state": "closed", "closed_by": id.clone() } })
            .build();
        // Back to pending also when an eraser already works on rooms closed before these.
        let count = i64::try_from(rooms.len()).unwrap_or(i64::MAX);
        let messages: i64 = rooms.iter().map(|room| room.next_seq - 1).sum();
        let record = UpdateOneModel::builder()
            .namespace(self.deletions.namespace())
            .filter(doc! { "_id": id })
            .update(doc! {
                "$set": { "state": "pending", "lease": null },
                "$inc": { "rooms": count, "messages": messages },
                "$setOnInsert": {
                    "committed_at": closing.committed_at,
                    "captured_at": closing.captured_at,
                    "received_at": closing.received_at,
                    "closed_at": now,
                    "erase_at": closing.erase_at,
                },
            })
            .upsert(true)
            .build();
        Ok([close.into(), record.into()])
    }

    /// Leases up to `limit` deletions that are due: those nobody works on, and those whose worker
    /// let the lease run out.
    pub async fn lease_deletions(
        &self,
        owner: ObjectId,
        now: DateTime,
        lease: Duration,
        limit: i64,
    ) -> Result<Vec<Deletion>> {
        let due = doc! { "$or": [
            { "state": "pending", "erase_at": { "$lte": now } },
            { "state": "erasing", "lease.until": { "$lt": now } },
        ] };
        let found: Vec<Deletion> = self
            .deletions
            .find(due.clone())
            .sort(doc! { "erase_at": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await?;
        if found.is_empty() {
            return Ok(found);
        }
        let ids = ids(found.iter().map(|deletion| deletion.id))?;
        let mut still_due = due;
        still_due.insert("_id", doc! { "$in": ids });
        let until = DateTime::from_millis(now.timestamp_millis() + millis(lease));
        self.deletions
            .update_many(
                still_due,
                doc! { "$set": { "state": "erasing", "lease": { "owner": owner, "until": until } } },
            )
            .await?;
        self.deletions
            .find(doc! { "lease.owner": owner, "state": "erasing" })
            .await?
            .try_collect()
            .await
    }

    /// Keeps the lease, and answers whether it still was the owner's.
    pub async fn renew_lease(
        &self,
        owner: ObjectId,
        deletions: &[DeletionId],
        now: DateTime,
        lease: Duration,
    ) -> Result<bool> {
        let until = DateTime::from_millis(now.timestamp_millis() + millis(lease));
        let held = doc! { "_id": { "$in": ids(deletions.iter().copied())? }, "lease.owner": owner };
        let renewed = self
            .deletions
            .update_many(held, doc! { "$set": { "lease.until": until } })
            .await?;
        Ok(usize::try_from(renewed.matched_count).is_ok_and(|count| count == deletions.len()))
    }

    /// Marks deletions done, unless the lease was lost meanwhile.
    pub async fn finish_deletions(
        &self,
        owner: ObjectId,
        deletions: &[DeletionId],
        now: DateTime,
    ) -> Result<()> {
        let held = doc! { "_id": { "$in": ids(deletions.iter().copied())? }, "lease.owner": owner };
        let done = doc! { "$set": { "state": "done", "done_at": now, "lease": null } };
        self.deletions.update_many(held, done).await.map(drop)
    }

    /// The rooms closed by `deletions`.
    pub async fn rooms_closed_by(&self, deletions: &[DeletionId]) -> Result<Vec<Room>> {
        let posts: Vec<i64> = deletions.iter().map(|id| id.post).collect();
        let closed: Vec<Room> = self
            .rooms
            .find(doc! { "trade_post_id": { "$in": posts }, "state": "closed" })
            .await?
            .try_collect()
            .await?;
        Ok(closed
            .into_iter()
            .filter(|room| room.closed_by.is_some_and(|id| deletions.contains(&id)))
            .collect())
    }

    /// Deletions, newest first, of one post or in one state or all.
    pub async fn deletions(
        &self,
        post: Option<i64>,
        state: Option<DeletionState>,
        limit: i64,
    ) -> Result<Vec<Deletion>> {
        let mut filter = Document::new();
        if let Some(post) = post {
            filter.insert("_id.post", post);
        }
        if let Some(state) = state {
            filter.insert("state", serialize_to_bson(&state).map_err(Error::custom)?);
        }
        self.deletions
            .find(filter)
            .sort(doc! { "closed_at": -1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }
}

fn ids(ids: impl Iterator<Item = DeletionId>) -> Result<Vec<mongodb::bson::Bson>> {
    ids.map(|id| serialize_to_bson(&id).map_err(Error::custom))
        .collect()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
