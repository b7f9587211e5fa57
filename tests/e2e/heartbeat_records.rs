//! Recorded bytes of real records about heartbeats, read by the committed reader schema and by chat-service.

use std::{collections::BTreeMap, fs, path::PathBuf};

use apache_avro::{Schema, schema_compatibility::SchemaCompatibility};
use chat_service::cdc::change_event::{Beginning, MalformedRecord, Op, Understood, heartbeat};
use e2e::{
    eventually::eventually,
    records::{HEARTBEAT_ENVELOPE_SCHEMA, WriterSchemas, schema_ids, split},
    topic::{Record, Topic},
    world::World,
};
use local_stack::capture::Capture;
use serde_json::Value as Json;

use crate::{
    BOUND,
    fixtures::Fixtures,
    keyword_records::{op_of, reader, reduced},
    records::writer_schemas,
};

/// Read by the first snapshot, and written since.
const NAMES: [&str; 2] = ["r", "u"];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../schemas/heartbeat-fixtures")
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
        schemas.insert(id, &schema_text(id));
    }
    (schemas, records)
}

fn schema_text(id: u32) -> String {
    fs::read_to_string(folder().join(format!("schema-{id}.json"))).unwrap()
}

/// The text of the schema that the record's value was written with.
pub fn schema_of(record: &Record) -> String {
    schema_text(split(record.value.as_deref().unwrap()).0)
}

/// What chat-service makes of a heartbeat with this value.
pub fn with_value(schema: &Schema, body: &[u8]) -> Result<Understood, MalformedRecord> {
    heartbeat((&reader(schema), body))
}

fn understood(schemas: &WriterSchemas, record: &Record) -> Result<Understood, MalformedRecord> {
    let (id, body) = split(record.value.as_deref().unwrap());
    with_value(schemas.schema(id), body)
}

#[test]
fn recorded_heartbeats_say_when_they_were_and_how_the_connector_began() {
    let (schemas, records) = recorded();
    let [read, written] = NAMES.map(|name| understood(&schemas, &records[name]).unwrap());
    assert!(
        matches!(read.beginning, Some(Beginning::Snapshot { lsn }) if lsn > 0),
        "{read:?}"
    );
    // The first transaction of the stream behind the snapshot looks as if there had been none.
    assert!(
        matches!(written.beginning, Some(Beginning::Stream { lsn, .. }) if lsn > read.beginning.unwrap().lsn()),
        "{written:?}"
    );
    assert!(read.committed_ms.unwrap() <= written.committed_ms.unwrap());
    for one in [read, written] {
        assert_eq!((one.op, one.event), (Op::Heartbeat, None));
    }
}

#[test]
fn the_committed_fields_suffice_and_are_needed() {
    let (schemas, records) = recorded();
    let committed: Json = serde_json::from_str(HEARTBEAT_ENVELOPE_SCHEMA).unwrap();
    let schema = Schema::parse(&committed).unwrap();
    for name in NAMES {
        let record = &records[name];
        let said = with_value(&schema, &reduced(&schemas, record, &schema));
        assert_eq!(said, understood(&schemas, record), "{name}");
    }
    for fields in ["/fields", "/fields/0/type/fields"] {
        let all = committed.pointer(fields).unwrap().as_array().unwrap();
        for place in 0..all.len() {
            let mut lacking = committed.clone();
            let list = lacking.pointer_mut(fields).unwrap().as_array_mut().unwrap();
            let removed = list.remove(place);
            let lacking = Schema::parse(&lacking).unwrap();
            let said = with_value(&lacking, &reduced(&schemas, &records["u"], &lacking));
            assert!(
                matches!(said, Err(MalformedRecord::Avro { .. })),
                "{removed}: {said:?}"
            );
        }
    }
    let (id, _) = split(records["u"].value.as_deref().unwrap());
    SchemaCompatibility::can_read(schemas.schema(id), &schema).unwrap();
}

#[test]
fn a_heartbeat_that_was_cut_or_is_of_another_table_is_refused() {
    let (schemas, records) = recorded();
    for name in NAMES {
        let (id, body) = split(records[name].value.as_deref().unwrap());
        let schema = schemas.schema(id);
        for end in 0..body.len() {
            let said = with_value(schema, &body[..end]);
            assert!(said.is_err(), "{name} cut at {end}: {said:?}");
        }
        let said = with_value(schema, &[body, &[0]].concat());
        assert!(
            matches!(said, Err(MalformedRecord::TrailingBytes { left: 1, .. })),
            "{name}"
        );
    }
    let other = Fixtures::read();
    for name in ["c", "d", "t"] {
        assert_eq!(
            understood(&other.schemas, &other.records[name]),
            Err(MalformedRecord::OtherTable("public.trade_posts".into()))
        );
    }
}

/// Records the files of `schemas/heartbeat-fixtures` anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "rewrites schemas/heartbeat-fixtures; run it by name after Debezium's version was changed"]
async fn record_heartbeat_fixtures() {
    World::run_before_capture(async |world| {
        let topic = Topic {
            name: "trade.public.debezium_heartbeat".into(),
            ..world.topic()
        };
        sqlx::query("INSERT INTO debezium_heartbeat VALUES (1, now())")
            .execute(&world.sql)
            .await
            .unwrap();
        // With the shipped prefix: the namespace of the schemas tells it.
        let capture = Capture {
            topic_prefix: "trade".into(),
            ..Capture::of_database(&world.name)
        };
        world.capture(capture).await;
        let records = eventually("both records", BOUND, async || {
            let records = topic.read().await;
            if records.len() >= NAMES.len() {
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
            let name = op_of(&schemas, record.value.as_deref().unwrap());
            for (part, bytes) in [("key", record.key), ("value", record.value)] {
                fs::write(folder().join(format!("{name}.{part}")), bytes.unwrap()).unwrap();
            }
        }
    })
    .await;
}
