//! `erasures`: members of whom everything is erased, and who is at work on it.
//!
//! Invariant: once an erasure is acknowledged its member opens no room and blocks nobody, because each of
//! these writes the member's inbox in its transaction, as the request did. The document is never removed: it
//! is the fence. One worker owns it at a time, and whatever it erases of messages it writes together with
//! the proof that it still is the owner, so the counts are right whoever died in between.

use std::time::Duration;

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, Document, doc, oid::ObjectId, serialize_to_document},
    error::{Error, Result},
    options::InsertOneModel,
};
use serde::{Deserialize, Serialize};

use super::{Store, now, transaction::made_meanwhile};
use crate::room::{DeletionId, RoomState};

/// How long a worker may be silent before another one takes over.
const LEASE: Duration = Duration::from_secs(30);

/// The erasure of a member as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Erasure {
    #[serde(rename = "_id")]
    pub member_id: i64,
    pub requested_at: DateTime,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<DateTime>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done_at: Option<DateTime>,
    /// Rooms that the member was taken out of, messages and notifications erased so far.
    pub rooms: i64,
    pub messages: i64,
    pub notifications: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<ObjectId>,
    /// From then on anybody may take it over; none once it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<DateTime>,
}

/// The right to erase a member.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    pub member: i64,
    pub owner: ObjectId,
}

/// Somebody else has the lease.
#[derive(Clone, Copy, Debug)]
pub struct LeaseLost;

/// A room that has something of an erased member left.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct LeftRoom {
    #[serde(rename = "_id")]
    pub id: ObjectId,
    pub next_seq: i64,
    state: RoomState,
    #[serde(default)]
    closed_by: Option<DeletionId>,
}

impl LeftRoom {
    /// Whether nobody is in it who could read it: it goes, with all its messages.
    pub fn is_deserted(&self) -> bool {
        self.state == RoomState::Closed && self.closed_by.is_none()
    }
}

