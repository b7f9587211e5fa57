//! The one scene that every fault is put into: a market of 2,200 posts, all members' streams open, 2,000
//! deletes under way; and what has to hold at its end.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use connectors::{ConnectApi, status::Standing};
use e2e::{
    chats::Deletions,
    eventually::{eventually, eventually_is},
    reader::Reader,
    world::{World, consumer_of, stop},
};
use futures_util::future::join_all;
use local_stack::{
    Stack,
    client::Client,
    services::{self, Service},
    testing,
};
use mongodb::bson::doc;
use rand::random_range;
use tokio::time::sleep;

use crate::{
    BOUND, alone,
    deletes::Deletes,
    market::{DOOMED, MEMBERS, Market},
};

/// Deletes before the fault, in steps and then by one statement, and how many there may be while it strikes.
const BEFORE: u64 = 600;
const BURST: usize = 300;
const AROUND: u64 = 1_200;
/// Deletes that each stretch of an outage waits for.
const MEANWHILE: u64 = 200;
/// How long after the burst the fault comes, at most: its records may be anywhere on their way.
const ON_THEIR_WAY: Duration = Duration::from_millis(150);

pub struct Scene<'w> {
    pub world: &'w mut World,
    /// Beside the world's own instance of chat-service.
    second: Option<Service>,
    market: Market,
    deletes: Option<Deletes>,
    readers: BTreeMap<i64, Reader>,
    begun: Instant,
    settled: bool,
}

