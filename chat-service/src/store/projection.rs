//! Takes what a batch says of its posts into `trade_posts`, in a number of commands that does not depend on
//! the size of the batch.
//!
//! Invariant: nothing is read first. A document is inserted if there is none, or updated by a statement that
//! compares its LSN with the one that is there; whatever runs beside it, a document never goes back.

use std::collections::HashSet;

use mongodb::{
    bson::{Bson, DateTime, Document, doc},
    error::{ErrorKind, Result},
    options::UpdateManyModel,
};

use super::{DUPLICATE_KEY, Store, moves::APART};
use crate::cdc::{
    change_event::{Arrival, Position},
    plan::{Arrived, End, NewState, PostPlan, Row},
};

/// Posts that one statement updates. A statement costs a commit of its own, which is dearer than what it
/// changes; but each document looks its news up in a list as long as this.
const POSTS_PER_STATEMENT: usize = 64;

/// What the batch knows of one post.
struct News {
    id: i64,
    lsn: i64,
    /// Takes effect if it is newer than what is there.
    fields: Document,
    /// The post may have lived on since a generation behind this LSN.
    ended: Option<i64>,
    ends: Vec<Document>,
    /// LSNs at which the batch has seen a row come.
    arrivals: Vec<i64>,
    last: Document,
}

