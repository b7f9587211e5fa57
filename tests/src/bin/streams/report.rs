//! What was measured, beside what is asked for.

use std::time::Duration;

use crate::measure::{Delivery, Requests, Times};

/// Most bytes of resident memory for an open stream.
const MEMORY: usize = 12 * 1024;
/// From sending a message until its event was read.
const DELIVERY_P99_MS: f64 = 50.0;
/// Requests with streams over requests without.
const REQUESTS_P99_RATIO: f64 = 1.5;

pub struct Level {
    pub streams: usize,
    /// How long it took to open them.
    pub opened: Duration,
    /// Bytes for each stream, before and after events were sent.
    pub memory: usize,
    pub memory_after: usize,
    pub requests: Requests,
    pub delivery: Delivery,
}

pub struct Report {
    pool: u32,
    before: Requests,
    levels: Vec<Level>,
    after: Option<Requests>,
}

impl Report {
    pub fn new(pool: u32, before: Requests) -> Self {
        Self {
            pool,
            before,
            levels: Vec::new(),
            after: None,
        }
    }

    pub fn add(&mut self, level: Level) {
        self.levels.push(level);
    }

    pub fn afterwards(&mut self, requests: Requests) {
        self.after = Some(requests);
    }

    /// Prints everything. Answers whether all of it is as asked for.
    pub fn print(&self) -> bool {
        println!(
            "\nRequests (ms){:27}p50     p99     max   p99 over p99 without streams",
            ""
        );
        // Machines are not the same all the time: without streams is measured on both sides.
        let without = [Some(&self.before), self.after.as_ref()];
        let without: Vec<f64> = without
            .into_iter()
            .flatten()
            .map(|requests| ms(&requests.times, 0.99))
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "one or two")]
        let without = without.iter().sum::<f64>() / without.len() as f64;
        line("without streams, before", &self.before.times, None);
        let mut held = true;
        for level in &self.levels {
            let ratio = ms(&level.requests.times, 0.99) / without;
            held &= ratio <= REQUESTS_P99_RATIO;
            line(
                &format!("with {} streams", level.streams),
                &level.requests.times,
                Some(ratio),
            );
        }
        if let Some(after) = &self.after {
            line("without streams, after", &after.times, None);
        }

        println!(
            "\nMongoDB connections in use, at most (pools of {})   requests   live delivery",
            self.pool
        );
        println!(
            "{:<52}{:>8}{:>16}",
            "without streams", self.before.of_its_client, self.before.of_the_streams_client
        );
        for level in &self.levels {
            let requests = &level.requests;
            println!(
                "{:<52}{:>8}{:>16}",
                format!("with {} streams", level.streams),
                requests.of_its_client,
                requests.of_the_streams_client
            );
        }

        println!("\nA message to one member (ms){:12}p50     p99     max", "");
        for level in &self.levels {
            let sending = &level.delivery.from_sending;
            line(&format!("{} streams, from sending", level.streams), sending, None);
            line(
                &format!("{} streams, from its answer", level.streams),
                &level.delivery.from_answer,
                None,
            );
            held &= ms(sending, 0.99) <= DELIVERY_P99_MS;
        }

        println!("\nStreams{:10}opened in   memory each, idle   after events", "");
        for level in &self.levels {
            println!(
                "{:<16}{:>9.1} s{:>16.1} KiB{:>11.1} KiB",
                level.streams,
                level.opened.as_secs_f64(),
                kib(level.memory),
                kib(level.memory_after),
            );
            held &= level.memory.max(level.memory_after) <= MEMORY;
        }
        println!(
            "\nAsked for: memory ≤ {} KiB each, p99 from sending ≤ {DELIVERY_P99_MS} ms, requests' p99 ≤ \
             {REQUESTS_P99_RATIO}× of that without streams: {}",
            MEMORY / 1024,
            if held { "held" } else { "NOT held" }
        );
        held
    }
}

fn line(name: &str, times: &Times, ratio: Option<f64>) {
    let [p50, p99, max] = [0.5, 0.99, 1.0].map(|quantile| ms(times, quantile));
    let ratio = ratio.map(|ratio| format!("{ratio:>8.2}×")).unwrap_or_default();
    println!("{name:<36}{p50:>8.1}{p99:>8.1}{max:>8.1}{ratio}");
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of minutes at most")]
fn ms(times: &Times, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "some thousands")]
fn kib(bytes: usize) -> f64 {
    bytes as f64 / 1024.0
}
