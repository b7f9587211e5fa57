//! `snapshots`: the snapshots of all tables that the connector has begun with, and which stream came behind each.
//!
//! Invariant: one stream belongs to a snapshot, whichever claims it first. A second one has begun anew.

use mongodb::{
    bson::{DateTime, doc},
    error::Result,
};
use serde::{Deserialize, Serialize};

use super::{Store, gaps::Gap};
use crate::cdc::change_event::Beginning;

/// A snapshot that was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// That of the gap which it is or would be.
    #[serde(rename = "_id")]
    pub id: String,
    /// Its place in the write-ahead log.
    pub lsn: i64,
    /// The same of the transaction that the stream behind it begins with.
    #[serde(default)]
    pub stream: Option<String>,
}

impl Store {
    /// Takes in what a connector has begun with, however often. Answers the gap that it is, if it is one and was not
    /// known: posts are known from before, and it is not the stream behind a snapshot.
    pub async fn begun(&self, beginning: Beginning, now: DateTime) -> Result<Option<Gap>> {
        let gap = Gap::of_beginning(beginning, now);
        let lsn = beginning.lsn();
        let is_stream = match beginning {
            Beginning::Snapshot { .. } => {
                self.keep_snapshot(&gap, lsn, now).await?;
                false
            }
            Beginning::Stream { .. } => self.is_behind_snapshot(&gap.id, lsn).await?,
        };
        let is_gap = !is_stream && self.knows_post_before(lsn).await?;
        Ok((is_gap && self.suspect_gap(&gap).await?).then_some(gap))
    }

    /// Partitions are not read in the order of the log: a stream that was met before its snapshot passed for one
    /// without, and is none.
    async fn keep_snapshot(&self, gap: &Gap, lsn: i64, now: DateTime) -> Result<()> {
        let snapshot = Snapshot {
            id: gap.id.clone(),
            lsn,
            stream: None,
        };
        let new = doc! { "$setOnInsert": { "lsn": lsn, "stream": null } };
        self.snapshots
            .update_one(doc! { "_id": &snapshot.id }, new)
            .upsert(true)
            .await?;
        let behind = doc! { "kind": "begun_anew", "lsn": { "$gt": lsn } };
        let behind = self.gaps.find_one(behind).sort(doc! { "lsn": 1 }).await?;
        if let Some(Gap {
            id, lsn: Some(place), ..
        }) = behind
            && self.claim(&snapshot, &id, place).await?
        {
            self.resolve_gap(&id, &snapshot.id, now).await?;
        }
        Ok(())
    }

    async fn is_behind_snapshot(&self, stream: &str, lsn: i64) -> Result<bool> {
        let before = doc! { "lsn": { "$lt": lsn } };
        let before = self.snapshots.find_one(before).sort(doc! { "lsn": -1 }).await?;
        match before {
            Some(snapshot) => self.claim(&snapshot, stream, lsn).await,
            None => Ok(false),
        }
    }

    /// Whether the stream that begins with this transaction is the one behind the snapshot. A post that is known from
    /// between was told by an earlier one, whose first transaction was none that is captured.
    async fn claim(&self, snapshot: &Snapshot, stream: &str, lsn: i64) -> Result<bool> {
        if snapshot.stream.as_deref() == Some(stream) {
            return Ok(true);
        }
        let between = doc! { "lsn": { "$gt": snapshot.lsn, "$lt": lsn } };
        if self.posts.find_one(between).await?.is_some() {
            return Ok(false);
        }
        let free = doc! { "_id": &snapshot.id, "stream": { "$in": [null, stream] } };
        let claimed = self
            .snapshots
            .update_one(free, doc! { "$set": { "stream": stream } })
            .await?;
        Ok(claimed.matched_count > 0)
    }
}
