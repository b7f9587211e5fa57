//! A topic as it lies in Kafka: read whole, without a group, beside the service that consumes it; and the
//! faults that a topic brings, records that come again and offsets that go back.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread::sleep,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::KafkaResult,
    message::{Header, Headers, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};

use crate::eventually::eventually_is;

const ANSWER_BOUND: Duration = Duration::from_secs(10);
const READ_BOUND: Duration = Duration::from_secs(30);

/// A record with everything that Kafka keeps of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

#[derive(Clone, Debug)]
pub struct Topic {
    pub bootstrap: String,
    pub name: String,
}

impl Topic {
    /// Every record up to now, each partition's in order.
    ///
    /// # Panics
    /// If Kafka does not answer or does not have the topic.
    pub async fn read(&self) -> Vec<Record> {
        self.blocking(|topic| {
            let consumer = topic.consumer("reads-without-committing");
            let ends = topic.ends(&consumer)?;
            let mut all = TopicPartitionList::new();
            for partition in ends.keys() {
                all.add_partition_offset(&topic.name, *partition, Offset::Beginning)?;
            }
            consumer.assign(&all)?;
            let missing = usize::try_from(ends.values().sum::<i64>()).unwrap_or_default();
            let mut records = Vec::with_capacity(missing);
            while records.len() < missing {
                let record = consumer.poll(READ_BOUND).unwrap_or_else(|| {
                    panic!("{} of {missing} records of {} came", records.len(), topic.name)
                })?;
                if record.offset() < ends[&record.partition()] {
                    records.push(Record::of(&record));
                }
            }
            records.sort_by_key(|record| (record.partition, record.offset));
            Ok(records)
        })
        .await
    }

    /// Offset of the next record of each partition.
    ///
    /// # Panics
    /// If Kafka does not answer or does not have the topic.
    pub async fn end_offsets(&self) -> BTreeMap<i32, i64> {
        self.blocking(|topic| topic.ends(&topic.consumer("asks-for-offsets")))
            .await
    }

    /// What `group` has committed; 0 where it has committed nothing.
    ///
    /// # Panics
    /// If Kafka does not answer or does not have the topic.
    pub async fn committed(&self, group: &str) -> BTreeMap<i32, i64> {
        let group = group.to_owned();
        self.blocking(move |topic| {
            let consumer = topic.consumer(&group);
            let mut asked = TopicPartitionList::new();
            for partition in topic.ends(&consumer)?.into_keys() {
                asked.add_partition(&topic.name, partition);
            }
            let committed = consumer.committed_offsets(asked, ANSWER_BOUND)?;
            let offsets = committed
                .elements()
                .into_iter()
                .map(|element| match element.offset() {
                    Offset::Offset(offset) => (element.partition(), offset),
                    _ => (element.partition(), 0),
                });
            Ok(offsets.collect())
        })
        .await
    }

    /// Ids of the members of `group`, once it is balanced.
    ///
    /// # Panics
    /// If Kafka does not answer.
    pub async fn members(&self, group: &str) -> BTreeSet<String> {
        let group = group.to_owned();
        self.blocking(move |topic| {
            let consumer = topic.consumer("asks-for-members");
            let deadline = Instant::now() + ANSWER_BOUND;
            loop {
                let groups = consumer.fetch_group_list(Some(&group), ANSWER_BOUND)?;
                match groups.groups() {
                    [found] if found.state() == "Stable" => {
                        let members = found.members().iter();
                        return Ok(members.map(|member| member.id().to_owned()).collect());
                    }
                    found => assert!(Instant::now() < deadline, "{group} is not balanced: {found:?}"),
                }
                sleep(Duration::from_millis(50));
            }
        })
        .await
    }

    /// Lets `group`, which nobody is in, go on at these offsets.
    ///
    /// # Panics
    /// If Kafka does not answer or the group has members.
    pub async fn commit(&self, group: &str, offsets: BTreeMap<i32, i64>) {
        let group = group.to_owned();
        self.blocking(move |topic| {
            let mut committed = TopicPartitionList::new();
            for (partition, offset) in offsets {
                committed.add_partition_offset(&topic.name, partition, Offset::Offset(offset))?;
            }
            topic.consumer(&group).commit(&committed, CommitMode::Sync)
        })
        .await;
    }

