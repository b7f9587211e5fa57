//! Where rounds take place: a world with two processes of chat-service, of which the second comes and goes.
//!
//! Invariant: a round begins with the first process alone, connected to everything, and an empty table.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use e2e::{
    eventually::{eventually, eventually_is},
    world::{World, stop},
};
use futures_util::TryStreamExt;
use mongodb::bson::{Document, doc};
use tokio::time::timeout;

use crate::{
    check::differences,
    operation::{Change, Instance, Step, first_posts},
    process::{Process, end_leases},
    run::Round,
    seen::{Others, Seen},
};

/// The group has to notice a death and to share the partitions anew; an eraser has to look again.
const CATCH_UP_BOUND: Duration = Duration::from_mins(1);
/// All steps together take a few seconds; a request, or a process that starts, may take up to a minute.
const ROUND_BOUND: Duration = Duration::from_mins(2);
/// A request that was given up may still be under way.
const SETTLE_BOUND: Duration = Duration::from_secs(5);
const PARTITIONS: i32 = 3;
/// Members and ids of a round lie within so many numbers.
const SPAN: i64 = 1_000;
/// Ids of the posts that tell how far chat-service is.
const MARKERS: std::ops::Range<i64> = 500..999;

pub struct Arena<'a> {
    pub world: &'a World,
    pub processes: [Process<'a>; 2],
    group: Mutex<String>,
    groups: AtomicU32,
    rounds: AtomicU32,
    /// Commands that were stopped on their way, in all rounds.
    stopped: AtomicU32,
    complained: Mutex<[usize; 2]>,
}

impl<'a> Arena<'a> {
    pub async fn open(world: &'a World) -> Result<Self> {
        // Ours are the only ones.
        stop(&world.chat).await;
        let group = format!("{}_0", world.name);
        let properties = world.chat_options().env["KAFKA_PROPERTY"].clone()
            + ",session.timeout.ms=6000,heartbeat.interval.ms=500,auto.commit.interval.ms=100";
        let first = BTreeMap::from([
            ("KAFKA_PROPERTY", properties.clone()),
            // With a name of its own, what it had is its own at once when it was killed.
            ("KAFKA_GROUP_INSTANCE_ID", "first".to_owned()),
            ("ERASE_CHUNK", "2".to_owned()),
        ]);
        let second = BTreeMap::from([("KAFKA_PROPERTY", properties)]);
        let arena = Self {
            world,
            processes: [
                Process::prepare(world, first).await?,
                Process::prepare(world, second).await?,
            ],
            group: Mutex::new(group.clone()),
            groups: AtomicU32::new(0),
            rounds: AtomicU32::new(0),
            stopped: AtomicU32::new(0),
            complained: Mutex::new([0, 0]),
        };
        for process in &arena.processes {
            process.join(&group);
        }
        arena.processes[0].start().await?;
        Ok(arena)
    }

