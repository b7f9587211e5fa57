//! Posts and keywords whose delete was missed: those that a reconciliation's snapshot did not show.
//!
//! Invariant: one is fenced only by a statement that says that it lives and is older than the reconciliation's
//! start, so one that was created again meanwhile is not touched. Everything may be repeated: a post that is fenced at
//! that LSN is this reconciliation's, and its rooms are looked for again.

use std::{collections::HashMap, time::Duration};

use futures_util::TryStreamExt;
use mongodb::{
    bson::{Bson, DateTime, Document, doc, oid::ObjectId},
    error::{Error, Result},
    options::{Hint, ReturnDocument},
};
use serde::Deserialize;

use super::{
    Edge, Store, beyond,
    closing::Closing,
    deletions::Deletion,
    indexes::rooms_by_post,
    posts::TradePost,
    reconciliations::{Closed, Reconciliation},
    whole,
};
use crate::{
    keyword::Kept,
    reconciliation::{State, Table},
    room::{DeletionId, RoomKey},
};

/// A post that was not shown, and how many open rooms it has.
#[derive(Debug)]
pub struct Missed {
    pub post: TradePost,
    pub rooms: i64,
}

/// The right to close what a reconciliation found.
#[derive(Clone, Debug)]
pub struct Leased {
    owner: ObjectId,
    pub reconciliation: Reconciliation,
}

/// Somebody else has the lease.
#[derive(Clone, Copy, Debug)]
pub struct LeaseLost;

