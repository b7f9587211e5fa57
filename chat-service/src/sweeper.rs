//! Looks for orphans now and then, and sets them right where an operator asked for it.
//!
//! Invariant: nothing counts as an orphan that was not one at two looks, with a time in between in which work
//! under way is done. Memory and the load on MongoDB do not depend on how many rooms there are: they are read
//! by their ids, in chunks, at a pace.

use std::{sync::Arc, time::Duration};

use mongodb::{
    bson::{DateTime, oid::ObjectId},
    error::Result,
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{
    cdc::{Pipeline, close::end_again},
    config::SweepConfig,
    eraser::pace::Pace,
    orphan::OrphanKind,
    store::{
        Store, now,
        orphans::Suspect,
        sweeps::{LeaseLost, Seen, Sweep},
    },
};

/// Rooms that are looked at together.
const CHUNK: i64 = 200;
/// Most suspects of a sweep. Where there are more it ends early, and says so.
const MOST: usize = 1000;
/// Messages that one command erases.
const ERASED_AT_ONCE: i64 = 1000;
/// How often it looks for a sweep that is due.
const POLL: Duration = Duration::from_secs(1);
/// How often the lease is kept where nothing else is done.
const KEEP: Duration = Duration::from_secs(10);

/// Sweeps until `shutdown`.
#[derive(Debug)]
pub struct Sweeper {
    pub pipeline: Arc<Pipeline>,
    pub config: SweepConfig,
}

impl Sweeper {
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let mut planned = self.config.orphan_sweep_every.is_zero();
        while !shutdown.is_cancelled() {
            if let Err(error) = self.turn(&mut planned, &shutdown).await {
                if error.get_custom::<LeaseLost>().is_some() {
                    debug!("another instance looks for orphans now");
                } else {
                    warn!(%error, "looking for orphans was interrupted, beginning anew later");
                }
            }
            shutdown.run_until_cancelled(sleep(POLL)).await;
        }
        Ok(())
    }

    async fn turn(&self, planned: &mut bool, shutdown: &CancellationToken) -> Result<()> {
        if !*planned {
            self.store()
                .plan_sweep(later(now(), self.config.orphan_sweep_every))
                .await?;
            *planned = true;
        }
        let Some((owner, sweep)) = self.store().lease_sweep(now()).await? else {
            return Ok(());
        };
        let run = Run {
            sweeper: self,
            owner,
            begun_at: sweep.begun_at.unwrap_or_else(now),
            pace: Pace::new(Some(self.config.orphan_sweep_rate), Instant::now()),
            seen: Seen::default(),
        };
        // Whatever it is at may be left undone: the next sweep begins anew.
        match shutdown.run_until_cancelled(run.sweep(&sweep)).await {
            Some(swept) => swept,
            None => self.store().give_sweep_back(owner, now()).await,
        }
    }

    fn store(&self) -> &Store {
        &self.pipeline.store
    }
}

/// One sweep.
struct Run<'a> {
    sweeper: &'a Sweeper,
    owner: ObjectId,
    begun_at: DateTime,
    pace: Pace,
    seen: Seen,
}

