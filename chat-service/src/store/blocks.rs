//! `blocks`: who wants to hear nothing more from whom.
//!
//! Invariant: a block that is acknowledged holds for everything committed later. Blocking marks the rooms
//! that the two share, which every send writes, and writes the inboxes of both; opening a room writes the
//! seller's. So what runs beside it was committed before, or conflicts with it, begins anew and sees it.

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, Document, doc, oid::ObjectId},
    error::Result,
    options::{UpdateManyModel, UpdateOneModel},
};
use serde::{Deserialize, Serialize};

use super::{Edge, Store, beyond, transaction::made_meanwhile};
use crate::room::Refusal;

/// A block as it is stored; unique by its two members.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Block {
    #[serde(rename = "_id")]
    pub id: ObjectId,
    /// Whose block it is.
    pub blocker_id: i64,
    pub member_id: i64,
    pub blocked_at: DateTime,
}

impl Store {
    /// Blocks `member` for `blocker`; once more changes nothing. Answers why not, if not.
    pub async fn block(&self, blocker: i64, member: i64, now: DateTime) -> Result<Option<Refusal>> {
        let _turn = self.turns.take([blocker, member]).await;
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let refused = self
                .block_in(&mut transaction.session, blocker, member, now)
                .await
                // Another request wrote the same block or an inbox for the first time.
                .map_err(made_meanwhile);
            if let Some(refused) = transaction.end(refused).await? {
                return Ok(refused);
            }
        }
    }

    async fn block_in(
        &self,
        session: &mut ClientSession,
        blocker: i64,
        member: i64,
        now: DateTime,
    ) -> Result<Option<Refusal>> {
        let erased = self.erased_among(&[blocker, member], session).await?;
        if erased.contains(&blocker) {
            return Ok(Some(Refusal::CallerErased));
        }
        let block = UpdateOneModel::builder()
            .namespace(self.blocks.namespace())
            .filter(doc! { "blocker_id": blocker, "member_id": member })
            .update(doc! { "$setOnInsert": { "blocked_at": now } })
            .upsert(true)
            .build();
        let mark = UpdateManyModel::builder()
            .namespace(self.rooms.namespace())
            .filter(shared_rooms(blocker, member))
            .update(doc! { "$addToSet": { "blocked_by": blocker } })
            .build();
        let mut models = vec![block.into(), mark.into()];
        // Who is erased has no inbox any more, and opens no rooms.
        let living = [blocker, member]
            .into_iter()
            .filter(|member| !erased.contains(member));
        models.extend(living.map(|member| self.touch_inbox(member)));
        self.client.bulk_write(models).session(session).await?;
        Ok(None)
    }

    /// Takes the block back, if there is one.
    pub async fn unblock(&self, blocker: i64, member: i64) -> Result<()> {
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let unblocked = self.unblock_in(&mut transaction.session, blocker, member).await;
            if transaction.end(unblocked).await?.is_some() {
                return Ok(());
            }
        }
    }

    async fn unblock_in(&self, session: &mut ClientSession, blocker: i64, member: i64) -> Result<()> {
        self.blocks
            .delete_one(doc! { "blocker_id": blocker, "member_id": member })
            .session(&mut *session)
            .await?;
        let mark = doc! { "$pull": { "blocked_by": blocker } };
        self.rooms
            .update_many(shared_rooms(blocker, member), mark)
            .session(session)
            .await
            .map(drop)
    }

    /// Why `caller` may open no room with `other`, if that is so.
    pub async fn refusal_between(
        &self,
        caller: i64,
        other: i64,
        session: &mut ClientSession,
    ) -> Result<Option<Refusal>> {
        let erased = self.erased_among(&[caller, other], session).await?;
        if erased.contains(&caller) {
            return Ok(Some(Refusal::CallerErased));
        }
        if erased.contains(&other) {
            return Ok(Some(Refusal::OtherErased));
        }
        let either_way = doc! { "$or": [
            { "blocker_id": caller, "member_id": other },
            { "blocker_id": other, "member_id": caller },
        ] };
        let block = self.blocks.find_one(either_way).session(session).await?;
        Ok(block.map(|block| Refusal::blocked(block.blocker_id == caller)))
    }

    /// The member's blocks, the newest first, read away from the edge.
    pub async fn blocks_of(
        &self,
        blocker: i64,
        edge: Option<Edge<ObjectId>>,
        rows: i64,
    ) -> Result<Vec<Block>> {
        let (filter, order) = beyond(doc! { "blocker_id": blocker }, edge, -1);
        self.blocks
            .find(filter)
            .sort(doc! { "_id": order })
            .limit(rows)
            .await?
            .try_collect()
            .await
    }
}

/// The rooms that the two are in.
fn shared_rooms(one: i64, other: i64) -> Document {
    let both = doc! { "$in": [one, other] };
    doc! { "members": one, "buyer_id": &both, "seller_id": both }
}
