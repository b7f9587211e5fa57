//! What librdkafka reports beside records: rebalances, statistics, errors and its log.
//!
//! Invariant: a partition of a captured table begins where the group has committed, or at its first record if the
//! group never has.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rdkafka::{
    ClientContext, Offset, Statistics, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol},
    error::{KafkaError, KafkaResult},
    types::{RDKafkaErrorCode, RDKafkaRespErr},
};
use service_kit::health::Dependency;
use tracing::{debug, info, warn};

use super::{
    change_event::HEARTBEATS_TOPIC,
    hops::Expected,
    notification::NOTIFICATION_TOPIC,
    status::{Partition, Report, Status},
};
use crate::metrics::ChatMetrics;

/// How long the group's coordinator may take to tell what was committed.
const COMMITTED_BOUND: Duration = Duration::from_secs(10);

/// Where the partitions of a topic begin when they are assigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Behind what the group has committed.
    Committed,
    /// At the first record, each time: they are few, and may be read again to no further effect. So it does not
    /// matter whether the topic has kept what a committed offset stands for.
    First,
}

/// What Debezium says beside changes is in a topic of its own; all others are captured tables.
pub fn begin_of(topic: &str) -> Begin {
    if topic.starts_with(NOTIFICATION_TOPIC) {
        Begin::First
    } else {
        Begin::Committed
    }
}

/// Takes what librdkafka reports beside records.
#[derive(Clone)]
pub struct Context {
    pub kafka: Dependency,
    pub status: Arc<Status>,
    pub metrics: ChatMetrics,
    /// Whether the session with the group has run out, so that its partitions may be others' by now.
    pub left_behind: Arc<AtomicBool>,
    /// Whether partitions were assigned since it was last seen that each has an owner.
    pub unchecked: Arc<AtomicBool>,
    /// Where the next record of each assigned partition is expected.
    pub expected: Arc<Mutex<Expected>>,
    /// Partitions that went back behind what the group has committed. librdkafka commits nothing of them by
    /// itself until they have come as far again.
    pub gone_back: Arc<Mutex<HashSet<(String, i32)>>>,
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        // Besides the configured addresses, which have no id, there are the cluster's brokers.
        if statistics
            .brokers
            .values()
            .any(|broker| broker.nodeid >= 0 && broker.state == "UP")
        {
            self.kafka.up();
        } else {
            self.kafka.down("no broker is connected");
        }
        let now = Instant::now();
        self.status.change(|status| {
            for (topic, state) in &statistics.topics {
                for (number, partition) in &state.partitions {
                    let report = Report {
                        next: partition.app_offset,
                        end: partition.hi_offset,
                        lag: partition.consumer_lag,
                    };
                    status.report(topic, *number, report, now);
                }
            }
        });
        self.tell_lag();
    }

    fn error(&self, error: KafkaError, reason: &str) {
        warn!(%error, "Kafka client: {reason}");
    }

    /// Whether it is an error for this service, what librdkafka calls one, shows where records are received.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Debug => debug!("librdkafka: {facility} {message}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Notice => info!("librdkafka: {facility} {message}"),
            _ => warn!("librdkafka: {facility} {message}"),
        }
    }
}

impl Context {
    pub fn expected(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn gone_back(&self) -> MutexGuard<'_, HashSet<(String, i32)>> {
        self.gone_back.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_lag(&self) {
        let partitions = self.status.get().partitions;
        let tables = partitions
            .into_iter()
            .filter(|((topic, _), _)| begin_of(topic) == Begin::Committed);
        self.metrics
            .lag(tables.filter_map(|(key, partition)| Some((key, partition.lag?))));
    }

    fn assigned(&self, partitions: &TopicPartitionList) {
        self.status.change(|status| {
            for partition in partitions.elements() {
                let key = (partition.topic().to_owned(), partition.partition());
                status.partitions.insert(key, Partition::default());
            }
        });
    }

    fn revoked(&self, partitions: &TopicPartitionList) {
        self.status.change(|status| {
            for partition in partitions.elements() {
                let topic = partition.topic();
                status
                    .partitions
                    .remove(&(topic.to_owned(), partition.partition()));
                if topic.ends_with(HEARTBEATS_TOPIC) {
                    status.heartbeat = None;
                }
            }
        });
        for partition in partitions.elements() {
            let (topic, partition) = (partition.topic(), partition.partition());
            self.expected().revoke(topic, partition);
            self.gone_back().remove(&(topic.to_owned(), partition));
        }
        self.tell_lag();
    }
}

impl ConsumerContext for Context {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let count = partitions.count();
        let done = match event {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                info!("assigned {count} partitions");
                self.left_behind.store(false, Ordering::Relaxed);
                self.unchecked.store(true, Ordering::Relaxed);
                if let Err(error) =
                    begin_where_nothing_was_committed(consumer, partitions, &mut self.expected())
                {
                    warn!(%error, "what the group has committed is not known");
                }
                self.assigned(partitions);
                match consumer.rebalance_protocol() {
                    RebalanceProtocol::Eager => consumer.assign(partitions),
                    _ => consumer.incremental_assign(partitions),
                }
            }
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS => {
                info!("revoked {count} partitions");
                if consumer.assignment_lost() {
                    self.left_behind.store(true, Ordering::Relaxed);
                }
                self.revoked(partitions);
                match consumer.rebalance_protocol() {
                    RebalanceProtocol::Eager => consumer.unassign(),
                    _ => consumer.incremental_unassign(partitions),
                }
            }
            _ => Err(KafkaError::Rebalance(event.into())),
        };
        if let Err(error) = done {
            warn!(%error, "the group could not be balanced");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        match result {
            Ok(()) => {
                let committed = offsets.elements();
                let committed = committed
                    .iter()
                    .filter(|partition| matches!(partition.offset(), Offset::Offset(_)));
                let mut gone_back = self.gone_back();
                for partition in committed {
                    gone_back.remove(&(partition.topic().to_owned(), partition.partition()));
                }
            }
            Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => {}
            Err(error) => warn!(%error, "offsets were not committed; they are tried again"),
        }
    }
}

/// Lets partitions that the group never committed begin at their first record; the client's own reset
/// does not tell them from partitions whose committed offset was removed.
fn begin_where_nothing_was_committed(
    consumer: &BaseConsumer<Context>,
    partitions: &mut TopicPartitionList,
    expected: &mut Expected,
) -> KafkaResult<()> {
    if partitions.count() == 0 {
        return Ok(());
    }
    let committed = consumer.committed_offsets(partitions.clone(), COMMITTED_BOUND)?;
    for known in committed.elements() {
        let begin = match begin_of(known.topic()) {
            Begin::First => Offset::Beginning,
            Begin::Committed => {
                let offset = known.offset().to_raw().filter(|offset| *offset >= 0);
                expected.assign(known.topic(), known.partition(), offset);
                if known.offset() != Offset::Invalid {
                    continue;
                }
                Offset::Beginning
            }
        };
        partitions.set_partition_offset(known.topic(), known.partition(), begin)?;
    }
    Ok(())
}
