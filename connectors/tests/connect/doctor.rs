//! `connectors::doctor` on a capture that is broken in every way that servers in use allow, a few at a time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use connectors::{
    ConnectApi,
    access::Access,
    doctor::{Finding, Level, Patient, examine},
    registry::RegistryApi,
    schemas::{Half, history},
    shipped,
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

use crate::world::{World, eventually};

const BOUND: Duration = Duration::from_secs(30);

/// Findings by check.
type Seen = BTreeMap<&'static str, Finding>;

/// The connector's own role may see all that is looked at.
fn access(world: &World) -> Access {
    let postgres = &world.stack.postgres;
    Access {
        database_url: Some(format!(
            "postgres://debezium@{}:{}/{}",
            postgres.host(),
            postgres.port(),
            world.name
        )),
        registry_url: Some(world.stack.registry.confluent_url()),
        kafka: Some(world.stack.kafka.bootstrap()),
        kafka_properties: Vec::new(),
    }
}

fn patient(world: &World) -> Patient {
    Patient {
        connector: world.name.clone(),
        role: shipped::ROLE.to_owned(),
        group: world.name.clone(),
        fence_ttl: Duration::from_hours(30 * 24),
    }
}

async fn look(world: &World) -> Seen {
    let findings = examine(&world.api, &access(world), &patient(world)).await;
    by_check(findings)
}

fn by_check(findings: Vec<Finding>) -> Seen {
    findings
        .into_iter()
        .map(|finding| (finding.check, finding))
        .collect()
}

/// What is not ok, as text.
fn complaints(seen: &Seen) -> Vec<String> {
    let bad = seen.values().filter(|finding| finding.level != Level::Ok);
    bad.map(|finding| format!("{finding:?}")).collect()
}

/// Looks until each of these checks has that level and says that.
async fn until(world: &mut World, expected: &[(&str, Level, &str)]) -> Seen {
    eventually("diagnosed", async || {
        let seen = look(world).await;
        for (check, level, text) in expected {
            let finding = &seen[check];
            if finding.level != *level || !finding.seen.contains(text) {
                return Err(format!("{check} is not {level} with {text:?}: {finding:?}"));
            }
            assert!(*level == Level::Ok || finding.next.is_some(), "{finding:?}");
        }
        Ok(seen)
    })
    .await
}

fn client(world: &World) -> ClientConfig {
    let mut client = ClientConfig::new();
    client
        .set("bootstrap.servers", world.stack.kafka.bootstrap())
        .set("group.id", &world.name)
        .set("enable.auto.commit", "false")
        .set("session.timeout.ms", "6000")
        .set("auto.offset.reset", "earliest");
    client
}

