//! Rooms of a post whose id was changed go with it.
//!
//! Invariant: moving rooms writes the projection of the new id in the same transaction. Either its
//! fence comes later and closes the moved rooms, or the fence is seen here. Whether and where the row
//! lives is found by the ends of each id, whatever was created there since, so it does not matter how far
//! the partitions of the ids have been read.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::doc,
    error::{Error, Result},
    options::{ReturnDocument, UpdateOneModel, WriteModel},
};

use super::{
    Store,
    posts::{End, TradePost},
};
use crate::{cdc::plan::Move, room::Room};

impl Store {
    /// Moves the open rooms of `from` to the id that the row was given, or has since. Answers whether
    /// there is such an id: else the row was deleted under it, and the rooms are to be closed where they are.
    pub async fn move_rooms(&self, from: i64, moved: Move) -> Result<bool> {
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let lives = self.move_in(&mut transaction.session, from, moved).await;
            if let Some(lives) = transaction.end(lives).await? {
                return Ok(lives);
            }
        }
    }

    async fn move_in(&self, session: &mut ClientSession, from: i64, moved: Move) -> Result<bool> {
        let filter = doc! { "trade_post_id": from, "state": "open", "generation": { "$lte": moved.lsn } };
        let mut open = self.rooms.find(filter).session(&mut *session).await?;
        let rooms: Vec<Room> = open.stream(&mut *session).try_collect().await?;
        if rooms.is_empty() {
            return Ok(true);
        }
        let Some(Move { lsn, to }) = self.follow(session, moved).await? else {
            return Ok(false);
        };
        // Above every older end of the new id and below every later one: records are longer than
        // the few numbers that tell rooms of one buyer apart.
        let buyers: Vec<i64> = rooms.iter().map(|room| room.buyer_id).collect();
        let there = doc! { "trade_post_id": to, "buyer_id": { "$in": buyers }, "generation": { "$gt": lsn } };
        let mut there = self.rooms.find(there).session(&mut *session).await?;
        let mut taken: HashSet<(i64, i64)> = there
            .stream(&mut *session)
            .map_ok(|room| (room.buyer_id, room.generation))
            .try_collect()
            .await?;
        let models = rooms.iter().map(|room| {
            let mut free = lsn + 1;
            while !taken.insert((room.buyer_id, free)) {
                free += 1;
            }
            let place = doc! { "trade_post_id": to, "generation": free };
            WriteModel::from(
                UpdateOneModel::builder()
                    .namespace(self.rooms.namespace())
                    .filter(doc! { "_id": room.id })
                    .update(doc! { "$set": place })
                    .build(),
            )
        });
        self.client.bulk_write(models).session(&mut *session).await?;
        Ok(true)
    }

    /// The last move of a row from `moved` on, or `None` if it was deleted after one of them.
    async fn follow(&self, session: &mut ClientSession, mut moved: Move) -> Result<Option<Move>> {
        let truncated = self.truncated_at_in(session).await?;
        loop {
            if truncated.is_some_and(|truncated| truncated > moved.lsn) {
                return Ok(None);
            }
            let target = self.hold_target(session, moved).await?;
            match target.end_of(moved.lsn) {
                Some(End { to: None, .. }) => return Ok(None),
                // Each is later than the one before, so this ends.
                Some(End { lsn, to: Some(to) }) if lsn > moved.lsn => moved = Move { lsn, to },
                _ => return Ok(Some(moved)),
            }
        }
    }

    /// The projection of the new id, written, so that this conflicts with its fence. It may be unknown
    /// still.
    async fn hold_target(&self, session: &mut ClientSession, moved: Move) -> Result<TradePost> {
        // Older than the row's first record there, so that this is taken over.
        let unknown = doc! { "state": "live", "lsn": moved.lsn - 1 };
        self.posts
            .find_one_and_update(
                doc! { "_id": moved.to },
                doc! { "$inc": { "holds": 1_i64 }, "$setOnInsert": unknown },
            )
            .upsert(true)
            .return_document(ReturnDocument::After)
            .session(session)
            .await?
            .ok_or_else(|| Error::custom("an upsert answered no document"))
    }
}
