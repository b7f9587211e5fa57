//! `gaps`: where changes, deletes among them, may have been missed.
//!
//! Invariant: a gap is kept before anything behind it takes effect, once, however often it is met again, and is
//! never removed: somebody resolves it.

use std::fmt::Display;

use futures_util::TryStreamExt;
use mongodb::{
    bson::{DateTime, Document, doc, serialize_to_bson},
    error::{Error, Result},
    options::ReturnDocument,
};
use serde::{Deserialize, Serialize};

use super::Store;
use crate::cdc::change_event::Beginning;

/// How changes may have been missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GapKind {
    /// The whole table was read anew in the middle of the stream: a slot or a connector's offsets were lost.
    Snapshot,
    /// The connector began anew with what came next, and no snapshot.
    BegunAnew,
    /// Records were removed from the topic before they were read.
    Expired,
    /// A partition ends before what was read of it: the topic was made anew, or has lost its end.
    Rewound,
}

/// A suspicion that changes were missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// What it is, in short: the same suspicion has the same id.
    #[serde(rename = "_id")]
    pub id: String,
    pub kind: GapKind,
    /// Of a connector that began anew: the place in the write-ahead log. Everything before may have been missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lsn: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets: Option<Offsets>,
    pub first_seen_at: DateTime,
    pub last_seen_at: DateTime,
    #[serde(default)]
    pub resolved_at: Option<DateTime>,
    /// `operator`, or what repaired it.
    #[serde(default)]
    pub resolved_by: Option<String>,
}

/// Where in the topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    pub topic: String,
    pub partition: i32,
    /// Where the group went on.
    pub expected: i64,
    /// Where the next record was.
    pub found: i64,
}

impl Gap {
    pub fn of_beginning(beginning: Beginning, now: DateTime) -> Self {
        let (kind, place) = match beginning {
            Beginning::Snapshot { lsn } => (GapKind::Snapshot, lsn),
            Beginning::Stream { committed_ms, .. } => (GapKind::BegunAnew, committed_ms),
        };
        Self::new(kind, place, now).with(|gap| gap.lsn = Some(beginning.lsn()))
    }

    pub fn of_offsets(kind: GapKind, offsets: Offsets, now: DateTime) -> Self {
        let Offsets {
            topic,
            partition,
            expected,
            ..
        } = &offsets;
        let place = format!("{topic}-{partition}@{expected}");
        Self::new(kind, place, now).with(|gap| gap.offsets = Some(offsets))
    }

    fn new(kind: GapKind, place: impl Display, now: DateTime) -> Self {
        let name = match kind {
            GapKind::Snapshot => "snapshot",
            GapKind::BegunAnew => "begun_anew",
            GapKind::Expired => "expired",
            GapKind::Rewound => "rewound",
        };
        Self {
            id: format!("{name}@{place}"),
            kind,
            lsn: None,
            offsets: None,
            first_seen_at: now,
            last_seen_at: now,
            resolved_at: None,
            resolved_by: None,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Store {
    /// Keeps a suspicion. Answers whether it is a new one.
    pub async fn suspect_gap(&self, gap: &Gap) -> Result<bool> {
        let mut set_on_insert = doc! {
            "kind": serialize_to_bson(&gap.kind).map_err(Error::custom)?,
            "first_seen_at": gap.first_seen_at,
            "resolved_at": null,
        };
        if let Some(lsn) = gap.lsn {
            set_on_insert.insert("lsn", lsn);
        }
        if let Some(offsets) = &gap.offsets {
            set_on_insert.insert("offsets", serialize_to_bson(offsets).map_err(Error::custom)?);
        }
        let seen = doc! { "$setOnInsert": set_on_insert, "$max": { "last_seen_at": gap.last_seen_at } };
        let kept = self
            .gaps
            .update_one(doc! { "_id": &gap.id }, seen)
            .upsert(true)
            .await?;
        Ok(kept.upserted_id.is_some())
    }

    /// Whether a post, or the fence of one, is known from before `lsn`.
    pub async fn knows_post_before(&self, lsn: i64) -> Result<bool> {
        let before = self.posts.find_one(doc! { "lsn": { "$lt": lsn } }).await?;
        Ok(before.is_some())
    }

    /// Gaps, newest first: those that somebody has resolved, or nobody, or all.
    pub async fn gaps(&self, resolved: Option<bool>, limit: i64) -> Result<Vec<Gap>> {
        let filter = match resolved {
            None => Document::new(),
            Some(true) => doc! { "resolved_at": { "$ne": null } },
            Some(false) => unresolved(),
        };
        self.gaps
            .find(filter)
            .sort(doc! { "first_seen_at": -1, "_id": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    pub async fn count_gaps(&self) -> Result<u64> {
        self.gaps.count_documents(unresolved()).await
    }

    /// Resolves one, and answers it; who resolved it first stays. `None` if there is no such gap.
    pub async fn resolve_gap(&self, id: &str, by: &str, now: DateTime) -> Result<Option<Gap>> {
        let mut this = unresolved();
        this.insert("_id", id);
        let resolved = self
            .gaps
            .find_one_and_update(this, resolve(by, now))
            .return_document(ReturnDocument::After)
            .await?;
        match resolved {
            Some(gap) => Ok(Some(gap)),
            None => self.gaps.find_one(doc! { "_id": id }).await,
        }
    }

    /// Resolves what was seen last before `before`, when a repair that `by` names began, and shows nothing that
    /// such a repair has not seen: no beginning at a place in the log behind `lsn`. Answers how many that were.
    pub async fn resolve_gaps_before(
        &self,
        before: DateTime,
        lsn: Option<i64>,
        by: &str,
        now: DateTime,
    ) -> Result<u64> {
        let mut earlier = unresolved();
        earlier.insert("last_seen_at", doc! { "$lt": before });
        if let Some(lsn) = lsn {
            earlier.insert("lsn", doc! { "$not": { "$gt": lsn } });
        }
        let resolved = self.gaps.update_many(earlier, resolve(by, now)).await?;
        Ok(resolved.modified_count)
    }
}

fn unresolved() -> Document {
    doc! { "resolved_at": null }
}

fn resolve(by: &str, now: DateTime) -> Document {
    doc! { "$set": { "resolved_at": now, "resolved_by": by } }
}