impl Store {
    /// Writes what a batch says of its posts. Answers those that it has seen being created, and that were
    /// known already.
    pub async fn project(&self, posts: &[PostPlan], now: DateTime) -> Result<HashSet<i64>> {
        let tombstones: Vec<(i64, Position)> = posts
            .iter()
            .filter_map(|post| Some((post.trade_post_id, post.bare_tombstone?)))
            .collect();
        if !tombstones.is_empty() {
            let models = tombstones
                .chunks(POSTS_PER_STATEMENT)
                .map(|tombstones| self.update(end_of_row(tombstones, now)));
            self.client.bulk_write(models).ordered(false).await?;
        }
        let (mut unknown, mut known): (Vec<News>, Vec<News>) = posts
            .iter()
            .filter_map(|post| News::of(post, now))
            // What the batch has seen coming is probably not there yet.
            .partition(|news| !news.arrivals.is_empty());
        // Each may turn out to be the other: after a replay, or where a fence has expired.
        let mut known_before = HashSet::new();
        loop {
            let there = self.insert_unknown(unknown).await?;
            known_before.extend(there.iter().map(|news| news.id));
            known.extend(there);
            if self.update_known(&known).await? == known.len() {
                return Ok(known_before);
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
        let models = news
            .chunks(POSTS_PER_STATEMENT)
            .map(|news| self.update(newest_wins(news)));
        let updated = self.client.bulk_write(models).ordered(false).await?;
        Ok(usize::try_from(updated.matched_count).unwrap_or(usize::MAX))
    }

    fn update(&self, (ids, update): (Vec<i64>, Vec<Document>)) -> UpdateManyModel {
        UpdateManyModel::builder()
            .namespace(self.posts.namespace())
            .filter(doc! { "_id": { "$in": ids } })
            .update(update)
            .build()
    }
}

impl News {
    /// What `post` says, unless it is a tombstone alone.
    fn of(post: &PostPlan, now: DateTime) -> Option<Self> {
        let NewState { lsn, row } = post.state.as_ref()?;
        let Position { partition, offset } = post.last;
        // The batch may hold the end of one generation together with the begin of the next.
        let ended = post.ends.last().map_or(-1, End::lsn);
        let (fields, ended) = match row {
            Row::Lives { post, arrived } => {
                let mut fields = doc! {
                    "seller_id": post.seller_id,
                    "title": &post.title,
                    "status": &post.status,
                    "state": "live",
                    "generation": arrived.map_or(*lsn, |arrived| arrived.lsn),
                    "deleted_at": null,
                };
                match arrived {
                    // What was created is matched with keywords, once: see `matches`.
                    Some(Arrived {
                        lsn: born,
                        how: Arrival::Created,
                    }) => fields.extend(doc! { "born": *born, "matching": "new" }),
                    Some(_) => fields.extend(not_created()),
                    None => {}
                }
                (fields, arrived.is_none().then_some(ended))
            }
            Row::Gone => (doc! { "state": "deleted", "deleted_at": now }, None),
        };
        let ends = post.ends.iter().map(|end| match end {
            End::Deleted(deleted) => doc! { "lsn": deleted.lsn, "to": null },
            End::Moved(moved) => doc! { "lsn": moved.lsn, "to": moved.to },
        });
        let last = doc! { "partition": partition, "offset": offset, "is_delete": post.last_is_delete };
        Some(Self {
            id: post.trade_post_id,
            lsn: *lsn,
            fields,
            ended,
            ends: ends.collect(),
            arrivals: post.arrivals.clone(),
            last,
        })
    }

    /// The post's document if there is none.
    fn document(&self) -> Document {
        let mut document = doc! { "_id": self.id, "lsn": self.lsn };
        document.extend(self.fields.clone());
        document.insert("ends", self.ends.clone());
        if self.arrivals.len() > 1 {
            document.insert("arrivals", self.arrivals.clone());
        }
        document.insert("last", self.last.clone());
        document
    }
}

/// Lets each post take over the news of its own if they are newer than what is there, and remember its last
/// record.
fn newest_wins(news: &[News]) -> (Vec<i64>, Vec<Document>) {
    let (ids, own) = own(news.iter().map(|news| {
        let News {
            lsn,
            fields,
            ended,
            ends,
            arrivals,
            last,
            ..
        } = news;
        let own = doc! {
            "lsn": *lsn,
            "fields": fields.clone(),
            "ended": *ended,
            "ends": ends.clone(),
            "arrivals": arrivals,
            "last": last.clone(),
        };
        (news.id, own)
    }));
    let newer = doc! { "$gt": ["$own.lsn", { "$ifNull": ["$lsn", -1_i64] }] };
    let taken_over = doc! { "$mergeObjects": [{ "lsn": "$own.lsn" }, "$own.fields"] };
    let lives_on = doc! { "$and": [
        { "$ne": ["$own.ended", Bson::Null] },
        { "$eq": ["$state", "live"] },
        { "$gt": ["$generation", "$own.ended"] },
    ] };
    let arrivals = doc! { "arrivals": { "$setUnion": [{ "$ifNull": ["$arrivals", []] }, "$own.arrivals"] } };
    // A replay does not take the memory of the last record back.
    let replayed = doc! { "$and": [
        { "$eq": ["$last.partition", "$own.last.partition"] },
        { "$gt": ["$last.offset", "$own.last.offset"] },
    ] };
    let taken_over = doc! { "$mergeObjects": [
        "$$ROOT",
        { "$cond": [newer, taken_over, nothing()] },
        { "$cond": [lives_on, { "generation": "$generation" }, nothing()] },
        { "ends": { "$setUnion": [{ "$ifNull": ["$ends", []] }, "$own.ends"] } },
        { "$cond": [{ "$eq": ["$own.arrivals", []] }, nothing(), arrivals] },
        { "last": { "$cond": [replayed, "$last", "$own.last"] } },
    ] };
    (
        ids,
        vec![own, doc! { "$replaceWith": taken_over }, doc! { "$unset": "own" }],
    )
}

/// What tombstones alone do: each ends the row that is there, unless a later record was applied or
/// the record before it was the delete that it belongs to.
fn end_of_row(tombstones: &[(i64, Position)], now: DateTime) -> (Vec<i64>, Vec<Document>) {
    let (ids, own) = own(tombstones.iter().map(|(id, tombstone)| {
        let Position { partition, offset } = *tombstone;
        (
            *id,
            doc! { "partition": partition, "offset": offset, "is_delete": true },
        )
    }));
    let ends = doc! { "$and": [
        { "$eq": ["$state", "live"] },
        { "$ne": ["$last.is_delete", true] },
        { "$or": [
            { "$ne": ["$last.partition", "$own.partition"] },
            { "$lt": ["$last.offset", "$own.offset"] },
        ] },
    ] };
    // With the rooms that have come there from another id with its last record.
    let lsn = doc! { "$add": ["$lsn", APART] };
    let all = doc! { "$concatArrays": [{ "$ifNull": ["$ends", []] }, [{ "lsn": &lsn, "to": null }]] };
    let ended = doc! { "state": "deleted", "lsn": lsn, "deleted_at": now, "ends": all, "last": "$own" };
    let update = doc! { "$mergeObjects": ["$$ROOT", { "$cond": [ends, ended, nothing()] }] };
    (
        ids,
        vec![own, doc! { "$replaceWith": update }, doc! { "$unset": "own" }],
    )
}

/// The posts' ids, and a stage that gives each what is its own. As a literal, no text of a member's is taken
/// for an expression.
fn own(posts: impl Iterator<Item = (i64, Document)>) -> (Vec<i64>, Document) {
    let (ids, own): (Vec<i64>, Vec<Document>) = posts.unzip();
    let place = doc! { "$indexOfArray": [{ "$literal": &ids }, "$_id"] };
    let own = doc! { "$set": { "own": { "$arrayElemAt": [{ "$literal": own }, place] } } };
    (ids, own)
}

/// Nobody is told of a row that has come from another id as of a new post, nor of the one that was there before.
pub(super) fn not_created() -> Document {
    doc! { "born": null, "matching": null, "match_at": null, "match_owner": null }
}

pub(super) fn nothing() -> Document {
    doc! { "$literal": {} }
}
