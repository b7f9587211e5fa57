//! How the consumer is doing: what it is assigned, how far it is, and what it waits for.
//!
//! Invariant: this is told by the consumer and the pipeline, and asked by metrics and operators; it
//! decides nothing but which partitions stand still.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use mongodb::bson::DateTime;

/// A partition that has not moved for so long, though it has records, stands still.
const STANDS_STILL_AFTER: Duration = Duration::from_mins(1);

/// Shared by all who tell and ask.
#[derive(Debug, Default)]
pub struct Status(Mutex<State>);

/// What is known now.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// By topic and number.
    pub partitions: BTreeMap<(String, i32), Partition>,
    pub waiting: Option<Waiting>,
    /// The last record that took effect.
    pub last_effect: Option<Effect>,
    /// Debezium's last heartbeat; only where this instance is assigned its topic.
    pub heartbeat: Option<DateTime>,
    /// How often changes may have been missed; unknown until MongoDB was asked.
    pub suspected_gaps: Option<u64>,
    /// Whether a batch takes long, so that no records are taken meanwhile.
    held: bool,
}

/// An assigned partition.
#[derive(Clone, Debug, Default)]
pub struct Partition {
    /// The next offset to be read.
    pub next: Option<i64>,
    /// The offset behind the last record.
    pub end: Option<i64>,
    pub lag: Option<i64>,
    moved: Option<Instant>,
}

/// Why a batch is tried again and again.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Few values; see [`super::error::Failure::cause`].
    pub cause: &'static str,
    pub detail: String,
    pub since: DateTime,
    pub tries: u32,
}

#[derive(Clone, Copy, Debug)]
pub struct Effect {
    pub committed_at: DateTime,
    pub at: DateTime,
}

/// What librdkafka reports of a partition; -1 and below where it does not know.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub next: i64,
    pub end: i64,
    pub lag: i64,
}

impl Status {
    pub fn get(&self) -> State {
        self.state().clone()
    }

    /// Changes what is known.
    pub fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.state())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The batch at hand takes long, or is done.
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// The batch failed and is tried again. Answers whether this is news.
    pub fn wait(&mut self, cause: &'static str, detail: String, now: DateTime) -> bool {
        match &mut self.waiting {
            Some(waiting) if waiting.cause == cause => {
                waiting.detail = detail;
                waiting.tries += 1;
                false
            }
            waiting => {
                *waiting = Some(Waiting {
                    cause,
                    detail,
                    since: now,
                    tries: 1,
                });
                true
            }
        }
    }

    /// Takes over what is reported of an assigned partition.
    pub fn report(&mut self, topic: &str, number: i32, report: Report, now: Instant) {
        let Some(partition) = self.partitions.get_mut(&(topic.to_owned(), number)) else {
            return;
        };
        let known = |offset: i64| (offset >= 0).then_some(offset);
        let next = known(report.next);
        if self.held || next != partition.next || report.lag <= 0 || partition.moved.is_none() {
            partition.moved = Some(now);
        }
        partition.next = next;
        partition.end = known(report.end);
        partition.lag = known(report.lag);
    }

    /// The partitions that have records and do not move. Each is named once per time to stand still.
    pub fn standing_still(&mut self, now: Instant) -> Vec<(String, i32)> {
        let mut found = Vec::new();
        for (key, partition) in &mut self.partitions {
            let has_records = partition.lag.is_some_and(|lag| lag > 0);
            let still = partition
                .moved
                .is_some_and(|moved| now.duration_since(moved) >= STANDS_STILL_AFTER);
            if has_records && still && !self.held {
                partition.moved = Some(now);
                found.push(key.clone());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "trade.public.trade_posts";

    fn assigned() -> State {
        let mut state = State::default();
        state
            .partitions
            .insert((TOPIC.to_owned(), 0), Partition::default());
        state
    }

    fn report(next: i64, lag: i64) -> Report {
        Report {
            next,
            end: next + lag,
            lag,
        }
    }

    #[test]
    fn a_partition_with_records_that_does_not_move_is_found() {
        let begin = Instant::now();
        let mut state = assigned();
        state.report(TOPIC, 0, report(5, 10), begin);
        let almost = begin + STANDS_STILL_AFTER / 2;
        state.report(TOPIC, 0, report(5, 20), almost);
        assert!(state.standing_still(almost).is_empty());
        let after = begin + STANDS_STILL_AFTER;
        assert_eq!(state.standing_still(after), [(TOPIC.to_owned(), 0)]);
        assert!(state.standing_still(after).is_empty(), "once per minute");
    }

    #[test]
    fn one_that_moves_or_has_nothing_or_waits_for_a_batch_is_not() {
        let begin = Instant::now();
        let later = begin + STANDS_STILL_AFTER;
        let mut moves = assigned();
        moves.report(TOPIC, 0, report(5, 10), begin);
        moves.report(TOPIC, 0, report(6, 10), later);
        assert!(moves.standing_still(later).is_empty());
        let mut empty = assigned();
        empty.report(TOPIC, 0, report(5, 0), begin);
        assert!(empty.standing_still(later).is_empty());
        let mut held = assigned();
        held.report(TOPIC, 0, report(5, 10), begin);
        held.hold(true);
        held.report(TOPIC, 0, report(5, 10), later);
        assert!(held.standing_still(later).is_empty());
        held.hold(false);
        assert!(held.standing_still(later).is_empty(), "it just begins to move");
    }

    #[test]
    fn what_is_not_assigned_is_not_taken_over() {
        let mut state = State::default();
        state.report(TOPIC, 0, report(5, 10), Instant::now());
        assert!(state.partitions.is_empty());
    }

    #[test]
    fn the_same_cause_is_news_once() {
        let mut state = State::default();
        let now = DateTime::from_millis(0);
        assert!(state.wait("mongodb", "down".into(), now));
        assert!(!state.wait("mongodb", "still down".into(), now));
        assert!(state.wait("schema_registry", "down".into(), now));
        assert_eq!(state.waiting.map(|waiting| waiting.tries), Some(1));
    }
}