impl Store {
    /// How many rows of the table live here and were not seen from `start_lsn` on.
    pub async fn count_missed(&self, table: Table, start_lsn: i64) -> Result<i64> {
        let number = match table {
            Table::TradePosts => self.posts.count_documents(not_seen_since(start_lsn)).await?,
            Table::Keywords => {
                let missed = keyword_not_seen_since(start_lsn);
                self.keywords.count_documents(missed).await?
            }
        };
        Ok(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// The posts among them, in the order of their ids.
    pub async fn missed(&self, start_lsn: i64, edge: Option<Edge<i64>>, limit: i64) -> Result<Vec<Missed>> {
        let (filter, order) = beyond(not_seen_since(start_lsn), edge, 1);
        let posts: Vec<TradePost> = self
            .posts
            .find(filter)
            .sort(doc! { "_id": order })
            .limit(limit)
            .await?
            .try_collect()
            .await?;
        let rooms = self
            .open_rooms(posts.iter().map(|post| post.id).collect())
            .await?;
        Ok(posts
            .into_iter()
            .map(|post| Missed {
                rooms: rooms.get(&post.id).copied().unwrap_or_default(),
                post,
            })
            .collect())
    }

    /// The keywords among them, in the order of their ids.
    pub async fn missed_keywords(
        &self,
        start_lsn: i64,
        edge: Option<Edge<i64>>,
        limit: i64,
    ) -> Result<Vec<Kept>> {
        let (filter, order) = beyond(keyword_not_seen_since(start_lsn), edge, 1);
        self.keywords
            .find(filter)
            .sort(doc! { "_id": order })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    async fn open_rooms(&self, posts: Vec<i64>) -> Result<HashMap<i64, i64>> {
        #[derive(Deserialize)]
        struct Room {
            trade_post_id: i64,
        }
        let mut open = self
            .rooms
            .clone_with_type::<Room>()
            .find(doc! { "trade_post_id": { "$in": posts }, "state": "open" })
            .hint(Hint::Keys(rooms_by_post()))
            .projection(doc! { "_id": 0, "trade_post_id": 1 })
            .await?;
        let mut rooms = HashMap::new();
        while let Some(room) = open.try_next().await? {
            *rooms.entry(room.trade_post_id).or_default() += 1;
        }
        Ok(rooms)
    }

    /// Leases a confirmed reconciliation that nobody works on.
    pub async fn lease_closing(&self, now: DateTime, term: Duration) -> Result<Option<Leased>> {
        let owner = ObjectId::new();
        let free = doc! {
            "state": State::Closing.name(),
            "$or": [{ "lease": null }, { "lease.until": { "$lte": now } }],
        };
        let take = doc! { "$set": { "lease": { "owner": owner, "until": until(now, term) } } };
        let taken = self
            .reconciliations
            .find_one_and_update(free, take)
            .return_document(ReturnDocument::After)
            .await?;
        Ok(taken.map(|reconciliation| Leased {
            owner,
            reconciliation,
        }))
    }

    /// Closes the rooms of the next `limit` posts at most. Answers what was closed, or `None` if there is no more
    /// post.
    pub async fn close_missed(
        &self,
        leased: &mut Leased,
        limit: i64,
        now: DateTime,
        erase_at: DateTime,
    ) -> Result<Option<Closed>> {
        let lsn = leased.reconciliation.span.start_lsn;
        let fenced = doc! { "ends": { "$elemMatch": { "lsn": lsn, "to": null } } };
        let next = doc! {
            "_id": { "$gt": leased.reconciliation.closed_up_to },
            "$or": [not_seen_since(lsn), fenced.clone()],
        };
        let ids: Vec<i64> = self
            .posts
            .find(next)
            .sort(doc! { "_id": 1 })
            .limit(limit)
            .batch_size(whole(usize::try_from(limit).unwrap_or_default()))
            .await?
            .map_ok(|post| post.id)
            .try_collect()
            .await?;
        let Some(&last) = ids.last() else { return Ok(None) };
        let mut still = not_seen_since(lsn);
        still.insert("_id", doc! { "$in": &ids });
        let gone = doc! {
            "$set": { "state": "deleted", "lsn": lsn, "deleted_at": now },
            "$addToSet": { "ends": { "lsn": lsn, "to": null } },
        };
        self.posts.update_many(still, gone).await?;
        // What was created again before it was fenced is no business of this. After it, the fence is lifted, and the
        // rooms of the row that was missed are as gone as before.
        let mut fenced = fenced;
        fenced.insert("_id", doc! { "$in": &ids });
        let fenced: Vec<i64> = self
            .posts
            .find(fenced)
            .batch_size(whole(ids.len()))
            .await?
            .map_ok(|post| post.id)
            .try_collect()
            .await?;
        let closing_of = |room: &RoomKey| {
            (room.generation <= lsn).then_some(Closing {
                id: DeletionId {
                    post: room.trade_post_id,
                    lsn,
                },
                committed_at: None,
                captured_at: None,
                received_at: now,
                erase_at,
            })
        };
        self.close(doc! { "trade_post_id": { "$in": &fenced } }, &closing_of)
            .await?;
        let closed = Closed {
            posts: i64::try_from(fenced.len()).unwrap_or(i64::MAX),
            rooms: self.closed_rooms(&fenced, lsn).await?,
            keywords: 0,
        };
        leased.reconciliation.closed_up_to = last;
        leased.reconciliation.closed.posts += closed.posts;
        leased.reconciliation.closed.rooms += closed.rooms;
        Ok(Some(closed))
    }

    /// Ends the next `limit` keywords at most, and counts them. Answers whether there were any.
    pub async fn end_missed(&self, leased: &mut Leased, limit: i64, now: DateTime) -> Result<bool> {
        let lsn = leased.reconciliation.span.start_lsn;
        let next = self.missed_keywords(lsn, None, limit).await?;
        if next.is_empty() {
            return Ok(false);
        }
        let ids: Vec<i64> = next.iter().map(|keyword| keyword.id).collect();
        let mut still = keyword_not_seen_since(lsn);
        still.insert("_id", doc! { "$in": ids });
        let ended = self
            .change_together(&self.keywords, still, Kept::ended(lsn, now))
            .await?;
        let closed = &mut leased.reconciliation.closed.keywords;
        *closed = closed.saturating_add_unsigned(ended.modified_count);
        Ok(true)
    }

    /// How many rooms the deletions of these posts have closed, now or by somebody who died before it was said.
    async fn closed_rooms(&self, posts: &[i64], lsn: i64) -> Result<i64> {
        let ids = posts
            .iter()
            .map(|post| Bson::from(DeletionId { post: *post, lsn }));
        let deletions: Vec<Deletion> = self
            .deletions
            .find(doc! { "_id": { "$in": ids.collect::<Vec<_>>() } })
            .batch_size(whole(posts.len()))
            .await?
            .try_collect()
            .await?;
        Ok(deletions.iter().map(|deletion| deletion.rooms).sum())
    }

    /// Remembers how far the closing has come, and keeps the lease.
    pub async fn closed_missed(&self, leased: &Leased, now: DateTime, term: Duration) -> Result<()> {
        let Closed {
            posts,
            rooms,
            keywords,
        } = leased.reconciliation.closed;
        let progress = doc! {
            "closed": { "posts": posts, "rooms": rooms, "keywords": keywords },
            "closed_up_to": leased.reconciliation.closed_up_to,
            "lease.until": until(now, term),
        };
        self.say_as_owner(leased, progress).await
    }

    /// There is no more to close.
    pub async fn reconciliation_done(&self, leased: &Leased, now: DateTime) -> Result<()> {
        let done = doc! { "state": State::Done.name(), "changed_at": now, "lease": null };
        self.say_as_owner(leased, done).await
    }

    async fn say_as_owner(&self, leased: &Leased, set: Document) -> Result<()> {
        let owned = doc! {
            "_id": &leased.reconciliation.id, "state": State::Closing.name(), "lease.owner": leased.owner,
        };
        let said = self
            .reconciliations
            .update_one(owned, doc! { "$set": set })
            .await?;
        if said.matched_count == 1 {
            Ok(())
        } else {
            Err(Error::custom(LeaseLost))
        }
    }
}

fn not_seen_since(start_lsn: i64) -> Document {
    doc! { "state": "live", "lsn": { "$lt": start_lsn } }
}

fn keyword_not_seen_since(start_lsn: i64) -> Document {
    doc! { "gram": { "$exists": true }, "lsn": { "$lt": start_lsn } }
}

fn until(now: DateTime, term: Duration) -> DateTime {
    let term = i64::try_from(term.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(now.timestamp_millis().saturating_add(term))
}
