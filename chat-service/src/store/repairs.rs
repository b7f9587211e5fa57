//! Sets orphans right.
//!
//! Invariant: what can go the way that it should have gone does: a deletion is made due again, and its eraser counts
//! the room. Only what nobody can read any more is erased here.

use mongodb::{
    ClientSession,
    bson::{DateTime, doc, oid::ObjectId},
    error::Result,
};

use super::Store;
use crate::room::DeletionId;

impl Store {
    /// Makes the deletion that closed `room_id` due once more, for this room. Answers whether the room still was
    /// an orphan of it.
    pub async fn erase_closed_room(
        &self,
        room_id: ObjectId,
        deletion: DeletionId,
        now: DateTime,
    ) -> Result<bool> {
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let due = self.due_again_in(&mut transaction.session, room_id, deletion, now);
            let due = due.await;
            if let Some(due) = transaction.end(due).await? {
                return Ok(due);
            }
        }
    }

    async fn due_again_in(
        &self,
        session: &mut ClientSession,
        room_id: ObjectId,
        deletion: DeletionId,
        now: DateTime,
    ) -> Result<bool> {
        let closed = doc! { "_id": room_id, "state": "closed", "closed_by": deletion };
        let room = self.rooms.find_one(closed).session(&mut *session).await?;
        let at_work = doc! { "_id": deletion, "state": { "$in": ["pending", "erasing"] } };
        let at_work = self.deletions.find_one(at_work).session(&mut *session).await?;
        let (Some(room), None) = (room, at_work) else {
            return Ok(false);
        };
        let again = doc! {
            "$set": {
                "state": "pending",
                "erase_at": now,
                "lease": { "owner": null, "until": now },
                "done_at": null,
            },
            "$inc": { "rooms": 1_i64, "messages": room.next_seq - 1 },
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
            .await?;
        Ok(true)
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
