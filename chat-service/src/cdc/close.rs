//! Carries out what was planned: fence, close, tell. Everything here may be repeated to no further effect.
//!
//! Invariant: the projection is fenced before the rooms of a post are looked up, so no room can be
//! opened that the look-up does not see.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use mongodb::{
    bson::{DateTime, doc},
    error::Result,
};

use super::{
    change_event::CaptureTimes,
    plan::{Deleted, End, Move, NewState, PostPlan, Row, Step},
};
use crate::{
    room::{DeletionId, RoomKey},
    store::{Store, closing::Closing, now, posts},
};

/// What was done.
#[derive(Clone, Copy, Debug)]
pub struct Closed {
    /// Rooms that were closed.
    pub rooms: usize,
    /// How long it took until the posts were fenced.
    pub fenced_in: Duration,
    /// Whether there are new posts to be matched with keywords.
    pub to_match: bool,
}

/// Carries out `step`.
pub async fn carry_out(
    store: &Store,
    step: &Step,
    received_at: DateTime,
    erase_after: Duration,
) -> Result<Closed> {
    let effect = Effect {
        store,
        received_at,
        erase_after,
    };
    match step {
        Step::Posts(posts) => effect.posts(posts).await,
        Step::Truncate { lsn, times } => effect.truncate(*lsn, *times).await,
    }
}

/// Closes what is left of the open rooms of a post that are of `generation` or older, or lets them go along:
/// what the end of their row should have done, or, where the post is not known any more, its deletion.
/// Answers how many were closed.
pub async fn end_again(store: &Store, post: i64, generation: i64, erase_after: Duration) -> Result<usize> {
    let effect = Effect {
        store,
        received_at: now(),
        erase_after,
    };
    let known = store.post(post).await?;
    let deleted = |lsn| End::Deleted(Deleted { lsn, times: None });
    let end = match known {
        Some(known) => match (known.own_end_of(generation), known.next_arrival(generation)) {
            (Some(posts::End { lsn, to: Some(to) }), _) => End::Moved(Move { lsn, to }),
            (Some(posts::End { lsn, to: None }), _) => deleted(lsn),
            // Nobody has told how it went, and it has: another row is there.
            (None, Some(next)) => deleted(next - 1),
            // The row lives.
            (None, None) => return Ok(0),
        },
        None => deleted(generation),
    };
    effect.end(post, end).await
}

struct Effect<'a> {
    store: &'a Store,
    received_at: DateTime,
    erase_after: Duration,
}

impl Effect<'_> {
    async fn posts(&self, posts: &[PostPlan]) -> Result<Closed> {
        let begun = Instant::now();
        let known = self.store.project(posts, now()).await?;
        let fenced_in = begun.elapsed();
        let mut deleted: HashMap<i64, Deleted> = posts
            .iter()
            .filter_map(|post| Some((post.trade_post_id, post.deleted()?)))
            .collect();
        deleted.extend(self.ended_by_tombstones(posts).await?);
        deleted.extend(self.overtaken_by_truncate(posts).await?);
        let mut rooms = self.close(&deleted).await?;
        for post in posts.iter().filter(|post| post.has_moved()) {
            for end in &post.ends {
                rooms += self.end(post.trade_post_id, *end).await?;
            }
        }
        self.store.tell_changes(posts, &known).await?;
        Ok(Closed {
            rooms,
            fenced_in,
            to_match: self.store.have_matched(posts, now()).await?,
        })
    }

    /// Tombstones without a delete that the projection let pass.
    async fn ended_by_tombstones(&self, posts: &[PostPlan]) -> Result<Vec<(i64, Deleted)>> {
        let tombstones = posts.iter().filter(|post| post.bare_tombstone.is_some());
        let tombstones: Vec<i64> = tombstones.map(|post| post.trade_post_id).collect();
        if tombstones.is_empty() {
            return Ok(Vec::new());
        }
        let fenced = self.store.fenced(&tombstones).await?;
        // A row that has got another id is none that was deleted: its rooms go along.
        let deleted = fenced
            .into_iter()
            .filter(|post| post.end_of(post.lsn).is_none_or(|end| end.to.is_none()));
        Ok(deleted
            .map(|post| {
                (
                    post.id,
                    Deleted {
                        lsn: post.lsn,
                        times: None,
                    },
                )
            })
            .collect())
    }

    /// Rows that a truncate, read from another partition before, had removed already.
    async fn overtaken_by_truncate(&self, posts: &[PostPlan]) -> Result<Vec<(i64, Deleted)>> {
        let living: Vec<(i64, i64)> = posts
            .iter()
            .filter_map(|post| match &post.state {
                Some(NewState {
                    lsn,
                    row: Row::Lives { .. },
                }) => Some((post.trade_post_id, *lsn)),
                _ => None,
            })
            .collect();
        if living.is_empty() {
            return Ok(Vec::new());
        }
        let Some(truncate) = self.store.truncated_at().await? else {
            return Ok(Vec::new());
        };
        let deleted = Deleted {
            lsn: truncate,
            times: None,
        };
        let overtaken: Vec<(i64, Deleted)> = living
            .into_iter()
            .filter(|(_, lsn)| *lsn < truncate)
            .map(|(id, _)| (id, deleted))
            .collect();
        if !overtaken.is_empty() {
            self.store.truncate(truncate, now()).await?;
        }
        Ok(overtaken)
    }

    /// Closes the rooms of a row that has left its id, or lets them go along. Answers how many were closed.
    async fn end(&self, id: i64, end: End) -> Result<usize> {
        let deleted = match end {
            End::Deleted(deleted) => deleted,
            End::Moved(moved) if self.store.move_rooms(id, moved).await? => return Ok(0),
            // Deleted where it went.
            End::Moved(moved) => Deleted {
                lsn: moved.lsn,
                times: None,
            },
        };
        self.close(&HashMap::from([(id, deleted)])).await
    }

    async fn truncate(&self, lsn: i64, times: CaptureTimes) -> Result<Closed> {
        let begun = Instant::now();
        self.store.truncate(lsn, now()).await?;
        let fenced_in = begun.elapsed();
        let deleted = Deleted {
            lsn,
            times: Some(times),
        };
        let older = doc! { "generation": { "$lt": lsn } };
        let closing_of = |room: &RoomKey| Some(self.closing(room.trade_post_id, deleted));
        let rooms = self.store.close(older, &closing_of).await?;
        Ok(Closed {
            rooms,
            fenced_in,
            to_match: false,
        })
    }

    async fn close(&self, deleted: &HashMap<i64, Deleted>) -> Result<usize> {
        if deleted.is_empty() {
            return Ok(0);
        }
        let posts: Vec<i64> = deleted.keys().copied().collect();
        let closing_of = |room: &RoomKey| {
            let deleted = deleted.get(&room.trade_post_id)?;
            (room.generation <= deleted.lsn).then(|| self.closing(room.trade_post_id, *deleted))
        };
        self.store
            .close(doc! { "trade_post_id": { "$in": posts } }, &closing_of)
            .await
    }

    fn closing(&self, post: i64, deleted: Deleted) -> Closing {
        let erase_after = i64::try_from(self.erase_after.as_millis()).unwrap_or(i64::MAX);
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
            received_at: self.received_at,
            erase_at: DateTime::from_millis(self.received_at.timestamp_millis().saturating_add(erase_after)),
        }
    }
}
