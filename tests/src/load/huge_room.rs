//! A post with a room of very many messages is deleted among small ones: how fast it closes, what its erasing
//! costs chat-service in memory, and what it does to the others meanwhile.

use std::{
    fmt,
    time::{Duration, Instant},
};

use local_stack::client::{Client, EventStream, Notification};
use mongodb::bson::doc;
use tokio::time::sleep;

use super::{
    Times, fill, mebibytes,
    memory::{forget_peak, resident},
    ratio,
};
use crate::{eventually::eventually, world::World};

const SMALL_SELLER: i64 = 1;
const HUGE_SELLER: i64 = 2;
const BUYER: i64 = 100;
const MESSAGES_OF_SMALL_ROOMS: i64 = 20;
const BOUND: Duration = Duration::from_mins(10);

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub messages: i64,
    /// Small posts deleted before the huge one.
    pub before: usize,
    /// At most so many while that one is erased.
    pub during: usize,
}

#[derive(Debug)]
pub struct Report {
    pub size: Size,
    pub filled_in: Duration,
    /// From the answer to the DELETE until the seller has read `room_closed`.
    pub huge: Duration,
    pub small_before: Times,
    pub small_during: Times,
    pub erased_in: Duration,
    /// Bytes of chat-service's resident memory: before, and the most until everything was erased.
    pub memory_before: u64,
    pub memory_peak: u64,
}

impl Report {
    pub fn growth(&self) -> u64 {
        self.memory_peak.saturating_sub(self.memory_before)
    }
}

/// Runs it in `world`, which is captured.
///
/// # Panics
/// If something is not erased, or a server does not answer.
pub async fn run(world: &World, size: Size) -> Report {
    let small = posts(world, SMALL_SELLER, size.before + size.during).await;
    let huge = posts(world, HUGE_SELLER, 1).await[0];
    let begun = Instant::now();
    fill::rooms(&world.store, &small, BUYER, MESSAGES_OF_SMALL_ROOMS).await;
    fill::rooms(&world.store, &[huge], BUYER, size.messages).await;
    let filled_in = begun.elapsed();

    let mut seller = Seller::new(world, SMALL_SELLER).await;
    let mut huge_seller = Seller::new(world, HUGE_SELLER).await;
    let mut small = small.into_iter();
    let mut small_before = Times::default();
    for post in small.by_ref().take(size.before) {
        small_before.add(seller.delete(post).await);
    }
    world.erased(size.before as u64, BOUND).await;

    let pid = world.chat.server.pid().expect("chat-service runs");
    forget_peak(pid);
    let memory_before = resident(pid).now;
    let huge_took = huge_seller.delete(huge).await;
    let begun = Instant::now();
    let mut small_during = Times::default();
    while !is_erased(world, huge).await {
        match small.next() {
            Some(post) => small_during.add(seller.delete(post).await),
            None => sleep(Duration::from_millis(20)).await,
        }
    }
    let erased_in = begun.elapsed();
    let deleted = size.before + small_during.count() + 1;
    world.erased(deleted as u64, BOUND).await;
    let left = doc! { "trade_post_id": huge };
    assert_eq!(
        world
            .store
            .rooms
            .count_documents(left)
            .await
            .expect("MongoDB answers"),
        0
    );
    let kept = i64::try_from(small.len()).expect("a count") * MESSAGES_OF_SMALL_ROOMS;
    assert_eq!(
        world.count("messages").await,
        usize::try_from(kept).expect("a count")
    );
    Report {
        size,
        filled_in,
        huge: huge_took,
        small_before,
        small_during,
        erased_in,
        memory_before,
        memory_peak: resident(pid).peak,
    }
}

/// Puts posts on sale and waits until chat-service knows them.
async fn posts(world: &World, seller: i64, count: usize) -> Vec<i64> {
    let insert = "INSERT INTO trade_posts (seller_id, title, body, price, category)
                  SELECT $1, '글 ' || n, '본문', n, '기타' FROM generate_series(1, $2) n RETURNING id";
    let insert = sqlx::query_scalar(insert)
        .bind(seller)
        .bind(i64::try_from(count).expect("a count"));
    let ids: Vec<i64> = insert
        .fetch_all(&world.sql)
        .await
        .expect("PostgreSQL takes posts");
    world.known(&ids, BOUND).await;
    ids
}

async fn is_erased(world: &World, post: i64) -> bool {
    let done = doc! { "trade_post_id": post, "state": "done" };
    world
        .store
        .deletions
        .count_documents(done)
        .await
        .expect("MongoDB answers")
        == 1
}

/// A seller who deletes posts and listens.
struct Seller {
    app: Client,
    stream: EventStream,
}

impl Seller {
    async fn new(world: &World, id: i64) -> Self {
        let app = world.member(id);
        let stream = app.events(None).await.expect("an event stream");
        Self { app, stream }
    }

    /// Deletes the post. Answers how long after the answer the seller knew that its room is closed.
    async fn delete(&mut self, post: i64) -> Duration {
        // Not in step with whatever looks for changes now and then.
        sleep(Duration::from_millis(rand::random_range(0..20))).await;
        self.app.delete_post(post).await.expect("the post is deleted");
        let answered = Instant::now();
        let stream = &mut self.stream;
        let read_at = eventually(format!("post {post} is closed"), BOUND, async || {
            match stream.next().await {
                Ok(Some(event)) => {
                    let told: Notification = event.json().expect("a notification");
                    let is_it = told.kind == "room_closed" && told.trade_post_id == post;
                    if is_it { Ok(event.read_at) } else { Err(told.kind) }
                }
                Ok(None) | Err(_) => Err(format!("{:?}", stream.reconnect().await)),
            }
        })
        .await;
        read_at.saturating_duration_since(answered)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before_p50, before_p99] = [50, 99].map(|percent| self.small_before.percentile(percent));
        writeln!(
            f,
            "room of {} messages, filled in {:.1?}",
            self.size.messages, self.filled_in
        )?;
        writeln!(f, "  DELETE answered -> room_closed read: {:.1?}", self.huge)?;
        writeln!(
            f,
            "  small posts before ({}): p50 {before_p50:.1?}, p99 {before_p99:.1?}; huge / p50 = {:.2}",
            self.small_before.count(),
            ratio(self.huge, before_p50)
        )?;
        if self.small_during.count() > 0 {
            let [p50, p99] = [50, 99].map(|percent| self.small_during.percentile(percent));
            writeln!(
                f,
                "  small posts meanwhile ({}): p50 {p50:.1?} ({:.2}x), p99 {p99:.1?} ({:.2}x)",
                self.small_during.count(),
                ratio(p50, before_p50),
                ratio(p99, before_p99)
            )?;
        }
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let per_second = self.size.messages as f64 / self.erased_in.as_secs_f64();
        writeln!(
            f,
            "  erased in {:.1?}: {per_second:.0} messages/s",
            self.erased_in
        )?;
        write!(
            f,
            "  chat-service's memory: {:.1} MiB, at most {:.1} MiB: +{:.1} MiB",
            mebibytes(self.memory_before),
            mebibytes(self.memory_peak),
            mebibytes(self.growth())
        )
    }
}
