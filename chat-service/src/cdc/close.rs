//! Carries out a plan: fence, close, tell. Everything here may be repeated to no further effect.
//!
//! Invariant: the projection is fenced before the rooms of a post are looked up, so no room can be
//! opened that the look-up does not see.

use std::time::Duration;

use mongodb::{bson::DateTime, error::Result};

use super::plan::{Deleted, Plan};
use crate::{
    room::DeletionId,
    store::{Store, deletions::Closing, now},
};

/// Carries out `plan` and answers how many rooms were closed.
pub async fn carry_out(
    store: &Store,
    plan: &Plan,
    received_at: DateTime,
    erase_after: Duration,
) -> Result<usize> {
    store.project(&plan.posts, now()).await?;
    let mut closings: Vec<Closing> = plan
        .posts
        .iter()
        .filter_map(|post| {
            Some(closing(
                post.trade_post_id,
                post.deleted?,
                received_at,
                erase_after,
            ))
        })
        .collect();
    let tombstones: Vec<i64> = plan
        .posts
        .iter()
        .filter(|post| post.bare_tombstone.is_some())
        .map(|post| post.trade_post_id)
        .collect();
    if !tombstones.is_empty() {
        closings.extend(store.fenced(&tombstones).await?.into_iter().map(|post| {
            closing(
                post.id,
                Deleted {
                    lsn: post.lsn,
                    times: None,
                },
                received_at,
                erase_after,
            )
        }));
    }
    if closings.is_empty() {
        return Ok(0);
    }
    store.close(&closings, now).await
}

fn closing(post: i64, deleted: Deleted, received_at: DateTime, erase_after: Duration) -> Closing {
    let erase_after = i64::try_from(erase_after.as_millis()).unwrap_or(i64::MAX);
    Closing {
        id: DeletionId {
            post,
            lsn: deleted.lsn,
        },
        committed_at: deleted
            .times
            .map(|times| DateTime::from_millis(times.committed_ms)),
        captured_at: deleted
            .times
            .map(|times| DateTime::from_millis(times.captured_ms)),
        received_at,
        erase_at: DateTime::from_millis(received_at.timestamp_millis().saturating_add(erase_after)),
    }
}
