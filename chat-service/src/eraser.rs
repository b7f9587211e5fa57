//! Removes what deletions left to erase: messages first, rooms after them, the deletion last.
//!
//! Work is done in turns: a lease on what is due, so much of it as one turn may erase, and the rest back to the
//! end of the queue. So a room of a million messages does not keep small ones waiting, and any number of
//! instances share the work.
//!
//! Invariant: every step may be repeated and none is skipped, so a worker that dies at any point
//! leaves a deletion that another one leases and finishes. A room goes only after its messages. Memory
//! does not depend on how much there is to erase.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use mongodb::error::Result;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::{
    pace::Pace,
    steps::{Step, steps},
};
use crate::{
    metrics::ChatMetrics,
    store::{
        Store,
        deletions::UnderWay,
        leases::{LeaseLost, Leased},
        now,
    },
};

pub mod pace;
mod steps;

/// How long a worker may be silent before another one takes over. A turn takes a fraction of it.
const LEASE: Duration = Duration::from_secs(30);
/// How often it looks for deletions that nobody announced: delayed ones and those of dead workers.
const POLL: Duration = Duration::from_secs(1);
/// Chunks that a turn erases before it makes room for other deletions.
const CHUNKS_PER_TURN: i64 = 8;
/// Rooms looked up at once.
const PAGE: i64 = 1000;

/// Erases until `shutdown`.
#[derive(Debug)]
pub struct Eraser {
    pub store: Store,
    /// Most documents that one command removes.
    pub chunk: i64,
    /// Most documents to remove in a second.
    pub rate: Option<NonZeroU32>,
    pub closed: Arc<Notify>,
    pub metrics: ChatMetrics,
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There was nothing to do.
    Idle,
    /// What was leased is erased.
    Done { deletions: usize },
    /// There is more to do, for this worker or another one.
    Unfinished,
}

impl Eraser {
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut pace = Pace::new(self.rate, Instant::now());
        let mut held = None;
        while !shutdown.is_cancelled() {
            match self.turn(&mut held, &mut pace, &shutdown).await {
                Ok(Turn::Unfinished) => continue,
                Ok(Turn::Done { deletions }) => {
                    info!("erased the chats of {deletions} deleted posts");
                    continue;
                }
                Ok(Turn::Idle) => {}
                Err(error) if error.get_custom::<LeaseLost>().is_some() => {
                    debug!("a deletion that was being erased belongs to another worker now");
                    continue;
                }
                Err(error) => warn!(%error, "erasing was interrupted, going on later"),
            }
            tokio::select! {
                () = self.closed.notified() => {}
                () = sleep(POLL) => {}
                () = shutdown.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Leases what is due and erases as much of it as a turn may. What an earlier turn could not go on with is
    /// `held`, and given back first: MongoDB may be back long before the lease runs out.
    async fn turn(
        &self,
        held: &mut Option<Leased>,
        pace: &mut Pace,
        shutdown: &CancellationToken,
    ) -> Result<Turn> {
        if let Some(leased) = held {
            self.store.give_back(leased, now()).await?;
            *held = None;
        }
        let (_, quota) = limits(self.chunk, self.rate);
        let Some(leased) = self.store.lease(now(), LEASE, quota).await? else {
            return Ok(Turn::Idle);
        };
        if leased.deletions.is_empty() {
            return Ok(Turn::Unfinished);
        }
        let leased = held.insert(leased);
        let turn = self.work(leased, pace, shutdown).await?;
        *held = None;
        Ok(turn)
    }

    async fn work(&self, leased: &mut Leased, pace: &mut Pace, shutdown: &CancellationToken) -> Result<Turn> {
        let (chunk, mut quota) = limits(self.chunk, self.rate);
        loop {
            let rooms = self.store.rooms_left(leased, PAGE).await?;
            if rooms.is_empty() {
                self.store.finish(leased, now()).await?;
                return Ok(Turn::Done {
                    deletions: leased.deletions.len(),
                });
            }
            for step in steps(&rooms, &leased.under_way, chunk, quota) {
                if shutdown
                    .run_until_cancelled(sleep_until(pace.next()))
                    .await
                    .is_none()
                {
                    quota = 0;
                    break;
                }
                let begun = Instant::now();
                self.erase(&step, leased).await?;
                pace.used(step.documents(), begun);
                quota -= step.documents();
            }
            if quota <= 0 {
                self.store.give_back(leased, now()).await?;
                return Ok(Turn::Unfinished);
            }
        }
    }

    async fn erase(&self, step: &Step, leased: &mut Leased) -> Result<()> {
        match step {
            Step::Part {
                deletion,
                room,
                from,
                to,
            } => {
                let erased = self.store.erase_range(*room, *from, *to).await?;
                self.metrics.messages_erased(erased);
                let under_way = UnderWay {
                    room_id: *room,
                    up_to: to - 1,
                };
                self.store.came_to(leased, *deletion, under_way).await
            }
            Step::Whole(whole) => {
                if !whole.with_messages.is_empty() {
                    let erased = self.store.erase_messages(&whole.with_messages).await?;
                    self.metrics.messages_erased(erased);
                }
                self.store.erase_rooms(leased, &whole.rooms).await
            }
        }
    }
}

/// Most documents of a step and of a turn. Neither takes longer than about a second of the rate.
fn limits(chunk: i64, rate: Option<NonZeroU32>) -> (i64, i64) {
    let rate = rate.map_or(i64::MAX, |rate| rate.get().into());
    (chunk.min(rate), (CHUNKS_PER_TURN * chunk).min(rate))
}
