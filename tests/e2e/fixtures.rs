//! Recorded bytes in the folders of `schemas`: reading them, what holds for all of them, and recording those of posts
//! anew.

use std::{collections::BTreeMap, fmt::Debug, fs, path::PathBuf};

use apache_avro::{Schema, reader::datum::GenericDatumReader, writer::datum::GenericDatumWriter};
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

/// Recorded bytes in a folder of `schemas`.
pub struct Fixtures {
    folder: PathBuf,
    pub schemas: WriterSchemas,
    pub records: BTreeMap<&'static str, Record>,
}

fn path(folder: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../schemas")
        .join(folder)
}

pub fn reader(schema: &Schema) -> GenericDatumReader<'static> {
    let schema: &'static Schema = Box::leak(Box::new(schema.clone()));
    GenericDatumReader::builder(schema).build().unwrap()
}

impl Fixtures {
    /// Those of trade posts.
    pub fn read() -> Self {
        Self::of("fixtures", &NAMES)
    }

    /// Those of these names.
    pub fn of(folder: &str, names: &[&'static str]) -> Self {
        let folder = path(folder);
        let record = |(offset, name): (i64, &&'static str)| {
            let part = |part| fs::read(folder.join(format!("{name}.{part}"))).ok();
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
            (*name, record)
        };
        let mut fixtures = Self {
            records: (0..).zip(names).map(record).collect(),
            schemas: WriterSchemas::default(),
            folder,
        };
        for id in fixtures.records.values().flat_map(schema_ids) {
            fixtures.schemas.insert(id, &fixtures.schema_text(id));
        }
        fixtures
    }

    fn schema_text(&self, id: u32) -> String {
        fs::read_to_string(self.folder.join(format!("schema-{id}.json"))).unwrap()
    }

    /// The text of the schema that the record's value was written with.
    pub fn schema_of(&self, name: &str) -> String {
        self.schema_text(split(self.value(name)).0)
    }

    /// The record's value, with its header.
    pub fn value(&self, name: &str) -> &[u8] {
        self.records[name].value.as_deref().unwrap()
    }

    /// The record's value as `schema` shows it, written with that.
    pub fn reduced(&self, name: &str, schema: &Schema) -> Vec<u8> {
        let (id, mut body) = split(self.value(name));
        let value = GenericDatumReader::builder(self.schemas.schema(id))
            .reader_schema(schema)
            .build()
            .unwrap()
            .read_value(&mut body)
            .unwrap();
        let writer = GenericDatumWriter::builder(schema).build().unwrap();
        writer.write_value_to_vec(value).unwrap()
    }

    /// Checks that `read` refuses each value that was cut, wherever, or continued.
    pub fn are_refused_when_damaged<T: Debug>(
        &self,
        names: &[&str],
        read: impl Fn(&str, &Schema, &[u8]) -> Result<T, MalformedRecord>,
    ) {
        for name in names {
            let (id, body) = split(self.value(name));
            let schema = self.schemas.schema(id);
            for end in 0..body.len() {
                let said = read(name, schema, &body[..end]);
                assert!(said.is_err(), "{name} cut at {end} of {}: {said:?}", body.len());
            }
            let said = read(name, schema, &[body, &[0]].concat());
            assert!(
                matches!(said, Err(MalformedRecord::TrailingBytes { left: 1, .. })),
                "{name}: {said:?}"
            );
        }
    }

    /// Checks that `read` refuses the record, and guesses nothing, where it lacks any one field of the committed schema:
    /// of those that are listed at `places` in it.
    pub fn needs_each_field<T: Debug>(
        &self,
        name: &str,
        committed: &str,
        places: &[&str],
        read: impl Fn(&Schema, &[u8]) -> Result<T, MalformedRecord>,
    ) {
        let committed: Json = serde_json::from_str(committed).unwrap();
        for place in places {
            let fields = committed.pointer(place).unwrap().as_array().unwrap();
            for number in 0..fields.len() {
                let mut lacking = committed.clone();
                let list = lacking.pointer_mut(place).unwrap().as_array_mut().unwrap();
                let removed = list.remove(number);
                let lacking = Schema::parse(&lacking).unwrap();
                let said = read(&lacking, &self.reduced(name, &lacking));
                assert!(
                    matches!(said, Err(MalformedRecord::Avro { .. })),
                    "{place} {removed}: {said:?}"
                );
            }
        }
    }

    pub fn event(&self, name: &str) -> Event {
        self.schemas.by_chat_service(&self.records[name]).unwrap()
    }

    /// What chat-service makes of a record like that one, but with this value.
    pub fn with_value(&self, name: &str, writer: &Schema, body: &[u8]) -> Result<Event, MalformedRecord> {
        let record = &self.records[name];
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

        keep(world, "fixtures", recorded).await;
    })
    .await;
}

/// Writes the records, by name, and the schemas that they were written with into a folder of `schemas`.
pub async fn keep(world: &World, folder: &str, records: BTreeMap<String, Record>) {
    let folder = path(folder);
    fs::create_dir_all(&folder).unwrap();
    let all: Vec<Record> = records.values().cloned().collect();
    for (id, text) in writer_schemas(world, &all).await.1 {
        let schema: Json = serde_json::from_str(&text).unwrap();
        let text = serde_json::to_string_pretty(&schema).unwrap();
        fs::write(folder.join(format!("schema-{id}.json")), text + "\n").unwrap();
    }
    for (name, record) in records {
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
