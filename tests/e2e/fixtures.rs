//! The recorded bytes in `schemas/fixtures`: reading them, and recording them anew.

use std::{collections::BTreeMap, fs, path::PathBuf};

use apache_avro::{Schema, reader::datum::GenericDatumReader};
use chat_service::cdc::change_event::{self, ChangeEvent, Event, MalformedRecord};
use e2e::{
    eventually::eventually,
    records::{WriterSchemas, schema_ids, split},
    topic::{Record, Topic},
    world::World,
};
use local_stack::capture::Capture;
use serde_json::{Map, Value as Json, json};

use crate::{BOUND, records::writer_schemas};

/// One record of each kind, in the order of recording.
const NAMES: [&str; 9] = [
    "r",
    "c",
    "u",
    "d",
    "tombstone",
    "d-moved",
    "c-moved",
    "r-incremental",
    "t",
];
/// Has Debezium read the table again while it goes on.
const SNAPSHOT: &str = r#"INSERT INTO debezium_signal VALUES
    ('again', 'execute-snapshot', '{"data-collections": ["public.trade_posts"], "type": "incremental"}')"#;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/fixtures")
}

pub struct Fixtures {
    pub schemas: WriterSchemas,
    pub records: BTreeMap<&'static str, Record>,
}

impl Fixtures {
    pub fn read() -> Self {
        let records: BTreeMap<_, _> = NAMES
            .into_iter()
            .zip(0..)
            .map(|(name, offset)| {
                let part = |part| fs::read(folder().join(format!("{name}.{part}"))).ok();
                let headers = part("headers").unwrap_or(b"{}".to_vec());
                let headers: BTreeMap<String, String> = serde_json::from_slice(&headers).unwrap();
                let record = Record {
                    partition: 0,
                    offset,
                    key: part("key"),
                    value: part("value"),
                    headers: headers
                        .into_iter()
                        .map(|(name, text)| (name, Some(text.into())))
                        .collect(),
                };
                (name, record)
            })
            .collect();
        let mut schemas = WriterSchemas::default();
        for id in records.values().flat_map(schema_ids) {
            let file = folder().join(format!("schema-{id}.json"));
            schemas.insert(id, &fs::read_to_string(file).unwrap());
        }
        Self { schemas, records }
    }

    /// The text of the schema that the record's value was written with.
    pub fn schema_of(&self, name: &str) -> String {
        let (id, _) = split(self.value(name));
        fs::read_to_string(folder().join(format!("schema-{id}.json"))).unwrap()
    }

    /// The record's value, with its header.
    pub fn value(&self, name: &str) -> &[u8] {
        self.records[name].value.as_deref().unwrap()
    }

    pub fn event(&self, name: &str) -> Event {
        self.schemas.by_chat_service(&self.records[name]).unwrap()
    }

    /// What chat-service makes of a record like that one, but with this value.
    pub fn with_value(&self, name: &str, writer: &Schema, body: &[u8]) -> Result<Event, MalformedRecord> {
        let record = &self.records[name];
        let reader = |schema: &Schema| {
            let schema: &'static Schema = Box::leak(Box::new(schema.clone()));
            GenericDatumReader::builder(schema).build().unwrap()
        };
        let key = record
            .key
            .as_deref()
            .map(|key| (reader(self.schemas.schema(split(key).0)), split(key).1));
        change_event::decode(change_event::Record {
            position: change_event::Position {
                partition: 0,
                offset: record.offset,
            },
            key: key.as_ref().map(|(reader, key)| (reader, *key)),
            value: Some((&reader(writer), body)),
            moved_to: record.header(change_event::MOVED_TO),
        })
        .map(|understood| understood.event.unwrap())
    }
}