/// A member of the group that reads and commits, until it is told to stop. What chat-service is here.
struct Member {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Member {
    fn join(world: &World, topic: &str) -> Self {
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

    async fn leave(self) {
        self.stop.store(true, Ordering::Relaxed);
        tokio::task::spawn_blocking(move || self.thread.join().unwrap())
            .await
            .unwrap();
    }
}

async fn insert(world: &mut World, posts: usize) {
    world
        .execute(&format!(
            "INSERT INTO trade_posts (seller_id, title, body, price, category)
             SELECT 7, '자전거', '', 1, '생활' FROM generate_series(1, {posts})"
        ))
        .await;
}

async fn ask(world: &World, method: reqwest::Method, what: &str) {
    let url = format!("{}/connectors/{}/{what}", world.stack.connect.url(), world.name);
    let answer = reqwest::Client::new().request(method, url).send().await.unwrap();
    assert!(
        answer.status().is_success(),
        "{what}: {}",
        answer.text().await.unwrap()
    );
}

async fn set_topic(world: &World, topic: &str, key: &str, value: &str) {
    let admin: AdminClient<DefaultClientContext> = client(world).create().unwrap();
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(key, value);
    let done = admin
        .alter_configs([&change], &AdminOptions::new())
        .await
        .unwrap();
    assert!(done.iter().all(Result::is_ok), "{done:?}");
}

/// Of the whole PostgreSQL, which other tests use too.
async fn set_server(world: &mut World, change: &str) {
    world.execute(&format!("ALTER SYSTEM {change}")).await;
    world.execute("SELECT pg_reload_conf()").await;
}

/// Writes a record as somebody who should not.
fn produce(world: &World, topic: &str, key: &[u8], age: Duration) {
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
async fn empty_topic(world: &World, topic: &str) {
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
        "thief",
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

#[tokio::test]
async fn every_fault_of_a_capture_is_told() {
    use Level::{Ok, Warning, Wrong};
    let mut world = World::new("doctored").await;
    let topic = "doctored.public.trade_posts";
    world.set("poll.interval.ms", "10");
    insert(&mut world, 5).await;
    world.apply().await.unwrap();
    let registry = RegistryApi::new(&world.stack.registry.confluent_url()).unwrap();

    // Healthy: no finding but ok.
    let member = Member::join(&world, topic);
    eventually("captured", async || {
        registry
            .latest(&format!("{topic}-value"))
            .await
            .unwrap()
            .ok_or(())
    })
    .await;
    let level = |seen: &Seen| (seen["compatibility"].level, seen["compatibility"].seen.clone());
    let seen = look(&world).await;
    assert_eq!(level(&seen).0, Warning, "{seen:?}");
    for half in Half::BOTH {
        registry
            .set_compatibility(&half.subject(topic), "BACKWARD")
            .await
            .unwrap();
    }
    eventually("healthy", async || match complaints(&look(&world).await) {
        none if none.is_empty() => Result::Ok(()),
        some => Err(some),
    })
    .await;

    // While it runs.
    let sql = "ALTER TABLE trade_posts REPLICA IDENTITY NOTHING;
         ALTER PUBLICATION trade_cdc SET TABLE trade_posts, debezium_signal;
         ALTER PUBLICATION trade_cdc SET (publish = 'insert, update, delete');
         REVOKE INSERT ON debezium_signal FROM debezium;
         GRANT SELECT (body) ON trade_posts TO debezium;";
    world.execute(sql).await;
    set_topic(&world, topic, "cleanup.policy", "compact").await;
    eventually("told", async || {
        // The connector writes the next one within five seconds.
        world
            .execute("UPDATE debezium_heartbeat SET beat_at = now() - interval '1 hour'")
            .await;
        let seen = look(&world).await;
        match &seen["heartbeat"] {
            told if told.level == Wrong => Result::Ok(()),
            other => Err(other.clone()),
        }
    })
    .await;
    until(
        &mut world,
        &[
            ("replica-identity", Wrong, "NOTHING"),
            ("publication", Wrong, "body"),
            ("publication", Wrong, "leaves out TRUNCATE"),
            ("publication", Wrong, "public.debezium_heartbeat is not in it"),
            ("grants", Wrong, "INSERT on public.debezium_signal"),
            ("retention", Warning, "compact"),
            ("running", Ok, "RUNNING"),
        ],
    )
    .await;
    let sql = "ALTER TABLE trade_posts REPLICA IDENTITY DEFAULT;
         ALTER PUBLICATION trade_cdc SET TABLE trade_posts (id, seller_id, title, status), debezium_signal, debezium_heartbeat;
         ALTER PUBLICATION trade_cdc SET (publish = 'insert, update, delete, truncate');
         GRANT INSERT ON debezium_signal TO debezium;";
    world.execute(sql).await;
    set_topic(&world, topic, "cleanup.policy", "delete").await;

    // Stopped, its slot held by somebody else, and nobody reads the topic.
    ask(&world, reqwest::Method::PUT, "stop").await;
    member.leave().await;
    until(
        &mut world,
        &[
            ("running", Wrong, "STOPPED"),
            ("slot", Warning, "nobody reads"),
            ("grants", Warning, "body"),
            ("group", Wrong, "no members"),
            ("slot-gap", Ok, ""),
        ],
    )
    .await;
    let holder = hold(&world, "doctored").await;
    set_server(&mut world, "SET max_wal_size = '32MB'").await;
    world
        .execute("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1000000)) FROM generate_series(1, 128)")
        .await;
    world.set("skipped.operations", "t");
    world.api.put_config(&world.name, &world.config).await.unwrap();
    produce(
        &world,
        topic,
        &[0, 0x7f, 0, 0, 0],
        Duration::from_secs(6 * 24 * 3600 + 80_000),
    );
    let lacking = history::for_topic(Half::Value, topic).replace(r#"{"name":"title","type":"string"},"#, "");
    for half in Half::BOTH {
        registry
            .set_compatibility(&half.subject(topic), "NONE")
            .await
            .unwrap();
    }
    registry
        .register(&format!("{topic}-value"), &lacking)
        .await
        .unwrap();
    until(
        &mut world,
        &[
            ("slot", Wrong, "held by somebody else"),
            ("slot", Wrong, "thief"),
            ("wal-status", Warning, "extended"),
            ("config", Wrong, "skipped.operations"),
            ("retention", Wrong, "unread"),
            ("schema-ids", Wrong, "2130706432"),
            ("compatibility", Warning, "NONE"),
            ("reader-schemas", Wrong, "after.title is missing"),
        ],
    )
    .await;
    set_server(&mut world, "RESET max_wal_size").await;
    drop(holder);

    // The slot is lost, and records are removed unread.
    eventually("dropped", async || {
        sqlx::query("SELECT pg_drop_replication_slot('doctored')")
            .execute(&mut world.database)
            .await
    })
    .await;
    produce(&world, topic, b"no header", Duration::ZERO);
    until(
        &mut world,
        &[
            ("slot", Wrong, "there is no slot"),
            ("slot-gap", Wrong, "the slot was lost"),
            ("schema-ids", Wrong, "does not begin with"),
            ("expired", Ok, ""),
        ],
    )
    .await;
    empty_topic(&world, topic).await;

    // Another takes its name, after something was deleted.
    world.execute("DELETE FROM trade_posts WHERE id = 1").await;
    world
        .execute("SELECT pg_create_logical_replication_slot('doctored', 'pgoutput')")
        .await;
    until(
        &mut world,
        &[
            ("slot-gap", Wrong, "the slot was made anew"),
            ("expired", Wrong, "partition 0"),
            ("offset", Ok, ""),
        ],
    )
    .await;
    ask(&world, reqwest::Method::DELETE, "offsets").await;
    until(&mut world, &[("offset", Wrong, "reset")]).await;
    world.end().await;
}

#[tokio::test]
async fn what_does_not_answer_is_said_and_the_rest_is_looked_at() {
    let mut world = World::new("unanswered").await;
    let nobody = ConnectApi::new("http://127.0.0.1:1").unwrap();
    let elsewhere = Access {
        registry_url: Some(world.stack.registry.url().to_owned()),
        kafka: Some("127.0.0.1:1".to_owned()),
        ..access(&world)
    };
    let seen = by_check(examine(&nobody, &elsewhere, &patient(&world)).await);
    for (check, text) in [
        ("connect", "cannot be reached"),
        ("registry", "/apis/ccompat/v7"),
        ("kafka", ""),
        // Not made yet, and the shipped one's name.
        ("slot", "there is no slot trade_cdc"),
    ] {
        assert_eq!(seen[check].level, Level::Wrong, "{:?}", seen[check]);
        assert!(seen[check].seen.contains(text), "{:?}", seen[check]);
    }
    for check in ["plugin", "running", "topic", "subjects", "slot-gap"] {
        assert_eq!(seen[check].level, Level::Unseen, "{:?}", seen[check]);
    }
    assert_eq!(seen["publication"].level, Level::Ok, "{:?}", seen["publication"]);

    // Nothing was captured yet, and two databases that are none.
    let seen = look(&world).await;
    assert_eq!(seen["config"].level, Level::Wrong, "{:?}", seen["config"]);
    for check in ["subjects", "topic"] {
        assert_eq!(seen[check].level, Level::Warning, "{:?}", seen[check]);
    }
    world
        .execute("DROP PUBLICATION trade_cdc; DROP TABLE trade_posts")
        .await;
    let seen = look(&world).await;
    for check in ["publication", "replica-identity", "grants"] {
        assert_eq!(seen[check].level, Level::Wrong, "{:?}", seen[check]);
    }
    let nowhere = Access {
        database_url: Some("postgres://postgres@127.0.0.1:1/trade".to_owned()),
        ..Access::default()
    };
    let seen = by_check(examine(&world.api, &nowhere, &patient(&world)).await);
    assert_eq!(seen["database"].level, Level::Wrong, "{:?}", seen["database"]);
    assert_eq!(seen["kafka"].level, Level::Unseen, "{:?}", seen["kafka"]);
    world.end().await;
}