    /// Writes records once more: behind the others of their partition, together and otherwise unchanged.
    ///
    /// # Panics
    /// If Kafka does not take them.
    pub async fn append(&self, records: Vec<Record>) {
        self.blocking(move |topic| {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", &topic.bootstrap)
                // Those of a partition are one batch, so that nothing comes between them.
                .set("linger.ms", "100")
                .create()?;
            for record in &records {
                producer
                    .send(record.to_send(&topic.name))
                    .map_err(|(error, _)| error)?;
            }
            producer.flush(ANSWER_BOUND)
        })
        .await;
    }

    /// Divides the topic into `count` partitions, more than it has.
    ///
    /// # Panics
    /// If Kafka does not do it.
    pub async fn divide_into(&self, count: usize) {
        let client: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .create()
            .expect("librdkafka knows these properties");
        let more = [NewPartitions::new(&self.name, count)];
        let made = client.create_partitions(&more, &AdminOptions::new()).await;
        let made = made.expect("Kafka answers");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        let what = format!("partitions of {}", self.name);
        eventually_is(what, ANSWER_BOUND, count, async || self.end_offsets().await.len()).await;
    }

    /// Removes the records before these offsets, as retention does in time.
    ///
    /// # Panics
    /// If Kafka does not do it.
    pub async fn remove_before(&self, offsets: &BTreeMap<i32, i64>) {
        let client: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .create()
            .expect("librdkafka knows these properties");
        let mut before = TopicPartitionList::new();
        for (partition, offset) in offsets {
            before
                .add_partition_offset(&self.name, *partition, Offset::Offset(*offset))
                .expect("an offset");
        }
        let removed = client.delete_records(&before, &AdminOptions::new()).await;
        let removed = removed.expect("Kafka answers");
        let failed: Vec<_> = removed
            .elements()
            .iter()
            .filter_map(|partition| partition.error().err())
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
    }

    /// The topics whose name contains `part`.
    ///
    /// # Panics
    /// If Kafka does not answer.
    pub async fn all_like(&self, part: &str) -> Vec<Self> {
        let part = part.to_owned();
        self.blocking(move |topic| {
            let consumer = topic.consumer("asks-for-topics");
            let metadata = consumer.fetch_metadata(None, ANSWER_BOUND)?;
            let names = metadata.topics().iter().map(|found| found.name().to_owned());
            let with_part = names.filter(|name| name.contains(&part));
            Ok(with_part
                .map(|name| Self {
                    name,
                    bootstrap: topic.bootstrap.clone(),
                })
                .collect())
        })
        .await
    }

    /// librdkafka's questions block the thread that asks.
    async fn blocking<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Self) -> KafkaResult<T> + Send + 'static,
    ) -> T {
        let topic = self.clone();
        tokio::task::spawn_blocking(move || {
            ask(&topic).unwrap_or_else(|error| panic!("the topic {}: {error}", topic.name))
        })
        .await
        .expect("asking Kafka does not panic")
    }

    fn consumer(&self, group: &str) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .create()
            .expect("librdkafka knows these properties")
    }

    /// Asks again while the topic is being made: it has partitions then and no leaders yet.
    fn ends(&self, consumer: &BaseConsumer) -> KafkaResult<BTreeMap<i32, i64>> {
        let deadline = Instant::now() + ANSWER_BOUND;
        loop {
            match self.ends_once(consumer) {
                Err(_) if Instant::now() < deadline => sleep(Duration::from_millis(50)),
                answer => return answer,
            }
        }
    }

    fn ends_once(&self, consumer: &BaseConsumer) -> KafkaResult<BTreeMap<i32, i64>> {
        let metadata = consumer.fetch_metadata(Some(&self.name), ANSWER_BOUND)?;
        let topics = metadata.topics();
        let partitions = topics
            .iter()
            .flat_map(rdkafka::metadata::MetadataTopic::partitions);
        partitions
            .map(|partition| {
                let (_, end) = consumer.fetch_watermarks(&self.name, partition.id(), ANSWER_BOUND)?;
                Ok((partition.id(), end))
            })
            .collect()
    }
}

impl Record {
    /// The value of the header of that name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|header| header.0 == name)?.1.as_deref()
    }

    fn to_send<'a>(&'a self, topic: &'a str) -> BaseRecord<'a, [u8], [u8]> {
        let mut record = BaseRecord::to(topic).partition(self.partition);
        record.key = self.key.as_deref();
        record.payload = self.value.as_deref();
        if !self.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(self.headers.len());
            record.headers = Some(self.headers.iter().fold(headers, |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: value.as_ref(),
                })
            }));
        }
        record
    }

    fn of(message: &impl Message) -> Self {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers
                .map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        }
    }
}
