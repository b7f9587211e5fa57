//! chat-service starts with a backlog: how much memory that takes, and how fast it works it off.

use std::{
    fmt,
    time::{Duration, Instant},
};

use mongodb::bson::doc;
use tokio::time::sleep;

use super::{bare, mebibytes, memory::resident, ratio};
use crate::{
    eventually::{eventually, eventually_is},
    world::{World, stop},
};

/// Rows that one statement changes: a transaction that Debezium reads in one piece.
const ROWS: i64 = 20_000;
/// For a start and the first records.
const BOUND: Duration = Duration::from_mins(2);
/// For each record more, in a build that is not optimised on a busy machine.
const BOUND_FOR_A_RECORD: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub struct Report {
    pub records: i64,
    pub captured_in: Duration,
    /// What a consumer needs that only decodes the same records.
    pub bare: Duration,
    /// What chat-service needs from its start until it has carried out all of them.
    pub worked_off_in: Duration,
    /// The most resident memory that it had, in bytes.
    pub memory_peak: u64,
}

/// Runs it in `world`, which is captured, with `posts` posts: each is created and changed, and every second one
/// deleted, which makes three records of a post on average.
///
/// # Panics
/// If a record is not carried out, or a server does not answer.
pub async fn run(world: &World, posts: i64) -> Report {
    let records = 3 * posts;
    let bound = BOUND + BOUND_FOR_A_RECORD * u32::try_from(records).expect("fewer records");
    stop(&world.chat).await;
    let begun = Instant::now();
    produce(world, posts).await;
    let topic = world.topic();
    eventually_is("records in the topic", bound, records, async || {
        sleep(Duration::from_millis(500)).await;
        topic.end_offsets().await.values().sum()
    })
    .await;
    let captured_in = begun.elapsed();
    let bare = bare::run(world).await;

    let begun = Instant::now();
    world.chat.server.restart().await.expect("chat-service starts");
    let pid = world.chat.server.pid().expect("chat-service runs");
    let ends = topic.end_offsets().await;
    eventually("everything is carried out", bound, async || {
        sleep(Duration::from_millis(200)).await;
        let committed = topic.committed(&world.name).await;
        if committed == ends { Ok(()) } else { Err(committed) }
    })
    .await;
    let worked_off_in = begun.elapsed();
    let count = async |state: &str| {
        let posts = world.store.posts.count_documents(doc! { "state": state });
        i64::try_from(posts.await.expect("MongoDB answers")).expect("a count")
    };
    assert_eq!(
        (count("live").await, count("deleted").await),
        (posts - posts / 2, posts / 2)
    );
    Report {
        records,
        captured_in,
        bare,
        worked_off_in,
        memory_peak: resident(pid).peak,
    }
}

async fn produce(world: &World, posts: i64) {
    let execute = async |sql: &str, from: i64, to: i64| {
        let done = sqlx::query(sqlx::AssertSqlSafe(sql))
            .bind(from)
            .bind(to)
            .execute(&world.sql);
        done.await.expect("PostgreSQL takes changes");
    };
    for sql in [
        "INSERT INTO trade_posts (id, seller_id, title, body, price, category)
         SELECT n, 1 + n % 1000, '자전거 ' || n, '본문', n, '기타' FROM generate_series($1, $2) n",
        "UPDATE trade_posts SET title = title || ' 네고 가능' WHERE id BETWEEN $1 AND $2",
        "DELETE FROM trade_posts WHERE id BETWEEN $1 AND $2 AND id % 2 = 0",
    ] {
        let mut from = 1;
        while from <= posts {
            let to = (from + ROWS - 1).min(posts);
            execute(sql, from, to).await;
            from = to + 1;
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let per_second = |time: Duration| self.records as f64 / time.as_secs_f64();
        writeln!(
            f,
            "backlog of {} records, captured in {:.1?}: {:.0} records/s",
            self.records,
            self.captured_in,
            per_second(self.captured_in)
        )?;
        writeln!(
            f,
            "  decoded only: {:.1?}: {:.0} records/s",
            self.bare,
            per_second(self.bare)
        )?;
        writeln!(
            f,
            "  carried out: {:.1?}: {:.0} records/s, {:.2} of that",
            self.worked_off_in,
            per_second(self.worked_off_in),
            ratio(self.bare, self.worked_off_in)
        )?;
        write!(
            f,
            "  chat-service's memory: at most {:.1} MiB",
            mebibytes(self.memory_peak)
        )
    }
}
