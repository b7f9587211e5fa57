//! Offsets that are not the next: told from those that are no loss.
//!
//! Invariant: a partition is followed from where the group has committed. Compaction and the markers of
//! transactions leave holes between offsets, and a rebalance goes back a little; only what the partition's own
//! first and next offset contradict counts.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rdkafka::{
    consumer::{Consumer as _, StreamConsumer},
    error::{KafkaError, KafkaResult},
};
use tokio::task::spawn_blocking;

use super::context::Context;

/// How long Kafka may take to tell a partition's ends.
const BOUND: Duration = Duration::from_secs(5);

/// Where the next record of each partition is expected.
#[derive(Debug, Default)]
pub struct Expected(HashMap<(String, i32), Next>);

#[derive(Clone, Copy, Debug)]
struct Next {
    offset: i64,
    /// Whether the group had committed anything when the partition was assigned.
    is_committed: bool,
}

/// A record that lies where none was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    pub topic: String,
    pub partition: i32,
    pub expected: i64,
    pub found: i64,
    /// Whether `expected` is known from the group. Else it is where every partition begins.
    pub is_committed: bool,
}

/// What a hop went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Records from the expected offset on were removed before they were read.
    Expired,
    /// The partition ends before the expected offset: it was made anew, or has lost its end.
    Rewound,
}

impl Expected {
    /// The partition was assigned, and goes on where the group has committed, if it has.
    pub fn assign(&mut self, topic: &str, partition: i32, committed: Option<i64>) {
        let next = Next {
            offset: committed.unwrap_or(0),
            is_committed: committed.is_some(),
        };
        self.0.insert((topic.to_owned(), partition), next);
    }

    pub fn revoke(&mut self, topic: &str, partition: i32) {
        self.0.remove(&(topic.to_owned(), partition));
    }

    /// A record was received. Answers whether it lies elsewhere than expected.
    pub fn receive(&mut self, topic: &str, partition: i32, offset: i64) -> Option<Hop> {
        let next = self.0.get_mut(&(topic.to_owned(), partition))?;
        let Next {
            offset: expected,
            is_committed,
        } = std::mem::replace(
            next,
            Next {
                offset: offset + 1,
                is_committed: true,
            },
        );
        (offset != expected).then(|| Hop {
            topic: topic.to_owned(),
            partition,
            expected,
            found: offset,
            is_committed,
        })
    }
}

impl Hop {
    /// What was lost, with the partition's first offset and that of its next record.
    pub fn lost(&self, first: i64, next: i64) -> Option<Lost> {
        if self.found > self.expected && first > self.expected {
            Some(Lost::Expired)
        } else if self.found < self.expected && next < self.expected {
            Some(Lost::Rewound)
        } else {
            None
        }
    }
}

/// The hops of a batch, and whom to ask about them.
pub(super) struct Hops {
    pub hops: Vec<Hop>,
    pub(super) consumer: Arc<StreamConsumer<Context>>,
}

impl std::fmt::Debug for Hops {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(&self.hops).finish()
    }
}

impl Hops {
    /// Those that lost something.
    pub async fn losses(&self) -> KafkaResult<Vec<(Hop, Lost)>> {
        let mut losses = Vec::new();
        for hop in &self.hops {
            let (consumer, asked) = (Arc::clone(&self.consumer), hop.clone());
            // librdkafka's questions block the thread that asks.
            let ends =
                spawn_blocking(move || consumer.fetch_watermarks(&asked.topic, asked.partition, BOUND));
            let (first, next) = ends.await.map_err(|_| KafkaError::Canceled)??;
            losses.extend(hop.lost(first, next).map(|lost| (hop.clone(), lost)));
        }
        Ok(losses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOPIC: &str = "trade.public.trade_posts";

    fn assigned(committed: Option<i64>) -> Expected {
        let mut expected = Expected::default();
        expected.assign(TOPIC, 0, committed);
        expected
    }

    #[test]
    fn a_record_that_follows_is_no_hop() {
        let mut expected = assigned(Some(5));
        for offset in 5..10 {
            assert_eq!(expected.receive(TOPIC, 0, offset), None);
        }
        assert_eq!(assigned(None).receive(TOPIC, 0, 0), None);
        assert_eq!(
            Expected::default().receive(TOPIC, 0, 7),
            None,
            "of what is not assigned nothing is known"
        );
        expected.revoke(TOPIC, 0);
        assert_eq!(expected.receive(TOPIC, 0, 20), None);
    }

    #[test]
    fn only_what_the_ends_of_the_partition_contradict_is_a_loss() {
        let hop = |committed, found| assigned(committed).receive(TOPIC, 0, found).unwrap();
        for (hop, first, next, lost) in [
            // Compaction, or the marker of a transaction.
            (hop(Some(5), 9), 0, 20, None),
            (hop(Some(5), 9), 5, 20, None),
            (hop(Some(5), 9), 6, 20, Some(Lost::Expired)),
            (hop(Some(5), 9), 9, 20, Some(Lost::Expired)),
            (hop(None, 9), 9, 20, Some(Lost::Expired)),
            // Read again after a rebalance.
            (hop(Some(5), 2), 0, 20, None),
            (hop(Some(5), 2), 0, 5, None),
            (hop(Some(5), 2), 0, 4, Some(Lost::Rewound)),
        ] {
            assert_eq!(hop.lost(first, next), lost, "{hop:?} in {first}..{next}");
        }
    }

    #[test]
    fn what_follows_a_hop_is_expected_behind_it() {
        let mut expected = assigned(None);
        let hop = expected.receive(TOPIC, 0, 9).unwrap();
        assert!(!hop.is_committed);
        assert_eq!(expected.receive(TOPIC, 0, 10), None);
        let hop = expected.receive(TOPIC, 0, 12).unwrap();
        assert_eq!((hop.expected, hop.is_committed), (11, true));
    }
}
