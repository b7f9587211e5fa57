//! Recorded bytes of real records about keywords, read by the committed reader schemas and by chat-service.

use std::{collections::BTreeMap, fs, path::PathBuf};

use apache_avro::{
    Schema, reader::datum::GenericDatumReader, schema_compatibility::SchemaCompatibility, types::Value,
    writer::datum::GenericDatumWriter,
};
use chat_service::cdc::change_event::{
    Event, Keyword, KeywordChange, KeywordEvent, MalformedRecord, Position, Record as Parts, decode_keyword,
};
use e2e::{
    eventually::eventually,
    records::{KEYWORD_ENVELOPE_SCHEMA, KEYWORD_KEY_SCHEMA, WriterSchemas, schema_ids, split},
    topic::{Record, Topic},
    world::World,
};
use local_stack::capture::Capture;
use serde_json::Value as Json;

use crate::{BOUND, records::writer_schemas};

/// One record of each kind, in the order of recording.
const NAMES: [&str; 6] = ["r", "c", "u", "d", "tombstone", "t"];
const VALUES: [&str; 5] = ["r", "c", "u", "d", "t"];
const MEMBER: i64 = 1001;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/keyword-fixtures")
}

pub fn recorded() -> (WriterSchemas, BTreeMap<&'static str, Record>) {
    let records: BTreeMap<_, _> = NAMES
        .into_iter()
        .zip(0..)
        .map(|(name, offset)| {
            let part = |part| fs::read(folder().join(format!("{name}.{part}"))).ok();
            let record = Record {
                partition: 0,
                offset,
                key: part("key"),
                value: part("value"),
                headers: Vec::new(),
            };
            (name, record)
        })
        .collect();
    let mut schemas = WriterSchemas::default();
    for id in records.values().flat_map(schema_ids) {
        let file = folder().join(format!("schema-{id}.json"));
        schemas.insert(id, &fs::read_to_string(file).unwrap());
    }
    (schemas, records)
}

pub fn reader(schema: &Schema) -> GenericDatumReader<'static> {
    let schema: &'static Schema = Box::leak(Box::new(schema.clone()));
    GenericDatumReader::builder(schema).build().unwrap()
}

/// The record's value as `schema` shows it, written with that.
pub fn reduced(schemas: &WriterSchemas, record: &Record, schema: &Schema) -> Vec<u8> {
    let (id, mut body) = split(record.value.as_deref().unwrap());
    let value = GenericDatumReader::builder(schemas.schema(id))
        .reader_schema(schema)
        .build()
        .unwrap()
        .read_value(&mut body)
        .unwrap();
    let writer = GenericDatumWriter::builder(schema).build().unwrap();
    writer.write_value_to_vec(value).unwrap()
}

/// The text of the schema that the record's value was written with.
pub fn schema_of(record: &Record) -> String {
    let (id, _) = split(record.value.as_deref().unwrap());
    fs::read_to_string(folder().join(format!("schema-{id}.json"))).unwrap()
}

/// What chat-service makes of the record with this value in place of its own.
pub fn with_value(
    schemas: &WriterSchemas,
    record: &Record,
    schema: &Schema,
    body: &[u8],
) -> Result<Event, MalformedRecord> {
    let key = record.key.as_deref().map(split);
    let key = key.map(|(id, body)| (reader(schemas.schema(id)), body));
    decode_keyword(Parts {
        position: Position {
            partition: 0,
            offset: record.offset,
        },
        key: key.as_ref().map(|(reader, body)| (reader, *body)),
        value: Some((&reader(schema), body)),
        moved_to: None,
    })
    .map(|understood| understood.event.unwrap())
}

