//! Who erases which deletion, and what the eraser does to MongoDB.
//!
//! Invariant: a deletion has one owner at a time, and everything that is said of its progress is written under
//! the condition that the writer still owns it. Rooms go in the transaction that counts them, so the counts are
//! right whoever died in between. Messages go before their room and may be erased twice to no further effect.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{Bson, DateTime, Document, doc, oid::ObjectId, serialize_to_bson},
    error::{Error, Result},
    options::{UpdateOneModel, WriteModel},
};
use serde::Deserialize;

use super::{
    Store,
    deletions::{Deletion, Erased, UnderWay},
    whole,
};
use crate::room::DeletionId;

/// Most deletions that one lease is about.
const DELETIONS_PER_LEASE: i64 = 100;

/// The right to erase some deletions.
#[derive(Clone, Debug)]
pub struct Leased {
    owner: ObjectId,
    pub deletions: Vec<DeletionId>,
    /// Rooms of which a part is erased.
    pub under_way: HashMap<DeletionId, UnderWay>,
}

/// A room that was closed by a deletion and is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct ClosedRoom {
    #[serde(rename = "_id")]
    pub id: ObjectId,
    pub closed_by: DeletionId,
    pub next_seq: i64,
}

#[derive(Deserialize)]
struct RoomId {
    #[serde(rename = "_id")]
    id: ObjectId,
}

/// The lease ran out and somebody else has it, or more rooms were closed by a deletion meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct LeaseLost;

impl Store {
    /// Leases deletions that are due, those first that wait longest: as many as hold less than `quota`
    /// messages and rooms together, and at least one. `None` if nothing is due; fewer or none if somebody else was
    /// faster.
    pub async fn lease(&self, now: DateTime, term: Duration, quota: i64) -> Result<Option<Leased>> {
        let due = doc! { "lease.until": { "$lte": now } };
        let found: Vec<Deletion> = self
            .deletions
            .find(due.clone())
            .sort(doc! { "lease.until": 1 })
            .limit(DELETIONS_PER_LEASE)
            .await?
            .try_collect()
            .await?;
        if found.is_empty() {
            return Ok(None);
        }
        let fitting = &found[..fitting(&found, quota)];
        let ids: Vec<Bson> = fitting.iter().map(|deletion| deletion.id.into()).collect();
        let owner = ObjectId::new();
        let mut still_due = due;
        still_due.insert("_id", doc! { "$in": &ids });
        let until = DateTime::from_millis(now.timestamp_millis().saturating_add(millis(term)));
        let take = doc! {
            "$set": { "state": "erasing", "lease": { "owner": owner, "until": until } },
            "$min": { "begun_at": now },
        };
        self.change_together(&self.deletions, still_due, take).await?;
        let got: Vec<Deletion> = self
            .deletions
            .find(doc! { "_id": { "$in": ids }, "lease.owner": owner })
            .await?
            .try_collect()
            .await?;
        let under_way = got
            .iter()
            .filter_map(|deletion| Some((deletion.id, deletion.under_way?)));
        Ok(Some(Leased {
            owner,
            under_way: under_way.collect(),
            deletions: got.into_iter().map(|deletion| deletion.id).collect(),
        }))
    }

