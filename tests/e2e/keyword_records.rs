//! Recorded bytes of real records about keywords, read by the committed reader schemas and by chat-service.

use apache_avro::{Schema, schema_compatibility::SchemaCompatibility, types::Value};
use chat_service::cdc::change_event::{
    Event, Keyword, KeywordChange, KeywordEvent, MalformedRecord, Position, Record as Parts, decode_keyword,
};
use e2e::{
    eventually::eventually,
    records::{KEYWORD_ENVELOPE_SCHEMA, KEYWORD_KEY_SCHEMA, WriterSchemas, split},
    topic::Topic,
    world::World,
};
use local_stack::capture::Capture;

use crate::{
    BOUND,
    fixtures::{Fixtures, keep, reader},
    records::writer_schemas,
};

/// One record of each kind, in the order of recording.
const NAMES: [&str; 6] = ["r", "c", "u", "d", "tombstone", "t"];
const VALUES: [&str; 5] = ["r", "c", "u", "d", "t"];
const MEMBER: i64 = 1001;

pub fn recorded() -> Fixtures {
    Fixtures::of("keyword-fixtures", &NAMES)
}

/// What chat-service makes of the record with this value in place of its own.
pub fn with_value(
    recorded: &Fixtures,
    name: &str,
    schema: &Schema,
    body: &[u8],
) -> Result<Event, MalformedRecord> {
    let record = &recorded.records[name];
    let key = record.key.as_deref().map(split);
    let key = key.map(|(id, body)| (reader(recorded.schemas.schema(id)), body));
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
    let recorded = recorded();
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
        let event = recorded
            .schemas
            .keyword_by_chat_service(&recorded.records[name])
            .unwrap();
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
    let recorded = recorded();
    let schema = Schema::parse_str(KEYWORD_ENVELOPE_SCHEMA).unwrap();
    for name in VALUES {
        let event = with_value(&recorded, name, &schema, &recorded.reduced(name, &schema));
        let whole = recorded.schemas.keyword_by_chat_service(&recorded.records[name]);
        assert_eq!(event, whole, "{name}");
    }
    let places = ["/fields", "/fields/0/type/1/fields", "/fields/1/type/fields"];
    recorded.needs_each_field("c", KEYWORD_ENVELOPE_SCHEMA, &places, |schema, body| {
        with_value(&recorded, "c", schema, body)
    });
    let record = &recorded.records["c"];
    for (bytes, reader) in [
        (&record.key, KEYWORD_KEY_SCHEMA),
        (&record.value, KEYWORD_ENVELOPE_SCHEMA),
    ] {
        let (id, _) = split(bytes.as_deref().unwrap());
        let reader = Schema::parse_str(reader).unwrap();
        SchemaCompatibility::can_read(recorded.schemas.schema(id), &reader).unwrap();
    }
}

#[test]
fn nothing_but_the_captured_columns_left_the_database() {
    let recorded = recorded();
    let Value::Record(fields) = recorded.schemas.everything(recorded.value("c")) else {
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
    let recorded = recorded();
    recorded.are_refused_when_damaged(&VALUES, |name, schema, body| {
        with_value(&recorded, name, schema, body)
    });
    // Deletes and truncates of either look alike but for the table's name.
    let other = Fixtures::read();
    for name in ["d", "t"] {
        let refused = other.schemas.keyword_by_chat_service(&other.records[name]);
        assert_eq!(
            refused,
            Err(MalformedRecord::OtherTable("public.trade_posts".into()))
        );
        let refused = recorded.schemas.by_chat_service(&recorded.records[name]);
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
        let (schemas, _) = writer_schemas(world, &records).await;
        let named = records.into_iter().map(|record| match record.value.as_deref() {
            None => ("tombstone".to_owned(), record),
            Some(value) => (op_of(&schemas, value), record),
        });
        keep(world, "keyword-fixtures", named.collect()).await;
    })
    .await;
}
