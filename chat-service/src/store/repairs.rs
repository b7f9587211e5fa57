//! Sets orphans right.
//!
//! Invariant: what can go the way that it should have gone does: a deletion is made due again, and its eraser counts
//! the room. Only what nobody can read any more is erased here.

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, doc, oid::ObjectId},
    error::Result,
};

use super::{Store, leases::ClosedRoom};
use crate::room::DeletionId;

impl Store {
    /// Makes a deletion due once more, for the rooms that it has closed and that are still there, unless it is at
    /// work.
    pub async fn erase_closed_rooms(&self, deletion: DeletionId, now: DateTime) -> Result<()> {
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let due = self.due_again_in(&mut transaction.session, deletion, now).await;
            if transaction.end(due).await?.is_some() {
                return Ok(());
            }
        }
    }

    async fn due_again_in(
        &self,
        session: &mut ClientSession,
        deletion: DeletionId,
        now: DateTime,
    ) -> Result<()> {
        let at_work = doc! { "_id": deletion, "state": { "$in": ["pending", "erasing"] } };
        let at_work = self.deletions.find_one(at_work).session(&mut *session).await?;
        let closed = doc! { "trade_post_id": deletion.post, "state": "closed", "closed_by": deletion };
        let rooms: Vec<ClosedRoom> = self
            .rooms
            .clone_with_type::<ClosedRoom>()
            .find(closed)
            .projection(doc! { "closed_by": 1, "next_seq": 1 })
            .session(&mut *session)
            .await?
            .stream(&mut *session)
            .try_collect()
            .await?;
        if at_work.is_some() || rooms.is_empty() {
            return Ok(());
        }
        let count = i64::try_from(rooms.len()).unwrap_or(i64::MAX);
        let messages: i64 = rooms.iter().map(ClosedRoom::messages).sum();
        let again = doc! {
            "$set": {
                "state": "pending",
                "erase_at": now,
                "lease": { "owner": null, "until": now },
                "done_at": null,
            },
            "$inc": { "rooms": count, "messages": messages },
            "$setOnInsert": {
                "trade_post_id": deletion.post,
                "committed_at": null,
                "captured_at": null,
                "received_at": now,
                "closed_at": now,
            },
        };
        self.deletions
            .update_one(doc! { "_id": deletion }, again)
            .upsert(true)
            .session(session)
            .await
            .map(drop)
    }

    /// Erases up to `limit` messages of a room that is nobody's, the first first. Answers how many that were.
    pub async fn erase_some(&self, room_id: ObjectId, limit: i64) -> Result<u64> {
        let first = self.messages.find_one(doc! { "room_id": room_id });
        let Some(first) = first.sort(doc! { "seq": 1 }).await? else {
            return Ok(0);
        };
        self.erase_range(room_id, first.seq, first.seq.saturating_add(limit))
            .await
    }

    /// Removes a room that was closed because its members have gone.
    pub async fn remove_deserted(&self, room_id: ObjectId) -> Result<()> {
        let deserted = doc! { "_id": room_id, "state": "closed", "closed_by": null };
        self.rooms.delete_one(deserted).await.map(drop)
    }
}
