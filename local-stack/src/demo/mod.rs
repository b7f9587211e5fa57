//! Shows on the real system that a deleted post takes its chats with it: boots everything, loads a
//! market, deletes posts in every way there is, prints when what happened, and checks what is left.
//!
//! Invariant: it succeeds only if nothing at all was wrong, and leaves nothing running.

#![expect(clippy::print_stdout, reason = "what it shows is its result")]

use std::{path::PathBuf, time::Instant};

use anyhow::{Result, bail};

use crate::{
    clean::clean,
    progress::{Progress, seconds},
    system::{System, SystemOptions},
};

mod content;
mod dataset;
mod deletes;
mod listen;
mod load;
mod timeline;
mod told;
mod verify;

use content::content;
use dataset::Market;
use deletes::Deletes;
use listen::Listeners;
use timeline::{Stages, Timeline, quantile, table};
use verify::{Check, Outcome};

/// Milliseconds from the answer of a DELETE to the moment its members know, at the median.
const TARGET: f64 = 60.0;

/// Runs the demo with data of its own in `data_dir`, which is removed at the end if all went well.
pub async fn run(data_dir: PathBuf, progress: &Progress) -> Result<()> {
    let began = Instant::now();
    let market = Market::shipped()?;
    let system = Box::pin(System::start(SystemOptions {
        data_dir: Some(data_dir.clone()),
        fresh: true,
        chat_instances: 1,
        mongodb_uri: None,
        progress: progress.clone(),
    }))
    .await?;
    let booted = began.elapsed();

    let shown = Box::pin(show(&system, &market, progress)).await;

    let ending = Instant::now();
    let step = progress.step("Stopping");
    let ended = Box::pin(system.end()).await;
    if ended.is_ok() {
        step.done();
    }
    let logs = data_dir.join("logs");
    let failed = match (shown, ended) {
        (Ok(shown), Ok(())) => {
            println!(
                "\nStarting took {}, {shown}, stopping {}; {} in all.",
                seconds(booted),
                seconds(ending.elapsed()),
                seconds(began.elapsed())
            );
            clean(&data_dir, false)?;
            return Ok(());
        }
        (Err(error), _) | (_, Err(error)) => error,
    };
    Err(failed.context(format!(
        "the demo failed; the servers' logs are in {}",
        logs.display()
    )))
}

/// Everything between start and end; answers how long its parts took.
async fn show(system: &System, market: &Market, progress: &Progress) -> Result<String> {
    let loading = Instant::now();
    let clients = load::clients(system, market)?;
    let step = progress.step("Loading the market through the REST APIs");
    let posts = load::load(market, &clients, &step).await?;
    step.done();
    let loaded = loading.elapsed();
    println!(
        "Loaded {} posts, {} rooms and {} messages in {}.",
        posts.len(),
        market.chats().count(),
        market.messages(),
        seconds(loaded)
    );

    let mongo = mongodb::Client::with_uri_str(system.stack.mongo.uri()).await?;
    let chat = mongo.database("chat");
    let deleting = Instant::now();
    let kept = posts.iter().filter(|post| post.deleted_by.is_none());
    let before = content(&chat, kept.flat_map(|post| &post.rooms)).await?;
    let listeners = Listeners::open(&clients).await?;
    println!("{} members listen to their event streams.", listeners.count());

    let step = progress.step("Deleting");
    let running = deletes::Market {
        system,
        chat: &chat,
        clients: &clients,
        posts: &posts,
        listeners: &listeners,
    };
    let deletes = running.run(&step).await?;
    step.done();
    let deleting = deleting.elapsed();
    println!("{}", shown(&deletes));

    let checking = Instant::now();
    let step = progress.step("Checking");
    let outcome = Outcome {
        chat: &chat,
        clients: &clients,
        posts: &posts,
        without_chats: deletes.without_chats,
    };
    let mut checks = vec![
        outcome.nothing_left().await?,
        outcome.others_untouched(&before).await?,
        outcome.refused().await?,
        // Last: what was told once too often has had time to arrive.
        outcome.told_once(&listeners.told()).await?,
    ];
    step.done();
    checks.push(fast_enough(&deletes.answered_to_told));
    mongo.shutdown().await;
    report(&checks)?;
    Ok(format!(
        "loading {}, deleting {}, checking {}",
        seconds(loaded),
        seconds(deleting),
        seconds(checking.elapsed())
    ))
}

fn shown(deletes: &Deletes) -> String {
    let mut lines = deletes.kinds.clone();
    let stages: Vec<Stages> = deletes.each.iter().map(|timeline| timeline.stages).collect();
    for (name, share) in [("median", 0.5), ("slowest", 1.0)] {
        lines.push(Timeline {
            delete: format!("by REST, one by one: {name}"),
            posts: deletes.each.iter().map(|timeline| timeline.posts).sum(),
            rooms: deletes.each.iter().map(|timeline| timeline.rooms).sum(),
            messages: deletes.each.iter().map(|timeline| timeline.messages).sum(),
            stages: Stages::quantile(&stages, share),
        });
    }
    format!(
        "\nMilliseconds from the moment a delete was sent until\n  \
         answered  the caller had the answer\n  \
         captured  Debezium had read the change\n  \
         closed    chat-service had closed the rooms\n  \
         told      the last member had read `room_closed` from the event stream\n  \
         erased    no message and no room was left\n{}",
        table(&lines)
    )
}

fn fast_enough(answered_to_told: &[f64]) -> Check {
    let median = quantile(answered_to_told, 0.5).unwrap_or(f64::INFINITY);
    let slowest = quantile(answered_to_told, 1.0).unwrap_or(f64::INFINITY);
    let title = format!(
        "Speed: from the answer of a DELETE to `room_closed` read, p50 {median:.0} ms and at most {slowest:.0} ms \
         in {} deletes by REST",
        answered_to_told.len()
    );
    let slow = (median > TARGET).then(|| {
        format!("p50 is over {TARGET} ms; if this machine was busy with something else, run the demo again")
    });
    Check {
        title,
        wrong: slow.into_iter().collect(),
    }
}

/// Prints what was checked.
fn report(checks: &[Check]) -> Result<()> {
    for check in checks {
        let mark = if check.wrong.is_empty() {
            "✓"
        } else {
            "✗ expected, but not so:"
        };
        println!("{mark} {}", check.title);
        for problem in &check.wrong {
            println!("    {problem}");
        }
    }
    let wrong: usize = checks.iter().map(|check| check.wrong.len()).sum();
    if wrong > 0 {
        bail!("{wrong} things are wrong, as listed above");
    }
    Ok(())
}
