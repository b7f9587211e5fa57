//! A consumer that does nothing but read a topic and decode its records, for comparison.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use apache_avro::{Schema, reader::datum::GenericDatumReader};
use chat_service::cdc::{
    change_event::{self, Position},
    wire::unframe,
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::{BorrowedMessage, Headers},
};
use serde_json::Value;

use crate::{topic::Topic, world::World};

const READ_BOUND: Duration = Duration::from_secs(30);

type Readers = HashMap<u32, GenericDatumReader<'static>>;

/// Reads and decodes the topic of the trade posts whole. Answers how long that took.
///
/// # Panics
/// If a record is not understood, or a server does not answer.
pub async fn run(world: &World) -> Duration {
    let topic = world.topic();
    let ends = topic.end_offsets().await;
    let readers = readers(world, &topic).await;
    tokio::task::spawn_blocking(move || {
        let records = usize::try_from(ends.values().sum::<i64>()).expect("a count");
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &topic.bootstrap)
            .set("group.id", "reads-without-committing")
            .set("enable.auto.commit", "false")
            .create()
            .expect("librdkafka knows these properties");
        let mut all = TopicPartitionList::new();
        for partition in ends.into_keys() {
            all.add_partition_offset(&topic.name, partition, Offset::Beginning)
                .expect("an offset");
        }
        let begun = Instant::now();
        consumer.assign(&all).expect("the partitions");
        for _ in 0..records {
            let record = consumer
                .poll(READ_BOUND)
                .expect("a record in time")
                .expect("a record");
            decode(&record, &readers);
        }
        begun.elapsed()
    })
    .await
    .expect("reading does not panic")
}

fn decode(record: &BorrowedMessage<'_>, readers: &Readers) {
    let datum = |bytes| {
        let framed = unframe(bytes).expect("the wire format");
        (&readers[&framed.schema_id], framed.body)
    };
    let mut headers = record.headers().into_iter().flat_map(Headers::iter);
    let understood = change_event::decode(change_event::Record {
        position: Position {
            partition: record.partition(),
            offset: record.offset(),
        },
        key: record.key().map(datum),
        value: record.payload().map(datum),
        moved_to: headers
            .find(|header| header.key == change_event::MOVED_TO)
            .and_then(|header| header.value),
    });
    understood.expect("a record that is understood");
}

/// Of the newest schemas of key and value.
async fn readers(world: &World, topic: &Topic) -> Readers {
    let mut readers = Readers::new();
    for part in ["key", "value"] {
        let registry = world.stack.registry.confluent_url();
        let url = format!("{registry}/subjects/{}-{part}/versions/latest", topic.name);
        let answer = reqwest::get(url).await.expect("the registry answers");
        let answer: Value = answer.json().await.expect("JSON");
        let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        let text = answer["schema"].as_str().expect("a schema");
        // As long as the program lives.
        let schema: &'static Schema = Box::leak(Box::new(Schema::parse_str(text).expect("an Avro schema")));
        let reader = GenericDatumReader::builder(schema).build().expect("a reader");
        readers.insert(id.expect("an id"), reader);
    }
    readers
}
