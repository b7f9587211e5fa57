//! Keeps suspicions that changes were missed.
//!
//! Invariant: a suspicion is durable before the batch that raised it takes effect.

use std::{
    collections::HashSet,
    sync::{MutexGuard, PoisonError},
};

use mongodb::bson::DateTime;
use tracing::warn;

use super::{
    Pipeline,
    change_event::Understood,
    error::Failure,
    hops::{Hops, Lost},
};
use crate::store::gaps::{Gap, GapKind, Offsets};

impl Pipeline {
    /// Keeps it if records were lost between those that were read last and these.
    pub(super) async fn suspect_losses(&self, hops: &Hops, now: DateTime) -> Result<(), Failure> {
        for (hop, lost) in hops.losses().await? {
            // A new system may begin with an old topic; it had nothing to miss.
            if !hop.is_committed && !self.store.knows_post_before(i64::MAX).await? {
                continue;
            }
            let kind = match lost {
                Lost::Expired => GapKind::Expired,
                Lost::Rewound => GapKind::Rewound,
            };
            let offsets = Offsets {
                topic: hop.topic,
                partition: hop.partition,
                expected: hop.expected,
                found: hop.found,
            };
            let gap = Gap::of_offsets(kind, offsets, now);
            if self.store.suspect_gap(&gap).await? {
                tell(&gap);
            }
        }
        Ok(())
    }

    /// Keeps it if the connector has begun anew, with or without a snapshot of the whole table, though changes had
    /// been read before: what was deleted in between is in no record. The first beginning of a system is no gap,
    /// however often it is read: no post is known from before it. Nor is the first transaction of the stream behind a
    /// snapshot, which looks like a beginning without one.
    pub(super) async fn suspect_beginnings(
        &self,
        understood: &[Understood],
        now: DateTime,
    ) -> Result<(), Failure> {
        for beginning in understood.iter().filter_map(|record| record.beginning) {
            let id = Gap::of_beginning(beginning, now).id;
            if self.beginnings().contains(&id) {
                continue;
            }
            if let Some(gap) = self.store.begun(beginning, now).await? {
                tell(&gap);
            }
            self.beginnings().insert(id);
        }
        Ok(())
    }

    fn beginnings(&self) -> MutexGuard<'_, HashSet<String>> {
        self.beginnings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(gap: &Gap) {
    warn!(
        gap.id = gap.id,
        "changes may have been missed, deletes among them; GET /admin/v1/gaps tells where"
    );
}
