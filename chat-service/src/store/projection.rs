//! Takes what a batch says of its posts into `trade_posts`, in a number of commands that does not depend on
//! the size of the batch.
//!
//! Invariant: nothing is read first. A document is inserted if there is none, or updated by a statement that
//! compares its LSN with the one that is there; whatever runs beside it, a document never goes back.

use mongodb::{
    bson::{Bson, DateTime, Document, doc},
    error::{ErrorKind, Result},
    options::{UpdateManyModel, UpdateOneModel, WriteModel},
};

use super::{DUPLICATE_KEY, Store};
use crate::cdc::{
    change_event::Position,
    plan::{NewState, PostPlan, Row},
};

/// Posts that one statement updates. A statement costs a commit of its own, which is dearer than what it
/// changes; but each document looks its news up in a list as long as this.
const POSTS_PER_STATEMENT: usize = 64;

/// What the batch knows of one post.
struct News {
    id: i64,
    /// It is probably not there yet.
    is_created: bool,
    lsn: i64,
    /// Takes effect if it is newer than what is there.
    fields: Document,
    /// The post may have lived on since a generation behind this LSN.
    ended: Option<i64>,
    last: Document,
}

impl Store {
    /// Writes what a batch says of its posts.
    pub async fn project(&self, posts: &[PostPlan], now: DateTime) -> Result<()> {
        let tombstones: Vec<WriteModel> = posts
            .iter()
            .filter_map(|post| {
                let (filter, update) = end_of_row(post.trade_post_id, post.bare_tombstone?, now);
                let model = UpdateOneModel::builder()
                    .namespace(self.posts.namespace())
                    .filter(filter)
                    .update(update)
                    .build();
                Some(model.into())
            })
            .collect();
        if !tombstones.is_empty() {
            self.client.bulk_write(tombstones).ordered(false).await?;
        }
        let (mut unknown, mut known): (Vec<News>, Vec<News>) = posts
            .iter()
            .filter_map(|post| News::of(post, now))
            .partition(|news| news.is_created);
        // Each may turn out to be the other: after a replay, or where a fence has expired.
        loop {
            known.extend(self.insert_unknown(unknown).await?);
            if self.update_known(&known).await? == known.len() {
                return Ok(());
            }
            unknown = std::mem::take(&mut known);
        }
    }

    /// Inserts what is not there, and answers what is.
    async fn insert_unknown(&self, news: Vec<News>) -> Result<Vec<News>> {
        if news.is_empty() {
            return Ok(news);
        }
        let documents = news.iter().map(News::document);
        let posts = self.posts.clone_with_type::<Document>();
        let Err(error) = posts.insert_many(documents).ordered(false).await else {
            return Ok(Vec::new());
        };
        match &*error.kind {
            ErrorKind::InsertMany(failure) if failure.write_concern_error.is_none() => {
                let failed = failure.write_errors.as_deref().unwrap_or_default();
                if failed.is_empty() || failed.iter().any(|error| error.code != DUPLICATE_KEY) {
                    return Err(error);
                }
                let mut there = vec![false; news.len()];
                for error in failed {
                    there[error.index] = true;
                }
                let there = news.into_iter().zip(there);
                Ok(there.filter_map(|(news, there)| there.then_some(news)).collect())
            }
            _ => Err(error),
        }
    }

    /// Updates what is there, and answers how many that were, newer or not.
    async fn update_known(&self, news: &[News]) -> Result<usize> {
        if news.is_empty() {
            return Ok(0);
        }
        let models = news.chunks(POSTS_PER_STATEMENT).map(|news| {
            let ids: Vec<i64> = news.iter().map(|news| news.id).collect();
            UpdateManyModel::builder()
                .namespace(self.posts.namespace())
                .filter(doc! { "_id": { "$in": &ids } })
                .update(newest_wins(ids, news))
                .build()
        });
        let updated = self.client.bulk_write(models).ordered(false).await?;
        Ok(usize::try_from(updated.matched_count).unwrap_or(usize::MAX))
    }
}

impl News {
    /// What `post` says, unless it is a tombstone alone.
    fn of(post: &PostPlan, now: DateTime) -> Option<Self> {
        let NewState { lsn, row } = post.state.as_ref()?;
        let Position { partition, offset } = post.last;
        // The batch may hold the end of one generation together with the begin of the next.
        let ended = post.deleted.map_or(-1, |deleted| deleted.lsn);
        let (fields, ended) = match row {
            Row::Lives { post, born } => (
                doc! {
                    "seller_id": post.seller_id,
                    "title": &post.title,
                    "status": &post.status,
                    "state": "live",
                    "generation": born.unwrap_or(*lsn),
                    "deleted_at": null,
                    "moved_to": null,
                },
                born.is_none().then_some(ended),
            ),
            Row::Gone => (doc! { "state": "deleted", "deleted_at": now }, None),
            Row::Moved(to) => (
                doc! { "state": "deleted", "deleted_at": now, "moved_to": *to },
                None,
            ),
        };
        let last = doc! { "partition": partition, "offset": offset, "is_delete": post.last_is_delete };
        Some(Self {
            id: post.trade_post_id,
            is_created: post.is_created,
            lsn: *lsn,
            fields,
            ended,
            last,
        })
    }

    /// The post's document if there is none.
    fn document(&self) -> Document {
        let mut document = doc! { "_id": self.id, "lsn": self.lsn };
        document.extend(self.fields.clone());
        document.insert("last", self.last.clone());
        document
    }
}

/// Lets each of the posts `ids` take over the news of its own if they are newer than what is there, and
/// remember its last record.
fn newest_wins(ids: Vec<i64>, news: &[News]) -> Vec<Document> {
    let news: Vec<Document> = news
        .iter()
        .map(|news| {
            doc! { "lsn": news.lsn, "fields": news.fields.clone(), "ended": news.ended, "last": news.last.clone() }
        })
        .collect();
    // As a literal, no text of a member's is taken for an expression.
    let own = doc! { "$arrayElemAt": [
        { "$literal": news },
        { "$indexOfArray": [{ "$literal": ids }, "$_id"] },
    ] };
    let newer = doc! { "$gt": ["$news.lsn", { "$ifNull": ["$lsn", -1_i64] }] };
    let taken_over = doc! { "$mergeObjects": [{ "lsn": "$news.lsn" }, "$news.fields"] };
    let lives_on = doc! { "$and": [
        { "$ne": ["$news.ended", Bson::Null] },
        { "$eq": ["$state", "live"] },
        { "$gt": ["$generation", "$news.ended"] },
    ] };
    // A replay does not take the memory of the last record back.
    let replayed = doc! { "$and": [
        { "$eq": ["$last.partition", "$news.last.partition"] },
        { "$gt": ["$last.offset", "$news.last.offset"] },
    ] };
    let nothing = doc! { "$literal": {} };
    vec![
        doc! { "$set": { "news": own } },
        doc! { "$replaceWith": { "$mergeObjects": [
            "$$ROOT",
            { "$cond": [newer, taken_over, &nothing] },
            { "$cond": [lives_on, { "generation": "$generation" }, nothing] },
            { "last": { "$cond": [replayed, "$last", "$news.last"] } },
        ] } },
        doc! { "$unset": "news" },
    ]
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