impl Run<'_> {
    async fn sweep(mut self, sweep: &Sweep) -> Result<()> {
        let suspects = self.walk().await?;
        let mut orphans = Vec::new();
        if !suspects.is_empty() {
            self.wait(self.sweeper.config.orphan_look_again).await?;
            orphans = self.look_again(&suspects).await?;
        }
        self.seen.found = count(orphans.len());
        let store = self.sweeper.store();
        store.keep_orphans(&orphans, self.begun_at, now()).await?;
        if self.seen.is_complete {
            store.forget_orphans(self.begun_at).await?;
        }
        if !orphans.is_empty() {
            // Should be impossible.
            error!(
                orphans = orphans.len(),
                "rooms or messages are there without what they belong to; GET /admin/v1/orphans tells which"
            );
        }
        if sweep.repair {
            self.repair(&orphans).await?;
        }
        let Self {
            owner,
            begun_at,
            seen,
            ..
        } = self;
        let every = self.sweeper.config.orphan_sweep_every;
        let next = (!every.is_zero()).then(|| later(now(), every));
        info!(
            rooms = seen.rooms,
            orphans = seen.found,
            repaired = seen.repaired,
            "looked for orphans"
        );
        store.end_sweep(owner, begun_at, seen, next, now()).await
    }

    /// The first look, at every room, and at every room id that messages have.
    async fn walk(&mut self) -> Result<Vec<Suspect>> {
        let mut suspects = Vec::new();
        let mut after = None;
        loop {
            let begun = self.begin_read().await;
            let store = self.sweeper.store();
            let looked = store.look_on(after, CHUNK).await?;
            suspects.extend(looked.suspects);
            // Behind the last room there may be messages of rooms that are not there.
            let last = looked.rooms.last().copied();
            self.seen.rooms += count(looked.rooms.len());
            self.pace.used(1 + 2 * count(looked.rooms.len()), begun);
            self.strays(after, last, &looked.rooms, &mut suspects).await?;
            store.keep_sweep(self.owner, self.seen, now()).await?;
            if suspects.len() >= MOST {
                warn!("more than {MOST} rooms may be orphans; the others are not looked at in this sweep");
                suspects.truncate(MOST);
                return Ok(suspects);
            }
            if last.is_none() {
                self.seen.is_complete = true;
                return Ok(suspects);
            }
            after = last;
        }
    }

    async fn strays(
        &mut self,
        mut after: Option<ObjectId>,
        to: Option<ObjectId>,
        rooms: &[ObjectId],
        suspects: &mut Vec<Suspect>,
    ) -> Result<()> {
        while suspects.len() < MOST {
            let begun = self.begin_read().await;
            let stray = self.sweeper.store().stray(after, to, rooms).await?;
            self.pace.used(1, begun);
            let Some(room_id) = stray else { break };
            suspects.push(Suspect {
                room_id,
                kind: OrphanKind::Messages,
                trade_post_id: None,
                generation: 0,
                closed_by: None,
            });
            after = Some(room_id);
        }
        Ok(())
    }

    /// The second look. A room that a change has yet to close, or to take along, waits for the consumer;
    /// while that cannot go on the room is no orphan.
    async fn look_again(&mut self, suspects: &[Suspect]) -> Result<Vec<Suspect>> {
        let mut orphans = Vec::new();
        for suspects in suspects.chunks(usize::try_from(CHUNK).unwrap_or(1)) {
            let begun = self.begin_read().await;
            orphans.extend(self.sweeper.store().look_again(suspects).await?);
            self.pace.used(2 * count(suspects.len()), begun);
        }
        if self.sweeper.pipeline.status.get().waiting.is_some() {
            let before = orphans.len();
            orphans.retain(|orphan| orphan.kind != OrphanKind::OpenRoom);
            self.seen.is_complete &= before == orphans.len();
        }
        Ok(orphans)
    }

    async fn repair(&mut self, orphans: &[Suspect]) -> Result<()> {
        let store = &self.sweeper.pipeline.store;
        for orphan in orphans {
            self.repair_one(orphan).await?;
            let repaired = store.look_again(std::slice::from_ref(orphan)).await?.is_empty();
            info!(
                room.id = orphan.room_id.to_hex(),
                trade_post.id = orphan.trade_post_id,
                kind = orphan.kind.name(),
                repaired,
                "an orphan was to be set right"
            );
            if repaired {
                store.forget_orphan(orphan.room_id).await?;
                self.seen.repaired += 1;
            }
            self.keep().await?;
        }
        Ok(())
    }

    async fn repair_one(&mut self, orphan: &Suspect) -> Result<()> {
        let pipeline = &self.sweeper.pipeline;
        let store = &pipeline.store;
        match (orphan.kind, orphan.trade_post_id, orphan.closed_by) {
            (OrphanKind::OpenRoom | OrphanKind::UnknownPost, Some(post), _) => {
                let rooms = end_again(store, post, orphan.generation, pipeline.erase_after).await?;
                pipeline.metrics.rooms_closed(rooms);
            }
            (OrphanKind::ClosedRoom, _, Some(deletion)) => {
                store.erase_closed_rooms(deletion, now()).await?;
            }
            (OrphanKind::DesertedRoom | OrphanKind::Messages, ..) => {
                self.erase_messages(orphan.room_id).await?;
                store.remove_deserted(orphan.room_id).await?;
            }
            // A look at rooms tells post and deletion.
            (OrphanKind::OpenRoom | OrphanKind::UnknownPost | OrphanKind::ClosedRoom, ..) => {}
        }
        pipeline.closed.notify_one();
        Ok(())
    }

    async fn erase_messages(&mut self, room_id: ObjectId) -> Result<()> {
        loop {
            let begun = self.begin_read().await;
            let erased = self.sweeper.store().erase_some(room_id, ERASED_AT_ONCE).await?;
            self.pace.used(i64::try_from(erased).unwrap_or(i64::MAX), begun);
            self.sweeper.pipeline.metrics.messages_erased(erased);
            if erased == 0 {
                return Ok(());
            }
            self.keep().await?;
        }
    }

    /// Waits, and keeps the lease meanwhile.
    async fn wait(&self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        while Instant::now() < end {
            sleep_until(end.min(Instant::now() + KEEP)).await;
            self.keep().await?;
        }
        Ok(())
    }

    async fn keep(&self) -> Result<()> {
        self.sweeper
            .store()
            .keep_sweep(self.owner, self.seen, now())
            .await
    }

    async fn begin_read(&self) -> Instant {
        sleep_until(self.pace.next()).await;
        Instant::now()
    }
}

fn count(documents: usize) -> i64 {
    i64::try_from(documents).unwrap_or(i64::MAX)
}

fn later(time: DateTime, duration: Duration) -> DateTime {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_millis(time.timestamp_millis().saturating_add(millis))
}