#[test]
fn recorded_records_say_what_was_done() {
    let (schemas, records) = recorded();
    let mut last = 0;
    let mut later = |lsn: i64| {
        assert!(last < lsn, "{lsn} after {last}");
        last = lsn;
    };
    for name in NAMES {
        let row = |text: &str| Keyword {
            member_id: MEMBER,
            text: text.into(),
        };
        let event = schemas.keyword_by_chat_service(&records[name]).unwrap();
        match (name, event) {
            ("t", Event::KeywordsTruncated { lsn }) => later(lsn),
            (
                _,
                Event::Keyword(KeywordEvent {
                    keyword_id, change, ..
                }),
            ) => match (name, keyword_id, change) {
                ("r", 1, KeywordChange::Upsert { lsn, keyword }) if keyword == row("책상") => later(lsn),
                ("c", 2, KeywordChange::Upsert { lsn, keyword }) if keyword == row("자전거") => later(lsn),
                ("u", 2, KeywordChange::Upsert { lsn, keyword }) if keyword == row("로드") => later(lsn),
                ("d", 2, KeywordChange::Delete { lsn }) => later(lsn),
                ("tombstone", 2, KeywordChange::Tombstone) => {}
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_committed_fields_suffice_and_are_needed() {
    let (schemas, records) = recorded();
    let committed: Json = serde_json::from_str(KEYWORD_ENVELOPE_SCHEMA).unwrap();
    let schema = Schema::parse(&committed).unwrap();
    for name in VALUES {
        let record = &records[name];
        let body = reduced(&schemas, record, &schema);
        let event = with_value(&schemas, record, &schema, &body);
        assert_eq!(event, schemas.keyword_by_chat_service(record), "{name}");
    }
    for fields in ["/fields", "/fields/0/type/1/fields", "/fields/1/type/fields"] {
        let all = committed.pointer(fields).unwrap().as_array().unwrap();
        for place in 0..all.len() {
            let mut lacking = committed.clone();
            let list = lacking.pointer_mut(fields).unwrap().as_array_mut().unwrap();
            let removed = list.remove(place);
            let lacking = Schema::parse(&lacking).unwrap();
            let body = reduced(&schemas, &records["c"], &lacking);
            let event = with_value(&schemas, &records["c"], &lacking, &body);
            assert!(
                matches!(event, Err(MalformedRecord::Avro { .. })),
                "{removed}: {event:?}"
            );
        }
    }
    let record = &records["c"];
    for (bytes, reader) in [
        (&record.key, KEYWORD_KEY_SCHEMA),
        (&record.value, KEYWORD_ENVELOPE_SCHEMA),
    ] {
        let (id, _) = split(bytes.as_deref().unwrap());
        let reader = Schema::parse_str(reader).unwrap();
        SchemaCompatibility::can_read(schemas.schema(id), &reader).unwrap();
    }
}

#[test]
fn nothing_but_the_captured_columns_left_the_database() {
    let (schemas, records) = recorded();
    let Value::Record(fields) = schemas.everything(records["c"].value.as_deref().unwrap()) else {
        panic!("not a record")
    };
    let (_, after) = fields.iter().find(|(name, _)| name == "after").unwrap();
    let Value::Union(_, row) = after else {
        panic!("{after:?}")
    };
    let Value::Record(row) = &**row else {
        panic!("{row:?}")
    };
    let columns: Vec<&str> = row.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(columns, ["id", "member_id", "keyword"]);
}

#[test]
fn a_record_that_was_cut_or_is_of_the_other_table_is_refused() {
    let (schemas, records) = recorded();
    for name in VALUES {
        let record = &records[name];
        let (id, body) = split(record.value.as_deref().unwrap());
        let schema = schemas.schema(id);
        for end in 0..body.len() {
            let event = with_value(&schemas, record, schema, &body[..end]);
            assert!(event.is_err(), "{name} cut at {end}: {event:?}");
        }
        let longer = [body, &[0]].concat();
        let event = with_value(&schemas, record, schema, &longer);
        assert!(
            matches!(event, Err(MalformedRecord::TrailingBytes { left: 1, .. })),
            "{name}"
        );
    }
    // Deletes and truncates of either look alike but for the table's name.
    let other = crate::fixtures::Fixtures::read();
    for name in ["d", "t"] {
        let refused = other.schemas.keyword_by_chat_service(&other.records[name]);
        assert_eq!(
            refused,
            Err(MalformedRecord::OtherTable("public.trade_posts".into()))
        );
        let record = &records[name];
        let refused = schemas.by_chat_service(record);
        assert_eq!(
            refused,
            Err(MalformedRecord::OtherTable("public.keywords".into()))
        );
    }
}

/// The operation that a record's value tells.
pub fn op_of(schemas: &WriterSchemas, value: &[u8]) -> String {
    let Value::Record(fields) = schemas.everything(value) else {
        panic!("not a record")
    };
    let op = fields.into_iter().find(|(name, _)| name == "op");
    let Some((_, Value::String(op))) = op else {
        panic!("{op:?}")
    };
    op
}

/// Records the files of `schemas/keyword-fixtures` anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "rewrites schemas/keyword-fixtures; run it by name after Debezium's version was changed"]
async fn record_keyword_fixtures() {
    World::run_before_capture(async |world| {
        let sql = world.sql.clone();
        let topic = Topic {
            name: "trade.public.keywords".into(),
            ..world.topic()
        };
        let execute = async |statement: &'static str| {
            sqlx::query(statement).execute(&sql).await.unwrap();
        };
        execute("INSERT INTO keywords (id, member_id, keyword, place) VALUES (1, 1001, '책상', 1)").await;
        // With the shipped prefix: the namespace of the schemas tells it.
        let capture = Capture {
            topic_prefix: "trade".into(),
            ..Capture::of_database(&world.name)
        };
        world.capture(capture).await;
        for statement in [
            "INSERT INTO keywords (id, member_id, keyword, place) VALUES (2, 1001, '자전거', 2)",
            "UPDATE keywords SET keyword = '로드' WHERE id = 2",
            "DELETE FROM keywords WHERE id = 2",
            "TRUNCATE keywords",
        ] {
            execute(statement).await;
        }
        let records = eventually("all records", BOUND, async || {
            let records = topic.read().await;
            if records.len() == NAMES.len() {
                Ok(records)
            } else {
                Err(records.len())
            }
        })
        .await;
        fs::create_dir_all(folder()).unwrap();
        let (schemas, texts) = writer_schemas(world, &records).await;
        for (id, text) in texts {
            let schema: Json = serde_json::from_str(&text).unwrap();
            let text = serde_json::to_string_pretty(&schema).unwrap();
            fs::write(folder().join(format!("schema-{id}.json")), text + "\n").unwrap();
        }
        for record in records {
            let name = match record.value.as_deref() {
                None => "tombstone".to_owned(),
                Some(value) => op_of(&schemas, value),
            };
            for (part, bytes) in [("key", record.key), ("value", record.value)] {
                if let Some(bytes) = bytes {
                    fs::write(folder().join(format!("{name}.{part}")), bytes).unwrap();
                }
            }
        }
    })
    .await;
}
