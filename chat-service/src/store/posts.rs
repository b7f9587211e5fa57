//! `trade_posts`: what is known here of the posts, and the fences of those that are gone.
//!
//! Invariant: a document never goes back. Each write carries the LSN of its change and takes effect
//! only over an older one, in one statement, so that no order of arrival and no replay undoes a
//! newer change; see `projection`. A fence is a document in state `deleted`: while it stands no room
//! can be opened.

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{DateTime, doc},
    error::Result,
    options::ReturnDocument,
};
use serde::{Deserialize, Serialize};

use super::{Store, transaction::made_meanwhile, whole};
use crate::trade_post::Look;

/// A trade post's projection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TradePost {
    #[serde(rename = "_id")]
    pub id: i64,
    #[serde(default)]
    pub seller_id: Option<i64>,
    #[serde(default)]
    pub title: Option<String>,
    #[serde(default)]
    pub status: Option<String>,
    pub state: PostState,
    /// LSN of the newest change applied.
    pub lsn: i64,
    /// LSN at which the row that lives now, or lived last, was first seen. An id that is deleted and
    /// created again begins a new generation.
    #[serde(default)]
    pub generation: i64,
    #[serde(default)]
    pub deleted_at: Option<DateTime>,
    /// Each time that a row has left this id, in no order.
    #[serde(default)]
    pub ends: Vec<End>,
    /// LSNs at which a row has come here, in no order. The first one may be left out: nobody had a room
    /// before.
    #[serde(default)]
    pub arrivals: Vec<i64>,
}

/// How a row has left its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub lsn: i64,
    /// The id that it has since, where it was not deleted.
    pub to: Option<i64>,
}

impl TradePost {
    /// How the row that was at this id at `lsn` has left it, if it has.
    pub fn end_of(&self, lsn: i64) -> Option<End> {
        let later = self.ends.iter().filter(|end| end.lsn >= lsn);
        later.min_by_key(|end| end.lsn).copied()
    }

    /// Whether the row that was at this id at `lsn` is known to have left it.
    pub fn has_lost(&self, lsn: i64) -> bool {
        self.end_of(lsn).is_some() || self.next_arrival(lsn).is_some()
    }

    /// How that row has left its id, unless another row has come before it, so that it is that one's: then it is not known.
    pub fn own_end_of(&self, lsn: i64) -> Option<End> {
        let next = self.next_arrival(lsn);
        self.end_of(lsn)
            .filter(|end| next.is_none_or(|next| end.lsn < next))
    }

    /// When the next row came here after the one that was here at `lsn`, if that was seen. The other one has
    /// gone before, also where its end is not known: a truncate is read from a partition of its own.
    pub fn next_arrival(&self, lsn: i64) -> Option<i64> {
        self.arrivals.iter().filter(|came| **came > lsn).min().copied()
    }

    /// When the row that was here at `lsn` came, if that was seen and another one was here before.
    pub fn last_arrival(&self, lsn: i64) -> Option<i64> {
        self.arrivals.iter().filter(|came| **came <= lsn).max().copied()
    }

    /// What it looks like now, if more is known than that it is there.
    pub fn look(&self) -> Option<Look> {
        Some(Look {
            lsn: self.lsn,
            title: self.title.clone()?,
            status: self.status.clone()?,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PostState {
    Live,
    Deleted,
}

/// The one document of `truncates`.
const TRUNCATE: &str = "trade_posts";

impl Store {
    /// The posts among `ids` that are fenced, with the LSN of the fence.
    pub async fn fenced(&self, ids: &[i64]) -> Result<Vec<TradePost>> {
        self.posts
            .find(doc! { "_id": { "$in": ids }, "state": "deleted" })
            .batch_size(whole(ids.len()))
            .await?
            .try_collect()
            .await
    }

    /// Remembers that the table was emptied at `lsn` and fences every post that is older.
    ///
    /// The mark comes first: an older row read from another partition meanwhile is either fenced
    /// here or sees the mark.
    pub async fn truncate(&self, lsn: i64, now: DateTime) -> Result<()> {
        let mut transaction = self.transaction().await?;
        loop {
            transaction.begin().await?;
            // In a transaction, so that it conflicts with who holds the mark: see `hold_truncate`.
            let marked = self
                .truncates
                .update_one(doc! { "_id": TRUNCATE }, doc! { "$max": { "lsn": lsn } })
                .upsert(true)
                .session(&mut transaction.session)
                .await
                .map_err(made_meanwhile);
            if transaction.end(marked).await?.is_some() {
                break;
            }
        }
        let older = doc! { "state": "live", "lsn": { "$lt": lsn } };
        let gone = doc! {
            "$set": { "state": "deleted", "lsn": lsn, "deleted_at": now },
            "$addToSet": { "ends": { "lsn": lsn, "to": null } },
        };
        self.posts.update_many(older, gone).await.map(drop)
    }

    /// LSN of the newest truncate, if there was one.
    pub async fn truncated_at(&self) -> Result<Option<i64>> {
        let mark = self.truncates.find_one(doc! { "_id": TRUNCATE }).await?;
        Ok(mark.and_then(|mark| mark.get_i64("lsn").ok()))
    }

    /// The same, written, so that the transaction comes before the next truncate or sees it.
    pub async fn hold_truncate(&self, session: &mut ClientSession) -> Result<Option<i64>> {
        let held = self
            .truncates
            .find_one_and_update(doc! { "_id": TRUNCATE }, doc! { "$inc": { "holds": 1_i64 } })
            .upsert(true)
            .session(session)
            .await?;
        Ok(held.and_then(|mark| mark.get_i64("lsn").ok()))
    }

    pub async fn post(&self, id: i64) -> Result<Option<TradePost>> {
        self.posts.find_one(doc! { "_id": id }).await
    }

    /// Touches the post inside a transaction, so that the transaction conflicts with its fence.
    /// Answers the post as it is, live or deleted, or `None` when it is unknown.
    pub async fn hold_post(&self, id: i64, session: &mut ClientSession) -> Result<Option<TradePost>> {
        self.posts
            .find_one_and_update(doc! { "_id": id }, doc! { "$inc": { "holds": 1_i64 } })
            .return_document(ReturnDocument::After)
            .session(session)
            .await
    }
}
