//! Deletes that were missed are found and repaired in a table of many posts: how long each part takes.

use std::{
    fmt,
    time::{Duration, Instant},
};

use connectors::{
    reconcile::{PostCandidate, State},
    schemas::Table,
};
use local_stack::capture::Capture;

use super::fill;
use crate::{
    eventually::eventually_is,
    missed::{self, Servers},
    world::World,
};

const SELLER: i64 = 1;
const BUYER: i64 = 2;
const MESSAGES: i64 = 2;
/// One post in so many is deleted while nobody captures.
const MISSED: i64 = 100;
/// For each post, in a build that is not optimised on a busy machine.
const BOUND_FOR_A_POST: Duration = Duration::from_millis(10);
const BOUND: Duration = Duration::from_mins(5);

#[derive(Debug)]
pub struct Report {
    pub posts: i64,
    pub missed: usize,
    /// Until Debezium has read the table.
    pub scanned_in: Duration,
    /// Until what was missed is known: Kafka has all of it, chat-service has read all of it.
    pub known_in: Duration,
    /// Until PostgreSQL was asked for each candidate.
    pub looked_in: Duration,
    pub closed_in: Duration,
}

/// Runs it in `world`, which is not captured yet, with `posts` posts that each have a room.
///
/// # Panics
/// If something else is closed than what was missed, or a server does not answer.
pub async fn run(world: &mut World, posts: i64) -> Report {
    let bound = BOUND + BOUND_FOR_A_POST * u32::try_from(posts).expect("fewer posts");
    let insert = "INSERT INTO trade_posts (seller_id, title, body, price, category)
                  SELECT $1, '글 ' || n, '본문', n, '기타' FROM generate_series(1, $2) n RETURNING id";
    let insert = sqlx::query_scalar(insert).bind(SELLER).bind(posts);
    let ids: Vec<i64> = insert
        .fetch_all(&world.sql)
        .await
        .expect("PostgreSQL takes posts");
    let capture = Capture::of_database(&world.name);
    world.capture(capture.clone()).await;
    let count = usize::try_from(posts).expect("a count");
    eventually_is("posts that chat-service knows", bound, count, async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        world.count("trade_posts").await
    })
    .await;
    fill::rooms(&world.store, &ids, BUYER, MESSAGES).await;
    missed::lose_slot(world).await;
    let delete = sqlx::query("DELETE FROM trade_posts WHERE id % $1 = 0").bind(MISSED);
    let missed = delete.execute(&world.sql).await.expect("PostgreSQL deletes");
    let missed_posts = usize::try_from(missed.rows_affected()).expect("a count");
    missed::go_on_without_snapshot(world, capture).await;

    let servers = Servers::of(world);
    let begun = Instant::now();
    let run = servers.begin(Table::TradePosts, bound).await;
    let mut scanned_in = Duration::ZERO;
    run.ready(|run| {
        if matches!(run.state, State::Waiting | State::Scanning) {
            scanned_in = begun.elapsed();
        }
    })
    .await
    .expect("it is known what was missed");
    let known_in = begun.elapsed();
    let looking = Instant::now();
    let mut found = 0;
    run.second_look(|page: &[PostCandidate]| found += page.len())
        .await
        .expect("none of them is there");
    let looked_in = looking.elapsed();
    let closing = Instant::now();
    assert_eq!(found, missed_posts);
    let done = run.confirm(|_| {}).await.expect("they are closed");
    let closed_in = closing.elapsed();
    assert_eq!(usize::try_from(done.posts_closed), Ok(missed_posts));
    world.erased(missed_posts as u64, bound).await;
    assert_eq!(world.count("rooms").await, count - missed_posts);
    Report {
        posts,
        missed: missed_posts,
        scanned_in,
        known_in,
        looked_in,
        closed_in,
    }
}

impl Report {
    /// What a post of the table costs until it is known what was missed, in microseconds.
    pub fn micros_for_a_post(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let posts = self.posts as f64;
        self.known_in.as_secs_f64() * 1e6 / posts
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} posts with a room each, {} deletes missed",
            self.posts, self.missed
        )?;
        writeln!(f, "  the table is read after {:.1?}", self.scanned_in)?;
        writeln!(
            f,
            "  what was missed is known after {:.1?}: {:.0} us for a post",
            self.known_in,
            self.micros_for_a_post()
        )?;
        writeln!(f, "  PostgreSQL is asked for each in {:.1?}", self.looked_in)?;
        write!(f, "  closed in {:.1?}", self.closed_in)
    }
}
