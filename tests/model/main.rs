//! The model test: rounds of operations and faults, generated from seeds, carried out on the real stack and
//! held to a simple model of what must be left.
//!
//! `MODEL_SECONDS` is how long rounds are begun; `MODEL_SEED` carries out the round of that seed only, and
//! `MODEL_STEPS` only those of its steps, such as `0-5,9`. What fails is printed with all three.
//!
//! A round is not deterministic: what happens at once is up to the machine. A seed that failed once fails
//! again often, not always; with `MODEL_SEED` and `MODEL_SECONDS` it is tried again and again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "figures, and what led to a failure")]

use std::{
    ffi::OsString,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use clap::Parser;
use e2e::world::World;
use futures_util::FutureExt;

use crate::{
    arena::Arena,
    operation::{Step, generate},
    run::Outcome,
};

mod app;
mod arena;
mod change;
mod check;
mod fault;
mod history;
mod looks;
mod operation;
mod process;
mod rooms;
mod run;
mod seen;
mod table;
mod told;

/// Without `MODEL_SECONDS`: with the servers' start and end, about five minutes.
const SECONDS: u64 = 220;
/// How long it is tried to leave steps of a failed round out.
const SHRINK_BOUND: Duration = Duration::from_mins(2);

#[derive(Debug, Parser)]
#[command(no_binary_name = true)]
struct Wanted {
    #[arg(long, env = "MODEL_SECONDS")]
    seconds: Option<u64>,
    #[arg(long, env = "MODEL_SEED")]
    seed: Option<u64>,
    #[arg(long, env = "MODEL_STEPS")]
    steps: Option<String>,
}

impl Wanted {
    /// How long rounds are begun.
    fn time(&self) -> Duration {
        let once = self.seed.map(|_| 0);
        Duration::from_secs(self.seconds.or(once).unwrap_or(SECONDS))
    }

    fn wants(&self, step: usize) -> bool {
        let Some(steps) = &self.steps else { return true };
        steps.split(',').any(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            (first.parse().unwrap()..=last.parse().unwrap()).contains(&step)
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_nothing_is_lost_left_over_or_deleted_by_mistake() {
    let wanted = Wanted::try_parse_from(std::iter::empty::<OsString>()).unwrap();
    World::run(async |world| {
        let arena = Arena::open(world).await.unwrap();
        let start = Instant::now();
        let (mut rounds, mut rooms, mut messages) = (0, 0, 0);
        while rounds == 0 || start.elapsed() < wanted.time() {
            let seed = wanted.seed.unwrap_or_else(rand::random);
            let mut steps = generate(seed);
            steps.retain(|step| wanted.wants(step.number));
            let begun = Instant::now();
            let outcome = carry_out(&arena, &steps).await;
            println!(
                "seed {seed}: {} steps, {} rooms, {} messages in {:.1?}",
                steps.len(),
                outcome.rooms,
                outcome.messages,
                begun.elapsed()
            );
            if outcome.wrong.is_empty() && wanted.seed.is_some() {
                report(&arena, seed, &steps, &outcome).await;
            }
            if !outcome.wrong.is_empty() {
                report(&arena, seed, &steps, &outcome).await;
                if !outcome.is_stuck {
                    shrink(&arena, seed, steps).await;
                }
                panic!("the round of seed {seed} failed: {:#?}", outcome.wrong);
            }
            rounds += 1;
            rooms += outcome.rooms;
            messages += outcome.messages;
        }
        println!(
            "{rounds} rounds in {:.0?}: {rooms} rooms, {messages} messages, {} commands stopped on their way",
            start.elapsed(),
            arena.stops()
        );
        if wanted.seed.is_none() {
            assert!(rooms > 0 && messages > 0 && arena.stops() > 0, "much happened");
        }
    })
    .await;
}

/// Carries the round out. A panic, of a wait that took too long, is one more thing that went wrong.
async fn carry_out(arena: &Arena<'_>, steps: &[Step]) -> Outcome {
    let round = arena.begin();
    let finished = AssertUnwindSafe(arena.carry_out(&round, steps)).catch_unwind();
    match finished.await {
        Ok(wrong) => Outcome {
            wrong,
            ..round.outcome()
        },
        Err(panic) => Outcome {
            wrong: vec![panic.downcast_ref::<String>().cloned().unwrap_or_default()],
            is_stuck: true,
            ..round.outcome()
        },
    }
}

async fn report(arena: &Arena<'_>, seed: u64, steps: &[Step], outcome: &Outcome) {
    println!("what happened, in seconds:");
    for (time, what) in &outcome.timeline {
        println!("{:>8.3} {what}", time.as_secs_f64());
    }
    println!("{}", arena.state().await);
    println!("what is wrong:");
    outcome.wrong.iter().for_each(|wrong| println!("  {wrong}"));
    println!("MODEL_SEED={seed} MODEL_STEPS={}", numbers(steps));
}

/// Leaves steps out as long as what is left fails. What fails now and then only may be left in.
async fn shrink(arena: &Arena<'_>, seed: u64, mut steps: Vec<Step>) {
    let deadline = Instant::now() + SHRINK_BOUND;
    let mut size = steps.len().div_ceil(2);
    while size > 0 {
        let mut first = 0;
        while first < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(first..steps.len().min(first + size));
            arena.clear().await;
            let outcome = carry_out(arena, &fewer).await;
            if outcome.is_stuck || Instant::now() >= deadline {
                return;
            }
            if outcome.wrong.is_empty() {
                first += size;
            } else {
                steps = fewer;
                println!("\nfails also with {} steps:", steps.len());
                report(arena, seed, &steps, &outcome).await;
            }
        }
        size /= 2;
    }
}

/// As `MODEL_STEPS` has them.
fn numbers(steps: &[Step]) -> String {
    let runs = steps.chunk_by(|one, next| one.number + 1 == next.number);
    let runs = runs.map(|run| match run {
        [first, .., last] => format!("{}-{}", first.number, last.number),
        _ => run[0].number.to_string(),
    });
    runs.collect::<Vec<_>>().join(",")
}
