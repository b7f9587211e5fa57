//! `sweeps`: when orphans are looked for, who does it, and what came of it. One document.
//!
//! Invariant: one instance sweeps at a time. Whoever does keeps its lease by saying how far it is; one that is
//! silent is followed by another, which begins anew.

use std::time::Duration;

use mongodb::{
    bson::{DateTime, Document, doc, oid::ObjectId},
    error::{Error, Result},
    options::ReturnDocument,
};
use serde::{Deserialize, Serialize};

use super::{Store, is_duplicate_key};

/// How long a sweeper may be silent before another one takes over.
const LEASE: Duration = Duration::from_mins(1);
/// The document.
const SWEEP: &str = "orphans";

/// The sweep under way, or the last one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    #[serde(default)]
    pub owner: Option<ObjectId>,
    /// When the next one begins; while one is under way, when it is taken over.
    #[serde(default)]
    pub due_at: Option<DateTime>,
    /// Whether what it finds is to be set right.
    #[serde(default)]
    pub repair: bool,
    #[serde(default)]
    pub requested_at: Option<DateTime>,
    #[serde(default)]
    pub begun_at: Option<DateTime>,
    /// When the last one ended.
    #[serde(default)]
    pub ended_at: Option<DateTime>,
    #[serde(default, flatten)]
    pub seen: Seen,
}

/// What a sweep has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Rooms looked at.
    #[serde(default)]
    pub rooms: i64,
    #[serde(default)]
    pub found: i64,
    #[serde(default)]
    pub repaired: i64,
    /// Whether it looked everywhere.
    #[serde(default)]
    pub is_complete: bool,
}

/// Somebody else sweeps.
#[derive(Clone, Copy, Debug)]
pub struct LeaseLost;

impl Store {
    /// Lets the first sweep begin at `due_at`, if none was ever planned.
    pub async fn plan_sweep(&self, due_at: DateTime) -> Result<()> {
        let first = doc! { "$setOnInsert": { "due_at": due_at } };
        let planned = self.sweeps.update_one(doc! { "_id": SWEEP }, first).upsert(true);
        match planned.await {
            // Another instance was as fast.
            Err(error) if is_duplicate_key(&error) => Ok(()),
            planned => planned.map(drop),
        }
    }

    /// Has a sweep begin at once, or behind the one that is under way.
    pub async fn request_sweep(&self, repair: bool, now: DateTime) -> Result<Sweep> {
        let mut wanted = doc! { "requested_at": now };
        if repair {
            wanted.insert("repair", true);
        }
        let mut at_once = wanted.clone();
        at_once.insert("due_at", now);
        let nobody = doc! { "_id": SWEEP, "owner": null };
        let asked = self.change_sweep(nobody, doc! { "$set": at_once }, true).await;
        let asked = match asked {
            // One is under way.
            Err(error) if is_duplicate_key(&error) => {
                self.change_sweep(doc! { "_id": SWEEP }, doc! { "$set": wanted }, false)
                    .await?
            }
            asked => asked?,
        };
        asked.ok_or_else(|| Error::custom("the sweep that was asked for is not there"))
    }

    async fn change_sweep(&self, filter: Document, change: Document, upsert: bool) -> Result<Option<Sweep>> {
        self.sweeps
            .find_one_and_update(filter, change)
            .upsert(upsert)
            .return_document(ReturnDocument::After)
            .await
    }

    /// The sweep under way or the last one, if there ever was one.
    pub async fn sweep(&self) -> Result<Option<Sweep>> {
        self.sweeps.find_one(doc! { "_id": SWEEP }).await
    }

    /// Takes the sweep over that is due, if one is. Answers its owner with it.
    pub async fn lease_sweep(&self, now: DateTime) -> Result<Option<(ObjectId, Sweep)>> {
        let owner = ObjectId::new();
        let due = doc! { "_id": SWEEP, "due_at": { "$lte": now } };
        let take = doc! { "$set": {
            "owner": owner,
            "due_at": lease_until(now),
            "begun_at": now,
            "rooms": 0_i64,
            "found": 0_i64,
            "repaired": 0_i64,
            "is_complete": false,
        } };
        let taken = self.change_sweep(due, take, false).await?;
        Ok(taken.map(|sweep| (owner, sweep)))
    }

    /// Keeps the lease and tells how far the sweep is.
    pub async fn keep_sweep(&self, owner: ObjectId, seen: Seen, now: DateTime) -> Result<()> {
        let progress = doc! {
            "due_at": lease_until(now),
            "rooms": seen.rooms,
            "found": seen.found,
            "repaired": seen.repaired,
        };
        let kept = self
            .sweeps
            .update_one(owned(owner), doc! { "$set": progress })
            .await?;
        if kept.matched_count == 1 {
            Ok(())
        } else {
            Err(Error::custom(LeaseLost))
        }
    }

    /// The sweep that began at `begun_at` is over. The next one is due at `next`, or at once if it was asked
    /// for meanwhile.
    pub async fn end_sweep(
        &self,
        owner: ObjectId,
        begun_at: DateTime,
        seen: Seen,
        next: Option<DateTime>,
        now: DateTime,
    ) -> Result<()> {
        let ended = doc! {
            "ended_at": now,
            "owner": null,
            "rooms": seen.rooms,
            "found": seen.found,
            "repaired": seen.repaired,
            "is_complete": seen.is_complete,
        };
        let mut asked_again = owned(owner);
        asked_again.insert("requested_at", doc! { "$gt": begun_at });
        let mut at_once = ended.clone();
        at_once.insert("due_at", now);
        let again = self
            .sweeps
            .update_one(asked_again, doc! { "$set": at_once })
            .await?;
        if again.matched_count == 0 {
            let mut later = ended;
            later.extend(doc! { "due_at": next, "repair": false });
            self.sweeps
                .update_one(owned(owner), doc! { "$set": later })
                .await?;
        }
        Ok(())
    }

    /// Leaves the sweep to others at once.
    pub async fn give_sweep_back(&self, owner: ObjectId, now: DateTime) -> Result<()> {
        let free = doc! { "$set": { "owner": null, "due_at": now } };
        self.sweeps.update_one(owned(owner), free).await.map(drop)
    }
}

fn owned(owner: ObjectId) -> Document {
    doc! { "_id": SWEEP, "owner": owner }
}

fn lease_until(now: DateTime) -> DateTime {
    let lease = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(now.timestamp_millis().saturating_add(lease))
}