impl Store {
    /// Has everything of `member` erased. Asking again answers how it stands.
    pub async fn request_erasure(&self, member: i64, now: DateTime) -> Result<Erasure> {
        let _turn = self.turns.take([member]).await;
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let requested = self
                .request_in(&mut transaction.session, member, now)
                .await
                .map_err(made_meanwhile);
            if let Some(erasure) = transaction.end(requested).await? {
                return Ok(erasure);
            }
        }
    }

    async fn request_in(&self, session: &mut ClientSession, member: i64, now: DateTime) -> Result<Erasure> {
        let asked = self
            .erasures
            .find_one(doc! { "_id": member })
            .session(&mut *session);
        if let Some(erasure) = asked.await? {
            return Ok(erasure);
        }
        let erasure = Erasure {
            member_id: member,
            requested_at: now,
            begun_at: None,
            done_at: None,
            rooms: 0,
            messages: 0,
            notifications: 0,
            owner: None,
            due_at: Some(now),
        };
        let insert = InsertOneModel::builder()
            .namespace(self.erasures.namespace())
            .document(serialize_to_document(&erasure).map_err(Error::custom)?)
            .build();
        let models = [insert.into(), self.touch_inbox(member)];
        self.client.bulk_write(models).session(session).await?;
        Ok(erasure)
    }

    pub async fn erasure(&self, member: i64) -> Result<Option<Erasure>> {
        self.erasures.find_one(doc! { "_id": member }).await
    }

    /// Those of `members` that are erased, or are to be.
    pub async fn erased_among(&self, members: &[i64], session: &mut ClientSession) -> Result<Vec<i64>> {
        self.erasures
            .find(doc! { "_id": { "$in": members } })
            .session(&mut *session)
            .await?
            .stream(session)
            .map_ok(|erasure| erasure.member_id)
            .try_collect()
            .await
    }

    /// Takes over an erasure that nobody works on, the one first that has waited longest.
    pub async fn lease_erasure(&self, now: DateTime) -> Result<Option<Lease>> {
        let owner = ObjectId::new();
        let take = doc! {
            "$set": { "owner": owner, "due_at": lease_until(now) },
            "$min": { "begun_at": now },
        };
        let taken = self
            .erasures
            .find_one_and_update(doc! { "due_at": { "$lte": now } }, take)
            .sort(doc! { "due_at": 1 })
            .await?;
        Ok(taken.map(|erasure| Lease {
            member: erasure.member_id,
            owner,
        }))
    }

    /// Keeps the lease and counts what was done under it.
    pub(super) async fn count_in(
        &self,
        session: &mut ClientSession,
        lease: Lease,
        field: &str,
        count: u64,
    ) -> Result<()> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let kept = self
            .erasures
            .update_one(
                lease.owned(),
                doc! { "$inc": { field: count }, "$set": { "due_at": lease_until(now()) } },
            )
            .session(session)
            .await?;
        if kept.matched_count == 1 {
            Ok(())
        } else {
            Err(Error::custom(LeaseLost))
        }
    }

    /// Up to `limit` rooms that have something of the member left. The member is not in them any more.
    pub async fn rooms_to_erase(&self, member: i64, limit: i64) -> Result<Vec<LeftRoom>> {
        self.rooms
            .clone_with_type::<LeftRoom>()
            .find(doc! { "erasing": member })
            .projection(doc! { "next_seq": 1, "state": 1, "closed_by": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// Erases what the member said in the room under the sequences from `from` to before `to`, or all that
    /// was said there if nobody can read it any more. Answers how many messages that were.
    pub async fn erase_said(&self, lease: Lease, room: LeftRoom, from: i64, to: i64) -> Result<u64> {
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let erased = self
                .erase_said_in(&mut transaction.session, lease, room, from, to)
                .await;
            if let Some(erased) = transaction.end(erased).await? {
                return Ok(erased);
            }
        }
    }

    async fn erase_said_in(
        &self,
        session: &mut ClientSession,
        lease: Lease,
        room: LeftRoom,
        from: i64,
        to: i64,
    ) -> Result<u64> {
        let mut said = doc! { "room_id": room.id, "seq": { "$gte": from, "$lt": to } };
        let erased = if room.is_deserted() {
            let erased = self.messages.delete_many(said).session(&mut *session).await?;
            erased.deleted_count
        } else {
            said.extend(doc! { "sender_id": lease.member, "kind": "text" });
            let erase = doc! { "$set": { "kind": "erased" }, "$unset": { "body": "" } };
            let erased = self
                .messages
                .update_many(said, erase)
                .session(&mut *session)
                .await?;
            erased.modified_count
        };
        self.count_in(session, lease, "messages", erased).await?;
        Ok(erased)
    }

    /// The room has nothing of the member left. It goes if nobody can read it.
    pub async fn leave_erased(&self, lease: Lease, room: LeftRoom) -> Result<()> {
        if room.is_deserted() {
            self.rooms.delete_one(doc! { "_id": room.id }).await.map(drop)
        } else {
            let clean = doc! { "$pull": { "erasing": lease.member } };
            self.rooms
                .update_one(doc! { "_id": room.id }, clean)
                .await
                .map(drop)
        }
    }

    /// Erases up to `limit` of the member's notifications. Answers whether there may be more.
    pub async fn erase_notifications(&self, lease: Lease, limit: i64) -> Result<bool> {
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let erased = self
                .erase_notifications_in(&mut transaction.session, lease, limit)
                .await;
            if let Some(more) = transaction.end(erased).await? {
                return Ok(more);
            }
        }
    }

    async fn erase_notifications_in(
        &self,
        session: &mut ClientSession,
        lease: Lease,
        limit: i64,
    ) -> Result<bool> {
        let mut own = doc! { "member_id": lease.member };
        let first = self.notifications.find_one(own.clone()).sort(doc! { "seq": 1 });
        let Some(first) = first.session(&mut *session).await? else {
            return Ok(false);
        };
        own.insert("seq", doc! { "$lt": first.seq.saturating_add(limit) });
        let erased = self.notifications.delete_many(own).session(&mut *session).await?;
        self.count_in(session, lease, "notifications", erased.deleted_count)
            .await?;
        Ok(true)
    }

    /// Erases what else there is of the member, and marks the erasure done.
    pub async fn finish_erasure(&self, lease: Lease, now: DateTime) -> Result<()> {
        self.blocks
            .delete_many(doc! { "blocker_id": lease.member })
            .await?;
        self.keywords
            .delete_many(doc! { "member_id": lease.member })
            .await?;
        self.inboxes.delete_one(doc! { "_id": lease.member }).await?;
        let done = doc! { "$set": { "done_at": now }, "$unset": { "owner": "", "due_at": "" } };
        self.erasures.update_one(lease.owned(), done).await.map(drop)
    }
}

impl Lease {
    fn owned(self) -> Document {
        doc! { "_id": self.member, "owner": self.owner }
    }
}

fn lease_until(now: DateTime) -> DateTime {
    let lease = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(now.timestamp_millis().saturating_add(lease))
}
