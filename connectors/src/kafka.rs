//! What Kafka has of the captured topic and of its consumers. A client that asks and reads: it joins no
//! group, commits nothing and writes nothing.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
    config::{FromClientConfig, RDKafkaLogLevel},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, KafkaResult},
    types::RDKafkaErrorCode,
};
use service_kit::clock;
use tokio::time::Instant;

use crate::secret::MASK;

/// For each question; brokers that cannot be reached are given up after it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// For all records that are looked at.
const READ_TIMEOUT: Duration = Duration::from_secs(8);
/// Records at the end of each partition of which the schema ids are looked at. The last one can be a
/// tombstone, which has none in its value.
const NEWEST: i64 = 4;

#[derive(Debug, Clone)]
pub struct Kafka {
    client: ClientConfig,
}

/// A topic as its brokers have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    pub partitions: usize,
    /// `delete`, `compact` or both.
    pub cleanup_policy: String,
    /// How long records are kept; `None` is for ever.
    pub retention: Option<Duration>,
    /// Most bytes of a partition that are kept; `None` is without limit.
    pub retention_bytes: Option<u64>,
}

/// A partition and how far a group has read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    pub partition: i32,
    /// Offset of the oldest record that is left.
    pub low: i64,
    /// Offset of the next record.
    pub high: i64,
    /// Offset of the first record that the group has not read; `None` if it never committed one.
    pub committed: Option<i64>,
    /// How long that record has been in the topic.
    pub unread_for: Option<Duration>,
}

impl Progress {
    /// Records that the group has not read and can still read.
    pub fn lag(&self) -> i64 {
        self.high - self.committed.unwrap_or(self.low).clamp(self.low, self.high)
    }
}

/// A consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// `Stable`, `Empty`, …
    pub state: String,
    pub members: usize,
}

/// Ids of the schemas that the newest records were written with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SchemaIds {
    pub ids: Vec<u32>,
    /// Partition and offset of a record that does not begin with the Confluent wire header.
    pub without: Option<(i32, i64)>,
}

/// Whether no broker answers, as opposed to one that refuses.
pub fn is_away(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve};
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| {
        [AllBrokersDown, BrokerTransportFailure, OperationTimedOut, Resolve].contains(&code)
    })
}

impl Kafka {
    /// `properties` are further ones of librdkafka, for TLS and SASL.
    pub fn new(bootstrap: &str, properties: &[(String, String)]) -> Self {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", bootstrap)
            .set("client.id", "connectors")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("allow.auto.create.topics", "false")
            .set_log_level(RDKafkaLogLevel::Critical);
        for (property, value) in properties {
            client.set(property, value);
        }
        Self { client }
    }

    /// The topic of that name, if there is one.
    pub async fn topic(&self, name: &str) -> KafkaResult<Option<Topic>> {
        let topic = name.to_owned();
        let partitions = self
            .blocking("connectors", move |consumer| partitions(consumer, &topic))
            .await?;
        if partitions.is_empty() {
            return Ok(None);
        }
        let settings = self.settings(name).await?;
        let setting = |key: &str| settings.get(key).map(String::as_str).unwrap_or_default();
        let number = |key: &str| {
            setting(key)
                .parse::<i64>()
                .ok()
                .and_then(|n| u64::try_from(n).ok())
        };
        Ok(Some(Topic {
            name: name.to_owned(),
            partitions: partitions.len(),
            cleanup_policy: setting("cleanup.policy").to_owned(),
            retention: number("retention.ms").map(Duration::from_millis),
            retention_bytes: number("retention.bytes"),
        }))
    }

    async fn settings(&self, topic: &str) -> KafkaResult<BTreeMap<String, String>> {
        let client: AdminClient<DefaultClientContext> = created(&self.client)?;
        let options = AdminOptions::new().request_timeout(Some(ANSWER_TIMEOUT));
        let asked = [ResourceSpecifier::Topic(topic)];
        let answers = client.describe_configs(&asked, &options).await?;
        let mut settings = BTreeMap::new();
        for answer in answers {
            let resource = answer.map_err(KafkaError::AdminOp)?;
            let set = resource.entries.into_iter();
            settings.extend(set.filter_map(|entry| Some((entry.name, entry.value?))));
        }
        Ok(settings)
    }

