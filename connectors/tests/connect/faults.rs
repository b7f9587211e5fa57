//! What goes wrong with a capture, on the real servers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::world::World;

const BOUND: Duration = Duration::from_secs(30);

fn client(world: &World) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", world.stack.kafka.bootstrap())
        .set("group.id", &world.name)
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .set("auto.offset.reset", "earliest")
        // A topic comes with its first record; until then the client only looks for it now and then.
        .set("topic.metadata.refresh.interval.ms", "200");
    client
}

/// A member of the group that reads and commits, until it is told to stop. What chat-service is here.
pub struct Member {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Member {
    pub fn join(world: &World, topic: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let consumer: BaseConsumer = client(world).create().unwrap();
        consumer.subscribe(&[topic]).unwrap();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) {
                    consumer.commit_message(&record, CommitMode::Sync).unwrap();
                }
            }
            consumer.unsubscribe();
        });
        Self { stop, thread }
    }

    pub async fn leave(self) {
        self.stop.store(true, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || self.thread.join().unwrap())
            .await
            .unwrap();
    }
}

pub async fn insert(world: &mut World, posts: usize) {
    world
        .execute(&format!(
            "INSERT INTO trade_posts (seller_id, title, body, price, category)
             SELECT 7, '자전거', '', 1, '생활' FROM generate_series(1, {posts})"
        ))
        .await;
}

pub async fn set_topic(world: &World, topic: &str, key: &str, value: &str) {
    let admin: AdminClient<DefaultClientContext> = client(world).create().unwrap();
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
    let done = admin
        .alter_configs([&change], &AdminOptions::new())
        .await
        .unwrap();
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}

/// Writes a record as somebody who should not.
pub fn produce(world: &World, topic: &str, key: &[u8], age: Duration) {
    let producer: BaseProducer = client(world).create().unwrap();
    let then = service_kit::clock::now().timestamp_millis() - i64::try_from(age.as_millis()).unwrap();
    let record = BaseRecord::<[u8], [u8]>::to(topic)
        .key(key)
        .partition(0)
        .timestamp(then);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    producer.flush(BOUND).unwrap();
}

/// Removes every record of the topic.
pub async fn empty_topic(world: &World, topic: &str) {
    let consumer: BaseConsumer = client(world).create().unwrap();
    let mut ends = TopicPartitionList::new();
    for partition in 0..3 {
        let (_, high) = consumer.fetch_watermarks(topic, partition, BOUND).unwrap();
        ends.add_partition_offset(topic, partition, Offset::Offset(high))
            .unwrap();
    }
    let admin: AdminClient<DefaultClientContext> = client(world).create().unwrap();
    admin.delete_records(&ends, &AdminOptions::new()).await.unwrap();
}

/// Reads through a slot over PostgreSQL's own protocol, as `pg_recvlogical` does, until it is dropped.
pub async fn hold(world: &World, slot: &str) -> TcpStream {
    hold_as(world, slot, "thief").await
}

/// The same, under the name of another application.
pub async fn hold_as(world: &World, slot: &str, application: &str) -> TcpStream {
    let message = |kind: Option<u8>, body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        kind.into_iter()
            .chain(length)
            .chain(body.iter().copied())
            .collect::<Vec<u8>>()
    };
    let mut stream = TcpStream::connect((world.stack.postgres.host(), world.stack.postgres.port()))
        .await
        .unwrap();
    let mut startup = vec![0, 3, 0, 0];
    let parameters = [
        "user",
        "postgres",
        "database",
        &world.name,
        "replication",
        "database",
        "application_name",
        application,
    ];
    for text in parameters {
        startup.extend_from_slice(text.as_bytes());
        startup.push(0);
    }
    startup.push(0);
    stream.write_all(&message(None, &startup)).await.unwrap();
    let start = format!(
        "START_REPLICATION SLOT {slot} LOGICAL 0/0 (proto_version '1', publication_names 'trade_cdc')\0"
    );
    stream
        .write_all(&message(Some(b'Q'), start.as_bytes()))
        .await
        .unwrap();
    // Until it answers that both sides may copy.
    loop {
        let kind = stream.read_u8().await.unwrap();
        let length = stream.read_u32().await.unwrap() - 4;
        let mut body = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        assert_ne!(kind, b'E', "{}", String::from_utf8_lossy(&body));
        if kind == b'W' {
            return stream;
        }
    }
}
