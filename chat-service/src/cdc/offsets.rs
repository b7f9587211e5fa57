//! How far a captured table's topic goes, and how far the group has read it: asked beside the consumer, which
//! knows its own partitions alone.

use std::{collections::HashMap, sync::Arc, time::Duration};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};

use super::consumer::address;
use crate::{config::KafkaConfig, store::reconciliations::End};

/// How long Kafka may take for each answer.
const BOUND: Duration = Duration::from_secs(5);

/// Asks for offsets, and takes no part in the group.
#[derive(Clone)]
pub struct Offsets {
    consumer: Arc<BaseConsumer>,
}

impl Offsets {
    /// # Errors
    /// If librdkafka does not know a property or its value.
    pub fn new(config: &KafkaConfig) -> KafkaResult<Self> {
        let mut client = ClientConfig::new();
        address(&mut client, config);
        client
            .set("enable.auto.commit", "false")
            .set_log_level(RDKafkaLogLevel::Warning);
        Ok(Self {
            consumer: Arc::new(client.create()?),
        })
    }

    /// The end of each partition of the topic that has records; none if there is no such topic yet.
    ///
    /// # Errors
    /// If Kafka does not answer in time.
    pub async fn ends(&self, topic: String) -> KafkaResult<Vec<End>> {
        let Self { consumer } = self.clone();
        blocking(move || {
            let metadata = consumer.fetch_metadata(Some(&topic), BOUND)?;
            let mut ends = Vec::new();
            for found in metadata.topics() {
                match found.error().map(RDKafkaErrorCode::from) {
                    Some(RDKafkaErrorCode::UnknownTopicOrPartition) => return Ok(Vec::new()),
                    Some(error) => return Err(KafkaError::MetadataFetch(error)),
                    None => {}
                }
                for partition in found.partitions() {
                    let (begin, end) = consumer.fetch_watermarks(&topic, partition.id(), BOUND)?;
                    // Of an empty one there is nothing to read, and nothing to commit.
                    if begin < end {
                        ends.push(End {
                            partition: partition.id(),
                            offset: end,
                        });
                    }
                }
            }
            Ok(ends)
        })
        .await
    }

    /// Whether the group has carried out everything before `ends` of the topic.
    ///
    /// # Errors
    /// If Kafka does not answer in time.
    pub async fn has_passed(&self, topic: String, ends: Vec<End>) -> KafkaResult<bool> {
        let Self { consumer } = self.clone();
        blocking(move || {
            let mut asked = TopicPartitionList::with_capacity(ends.len());
            for end in &ends {
                asked.add_partition(&topic, end.partition);
            }
            let committed = consumer.committed_offsets(asked, BOUND)?;
            let committed: HashMap<i32, i64> = committed
                .elements()
                .iter()
                .filter_map(|element| match element.offset() {
                    Offset::Offset(offset) => Some((element.partition(), offset)),
                    _ => None,
                })
                .collect();
            let mut ends = ends.iter();
            Ok(ends.all(|end| {
                committed
                    .get(&end.partition)
                    .is_some_and(|offset| *offset >= end.offset)
            }))
        })
        .await
    }
}

/// librdkafka's questions block the thread that asks.
async fn blocking<T: Send + 'static>(
    ask: impl FnOnce() -> KafkaResult<T> + Send + 'static,
) -> KafkaResult<T> {
    let cancelled = KafkaError::Canceled;
    tokio::task::spawn_blocking(ask).await.unwrap_or(Err(cancelled))
}

impl std::fmt::Debug for Offsets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offsets").finish_non_exhaustive()
    }
}
