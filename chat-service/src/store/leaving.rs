//! Who goes out of a room: a member who leaves it, or one who is erased.
//!
//! Invariant: a member who left comes back with the next text; one who was erased never does, and takes the
//! possibility of texts along. So a room that one left and the other was erased from, in whatever order, is
//! nobody's: it is closed, and what is left of it is erased with the erased member.

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, doc, oid::ObjectId},
    error::Result,
    options::{UpdateManyModel, WriteModel},
};

use super::{Store, erasures::Lease, notifications::Draft, now};
use crate::{
    notification::{CloseReason, Kind},
    room::{Room, RoomKey},
};

impl Store {
    /// Takes the room out of the member's list until its next text. Answers whether the member has such an
    /// open room.
    pub async fn leave(&self, room_id: ObjectId, member: i64) -> Result<bool> {
        let open = doc! { "_id": room_id, "members": member, "state": "open" };
        loop {
            let Some(room) = self.rooms.find_one(open.clone()).await? else {
                return Ok(false);
            };
            let left = if room.members == [member] {
                self.desert(&room, member).await?
            } else {
                // Unless the other one was taken out meanwhile.
                let seen = doc! { "_id": room_id, "members": &room.members, "state": "open" };
                let left = doc! { "$pull": { "listed_for": member } };
                self.rooms.update_one(seen, left).await?.matched_count == 1
            };
            if left {
                return Ok(true);
            }
        }
    }

    /// Closes a room whose last member leaves, and has what is left of it erased. Answers whether it was open.
    async fn desert(&self, room: &Room, last: i64) -> Result<bool> {
        let _turn = self.turns.take([last]).await;
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let deserted = self.desert_in(&mut transaction.session, room, last, now()).await;
            if let Some(deserted) = transaction.end(deserted).await? {
                return Ok(deserted);
            }
        }
    }

    async fn desert_in(
        &self,
        session: &mut ClientSession,
        room: &Room,
        last: i64,
        now: DateTime,
    ) -> Result<bool> {
        let erased = room.other(last);
        let closed = self
            .rooms
            .update_one(
                doc! { "_id": room.id, "state": "open", "members": [last] },
                doc! {
                    "$set": { "state": "closed", "listed_for": [] },
                    "$addToSet": { "erasing": erased },
                },
            )
            .session(&mut *session)
            .await?;
        if closed.matched_count == 0 {
            return Ok(false);
        }
        self.erasures
            .update_one(
                doc! { "_id": erased },
                doc! { "$set": { "due_at": now }, "$unset": { "done_at": "", "owner": "" } },
            )
            .session(&mut *session)
            .await?;
        self.notify(vec![told_of_end(room, last)], now, session).await?;
        Ok(true)
    }

    /// Takes a member who is erased out of up to `limit` rooms, and closes those that are nobody's then.
    /// Answers whether there may be more.
    pub async fn take_out(&self, lease: Lease, limit: i64) -> Result<bool> {
        let rooms: Vec<RoomKey> = self
            .rooms
            .clone_with_type::<RoomKey>()
            .find(doc! { "members": lease.member })
            .projection(RoomKey::fields())
            .limit(limit)
            .await?
            .try_collect()
            .await?;
        if rooms.is_empty() {
            return Ok(false);
        }
        let ids: Vec<ObjectId> = rooms.iter().map(|room| room.id).collect();
        let members = rooms.into_iter().flat_map(|room| room.members);
        let _turn = self.turns.take(members).await;
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let taken = self
                .take_out_in(&mut transaction.session, lease, &ids, now())
                .await;
            if transaction.end(taken).await?.is_some() {
                return Ok(true);
            }
        }
    }

    async fn take_out_in(
        &self,
        session: &mut ClientSession,
        lease: Lease,
        ids: &[ObjectId],
        now: DateTime,
    ) -> Result<()> {
        let member = lease.member;
        let rooms: Vec<Room> = self
            .rooms
            .find(doc! { "_id": { "$in": ids }, "members": member })
            .session(&mut *session)
            .await?
            .stream(&mut *session)
            .try_collect()
            .await?;
        let deserted: Vec<&Room> = rooms
            .iter()
            .filter(|room| room.is_deserted_without(member))
            .collect();
        let deserted_ids: Vec<ObjectId> = deserted.iter().map(|room| room.id).collect();
        let models = [
            (
                doc! { "_id": { "$in": ids }, "members": member },
                doc! {
                    "$pull": { "members": member, "listed_for": member, "blocked_by": member },
                    "$addToSet": { "erasing": member },
                },
            ),
            (
                doc! { "_id": { "$in": ids }, "last_message.kind": "text", "last_message.sender_id": member },
                doc! { "$set": { "last_message.kind": "erased" }, "$unset": { "last_message.body": "" } },
            ),
            (
                doc! { "_id": { "$in": deserted_ids } },
                doc! { "$set": { "state": "closed" } },
            ),
        ];
        let models = models.map(|(filter, update)| {
            WriteModel::from(
                UpdateManyModel::builder()
                    .namespace(self.rooms.namespace())
                    .filter(filter)
                    .update(update)
                    .build(),
            )
        });
        self.client.bulk_write(models).session(&mut *session).await?;
        self.count_in(session, lease, "rooms", rooms.len() as u64).await?;
        let drafts = deserted.iter().flat_map(|room| {
            let others = room.members.iter().filter(|other| **other != member);
            others.map(|other| told_of_end(room, *other))
        });
        self.notify(drafts.collect(), now, session).await
    }
}

impl Room {
    /// Whether nobody would be left to read the room, if `member` went out for good.
    fn is_deserted_without(&self, member: i64) -> bool {
        self.closed().is_none() && self.listed_for.iter().all(|listed| *listed == member)
    }
}

fn told_of_end(room: &Room, member_id: i64) -> Draft {
    let kind = Kind::RoomClosed {
        reason: CloseReason::MemberErased,
    };
    Draft::in_room(member_id, kind, room.id, room.trade_post_id)
}
