//! Rooms of a post whose id was changed go with it.
//!
//! Invariant: moving rooms writes the projection of the new id in the same transaction. Either its
//! fence comes later and closes the moved rooms, or the fence is seen here. Whether and where the row
//! lives is found by the ends of each id, whatever was created there since, so it does not matter how far
//! the partitions of the ids have been read. In the same way its looks since then are told here or later, and
//! those of a row that was there before are told to nobody.

use std::collections::HashSet;

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, Document, doc},
    error::{Error, Result},
    options::{Hint, ReturnDocument, UpdateOneModel, WriteModel},
};

use super::{
    Store,
    indexes::rooms_by_post,
    now,
    posts::{End, TradePost},
    projection::{not_created, nothing},
    transaction::made_meanwhile,
};
use crate::{
    cdc::plan::Move,
    room::{Room, RoomKey},
    trade_post::Look,
};

/// Rooms that come to an id have the LSN of the move as their generation, and so much more at most, which tells
/// those of one buyer apart. No later record has an LSN that near: they are longer.
pub const APART: i64 = 7;

impl Store {
    /// Moves the open rooms of `from` to the id that the row was given, or has since. Answers whether
    /// there is such an id: else the row was deleted under it, and the rooms are to be closed where they are.
    pub async fn move_rooms(&self, from: i64, moved: Move) -> Result<bool> {
        // Rooms of a row that was there before stay, and are closed by its end: a truncate, still to be read.
        let born = self
            .post(from)
            .await?
            .and_then(|post| post.last_arrival(moved.lsn));
        let leaving = doc! {
            "trade_post_id": from,
            "state": "open",
            "generation": { "$gte": born.unwrap_or(0), "$lte": moved.lsn },
        };
        // None can be opened any more, as the id is fenced.
        let rooms = self.rooms.clone_with_type::<RoomKey>();
        let rooms = rooms.find(leaving.clone()).projection(RoomKey::fields());
        let rooms = rooms.hint(Hint::Keys(rooms_by_post())).await?;
        let rooms: Vec<RoomKey> = rooms.try_collect().await?;
        if rooms.is_empty() {
            return Ok(true);
        }
        let members = rooms.into_iter().flat_map(|room| room.members);
        let _turn = self.turns.take(members).await;
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            let lives = self
                .move_in(&mut transaction.session, &leaving, moved, now())
                .await
                .map_err(made_meanwhile);
            if let Some(lives) = transaction.end(lives).await? {
                return Ok(lives);
            }
        }
    }

    async fn move_in(
        &self,
        session: &mut ClientSession,
        leaving: &Document,
        moved: Move,
        now: DateTime,
    ) -> Result<bool> {
        let mut open = self.rooms.find(leaving.clone()).session(&mut *session).await?;
        let rooms: Vec<Room> = open.stream(&mut *session).try_collect().await?;
        if rooms.is_empty() {
            return Ok(true);
        }
        let Some((Move { lsn, to }, target)) = self.follow(session, moved).await? else {
            return Ok(false);
        };
        // Above every older end of the new id and below every later one: see `APART`.
        let buyers: Vec<i64> = rooms.iter().map(|room| room.buyer_id).collect();
        let there = doc! { "trade_post_id": to, "buyer_id": { "$in": buyers }, "generation": { "$gt": lsn } };
        let mut there = self.rooms.find(there).session(&mut *session).await?;
        let mut taken: HashSet<(i64, i64)> = there
            .stream(&mut *session)
            .map_ok(|room| (room.buyer_id, room.generation))
            .try_collect()
            .await?;
        let looks = target.look().filter(|_| target.next_arrival(lsn).is_none());
        let looks: Vec<Look> = looks.into_iter().collect();
        let mut models: Vec<WriteModel> = Vec::new();
        let mut drafts = Vec::new();
        for mut room in rooms {
            let mut free = lsn + 1;
            while !taken.insert((room.buyer_id, free)) {
                free += 1;
            }
            room.trade_post_id = to;
            // The row's first record there has the LSN of the move.
            room.told.lsn = room.told.lsn.max(lsn - 1);
            let place = doc! { "trade_post_id": to, "generation": free, "told.lsn": room.told.lsn };
            let place = UpdateOneModel::builder()
                .namespace(self.rooms.namespace())
                .filter(doc! { "_id": room.id })
                .update(doc! { "$set": place })
                .build();
            models.push(place.into());
            let told = self.told(room, &looks, now)?;
            models.extend(told.models);
            drafts.extend(told.drafts);
        }
        self.client.bulk_write(models).session(&mut *session).await?;
        self.notify(drafts, now, session).await?;
        Ok(true)
    }

    /// The last move of a row from `moved` on with the projection of the id that it has since, or `None` if it
    /// was deleted after one of them. An end stays, so of the ids in between it is enough to read it.
    async fn follow(
        &self,
        session: &mut ClientSession,
        mut moved: Move,
    ) -> Result<Option<(Move, TradePost)>> {
        let truncated = self.hold_truncate(session).await?;
        loop {
            if truncated.is_some_and(|truncated| truncated > moved.lsn) {
                return Ok(None);
            }
            let there = self.posts.find_one(doc! { "_id": moved.to });
            let there = there.session(&mut *session).await?;
            match there.and_then(|target| target.own_end_of(moved.lsn)) {
                Some(End { to: None, .. }) => return Ok(None),
                // Each is later than the one before, so this ends.
                Some(End { lsn, to: Some(to) }) if lsn > moved.lsn => moved = Move { lsn, to },
                _ => return Ok(Some((moved, self.hold_target(session, moved).await?))),
            }
        }
    }

    /// The projection of the new id, written, so that this conflicts with its fence. Until the row's first record
    /// there is read no more is known of it than that it is there; whatever was there before has gone.
    async fn hold_target(&self, session: &mut ClientSession, moved: Move) -> Result<TradePost> {
        // Older than that record, so that it is taken over.
        let mut unknown = doc! {
            "state": "live",
            "lsn": moved.lsn - 1,
            "generation": moved.lsn,
            "arrivals": { "$setUnion": [{ "$ifNull": ["$arrivals", []] }, [moved.lsn]] },
            "seller_id": null,
            "title": null,
            "status": null,
            "deleted_at": null,
        };
        unknown.extend(not_created());
        let is_known = doc! { "$gte": ["$lsn", moved.lsn] };
        let held = doc! { "$mergeObjects": [
            "$$ROOT",
            { "holds": { "$add": [{ "$ifNull": ["$holds", 0_i64] }, 1_i64] } },
            { "$cond": [is_known, nothing(), unknown] },
        ] };
        self.posts
            .find_one_and_update(doc! { "_id": moved.to }, vec![doc! { "$replaceWith": held }])
            .upsert(true)
            .return_document(ReturnDocument::After)
            .session(session)
            .await?
            .ok_or_else(|| Error::custom("an upsert answered no document"))
    }
}
