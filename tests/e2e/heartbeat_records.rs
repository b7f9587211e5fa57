//! Recorded bytes of real records about heartbeats, read by the committed reader schema and by chat-service.

use apache_avro::{Schema, schema_compatibility::SchemaCompatibility};
use chat_service::cdc::change_event::{Beginning, MalformedRecord, Op, Understood, heartbeat};
use e2e::{
    eventually::eventually,
    records::{HEARTBEAT_ENVELOPE_SCHEMA, split},
    topic::Topic,
    world::World,
};
use local_stack::capture::Capture;

use crate::{
    BOUND,
    fixtures::{Fixtures, keep, reader},
    keyword_records::op_of,
    records::writer_schemas,
};

/// Read by the first snapshot, and written since.
const NAMES: [&str; 2] = ["r", "u"];

pub fn recorded() -> Fixtures {
    Fixtures::of("heartbeat-fixtures", &NAMES)
}

/// What chat-service makes of a heartbeat with this value.
pub fn with_value(schema: &Schema, body: &[u8]) -> Result<Understood, MalformedRecord> {
    heartbeat((&reader(schema), body))
}

fn understood(recorded: &Fixtures, name: &str) -> Result<Understood, MalformedRecord> {
    let (id, body) = split(recorded.value(name));
    with_value(recorded.schemas.schema(id), body)
}

#[test]
fn recorded_heartbeats_say_when_they_were_and_how_the_connector_began() {
    let recorded = recorded();
    let [read, written] = NAMES.map(|name| understood(&recorded, name).unwrap());
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
    let recorded = recorded();
    let schema = Schema::parse_str(HEARTBEAT_ENVELOPE_SCHEMA).unwrap();
    for name in NAMES {
        let said = with_value(&schema, &recorded.reduced(name, &schema));
        assert_eq!(said, understood(&recorded, name), "{name}");
    }
    let places = ["/fields", "/fields/0/type/fields"];
    recorded.needs_each_field("u", HEARTBEAT_ENVELOPE_SCHEMA, &places, with_value);
    let (id, _) = split(recorded.value("u"));
    SchemaCompatibility::can_read(recorded.schemas.schema(id), &schema).unwrap();
}

#[test]
fn a_heartbeat_that_was_cut_or_is_of_another_table_is_refused() {
    recorded().are_refused_when_damaged(&NAMES, |_, schema, body| with_value(schema, body));
    let other = Fixtures::read();
    for name in ["c", "d", "t"] {
        assert_eq!(
            understood(&other, name),
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
        let (schemas, _) = writer_schemas(world, &records).await;
        let named = records
            .into_iter()
            .map(|record| (op_of(&schemas, record.value.as_deref().unwrap()), record));
        keep(world, "heartbeat-fixtures", named.collect()).await;
    })
    .await;
}
