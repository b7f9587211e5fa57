//! `deletions`: one document per deleted post that had rooms, from closed to erased.
//!
//! Invariant: a deletion is written in the transaction that closes its rooms and tells their
//! members (`closing`), and becomes `done` only when no room closed by it and no message of such a
//! room is left (`leases`).

use futures_util::TryStreamExt;
use mongodb::{
    bson::{DateTime, Document, doc, oid::ObjectId, serialize_to_bson},
    error::{Error, Result},
};
use serde::{Deserialize, Serialize};

use super::Store;
use crate::room::DeletionId;

/// A deletion as it is stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deletion {
    #[serde(rename = "_id")]
    pub id: DeletionId,
    pub trade_post_id: i64,
    pub state: DeletionState,
    /// Rooms closed, and messages in them: what there is to erase.
    pub rooms: i64,
    pub messages: i64,
    /// Rooms that are gone, and the messages that were in them.
    #[serde(default)]
    pub erased: Erased,
    /// How far the erasing of a room with many messages has come.
    #[serde(default)]
    pub under_way: Option<UnderWay>,
    /// When PostgreSQL committed the delete, and when Debezium read it; unknown for a tombstone.
    pub committed_at: Option<DateTime>,
    pub captured_at: Option<DateTime>,
    pub received_at: DateTime,
    pub closed_at: DateTime,
    /// Not before this time may the eraser begin.
    pub erase_at: DateTime,
    /// When it did begin, and when all was gone.
    #[serde(default)]
    pub begun_at: Option<DateTime>,
    #[serde(default)]
    pub done_at: Option<DateTime>,
    /// None once it is done.
    #[serde(default)]
    pub lease: Option<Lease>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeletionState {
    Pending,
    Erasing,
    Done,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Erased {
    pub rooms: i64,
    pub messages: i64,
}

/// The messages of `room_id` up to this sequence are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderWay {
    pub room_id: ObjectId,
    pub up_to: i64,
}

/// Until when nobody but the owner may erase. Without an owner: nobody at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub owner: Option<ObjectId>,
    pub until: DateTime,
}

impl Deletion {
    /// Messages erased so far, with those of a room that is only erased in part.
    pub fn messages_erased(&self) -> i64 {
        self.erased.messages + self.under_way.map_or(0, |room| room.up_to)
    }
}

impl Store {
    /// Deletions, newest first, of one post or in one state or all.
    pub async fn deletions(
        &self,
        post: Option<i64>,
        state: Option<DeletionState>,
        limit: i64,
    ) -> Result<Vec<Deletion>> {
        let mut filter = Document::new();
        if let Some(post) = post {
            filter.insert("trade_post_id", post);
        }
        if let Some(state) = state {
            filter.insert("state", serialize_to_bson(&state).map_err(Error::custom)?);
        }
        self.deletions
            .find(filter)
            .sort(doc! { "closed_at": -1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }
}