    /// How far the group has read each partition of a topic.
    pub async fn progress(&self, topic: &str, group: &str) -> KafkaResult<Vec<Progress>> {
        let topic = topic.to_owned();
        self.blocking(group, move |consumer| progress(consumer, &topic))
            .await
    }

    /// The group, if the brokers know of one.
    pub async fn group(&self, name: &str) -> KafkaResult<Option<Group>> {
        let group = name.to_owned();
        self.blocking("connectors", move |consumer| {
            let found = consumer.fetch_group_list(Some(&group), ANSWER_TIMEOUT)?;
            let groups = found.groups().iter();
            let mut known = groups.filter(|found| found.name() == group && found.state() != "Dead");
            Ok(known.next().map(|found| Group {
                state: found.state().to_owned(),
                members: found.members().len(),
            }))
        })
        .await
    }

    /// What stands in front of the newest records' keys and values.
    pub async fn newest_schema_ids(&self, topic: &str) -> KafkaResult<SchemaIds> {
        let topic = topic.to_owned();
        self.blocking("connectors", move |consumer| newest_schema_ids(consumer, &topic))
            .await
    }

    /// librdkafka's questions block the thread that asks.
    async fn blocking<T: Send + 'static>(
        &self,
        group: &str,
        ask: impl FnOnce(&BaseConsumer) -> KafkaResult<T> + Send + 'static,
    ) -> KafkaResult<T> {
        let mut client = self.client.clone();
        client.set("group.id", group);
        let asked = tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = created(&client)?;
            ask(&consumer)
        });
        asked.await.unwrap_or(Err(KafkaError::Canceled))
    }
}

fn created<T: FromClientConfig>(client: &ClientConfig) -> KafkaResult<T> {
    client.create().map_err(without_value)
}

/// A property that is refused is shown without its value, which can be a password.
fn without_value(error: KafkaError) -> KafkaError {
    match error {
        KafkaError::ClientConfig(code, mut description, property, _) => {
            if description.starts_with("Invalid value \"") {
                description = format!("Invalid value for configuration property \"{property}\"");
            }
            KafkaError::ClientConfig(code, description, property, MASK.to_owned())
        }
        error => error,
    }
}

/// Ids of the topic's partitions; none if there is no such topic.
fn partitions(consumer: &BaseConsumer, topic: &str) -> KafkaResult<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), ANSWER_TIMEOUT)?;
    let partitions = metadata.topics().iter().filter(|found| found.error().is_none());
    Ok(partitions
        .flat_map(|found| {
            found
                .partitions()
                .iter()
                .map(rdkafka::metadata::MetadataPartition::id)
        })
        .collect())
}

fn progress(consumer: &BaseConsumer, topic: &str) -> KafkaResult<Vec<Progress>> {
    let mut asked = TopicPartitionList::new();
    for partition in partitions(consumer, topic)? {
        asked.add_partition(topic, partition);
    }
    let mut all = Vec::new();
    for element in consumer.committed_offsets(asked, ANSWER_TIMEOUT)?.elements() {
        let partition = element.partition();
        let (low, high) = consumer.fetch_watermarks(topic, partition, ANSWER_TIMEOUT)?;
        let committed = match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        };
        all.push(Progress {
            partition,
            low,
            high,
            committed,
            unread_for: None,
        });
    }
    let unread = all.iter().filter(|progress| progress.lag() > 0);
    let starts: BTreeMap<i32, i64> = unread
        .map(|progress| (progress.partition, progress.high - progress.lag()))
        .collect();
    let now = clock::now().timestamp_millis();
    let mut since = BTreeMap::new();
    read(consumer, topic, &starts, |record| {
        since
            .entry(record.partition())
            .or_insert_with(|| record.timestamp().to_millis());
        true
    })?;
    for progress in &mut all {
        let millis = since.get(&progress.partition).copied().flatten();
        progress.unread_for =
            millis.map(|millis| Duration::from_millis((now - millis).try_into().unwrap_or(0)));
    }
    Ok(all)
}

