//! Erases everything of members whose erasure was requested: out of their rooms first, then what they said
//! there, then what they were told, and their blocks and inbox last.
//!
//! Invariant: every step may be repeated and none is skipped, so a worker that dies at any point leaves an
//! erasure that another one leases and finishes. Memory does not depend on how much there is to erase.

use std::time::Duration;

use mongodb::error::Result;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    metrics::ChatMetrics,
    store::{
        Store,
        erasures::{Lease, LeaseLost, LeftRoom},
        now,
    },
};

/// Rooms that one transaction takes a member out of, and that are looked up at once.
const ROOMS: i64 = 200;
/// How often it looks for erasures that are due.
const POLL: Duration = Duration::from_secs(1);

/// Erases until `shutdown`.
#[derive(Debug)]
pub struct MemberEraser {
    pub store: Store,
    /// Most messages or notifications that one command erases.
    pub chunk: i64,
    pub metrics: ChatMetrics,
}

impl MemberEraser {
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        while !shutdown.is_cancelled() {
            match self.erase_due(&shutdown).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) if error.get_custom::<LeaseLost>().is_some() => {
                    debug!("a member who was being erased belongs to another worker now");
                }
                Err(error) => warn!(%error, "erasing a member was interrupted, going on later"),
            }
            shutdown.run_until_cancelled(tokio::time::sleep(POLL)).await;
        }
        Ok(())
    }

    /// Erases a member who is to be erased. Answers whether there was one.
    async fn erase_due(&self, shutdown: &CancellationToken) -> Result<bool> {
        let Some(lease) = self.store.lease_erasure(now()).await? else {
            return Ok(false);
        };
        while self.store.take_out(lease, ROOMS).await? {}
        loop {
            let rooms = self.store.rooms_to_erase(lease.member, ROOMS).await?;
            if rooms.is_empty() {
                break;
            }
            for room in rooms {
                if !self.erase_room(lease, room, shutdown).await? {
                    return Ok(false);
                }
            }
        }
        while self.store.erase_notifications(lease, self.chunk).await? {}
        self.store.finish_erasure(lease, now()).await?;
        info!(member.id = lease.member, "erased a member");
        Ok(true)
    }

    /// Answers whether it was done before the shutdown. Who leases it next does it again.
    async fn erase_room(&self, lease: Lease, room: LeftRoom, shutdown: &CancellationToken) -> Result<bool> {
        let mut from = 1;
        while from < room.next_seq {
            if shutdown.is_cancelled() {
                return Ok(false);
            }
            let to = (from + self.chunk).min(room.next_seq);
            let erased = self.store.erase_said(lease, room, from, to).await?;
            self.metrics.messages_erased(erased);
            from = to;
        }
        self.store.leave_erased(lease, room).await?;
        Ok(true)
    }
}