    /// Up to `limit` rooms that are still to be erased.
    pub async fn rooms_left(&self, leased: &Leased, limit: i64) -> Result<Vec<ClosedRoom>> {
        let posts: Vec<i64> = leased.deletions.iter().map(|id| id.post).collect();
        let filter = doc! {
            "trade_post_id": { "$in": posts },
            "state": "closed",
            "closed_by": { "$in": leased.ids() },
        };
        self.rooms
            .clone_with_type::<ClosedRoom>()
            .find(filter)
            .projection(doc! { "closed_by": 1, "next_seq": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// Erases the messages of one room with sequences from `from` to before `to`.
    pub async fn erase_range(&self, room: ObjectId, from: i64, to: i64) -> Result<u64> {
        let range = doc! { "room_id": room, "seq": { "$gte": from, "$lt": to } };
        Ok(self.messages.delete_many(range).await?.deleted_count)
    }

    /// Erases all messages of `rooms`.
    pub async fn erase_messages(&self, rooms: &[ObjectId]) -> Result<u64> {
        let theirs = doc! { "room_id": { "$in": rooms } };
        Ok(self.messages.delete_many(theirs).await?.deleted_count)
    }

    /// Remembers how far the erasing of a room has come.
    pub async fn came_to(&self, leased: &mut Leased, deletion: DeletionId, room: UnderWay) -> Result<()> {
        let under_way = serialize_to_bson(&room).map_err(Error::custom)?;
        let progress = doc! { "$set": { "under_way": under_way } };
        let owned = self
            .deletions
            .update_one(leased.owned(deletion), progress)
            .await?;
        if owned.matched_count != 1 {
            return Err(Error::custom(LeaseLost));
        }
        leased.under_way.insert(deletion, room);
        Ok(())
    }

    /// Erases `rooms`, whose messages are gone, and counts them and their messages.
    pub async fn erase_rooms(&self, leased: &Leased, rooms: &[ClosedRoom]) -> Result<()> {
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let erased = self.erase_rooms_in(&mut transaction.session, leased, rooms).await;
            if transaction.end(erased).await?.is_some() {
                return Ok(());
            }
        }
    }

    async fn erase_rooms_in(
        &self,
        session: &mut ClientSession,
        leased: &Leased,
        rooms: &[ClosedRoom],
    ) -> Result<()> {
        // Those that are there: the transaction may have been committed before, and nobody heard of it.
        let ids: Vec<ObjectId> = rooms.iter().map(|room| room.id).collect();
        let there: HashSet<ObjectId> = self
            .rooms
            .clone_with_type::<RoomId>()
            .find(doc! { "_id": { "$in": &ids } })
            .projection(doc! { "_id": 1 })
            .batch_size(whole(ids.len()))
            .session(&mut *session)
            .await?
            .stream(&mut *session)
            .map_ok(|room| room.id)
            .try_collect()
            .await?;
        if there.is_empty() {
            return Ok(());
        }
        self.rooms
            .delete_many(doc! { "_id": { "$in": &ids } })
            .session(&mut *session)
            .await?;
        let mut counts: BTreeMap<DeletionId, Erased> = BTreeMap::new();
        for room in rooms.iter().filter(|room| there.contains(&room.id)) {
            let count = counts.entry(room.closed_by).or_default();
            count.rooms += 1;
            count.messages += room.messages();
        }
        let models: Vec<WriteModel> = counts
            .iter()
            .map(|(deletion, erased)| {
                let mut update = doc! {
                    "$inc": { "erased.rooms": erased.rooms, "erased.messages": erased.messages },
                };
                let part = leased.under_way.get(deletion).map(|part| part.room_id);
                if part.is_some_and(|part| ids.contains(&part)) {
                    update.insert("$unset", doc! { "under_way": "" });
                }
                let model = UpdateOneModel::builder()
                    .namespace(self.deletions.namespace())
                    .filter(leased.owned(*deletion))
                    .update(update)
                    .build();
                model.into()
            })
            .collect();
        let counted = self.client.bulk_write(models).session(session).await?;
        if usize::try_from(counted.matched_count) == Ok(counts.len()) {
            Ok(())
        } else {
            Err(Error::custom(LeaseLost))
        }
    }

    /// Marks the deletions done that are still owned. No room of theirs may be left.
    pub async fn finish(&self, leased: &Leased, now: DateTime) -> Result<()> {
        let done = doc! { "$set": { "state": "done", "done_at": now, "lease": null } };
        self.change_together(&self.deletions, leased.all_owned(), done)
            .await
            .map(drop)
    }

    /// Gives back what is not done, behind everything else that is due.
    pub async fn give_back(&self, leased: &Leased, now: DateTime) -> Result<()> {
        let free = doc! { "$set": { "lease": { "owner": null, "until": now } } };
        self.change_together(&self.deletions, leased.all_owned(), free)
            .await
            .map(drop)
    }
}

impl Leased {
    fn ids(&self) -> Vec<Bson> {
        self.deletions.iter().map(|id| (*id).into()).collect()
    }

    fn owned(&self, deletion: DeletionId) -> Document {
        doc! { "_id": deletion, "lease.owner": self.owner }
    }

    fn all_owned(&self) -> Document {
        doc! { "_id": { "$in": self.ids() }, "lease.owner": self.owner }
    }
}

impl ClosedRoom {
    /// Messages that were ever sent in it.
    pub fn messages(&self) -> i64 {
        self.next_seq - 1
    }
}

/// How many of the first deletions hold less than `quota` messages and rooms together, but at least one.
fn fitting(deletions: &[Deletion], quota: i64) -> usize {
    let held = deletions.iter().scan(0, |held, deletion| {
        *held += deletion.messages - deletion.messages_erased() + deletion.rooms - deletion.erased.rooms;
        Some(*held)
    });
    held.take_while(|held| *held < quota).count().max(1)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
