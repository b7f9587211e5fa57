//! How fast to erase, or to look for what should not be there.
//!
//! Invariant: what was done within any span of time is at most the rate times the span, and one step. Time that
//! was not used is not made up for.

use std::{num::NonZeroU32, time::Duration};

use tokio::time::Instant;

/// Spaces steps out evenly.
#[derive(Debug)]
pub struct Pace {
    per_second: Option<NonZeroU32>,
    /// When the steps so far have used up their time.
    free_at: Instant,
}

impl Pace {
    /// Without a rate every step may follow at once.
    pub fn new(per_second: Option<NonZeroU32>, now: Instant) -> Self {
        Self {
            per_second,
            free_at: now,
        }
    }

    /// When a step may begin.
    pub fn next(&self) -> Instant {
        self.free_at
    }

    /// A step that began at `begun` has erased, or read, so many documents.
    pub fn used(&mut self, documents: i64, begun: Instant) {
        if let Some(per_second) = self.per_second {
            let documents = u32::try_from(documents).unwrap_or(u32::MAX);
            let time = Duration::from_secs(documents.into()) / per_second.get();
            self.free_at = self.free_at.max(begun) + time;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_span_of_time_sees_more_than_the_rate_allows_and_one_step(
            per_second in 1u32..5_000,
            steps in prop::collection::vec((1i64..1_000, 0u64..3_000), 1..60),
        ) {
            let start = Instant::now();
            let mut pace = Pace::new(NonZeroU32::new(per_second), start);
            let mut now = start;
            let mut erased = Vec::new();
            for (documents, idle) in steps {
                let begun = pace.next().max(now + Duration::from_millis(idle));
                pace.used(documents, begun);
                erased.push((begun, documents));
                now = begun;
            }
            for first in 0..erased.len() {
                let mut sum = 0;
                for (at, documents) in &erased[first..] {
                    let span = at.duration_since(erased[first].0).as_secs_f64();
                    let allowed = span * f64::from(per_second);
                    // The last step of the span is the one on top.
                    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
                    let before = sum as f64;
                    prop_assert!(before <= allowed + 0.01, "{before} in {span} s");
                    sum += documents;
                }
            }
        }

        #[test]
        fn steps_that_are_ready_follow_each_other_at_the_rate(
            per_second in 1u32..5_000,
            steps in prop::collection::vec(1i64..1_000, 1..60),
        ) {
            let start = Instant::now();
            let mut pace = Pace::new(NonZeroU32::new(per_second), start);
            for documents in &steps {
                let begun = pace.next();
                pace.used(*documents, begun);
            }
            #[expect(clippy::cast_precision_loss, reason = "some thousands")]
            let expected = steps.iter().sum::<i64>() as f64 / f64::from(per_second);
            let took = pace.next().duration_since(start).as_secs_f64();
            prop_assert!((took - expected).abs() < 0.001, "{took} s instead of {expected} s");
        }
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let start = Instant::now();
        let mut pace = Pace::new(None, start);
        pace.used(1_000_000, start);
        assert_eq!(pace.next(), start);
    }
}
