//! `trade_posts`: what is known here of the posts, and the fences of those that are gone.
//!
//! Invariant: a document never goes back. Each write carries the LSN of its change and takes effect
//! only over an older one, in one statement, so that no order of arrival and no replay undoes a
//! newer change. A fence is a document in state `deleted`: while it stands no room can be opened.

use futures_util::TryStreamExt;
use mongodb::{
    ClientSession,
    bson::{Bson, DateTime, Document, doc},
    error::Result,
    options::{ReturnDocument, UpdateOneModel, WriteModel},
};
use serde::{Deserialize, Serialize};

use super::Store;
use crate::cdc::{
    change_event::Position,
    plan::{NewState, PostPlan, Row},
};

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
    /// The id that the row has since, where it was not deleted but given another one.
    #[serde(default)]
    pub moved_to: Option<i64>,
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
    /// Writes what a batch says of its posts, in one round trip.
    pub async fn project(&self, posts: &[PostPlan], now: DateTime) -> Result<()> {
        let models: Vec<WriteModel> = posts
            .iter()
            .map(|post| {
                let (filter, update, upsert) = match post.bare_tombstone {
                    Some(tombstone) => {
                        let (filter, update) = end_of_row(post.trade_post_id, tombstone, now);
                        (filter, vec![update], false)
                    }
                    None => (doc! { "_id": post.trade_post_id }, newest_wins(post, now), true),
                };
                UpdateOneModel::builder()
                    .namespace(self.posts.namespace())
                    .filter(filter)
                    .update(update)
                    .upsert(upsert)
                    .build()
                    .into()
            })
            .collect();
        if models.is_empty() {
            return Ok(());
        }
        self.client.bulk_write(models).ordered(false).await.map(drop)
    }

    /// The posts among `ids` that are fenced, with the LSN of the fence.
    pub async fn fenced(&self, ids: &[i64]) -> Result<Vec<TradePost>> {
        self.posts
            .find(doc! { "_id": { "$in": ids }, "state": "deleted" })
            .await?
            .try_collect()
            .await
    }

    /// Remembers that the table was emptied at `lsn` and fences every post that is older.
    ///
    /// The mark comes first: an older row read from another partition meanwhile is either fenced
    /// here or sees the mark.
    pub async fn truncate(&self, lsn: i64, now: DateTime) -> Result<()> {
        self.truncates
            .update_one(doc! { "_id": TRUNCATE }, doc! { "$max": { "lsn": lsn } })
            .upsert(true)
            .await?;
        let older = doc! { "state": "live", "lsn": { "$lt": lsn } };
        let gone = doc! { "$set": { "state": "deleted", "lsn": lsn, "deleted_at": now } };
        self.posts.update_many(older, gone).await.map(drop)
    }

    /// LSN of the newest truncate, if there was one.
    pub async fn truncated_at(&self) -> Result<Option<i64>> {
        let mark = self.truncates.find_one(doc! { "_id": TRUNCATE }).await?;
        Ok(mark.and_then(|mark| mark.get_i64("lsn").ok()))
    }

    pub async fn post(&self, id: i64) -> Result<Option<TradePost>> {
        self.posts.find_one(doc! { "_id": id }).await
    }

    /// The posts with `ids` that are known, in no order.
    pub async fn posts_by_id(&self, ids: &[i64]) -> Result<Vec<TradePost>> {
        self.posts
            .find(doc! { "_id": { "$in": ids } })
            .await?
            .try_collect()
            .await
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

/// Takes over the state of `post` if it is newer than what is there, and remembers the last record.
fn newest_wins(post: &PostPlan, now: DateTime) -> Vec<Document> {
    let Position { partition, offset } = post.last;
    // A replay does not take the memory of the last record back.
    let replayed = doc! { "$and": [
        { "$eq": ["$last.partition", partition] },
        { "$gt": ["$last.offset", offset] },
    ] };
    let last = doc! { "partition": partition, "offset": offset, "is_delete": post.last_is_delete };
    let last = doc! { "last": { "$cond": [replayed, "$last", last] } };
    let Some(NewState { lsn, row }) = &post.state else {
        return vec![doc! { "$set": last }];
    };
    let newer = doc! { "$gt": [*lsn, { "$ifNull": ["$lsn", -1_i64] }] };
    // The batch may hold the end of one generation together with the begin of the next.
    let ended = post.deleted.map_or(-1, |deleted| deleted.lsn);
    let same_generation = doc! { "$and": [
        { "$eq": ["$state", "live"] },
        { "$gt": ["$generation", ended] },
    ] };
    let set = match row {
        Row::Lives { post, born } => doc! {
            "seller_id": post.seller_id,
            "title": { "$literal": &post.title },
            "status": { "$literal": &post.status },
            "state": "live",
            "lsn": *lsn,
            "generation": match born {
                Some(born) => Bson::from(*born),
                None => doc! { "$cond": [same_generation, "$generation", *lsn] }.into(),
            },
            "deleted_at": "$$REMOVE",
            "moved_to": "$$REMOVE",
        },
        Row::Gone => doc! { "state": "deleted", "lsn": *lsn, "deleted_at": now },
        Row::Moved(to) => doc! { "state": "deleted", "lsn": *lsn, "deleted_at": now, "moved_to": *to },
    };
    let mut fields: Document = set
        .into_iter()
        .map(|(field, value)| {
            let old = format!("${field}");
            (field, doc! { "$cond": [&newer, value, old] }.into())
        })
        .collect();
    fields.extend(last);
    vec![doc! { "$set": fields }]
}

/// What a tombstone alone does: it ends the row that is there, unless a later record was applied or
/// the record before it was the delete that it belongs to.
fn end_of_row(id: i64, tombstone: Position, now: DateTime) -> (Document, Document) {
    let Position { partition, offset } = tombstone;
    let filter = doc! {
        "_id": id,
        "state": "live",
        "last.is_delete": { "$ne": true },
        "$or": [
            { "last.partition": { "$ne": partition } },
            { "last.offset": { "$lt": offset } },
        ],
    };
    let last = doc! { "partition": partition, "offset": offset, "is_delete": true };
    (
        filter,
        doc! { "$set": { "state": "deleted", "deleted_at": now, "last": last } },
    )
}