fn newest_schema_ids(consumer: &BaseConsumer, topic: &str) -> KafkaResult<SchemaIds> {
    let mut starts = BTreeMap::new();
    let mut ends = BTreeMap::new();
    for partition in partitions(consumer, topic)? {
        let (low, high) = consumer.fetch_watermarks(topic, partition, ANSWER_TIMEOUT)?;
        if low < high {
            starts.insert(partition, low.max(high - NEWEST));
            ends.insert(partition, high);
        }
    }
    let mut seen = SchemaIds::default();
    read(consumer, topic, &starts, |record| {
        for bytes in [record.key(), record.payload()].into_iter().flatten() {
            match schema_id(bytes) {
                Some(id) if seen.ids.contains(&id) => (),
                Some(id) => seen.ids.push(id),
                None => {
                    seen.without.get_or_insert((record.partition(), record.offset()));
                }
            }
        }
        ends.get(&record.partition())
            .is_some_and(|end| record.offset() + 1 >= *end)
    })?;
    seen.ids.sort_unstable();
    Ok(seen)
}

/// The id in the Confluent wire header: byte 0, then four bytes, big-endian.
fn schema_id(bytes: &[u8]) -> Option<u32> {
    match bytes {
        [0, a, b, c, d, ..] => Some(u32::from_be_bytes([*a, *b, *c, *d])),
        _ => None,
    }
}

/// Reads each partition from its start until `enough` says so, or its end.
fn read(
    consumer: &BaseConsumer,
    topic: &str,
    starts: &BTreeMap<i32, i64>,
    mut enough: impl FnMut(&rdkafka::message::BorrowedMessage<'_>) -> bool,
) -> KafkaResult<()> {
    let mut unfinished: Vec<i32> = starts.keys().copied().collect();
    let mut assigned = TopicPartitionList::new();
    for (partition, start) in starts {
        assigned.add_partition_offset(topic, *partition, Offset::Offset(*start))?;
    }
    consumer.assign(&assigned)?;
    let begun = Instant::now();
    while !unfinished.is_empty() {
        let left = READ_TIMEOUT.saturating_sub(begun.elapsed());
        let finished = match consumer.poll(left) {
            Some(Ok(record)) if enough(&record) => record.partition(),
            Some(Ok(_)) => continue,
            Some(Err(KafkaError::PartitionEOF(partition))) => partition,
            Some(Err(error)) => return Err(error),
            None => {
                let code = RDKafkaErrorCode::OperationTimedOut;
                return Err(KafkaError::MessageConsumption(code));
            }
        };
        unfinished.retain(|partition| *partition != finished);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(low: i64, high: i64, committed: Option<i64>) -> Progress {
        Progress {
            partition: 0,
            low,
            high,
            committed,
            unread_for: None,
        }
    }

    #[tokio::test]
    async fn a_property_that_is_refused_is_shown_without_its_value() {
        for property in ["no.such.property", "security.protocol", "debug", "retries"] {
            let properties = [(property.to_owned(), "hunter2".to_owned())];
            let error = Kafka::new("127.0.0.1:1", &properties)
                .group("g")
                .await
                .unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(told.contains(property) && !told.contains("hunter"), "{told}");
        }
    }

    #[test]
    fn lag_counts_what_can_still_be_read() {
        assert_eq!(progress(0, 10, Some(7)).lag(), 3);
        assert_eq!(progress(5, 10, Some(2)).lag(), 5);
        assert_eq!(progress(5, 10, None).lag(), 5);
        assert_eq!(progress(0, 3, Some(7)).lag(), 0, "a topic that was made anew");
    }

    #[test]
    fn the_wire_header_has_the_id() {
        assert_eq!(schema_id(&[0, 0, 0, 1, 2, 9]), Some(258));
        assert_eq!(schema_id(&[0, 0, 0, 1]), None);
        assert_eq!(schema_id(b"{\"a\":1}"), None);
    }
}
