//! Rooms of a post whose id was changed go with it.
//!
//! Invariant: moving rooms writes the projection of the new id in the same transaction. Either its
//! fence comes later and closes the moved rooms, or the fence is seen here.

use std::collections::BTreeMap;

use mongodb::{
    ClientSession,
    bson::doc,
    error::Result,
    options::{ReturnDocument, UpdateOneModel, WriteModel},
};

use super::{
    Store,
    posts::{PostState, TradePost},
};
use crate::{cdc::plan::Move, room::Room};

/// Ids are not changed in circles; this only ends a loop that should be impossible.
const MAX_HOPS: usize = 32;

impl Store {
    /// Moves the open rooms of `from` to the id that it was given. Answers the post that the rooms
    /// went to if that was deleted meanwhile: they are to be closed.
    pub async fn move_rooms(&self, from: i64, moved: Move) -> Result<Option<TradePost>> {
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let gone = self.move_in(&mut transaction.session, from, moved).await;
            if let Some(gone) = transaction.end(gone).await? {
                return Ok(gone);
            }
        }
    }

    async fn move_in(
        &self,
        session: &mut ClientSession,
        from: i64,
        moved: Move,
    ) -> Result<Option<TradePost>> {
        let filter = doc! { "trade_post_id": from, "state": "open", "generation": { "$lte": moved.lsn } };
        let mut open = self.rooms.find(filter).session(&mut *session).await?;
        let mut rooms: Vec<Room> = Vec::new();
        while let Some(room) = open.next(&mut *session).await.transpose()? {
            rooms.push(room);
        }
        if rooms.is_empty() {
            return Ok(None);
        }
        let target = self.hold_target(session, moved).await?;
        // Above every older delete of the new id and below every later one: records are longer than
        // the few numbers that tell rooms of one buyer apart.
        let mut generations: BTreeMap<i64, i64> = BTreeMap::new();
        let models = rooms.iter().map(|room| {
            let generation = generations.entry(room.buyer_id).or_insert(moved.lsn);
            *generation += 1;
            WriteModel::from(
                UpdateOneModel::builder()
                    .namespace(self.rooms.namespace())
                    .filter(doc! { "_id": room.id })
                    .update(doc! { "$set": { "trade_post_id": target.id, "generation": *generation } })
                    .build(),
            )
        });
        self.client.bulk_write(models).session(&mut *session).await?;
        Ok((target.state == PostState::Deleted && target.lsn > moved.lsn).then_some(target))
    }

    /// The projection that the rooms go to, written, so that this conflicts with its fence. It may be
    /// unknown still, and it may have been moved on.
    async fn hold_target(&self, session: &mut ClientSession, moved: Move) -> Result<TradePost> {
        let mut id = moved.to;
        for hop in 0.. {
            let held = self
                .posts
                .find_one_and_update(
                    doc! { "_id": id },
                    doc! {
                        "$inc": { "holds": 1_i64 },
                        "$setOnInsert": { "state": "live", "lsn": 0_i64 },
                    },
                )
                .upsert(true)
                .return_document(ReturnDocument::After)
                .session(&mut *session)
                .await?
                .ok_or_else(|| mongodb::error::Error::custom("an upsert answered no document"))?;
            match held.moved_to {
                Some(next) if held.lsn > moved.lsn && hop < MAX_HOPS => id = next,
                _ => return Ok(held),
            }
        }
        unreachable!("the loop ends by returning")
    }
}