    pub fn process(&self, instance: Instance) -> &Process<'a> {
        match instance {
            Instance::First => &self.processes[0],
            Instance::Second => &self.processes[1],
        }
    }

    /// Counts a command that was stopped on its way.
    pub fn stopped(&self) {
        self.stopped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many commands were stopped on their way.
    pub fn stops(&self) -> u32 {
        self.stopped.load(Ordering::Relaxed)
    }

    /// A round with members and ids of its own.
    pub fn begin(&self) -> Round<'_> {
        let number = self.rounds.fetch_add(1, Ordering::Relaxed) + 1;
        Round::new(self, i64::from(number) * SPAN)
    }

    /// Carries the round out and checks it: once with the posts that are left, once without any. Answers
    /// what is wrong.
    pub async fn carry_out(&self, round: &Round<'_>, steps: &[Step]) -> Vec<String> {
        let others = Others::count(self.world, &round.ids(), &round.members(), &[]).await;
        self.processes[0].start().await.expect("the first process runs");
        round.by_operator(&first_posts()).await;
        self.world
            .known(&round.ids()[..first_posts().len()], CATCH_UP_BOUND)
            .await;
        let carried_out = timeout(ROUND_BOUND, round.carry_out(steps)).await;
        carried_out.expect("every step ends");
        for process in &self.processes {
            process.heal();
        }
        let mut wrong = self.settle(round, others).await;
        if wrong.is_empty() {
            round.note("the table is emptied".to_owned());
            round.by_operator(&[Change::Truncate]).await;
            wrong = self.settle(round, others).await;
        }
        self.processes[1].end(false).await.expect("it ends");
        wrong
    }

    /// Removes what a failed round has left, as far as chat-service does it.
    pub async fn clear(&self) {
        self.processes[1].end(false).await.expect("it ends");
        let nothing = self.begin();
        nothing.by_operator(&[Change::Truncate]).await;
        self.catch_up(&nothing).await;
    }

    /// Waits until chat-service has caught up and all was erased and read, and answers what is wrong then.
    async fn settle(&self, round: &Round<'_>, others: Others) -> Vec<String> {
        end_leases(self.world).await;
        self.catch_up(round).await;
        round.note("caught up".to_owned());
        for (member, app) in round.apps.iter().enumerate() {
            app.connect(Some(round.client(member, Instance::First).clone()));
        }
        let ids = round.ids();
        let not_done = doc! { "trade_post_id": { "$in": &ids }, "state": { "$ne": "done" } };
        eventually_is("deletions that are not done", CATCH_UP_BOUND, 0, async || {
            let not_done = self.world.store.deletions.count_documents(not_done.clone());
            not_done.await.expect("MongoDB answers")
        })
        .await;
        round.note("erased".to_owned());
        let deadline = tokio::time::Instant::now() + SETTLE_BOUND;
        loop {
            let mut wrong = self.complaints().await;
            let seen = Seen::collect(self.world, round).await;
            wrong.extend(differences(&round.history(), &seen, others));
            if wrong.is_empty() || tokio::time::Instant::now() >= deadline {
                return wrong;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Until what is in the table now is known, and every offset is committed.
    async fn catch_up(&self, round: &Round<'_>) {
        let mut covered = BTreeSet::new();
        let mut markers = MARKERS.step_by(8);
        while covered.len() < usize::try_from(PARTITIONS).unwrap_or_default() {
            let first = round.base + markers.next().expect("enough numbers");
            let ids: Vec<i64> = (first..first + 8).collect();
            let insert = "INSERT INTO trade_posts (id, seller_id, title, body, price, category)
                          SELECT id, 1, '표시', '', 1, 'c' FROM unnest($1) id ON CONFLICT DO NOTHING";
            let insert = sqlx::query(insert).bind(&ids).execute(&self.world.sql).await;
            insert.expect("PostgreSQL takes the markers");
            self.world.known(&ids, CATCH_UP_BOUND).await;
            let posts = self.world.store.posts.clone_with_type::<Document>();
            let markers = posts
                .find(doc! { "_id": { "$in": &ids } })
                .await
                .expect("MongoDB answers");
            let markers: Vec<Document> = markers.try_collect().await.expect("documents");
            let partitions = markers.iter().filter_map(|marker| {
                let last = marker.get_document("last").ok()?;
                last.get_i32("partition").ok()
            });
            covered.extend(partitions);
        }
        let topic = self.world.topic();
        let group = self.group();
        eventually("all offsets are committed", CATCH_UP_BOUND, async || {
            let (ends, committed) = (topic.end_offsets().await, topic.committed(&group).await);
            if ends == committed {
                Ok(())
            } else {
                Err((ends, committed))
            }
        })
        .await;
    }

    /// How things stand, for whoever reads why a round failed.
    pub async fn state(&self) -> String {
        let topic = self.world.topic();
        let (ends, committed) = (topic.end_offsets().await, topic.committed(&self.group()).await);
        let mut state = format!("the topic ends at {ends:?}, committed is {committed:?}");
        for process in &self.processes {
            for line in process.last_words().await {
                state = state + "\n  | " + &line;
            }
            state += "\n";
        }
        state
    }

    fn group(&self) -> String {
        self.group.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lets all be read again from so far before what was committed, or from the beginning. A group's offsets
    /// can be set while nobody is in it, and who has a name of its own stays in it for a while: so it is
    /// another group that is told where to go on.
    pub async fn rewind(&self, back: Option<i64>) -> Result<()> {
        let number = self.groups.fetch_add(1, Ordering::Relaxed) + 1;
        let group = format!("{}_{number}", self.world.name);
        if let Some(back) = back {
            let topic = self.world.topic();
            let committed = topic.committed(&self.group()).await.into_iter();
            let earlier = committed.map(|(partition, offset)| (partition, (offset - back).max(0)));
            topic.commit(&group, earlier.collect()).await;
        }
        for process in &self.processes {
            process.join(&group);
        }
        *self.group.lock().unwrap_or_else(PoisonError::into_inner) = group;
        for process in &self.processes {
            process.restart().await?;
        }
        Ok(())
    }

    /// What the processes have said since the last time that they should not have.
    async fn complaints(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (number, process) in self.processes.iter().enumerate() {
            let read = self.complained.lock().unwrap_or_else(PoisonError::into_inner)[number];
            match process.complaints(read).await {
                Ok((said, read)) => {
                    wrong.extend(said);
                    self.complained.lock().unwrap_or_else(PoisonError::into_inner)[number] = read;
                }
                Err(error) => wrong.push(format!("no log: {error:#}")),
            }
        }
        wrong
    }
}