impl Scene<'_> {
    /// Runs `fault`, which is to end with [`Scene::settle`], with one instance of chat-service.
    pub async fn run(fault: impl AsyncFnOnce(&mut Scene<'_>)) {
        Self::with_instances(1, fault).await;
    }

    /// The same with two.
    pub async fn run_with_two_instances(fault: impl AsyncFnOnce(&mut Scene<'_>)) {
        Self::with_instances(2, fault).await;
    }

    async fn with_instances(instances: usize, fault: impl AsyncFnOnce(&mut Scene<'_>)) {
        let _alone = alone().await;
        let begun = Instant::now();
        mend(testing::stack().await).await;
        World::run_before_capture(async |world| {
            let second = if instances == 1 {
                None
            } else {
                let second = services::spawn_chat(world.stack, world.chat_options()).await;
                Some(second.unwrap())
            };
            let market = Market::open(world).await;
            let readers = join_all((1..=MEMBERS).map(async |member| {
                let first = world.member(member);
                let other = second
                    .as_ref()
                    .map(|chat| first.clone().at_chat(chat.url(), chat.admin_url()));
                (member, Reader::start_at([first].into_iter().chain(other)).await)
            }));
            let readers = readers.await.into_iter().collect();
            let mut scene = Scene {
                world,
                second,
                market,
                deletes: None,
                readers,
                begun,
                settled: false,
            };
            scene.tells("the market is open");
            fault(&mut scene).await;
            assert!(scene.settled, "this fault was not followed to its end");
            if let Some(second) = &scene.second {
                stop(second).await;
            }
        })
        .await;
        println!("all over after {:?}", begun.elapsed());
    }

    /// Begins to delete, and answers when the fault is to strike: chats of some posts are gone, records of
    /// others are on their way, and others still are to be deleted.
    pub async fn middle(&mut self) {
        self.deletes = Some(Deletes::start(self.world, &self.market.doomed, AROUND));
        let deletes = self.deletes();
        deletes.reach(BEFORE).await;
        eventually("chat-service is at work", BOUND, async || {
            let closed = self.closed().await;
            if closed > BEFORE / 2 { Ok(()) } else { Err(closed) }
        })
        .await;
        deletes.burst(BURST).await;
        let (closed, gone) = (self.closed().await, deletes.gone());
        assert!(
            closed < gone && gone < DOOMED,
            "{closed} of {gone} posts are closed"
        );
        sleep(random_range(Duration::ZERO..ON_THEIR_WAY)).await;
        self.tells(format!(
            "struck when {closed} of {gone} deleted posts were closed"
        ));
    }

    /// Waits until further posts are deleted, with the fault in place.
    pub async fn deletes_go_on(&self) {
        let deletes = self.deletes();
        let gone = deletes.more(MEANWHILE);
        deletes.reach(gone + MEANWHILE / 2).await;
        self.tells(format!("{} posts deleted meanwhile", deletes.gone()));
    }

    /// The member at an instance of chat-service that runs.
    fn member(&self, id: i64) -> Client {
        let member = self.world.member(id);
        match &self.second {
            Some(second) if self.world.chat.server.pid().is_none() => {
                member.at_chat(second.url(), second.admin_url())
            }
            _ => member,
        }
    }

    fn deletes(&self) -> &Deletes {
        self.deletes.as_ref().expect("deletes have begun")
    }

    /// The second of two instances of chat-service.
    pub fn second(&self) -> &Service {
        self.second.as_ref().expect("two instances")
    }

    /// The partitions of the posts' topic that an instance has now.
    pub async fn partitions(&self, chat: &Service) -> BTreeSet<i64> {
        let answer = consumer_of(chat).await.unwrap();
        let topic = self.world.topic().name;
        let partitions = answer["partitions"].as_array().unwrap().iter();
        partitions
            .filter(|partition| partition["topic"] == topic)
            .map(|partition| partition["partition"].as_i64().unwrap())
            .collect()
    }

    /// Waits until both instances have some, and answers which.
    pub async fn shared_partitions(&self) -> [BTreeSet<i64>; 2] {
        let second = self.second();
        eventually("both instances have partitions", BOUND, async || {
            let first = self.partitions(&self.world.chat).await;
            let second = self.partitions(second).await;
            if first.is_empty() || second.is_empty() {
                Err((first, second))
            } else {
                Ok([first, second])
            }
        })
        .await
    }

    /// How many posts' chats are closed, erased or not.
    pub async fn closed(&self) -> u64 {
        let Deletions { done, unfinished } = self.world.deletions().await;
        done + unfinished
    }

    /// What was reached, for whoever reads the figures.
    pub fn tells(&self, what: impl std::fmt::Display) {
        println!("{:6.1} s: {what}", self.begun.elapsed().as_secs_f32());
    }

    /// Kills the world's instance of chat-service.
    pub async fn kill_chat_service(&self) {
        self.world.chat.server.kill().unwrap();
        self.world.end_transactions().await;
    }

    /// Everything that was deleted is erased, everything else is intact, each member was told once.
    pub async fn settle(&mut self) {
        let deletes = self.deletes();
        assert!(deletes.gone() < DOOMED, "some deletes come after the fault");
        deletes.more(DOOMED);
        deletes.reach(DOOMED).await;
        self.tells("all posts deleted");
        eventually_is("posts that are fenced", BOUND, DOOMED, async || {
            let fences = self
                .world
                .store
                .posts
                .count_documents(doc! { "state": "deleted" });
            fences.await.unwrap()
        })
        .await;
        self.tells("all posts fenced");
        self.world.erased(DOOMED, BOUND).await;
        self.tells("all chats erased");
        let frames = self.market.frames(self.readers.keys().copied());
        eventually("all frames are read", BOUND, async || {
            let read: usize = self
                .readers
                .values()
                .map(|reader| reader.closed_rooms().len())
                .sum();
            if read >= frames { Ok(()) } else { Err(read) }
        })
        .await;
        self.tells("all frames read");
        self.market.check(self.world, &self.readers).await;
        self.market.goes_on(&self.member(MEMBERS)).await;
        let connect = ConnectApi::new(self.world.stack.connect.url()).unwrap();
        let status = connect.status(&self.world.name).await.unwrap().unwrap();
        assert_eq!(Standing::of(&status), Standing::Running, "{status:?}");
        self.settled = true;
    }
}

/// Starts what a test that failed has left broken.
async fn mend(stack: &Stack) {
    for server in stack.servers() {
        if server.pid().is_some() {
            server.cont().unwrap();
        } else {
            server.restart().await.unwrap();
        }
    }
}
