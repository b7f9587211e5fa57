//! `cargo load`: measures what is promised about size and speed, and prints it. Exits with 1 if a promise is not
//! kept.

#![expect(clippy::print_stdout, reason = "a command prints")]

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use e2e::{
    load::{backlog, huge_room, mebibytes, ratio, reconcile, trade_posts},
    world::World,
};

/// Measures the marketplace on the real servers.
#[derive(Debug, Parser)]
struct Command {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A post with a huge room is deleted among small ones.
    HugeRoom {
        #[arg(long, default_value_t = 1_000_000)]
        messages: i64,
    },
    /// chat-service starts with a backlog of captured changes.
    Backlog {
        #[arg(long, default_value_t = 1_000_000)]
        records: i64,
    },
    /// Posts are read, listed, searched and created among very many.
    TradePosts {
        #[arg(long, default_value_t = 1_000_000)]
        posts: i64,
        /// Requests of each kind in a second.
        #[arg(long, default_value_t = 500)]
        rate: u32,
        /// How long each kind is measured.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
    /// Deletes that were missed are found and repaired.
    Reconcile {
        #[arg(long, default_value_t = 100_000)]
        posts: i64,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let kept = match Command::parse().what {
        What::HugeRoom { messages } => huge_room(messages).await,
        What::Backlog { records } => backlog(records).await,
        What::TradePosts { posts, rate, seconds } => {
            trade_posts(posts, rate, Duration::from_secs(seconds)).await
        }
        What::Reconcile { posts } => reconcile(posts).await,
    };
    if kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

async fn huge_room(messages: i64) -> bool {
    let size = huge_room::Size {
        messages,
        before: 400,
        during: 2_000,
    };
    let mut kept = false;
    World::run(async |world| {
        let report = huge_room::run(world, size).await;
        println!("{report}");
        let huge = ratio(report.huge, report.small_before.percentile(50));
        let others = ratio(
            report.small_during.percentile(99),
            report.small_before.percentile(99),
        );
        kept = [
            promise("closed as fast as a small one", huge, 2.0),
            promise("others' p99 meanwhile", others, 2.0),
            promise("growth of memory in MiB", mebibytes(report.growth()), 50.0),
        ]
        .into_iter()
        .all(|kept| kept);
    })
    .await;
    kept
}

async fn backlog(records: i64) -> bool {
    let mut kept = false;
    World::run(async |world| {
        let report = backlog::run(world, (records + 2) / 3).await;
        println!("{report}");
        kept = promise("memory in MiB", mebibytes(report.memory_peak), 150.0);
    })
    .await;
    kept
}

async fn trade_posts(posts: i64, rate: u32, duration: Duration) -> bool {
    let size = trade_posts::Size {
        posts,
        rate,
        duration,
    };
    let report = trade_posts::run(size).await;
    println!("{report}");
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let mut kept = promise(
        "time of a creation over that of an insert",
        report.inserted / report.created,
        1.0 / 0.6,
    );
    for (what, answers) in [
        ("read", &report.reads),
        ("list", &report.lists),
        ("search", &report.searches),
    ] {
        let p99 = milliseconds(answers.times.percentile(99));
        kept &= promise(&format!("p99 of a {what} in ms"), p99, 20.0) && answers.refused == 0;
    }
    kept
}

async fn reconcile(posts: i64) -> bool {
    let mut kept = false;
    World::run_before_capture(async |world| {
        let report = reconcile::run(world, posts).await;
        println!("{report}");
        kept = promise("microseconds for a post", report.micros_for_a_post(), 1_000.0);
    })
    .await;
    kept
}

fn promise(what: &str, measured: f64, at_most: f64) -> bool {
    let kept = measured <= at_most;
    let verdict = if kept { "kept" } else { "NOT KEPT" };
    println!("{verdict}: {what}: {measured:.2}, at most {at_most:.2}");
    kept
}