/// Records the files of `schemas/fixtures` anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "rewrites schemas/fixtures; run it by name after Debezium's version was changed"]
async fn record_fixtures() {
    World::run_before_capture(async |world| {
        let topic = Topic {
            name: "trade.public.trade_posts".into(),
            ..world.topic()
        };
        insert(world, 1, "스냅샷 전부터 있던 글").await;
        // With the shipped prefix: the namespace of the schemas tells it.
        let capture = Capture {
            topic_prefix: "trade".into(),
            ..Capture::of_database(&world.name)
        };
        world.capture(capture).await;
        recorded(world, &topic, "r").await;
        insert(world, 2, "자전거 팔아요").await;
        execute(world, "UPDATE trade_posts SET status = 'reserved' WHERE id = 2").await;
        execute(world, "DELETE FROM trade_posts WHERE id = 2").await;
        insert(world, 3, "번호가 바뀌는 글").await;
        execute(world, "UPDATE trade_posts SET id = 4 WHERE id = 3").await;
        recorded(world, &topic, "d-moved").await;
        execute(world, SNAPSHOT).await;
        recorded(world, &topic, "r-incremental").await;
        execute(world, "TRUNCATE trade_posts CASCADE").await;
        let recorded = recorded(world, &topic, "t").await;

        let records: Vec<Record> = recorded.values().cloned().collect();
        let folder = folder();
        for (id, text) in writer_schemas(world, &records).await.1 {
            let schema: Json = serde_json::from_str(&text).unwrap();
            let text = serde_json::to_string_pretty(&schema).unwrap();
            fs::write(folder.join(format!("schema-{id}.json")), text + "\n").unwrap();
        }
        for (name, record) in recorded {
            for (part, bytes) in [("key", record.key), ("value", record.value)] {
                if let Some(bytes) = bytes {
                    fs::write(folder.join(format!("{name}.{part}")), bytes).unwrap();
                }
            }
            let headers = record.headers.into_iter();
            let headers: Map<String, Json> = headers
                .map(|(name, value)| (name, String::from_utf8(value.unwrap()).unwrap().into()))
                .collect();
            if !headers.is_empty() {
                fs::write(
                    folder.join(format!("{name}.headers")),
                    json!(headers).to_string() + "\n",
                )
                .unwrap();
            }
        }
    })
    .await;
}

/// Waits for the kind of record called `last`, and answers the newest record of each kind.
async fn recorded(world: &World, topic: &Topic, last: &str) -> BTreeMap<String, Record> {
    eventually(format!("the record {last}"), BOUND, async || {
        let records = topic.read().await;
        let (schemas, _) = writer_schemas(world, &records).await;
        let mut recorded = BTreeMap::new();
        for record in records {
            let event = schemas.by_committed_schemas(&record);
            let renamed = matches!(
                event,
                Event::Post(ChangeEvent {
                    trade_post_id: 3 | 4,
                    ..
                })
            );
            // Of that row only the change of its id.
            if renamed && (record.value.is_none() || record.headers.is_empty()) {
                continue;
            }
            let envelope = record.value.as_deref().map(|value| schemas.envelope(value));
            let kind = match envelope {
                None => "tombstone".to_owned(),
                Some(envelope) if envelope.source.lsn.is_none() => format!("{}-incremental", envelope.op),
                Some(envelope) if record.headers.is_empty() => envelope.op,
                Some(envelope) => format!("{}-moved", envelope.op),
            };
            recorded.insert(kind, record);
        }
        if recorded.contains_key(last) {
            Ok(recorded)
        } else {
            Err(recorded.into_keys().collect::<Vec<_>>())
        }
    })
    .await
}

async fn insert(world: &World, post: i64, title: &str) {
    let insert = "INSERT INTO trade_posts (id, seller_id, title, body, price, category) VALUES ($1, 1001, $2, '본문', 1, '기타')";
    sqlx::query(insert)
        .bind(post)
        .bind(title)
        .execute(&world.sql)
        .await
        .unwrap();
}

async fn execute(world: &World, statement: &'static str) {
    sqlx::query(statement).execute(&world.sql).await.unwrap();
}
