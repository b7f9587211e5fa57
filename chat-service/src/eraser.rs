//! Removes what deletions left to erase: messages first, rooms after them, the deletion last.
//!
//! Invariant: every step may be repeated and none is skipped, so a worker that dies at any point
//! leaves a deletion that another one leases and finishes. A room goes only after its messages.

use std::{sync::Arc, time::Duration};

use mongodb::{
    bson::{doc, oid::ObjectId},
    error::Result,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    metrics::ChatMetrics,
    room::{DeletionId, Room},
    store::{Store, now},
};

/// Deletions leased at once.
const BATCH: i64 = 200;
/// How long a worker may be silent before another one takes over.
const LEASE: Duration = Duration::from_secs(30);
/// How often it looks for deletions that nobody announced: delayed ones and those of dead workers.
const POLL: Duration = Duration::from_secs(1);

/// Erases until `shutdown`.
#[derive(Debug)]
pub struct Eraser {
    pub store: Store,
    /// Most messages that one command removes.
    pub chunk: i64,
    pub closed: Arc<Notify>,
    pub metrics: ChatMetrics,
}

impl Eraser {
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        while !shutdown.is_cancelled() {
            let worked = match self.erase_due(&shutdown).await {
                Ok(worked) => worked,
                Err(error) => {
                    warn!(%error, "erasing was interrupted, going on later");
                    false
                }
            };
            if !worked {
                tokio::select! {
                    () = self.closed.notified() => {}
                    () = tokio::time::sleep(POLL) => {}
                    () = shutdown.cancelled() => {}
                }
            }
        }
        Ok(())
    }

    /// Leases what is due and erases it. Answers whether there was anything.
    async fn erase_due(&self, shutdown: &CancellationToken) -> Result<bool> {
        let owner = ObjectId::new();
        let leased = self.store.lease_deletions(owner, now(), LEASE, BATCH).await?;
        if leased.is_empty() {
            return Ok(false);
        }
        let deletions: Vec<DeletionId> = leased.iter().map(|deletion| deletion.id).collect();
        let rooms = self.store.rooms_closed_by(&deletions).await?;
        for step in steps(&rooms, self.chunk) {
            // What is left is leased again after the restart.
            if shutdown.is_cancelled() || !self.store.renew_lease(owner, &deletions, now(), LEASE).await? {
                return Ok(true);
            }
            self.metrics
                .messages_erased(self.store.erase_messages(&step).await?);
        }
        self.store.erase_rooms(&rooms).await?;
        self.store.finish_deletions(owner, &deletions, now()).await?;
        info!(
            deletions = deletions.len(),
            rooms = rooms.len(),
            "erased the chats of {} deleted posts",
            deletions.len()
        );
        Ok(true)
    }
}

/// Messages that one command removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// All messages of small rooms.
    Rooms(Vec<ObjectId>),
    /// The messages of one room with sequences from `from` to before `to`.
    Range { room: ObjectId, from: i64, to: i64 },
}

/// Splits the messages of `rooms` into steps of at most `chunk` messages. The rooms are closed, so
/// what they hold is known by their sequence.
fn steps(rooms: &[Room], chunk: i64) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut small = Vec::new();
    let mut held = 0;
    for room in rooms {
        let messages = room.next_seq - 1;
        if messages > chunk {
            let mut from = 1;
            while from < room.next_seq {
                let to = (from + chunk).min(room.next_seq);
                steps.push(Step::Range {
                    room: room.id,
                    from,
                    to,
                });
                from = to;
            }
        } else if messages > 0 {
            if held + messages > chunk {
                steps.push(Step::Rooms(std::mem::take(&mut small)));
                held = 0;
            }
            small.push(room.id);
            held += messages;
        }
    }
    if !small.is_empty() {
        steps.push(Step::Rooms(small));
    }
    steps
}

impl Store {
    async fn erase_messages(&self, step: &Step) -> Result<u64> {
        let filter = match step {
            Step::Rooms(rooms) => doc! { "room_id": { "$in": rooms } },
            Step::Range { room, from, to } => doc! { "room_id": room, "seq": { "$gte": from, "$lt": to } },
        };
        Ok(self.messages.delete_many(filter).await?.deleted_count)
    }

    async fn erase_rooms(&self, rooms: &[Room]) -> Result<()> {
        let ids: Vec<ObjectId> = rooms.iter().map(|room| room.id).collect();
        self.rooms
            .delete_many(doc! { "_id": { "$in": ids } })
            .await
            .map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        room::{MemberState, RoomState},
        trade_post::Look,
    };
    use mongodb::bson::DateTime;
    use proptest::prelude::*;

    fn room(messages: i64) -> Room {
        let now = DateTime::from_millis(0);
        Room {
            id: ObjectId::new(),
            trade_post_id: 1,
            generation: 1,
            seller_id: 1,
            buyer_id: 2,
            members: vec![1, 2],
            erasing: Vec::new(),
            blocked_by: Vec::new(),
            state: RoomState::Closed,
            closed_by: None,
            listed_for: vec![1, 2],
            seller: MemberState::default(),
            buyer: MemberState::default(),
            told: Look {
                lsn: 1,
                title: "자전거".into(),
                status: "on_sale".into(),
            },
            next_seq: messages + 1,
            last_message: None,
            created_at: now,
            last_activity_at: now,
        }
    }

    proptest! {
        #[test]
        fn every_message_is_in_exactly_one_step_of_bounded_size(
            sizes in prop::collection::vec(0i64..50, 0..20),
            chunk in 1i64..20,
        ) {
            let rooms: Vec<Room> = sizes.iter().map(|size| room(*size)).collect();
            let size = |id: &ObjectId| rooms.iter().find(|room| room.id == *id).unwrap().next_seq - 1;
            let mut erased = std::collections::HashMap::new();
            for step in steps(&rooms, chunk) {
                let ranges: Vec<_> = match step {
                    Step::Rooms(ids) => ids.into_iter().map(|id| { let to = size(&id) + 1; (id, 1, to) }).collect(),
                    Step::Range { room, from, to } => vec![(room, from, to)],
                };
                let held: i64 = ranges.iter().map(|(_, from, to)| to - from).sum();
                prop_assert!((1..=chunk).contains(&held));
                for (id, from, to) in ranges {
                    let next = erased.entry(id).or_insert(1);
                    prop_assert_eq!(*next, from);
                    *next = to;
                }
            }
            for room in &rooms {
                prop_assert_eq!(erased.get(&room.id).copied().unwrap_or(1), room.next_seq);
            }
        }
    }
}
